//! The limit on open files; each connection is one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// More than a node needs. Some systems allow a billion, and some programs allocate a table of that size.
const ENOUGH: u64 = 65_536;

/// Returns the most files that may be open now.
pub fn limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(ENOUGH)
}

/// Raises the limit as far as the system allows; returns what it was and what it is now. Shells and service managers
/// often set 1,024, which a thousand idle strangers use up.
pub fn raise_limit() -> (u64, u64) {
    let found = getrlimit(Resource::Nofile);
    let before = found.current.unwrap_or(ENOUGH);
    let wanted = found.maximum.unwrap_or(ENOUGH).min(ENOUGH);
    if wanted > before {
        // Where it can't be raised, the current limit has to do.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: found.maximum });
    }
    (before, limit())
}
