//! Points at which a test may make the process die, to show that nothing is lost between two steps.

/// Aborts the process when `PASSLOOM_CRASH_POINT` names this point. Exists only in builds with the feature
/// `crash-points`, which only tests use.
#[cfg(feature = "crash-points")]
pub fn point(name: &str) {
    if std::env::var("PASSLOOM_CRASH_POINT").is_ok_and(|wanted| wanted == name) {
        // Like kill -9: no destructor runs and nothing is flushed.
        std::process::abort();
    }
}

/// Does nothing in this build.
#[cfg(not(feature = "crash-points"))]
#[inline]
pub fn point(_name: &str) {}
