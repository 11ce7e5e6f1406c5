//! Apple's web service, exactly as specified: one file per endpoint (Apple, "Adding a Web Service to Update Passes",
//! read 2026-11). Phones know only the statuses that Apple names, so errors have none of the API's documents here.

pub mod changed;
pub mod latest;
pub mod log;
pub mod register;
pub mod unregister;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, ResponseError};

use crate::actions::error::ActionError;
use crate::domain::ids::{DeviceLibraryId, PassTypeId, SerialNumber};
use crate::http::problem::Problem;

/// A failure towards a phone: a bare status. Phones retry by themselves.
#[derive(Debug)]
pub struct Failure(Problem);

impl Failure {
    /// Returns the problem behind it.
    pub fn problem(&self) -> &Problem {
        &self.0
    }
}

impl From<ActionError> for Failure {
    fn from(error: ActionError) -> Self {
        Self(error.into())
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl ResponseError for Failure {
    fn status_code(&self) -> StatusCode {
        self.0.status_code()
    }

    fn error_response(&self) -> HttpResponse {
        HttpResponse::new(self.status_code())
    }
}

fn unauthorized() -> HttpResponse {
    HttpResponse::Unauthorized().finish()
}

/// Returns device, pass type and serial number of a registration's path; `None` when one can't be ours.
fn registration(path: &(String, String, String)) -> Option<(DeviceLibraryId, PassTypeId, SerialNumber)> {
    Some((DeviceLibraryId::parse(&path.0).ok()?, PassTypeId::parse(&path.1).ok()?, SerialNumber::parse(&path.2).ok()?))
}
