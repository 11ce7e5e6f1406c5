//! Endpoints for operators: health checks and metrics. They are served on `PASSLOOM_INTERNAL_LISTEN`; the public
//! address has `/healthz` only, unless both are the same.

pub mod health;
pub mod metrics;
