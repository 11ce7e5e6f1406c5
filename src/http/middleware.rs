//! Middleware around every request: a request id, a log entry (an error when the request failed), metrics. The log has
//! the route's pattern, never the address: addresses hold card tokens.

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::ConnectionType;
use actix_web::http::header::{HeaderName, HeaderValue, RETRY_AFTER};
use actix_web::http::uri::PathAndQuery;
use actix_web::http::{Method, Uri};
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse, ResponseError};

use super::address::client_address;
use super::admission::{Sent, answered};
use super::apple_v1::Failure;
use super::auth::authorization;
use super::connections::{Activity, Answered, Connections};
use super::problem::{self, Problem, TOO_MANY_REQUESTS};
use super::public::card_page;
use super::public::pages::Message;
use super::server::Shared;
use crate::app::App;
use crate::platform::rate_limit::Count;
use crate::platform::secrets::fingerprint;
use crate::telemetry::{RequestLabels, RouteLabels};

/// The response header with the request's id.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Handles a request with all of the above.
///
/// # Errors
/// Those of the handler.
pub async fn observe(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<Answered<Sent>>, actix_web::Error> {
    let answering = Activity::begin(request.request());
    let Some(app) = request.app_data::<Shared>().cloned() else {
        let response = next.call(request).await?.map_into_boxed_body();
        return Ok(response.map_body(|_, body| Answered::new(Sent::Whole(body, None), answering)));
    };
    take_off(&mut request, &app.base_path);
    let started = std::time::Instant::now();
    let id = app.request_ids.next(app.now()).to_string();
    let method = request.method().clone();
    let mut response = match is_too_much(&app, request.request()).await {
        Some(refusal) => problem::below(&app.base_path, request.into_response(refusal)),
        None => problem::below(&app.base_path, next.call(request).await?.map_into_boxed_body()),
    };
    if response.request().app_data::<Data<Connections>>().is_some_and(|connections| connections.are_scarce()) {
        response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
    }
    let route = response.request().match_pattern().unwrap_or_else(|| "(none)".to_owned());
    let mut response = answered(&app, response).await;
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    let status = response.status().as_u16();
    let elapsed = started.elapsed();
    let ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    // Clients choose the method's text; only known ones are logged.
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
    match response.response().error().filter(|_| status >= 500) {
        Some(error) => {
            let cause = cause_of(error).unwrap_or_else(|| "no cause was given".to_owned());
            // A client that finds a failing request can repeat it at any rate, so these entries are limited.
            match app.strangers_lines.failures.next(app.now()) {
                Some(left_out) => {
                    tracing::error!(request = id, method, route, status, ms, cause, left_out, "a request failed");
                }
                None => tracing::info!(request = id, method, route, status, ms, "request"),
            }
        }
        // A node that isn't ready answers 503 every few seconds to its probes without having failed.
        None => tracing::info!(request = id, method, route, status, ms, "request"),
    }
    let seconds = &app.metrics.request_seconds;
    let labels = RouteLabels { method, route: route.clone() };
    seconds.get_or_create(&labels).observe(elapsed.as_secs_f64());
    app.metrics.requests.get_or_create(&RequestLabels { method, route, status }).inc();
    Ok(response.map_body(|_, body| Answered::new(body, answering)))
}

/// Removes the public address's path from a request that has it: some proxies pass it on, others don't.
fn take_off(request: &mut ServiceRequest, base: &str) {
    let path = request.uri().path_and_query().map(PathAndQuery::as_str).unwrap_or_default();
    let Some(rest) = path.strip_prefix(base).filter(|rest| !base.is_empty() && rest.starts_with('/')) else { return };
    let Ok(rest) = rest.parse::<PathAndQuery>() else { return };
    let mut parts = request.uri().clone().into_parts();
    parts.path_and_query = Some(rest);
    if let Ok(uri) = Uri::from_parts(parts) {
        request.match_info_mut().get_mut().update(&uri);
        request.head_mut().uri = uri;
    }
}

/// Returns the refusal of a request beyond what its address may send in a minute.
async fn is_too_much(app: &App, request: &HttpRequest) -> Option<HttpResponse> {
    // Decoded as the routes are, so that no other spelling goes uncounted.
    let caller = Caller::of(request.match_info().as_str())?;
    let address = client_address(&app.trusted_proxies, request);
    let (limit, address) = match caller {
        Caller::Phone => (&app.phones, address.filter(|address| !address.is_loopback())),
        Caller::Backend => (&app.backends, address.filter(|address| !address.is_loopback())),
        // The limit is configurable, so it counts every address, loopback too.
        Caller::Customer => (&app.pages, address),
        Caller::CustomersPage => (&app.page_files, address),
    };
    match limit.count(address).await {
        Count::Within if caller != Caller::Phone || address.is_none() => return None,
        Count::Within => {
            let holder = holder(request)?;
            if app.holders.count_one(holder).await == Count::Within {
                return None;
            }
        }
        Count::FirstBeyond if address.is_some_and(|address| address.is_loopback()) => tracing::warn!(
            "this machine's own address is held back on public pages (PASSLOOM_RATE_LIMIT); if a proxy asks from it, it must \
             say for whom in X-Forwarded-For"
        ),
        Count::FirstBeyond | Count::Beyond => {}
    }
    let mut refusal = match caller {
        // Phones read only the status.
        Caller::Phone => HttpResponse::TooManyRequests().finish(),
        Caller::Backend => {
            let detail = format!("an address may ask {} times a minute", limit.most());
            HttpResponse::from_error(Problem::new(&TOO_MANY_REQUESTS, detail))
        }
        Caller::Customer | Caller::CustomersPage => {
            card_page::message(Message::SlowDown, request).unwrap_or_else(|problem| problem.error_response())
        }
    };
    refusal.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("60"));
    Some(refusal)
}

/// Returns a fingerprint of the requested pass and the given token. Clients without the token can't use up its holder's
/// limit.
fn holder(request: &HttpRequest) -> Option<Vec<u8>> {
    let (_, token) = authorization(request)?;
    let (_, serial) = request.match_info().as_str().rsplit_once('/')?;
    Some(fingerprint(&format!("{serial} {token}")))
}

/// The kind of caller, as far as limits differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Caller {
    Phone,
    Backend,
    /// A request for a page or something that a page offers: each may render, sign or make something.
    Customer,
    /// A page's requests for the files that it shows.
    CustomersPage,
}

impl Caller {
    /// Returns the caller of a decoded path; `None` where nothing is counted.
    fn of(path: &str) -> Option<Self> {
        let mut parts = path.trim_start_matches('/').split('/');
        let (area, file) = (parts.next()?, parts.nth(1).unwrap_or_default());
        match area {
            "apple" => Some(Self::Phone),
            "api" => Some(Self::Backend),
            "assets" => Some(Self::CustomersPage),
            "c" if file.ends_with(".css") || file.ends_with(".png") => Some(Self::CustomersPage),
            "c" | "problems" => Some(Self::Customer),
            _ => None,
        }
    }
}

/// Returns the actual cause of an API's problem or of a failure towards a phone.
fn cause_of(error: &actix_web::Error) -> Option<String> {
    let problem = error.as_error::<Problem>().or_else(|| Some(error.as_error::<Failure>()?.problem()))?;
    problem.cause().map(ToOwned::to_owned)
}
