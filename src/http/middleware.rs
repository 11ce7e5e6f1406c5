//! What happens around every request: an id, a line in the log, counters. The log has the route's pattern, never the
//! address: addresses hold card tokens.

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{HeaderName, HeaderValue, RETRY_AFTER};
use actix_web::middleware::Next;
use actix_web::{HttpRequest, HttpResponse, ResponseError};

use super::address::client_address;
use super::apple_v1::Failure;
use super::problem::{Problem, TOO_MANY_REQUESTS};
use super::server::Shared;
use crate::app::App;
use crate::telemetry::RequestLabels;

/// The answer's header with the request's id.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Wraps a request.
///
/// # Errors
/// What the handler fails with.
pub async fn observe(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let Some(app) = request.app_data::<Shared>().cloned() else {
        return Ok(next.call(request).await?.map_into_left_body());
    };
    let started = std::time::Instant::now();
    let id = app.request_ids.next(app.now()).to_string();
    let method = request.method().clone();
    let mut response = match is_too_much(&app, request.request()).await {
        Some(refusal) => request.into_response(refusal).map_into_right_body(),
        None => next.call(request).await?.map_into_left_body(),
    };
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

/// The refusal of a request that is more than its address may ask within a minute.
async fn is_too_much(app: &App, request: &HttpRequest) -> Option<HttpResponse> {
    // Decoded as the routes are, so that no other spelling goes by uncounted.
    let (limit, of_phones) = match request.match_info().as_str() {
        path if path.starts_with("/apple/") => (&app.phones, true),
        path if path.starts_with("/api/") => (&app.backends, false),
        _ => return None,
    };
    let address = client_address(&app.trusted_proxies, request).filter(|address| !address.is_loopback());
    if limit.allows(address).await {
        return None;
    }
    let wait = (RETRY_AFTER, "60");
    Some(match of_phones {
        // Phones read the status alone.
        true => HttpResponse::TooManyRequests().insert_header(wait).finish(),
        false => {
            let detail = format!("an address may ask {} times a minute", limit.most());
            let mut refusal = Problem::new(&TOO_MANY_REQUESTS, detail).error_response();
            refusal.headers_mut().insert(wait.0, HeaderValue::from_static(wait.1));
            refusal
        }
    })
}

/// What really happened, of an API's problem or of a failure towards a phone.
fn cause_of(error: &actix_web::Error) -> Option<String> {
    let problem = error.as_error::<Problem>().or_else(|| Some(error.as_error::<Failure>()?.problem()))?;
    problem.cause().map(ToOwned::to_owned)
}
