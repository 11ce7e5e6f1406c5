//! What happens around every request: an id, one line in the log (as an error when it failed), counters. The log has the route's pattern, never the
//! address: addresses hold card tokens.

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

/// The answer's header with the request's id.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Wraps a request.
///
/// # Errors
/// What the handler fails with.
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
    // Methods are the client's own words; only known ones are repeated.
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
            // Whoever finds what fails can ask for it as fast as he likes.
            match app.strangers_lines.failures.next(app.now()) {
                Some(left_out) => {
                    tracing::error!(request = id, method, route, status, ms, cause, left_out, "a request failed");
                }
                None => tracing::info!(request = id, method, route, status, ms, "request"),
            }
        }
        // A node that isn't ready says so without failing, to whoever asks every few seconds.
        None => tracing::info!(request = id, method, route, status, ms, "request"),
    }
    let seconds = &app.metrics.request_seconds;
    let labels = RouteLabels { method, route: route.clone() };
    seconds.get_or_create(&labels).observe(elapsed.as_secs_f64());
    app.metrics.requests.get_or_create(&RequestLabels { method, route, status }).inc();
    Ok(response.map_body(|_, body| Answered::new(body, answering)))
}

/// Takes the public address's path off a request that has it: some proxies pass it on, others don't.
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

/// The refusal of a request that is more than its address may ask within a minute.
async fn is_too_much(app: &App, request: &HttpRequest) -> Option<HttpResponse> {
    // Decoded as the routes are, so that no other spelling goes by uncounted.
    let caller = Caller::of(request.match_info().as_str())?;
    let address = client_address(&app.trusted_proxies, request);
    let (limit, address) = match caller {
        Caller::Phone => (&app.phones, address.filter(|address| !address.is_loopback())),
        Caller::Backend => (&app.backends, address.filter(|address| !address.is_loopback())),
        // A setting, so it counts whoever asks.
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
        // Phones read the status alone.
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

/// What stands for the pass that is asked about, together with the token that is given for it, so that nobody without the
/// token uses up what its holder may ask.
fn holder(request: &HttpRequest) -> Option<Vec<u8>> {
    let (_, token) = authorization(request)?;
    let (_, serial) = request.match_info().as_str().rsplit_once('/')?;
    Some(fingerprint(&format!("{serial} {token}")))
}

/// Who asks, as far as limits differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Caller {
    Phone,
    Backend,
    /// For a page or what a page offers: each may render, sign or make something.
    Customer,
    /// A page for the files that it shows.
    CustomersPage,
}

impl Caller {
    /// By the decoded path; none where nothing is counted.
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

/// What really happened, of an API's problem or of a failure towards a phone.
fn cause_of(error: &actix_web::Error) -> Option<String> {
    let problem = error.as_error::<Problem>().or_else(|| Some(error.as_error::<Failure>()?.problem()))?;
    problem.cause().map(ToOwned::to_owned)
}
