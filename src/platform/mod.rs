//! What comes from the machine as parameters: the clock, randomness and the master key, with real versions for the
//! service and manual ones for tests. Also rate limits, memory shares, workers, trusted proxies and
//! crash points.

pub mod clock;
pub mod crash;
pub mod files;
pub mod http_cause;
pub mod job_states;
pub mod log_lines;
pub mod memory;
pub mod process;
pub mod proxies;
pub mod random;
pub mod rate_limit;
pub mod secrets;
pub mod workers;
