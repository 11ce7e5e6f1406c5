//! How many files the process may have open; each connection is one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// More than a node needs. Some systems allow a billion, which other programs take for a table's size.
const ENOUGH: u64 = 65_536;

/// The most files that may be open now.
pub fn limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(ENOUGH)
}

/// Raises the limit as far as the system lets us, and returns what it was and what it is. Shells and service managers
/// often give 1,024, which a thousand idle strangers use up.
pub fn raise_limit() -> (u64, u64) {
    let found = getrlimit(Resource::Nofile);
    let before = found.current.unwrap_or(ENOUGH);
    let wanted = found.maximum.unwrap_or(ENOUGH).min(ENOUGH);
    if wanted > before {
        // Where it can't be raised, what there is has to do.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: found.maximum });
    }
    (before, limit())
}
