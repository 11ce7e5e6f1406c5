//! What happens around every request: an id, a line in the log, counters. The log has the route's pattern, never the
//! address: addresses hold card tokens.

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::middleware::Next;

use super::apple_v1::Failure;
use super::problem::Problem;
use super::server::Shared;
use crate::telemetry::RequestLabels;

/// The answer's header with the request's id.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Wraps a request.
///
/// # Errors
/// What the handler fails with.
pub async fn observe(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let Some(app) = request.app_data::<Shared>().cloned() else {
        return next.call(request).await;
    };
    let started = std::time::Instant::now();
    let id = app.request_ids.next(app.now()).to_string();
    let method = request.method().clone();
    let mut response = next.call(request).await?;
    let route = response.request().match_pattern().unwrap_or_else(|| "(none)".to_owned());
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    let status = response.status().as_u16();
    let elapsed = started.elapsed();
    match response.response().error().filter(|_| status >= 500) {
        Some(error) => {
            let cause = cause_of(error).unwrap_or_else(|| "no cause was given".to_owned());
            tracing::error!(request = id, %method, route, status, cause, "a request failed");
        }
        // A node that isn't ready says so without failing, to whoever asks every few seconds.
        None => tracing::debug!(request = id, %method, route, status, ms = elapsed.as_millis(), "request"),
    }
    // Methods are the client's own words; only known ones become a label.
    let method = match method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    };
    app.metrics.requests.get_or_create(&RequestLabels { method, route, status }).inc();
    app.metrics.request_seconds.observe(elapsed.as_secs_f64());
    Ok(response)
}

/// What really happened, of an API's problem or of a failure towards a phone.
fn cause_of(error: &actix_web::Error) -> Option<String> {
    let problem = error.as_error::<Problem>().or_else(|| Some(error.as_error::<Failure>()?.problem()))?;
    problem.cause().map(ToOwned::to_owned)
}
