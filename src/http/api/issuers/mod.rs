//! `/api/v1/issuers`

pub mod apple;
