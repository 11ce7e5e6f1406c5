//! Places where a test may let the process die, to show that nothing is lost between two steps.

/// Aborts the process when `PASSLOOM_CRASH_POINT` names this place. Exists only in builds with the feature
/// `crash-points`, which only tests make.
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
