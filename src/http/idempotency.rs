//! `Idempotency-Key`: a request that its sender repeats because no answer arrived is done once.
//!
//! It applies to an operation whose description names [`parameters::IDEMPOTENCY_KEY`]; the list of routes then puts
//! [`once`] around its handler.

use actix_web::body::{MessageBody, to_bytes};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{HttpMessage, HttpRequest, HttpResponse};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::body;
use super::openapi::{Content, Needs, Operation, parameters};
use super::problem::{FAULT, IDEMPOTENCY_KEY_REUSED, IDEMPOTENCY_UNDER_WAY, Problem, below};
use super::server::Shared;
use crate::actions::idempotency::{Turn, abandon, keep, take_turn};
use crate::actions::keys::Bearer;
use crate::domain::input::Problems;
use crate::store::idempotency::Attempt;

const HEADER: HeaderName = HeaderName::from_static("idempotency-key");
/// The header that marks an answer as that of an earlier request.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// The longest key.
const LONGEST_KEY: usize = 255;
/// Whether it applies to an operation.
pub fn applies(operation: &Operation) -> bool {
    operation.parameters.iter().any(|parameter| parameter.name == parameters::IDEMPOTENCY_KEY.name)
}

/// An answer as stored.
#[derive(Serialize, Deserialize)]
struct Kept {
    status: u16,
    headers: Vec<(String, String)>,
    /// The body in base64.
    body: String,
}

/// Middleware around the handler of an operation.
///
/// # Errors
/// Those of the handler.
pub async fn once(
    operation: &'static Operation,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse, actix_web::Error> {
    let bearer = request.extensions().get::<Bearer>().cloned();
    // A caller without the permission must not get the answer to another caller's request.
    let allowed = bearer.filter(|bearer| match operation.needs {
        Needs::Scope(scope) => bearer.may(scope),
        Needs::BootstrapKey => bearer.bootstrap,
    });
    let (true, Some(bearer)) = (request.headers().contains_key(HEADER), allowed) else {
        return Ok(next.call(request).await?.map_into_boxed_body());
    };
    let (request, payload) = request.into_parts();
    match begin(operation, &request, payload, &bearer).await {
        Ok(Begun::First { app, attempt, body }) => {
            let request = ServiceRequest::from_parts(request, Payload::from(body));
            // A client that hangs up doesn't stop its request: its repeat will need the answer.
            let answering = actix_web::rt::spawn(async move { first(&app, &attempt, next.call(request).await).await });
            answering.await.map_err(actix_web::error::ErrorInternalServerError)?
        }
        Ok(Begun::Answered(response)) => Ok(ServiceResponse::new(request, response)),
        Err(problem) => Ok(ServiceResponse::from_err(problem, request)),
    }
}

enum Begun {
    First { app: Shared, attempt: Attempt, body: actix_web::web::Bytes },
    Answered(HttpResponse),
}

async fn begin(
    operation: &Operation,
    request: &HttpRequest,
    payload: Payload,
    bearer: &Bearer,
) -> Result<Begun, Problem> {
    let app = request.app_data::<Shared>().cloned();
    let app = app.ok_or_else(|| Problem::new(&FAULT, "the service is not set up"))?;
    let key = key(request)?;
    let most = match operation.body {
        Content::Json(_) | Content::Nothing => body::JSON,
        Content::Bytes(_) | Content::Lines(_) => body::ARCHIVE,
    };
    let body = body::read(request, payload, most).await?;
    let mut digest = Sha256::new();
    for part in [request.method().as_str(), request.path(), request.query_string()] {
        digest.update(part);
        digest.update([0]);
    }
    digest.update(&body);
    let attempt = Attempt {
        workspace: bearer.workspace.clone(),
        key,
        fingerprint: digest.finalize().to_vec(),
        token: String::new(),
    };
    match take_turn(&app, attempt).await? {
        Turn::First(attempt) => Ok(Begun::First { app, attempt, body }),
        Turn::Answered(kept) => Ok(Begun::Answered(replay(&kept)?)),
        Turn::UnderWay => Err(Problem::new(
            &IDEMPOTENCY_UNDER_WAY,
            "the first request with this Idempotency-Key is still being answered; repeat it in a moment",
        )),
        Turn::Other => Err(Problem::new(
            &IDEMPOTENCY_KEY_REUSED,
            "another request had this Idempotency-Key within 24 hours; its method, address or body differ",
        )),
    }
}

fn key(request: &HttpRequest) -> Result<String, Problem> {
    let mut given = request.headers().get_all(HEADER);
    let key = given.next().and_then(|value| value.to_str().ok()).unwrap_or_default();
    let fits = (1..=LONGEST_KEY).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
    if fits && given.next().is_none() {
        return Ok(key.to_owned());
    }
    let expected = format!("is not one text of 1 to {LONGEST_KEY} visible ASCII characters");
    Err(Problems::one("/Idempotency-Key", expected).into())
}

fn replay(kept: &[u8]) -> Result<HttpResponse, Problem> {
    let unreadable = || Problem::new(&FAULT, "the kept answer can't be read");
    let kept: Kept = serde_json::from_slice(kept).map_err(|_| unreadable())?;
    let status = StatusCode::from_u16(kept.status).map_err(|_| unreadable())?;
    let mut response = HttpResponse::build(status);
    for (name, value) in kept.headers {
        response.append_header((name, value));
    }
    response.insert_header((REPLAYED, HeaderValue::from_static("true")));
    Ok(response.body(STANDARD.decode(kept.body).map_err(|_| unreadable())?))
}

/// Answers a first request and stores the answer, unless it says that the request wasn't processed: then a repeat may
/// succeed.
async fn first(
    app: &Shared,
    attempt: &Attempt,
    answered: Result<ServiceResponse<impl MessageBody + 'static>, actix_web::Error>,
) -> Result<ServiceResponse, actix_web::Error> {
    let answered = match answered {
        Ok(answered) => answered,
        Err(error) => {
            give_back(app, attempt).await;
            return Err(error);
        }
    };
    let passing =
        answered.status().is_server_error() || [401, 403, 408, 413, 429].contains(&answered.status().as_u16());
    if passing {
        give_back(app, attempt).await;
        return Ok(answered.map_into_boxed_body());
    }
    let (request, response) = below(&app.base_path, answered.map_into_boxed_body()).into_parts();
    let (head, content) = response.into_parts();
    let content = to_bytes(content).await.map_err(|_| actix_web::error::ErrorInternalServerError("no body"))?;
    let headers = head.headers().iter();
    let kept = Kept {
        status: head.status().as_u16(),
        headers: headers
            .filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())))
            .collect(),
        body: STANDARD.encode(&content),
    };
    let done = match serde_json::to_vec(&kept) {
        Ok(kept) => keep(app, attempt, &kept).await.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    // The request has been done; only a repeat will be answered that it is still under way.
    if let Err(error) = done {
        tracing::error!(error, "an answer could not be kept for its repeats");
    }
    Ok(ServiceResponse::new(request, head.set_body(content).map_into_boxed_body()))
}

async fn give_back(app: &Shared, attempt: &Attempt) {
    if let Err(error) = abandon(app, attempt).await {
        tracing::error!(%error, "an Idempotency-Key could not be given back");
    }
}
