//! The world outside as parameters: the clock, randomness and the master key. Real versions for the service, manual
//! ones for tests.

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
