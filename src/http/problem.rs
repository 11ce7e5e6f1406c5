//! Turns every error into an answer, and is the only place that does: `application/problem+json` (RFC 9457).

use actix_web::body::BoxBody;
use actix_web::dev::ServiceResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpResponse, ResponseError, web};
use serde_json::{Value, json};

use crate::actions::error::ActionError;
use crate::domain::checks::Issue;
use crate::domain::input::{Problem as InputProblem, Problems, cut, more};
use crate::platform::memory::NoRoom;
use crate::platform::workers::WorkError;
use crate::store::StoreError;

/// A kind of problem.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// The code; the last part of the answer's `type`, which is the address of a page that explains it.
    pub code: &'static str,
    /// The status of the answer.
    pub status: u16,
    /// A short title.
    pub title: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
}

macro_rules! kinds {
    ($($name:ident = $status:literal $code:literal $title:literal $remedy:literal;)*) => {
        $( #[allow(missing_docs)] pub const $name: Kind = Kind { code: $code, status: $status, title: $title, remedy: $remedy }; )*
        /// Every kind.
        pub const KINDS: &[&Kind] = &[$(&$name),*];
    };
}

kinds! {
    NOT_JSON = 400 "not-json" "The body is not JSON" "Send one JSON document in UTF-8.";
    UNAUTHENTICATED = 401 "unauthenticated" "No valid API key" "Send a valid key: Authorization: Bearer <key>.";
    FORBIDDEN = 403 "forbidden" "The key does not allow this" "Use a key with the scope that the detail names.";
    NOT_FOUND = 404 "not-found" "There is no such thing" "Check the address and the workspace of the key.";
    METHOD_NOT_ALLOWED = 405 "method-not-allowed" "The address does not know this method" "See the API's documentation.";
    TOO_SLOW = 408 "too-slow" "The request took too long" "Send the body without long pauses.";
    EXISTS = 409 "already-exists" "It is there already" "Choose another id, or change what is there.";
    NOT_PUBLISHED = 409 "template-not-published" "The template was never published" "Publish the template first.";
    TEMPLATE_EXISTS = 409 "template-exists" "There is a template of that id" "Replace it with PUT, or choose another id.";
    TEMPLATE_IN_USE = 409 "template-in-use" "The template has cards" "Delete its cards or move them to another template first.";
    ISSUER_MISSING = 409 "issuer-missing" "The workspace has no issuer" "Give the workspace a pass type certificate.";
    CERTIFICATE_CONFIGURED = 409 "certificate-configured" "The certificate comes from the configuration" "Change PASSLOOM_APPLE_CERTIFICATE and start the nodes anew.";
    WALLET_OFF = 409 "wallet-off" "This wallet is off" "Give the workspace an issuer for this wallet.";
    DRAFT_CHANGING = 409 "draft-changing" "The draft is being changed" "Wait until nobody changes the draft, then publish again.";
    IDEMPOTENCY_UNDER_WAY = 409 "request-under-way" "The same request is being answered" "Repeat it with the same Idempotency-Key in a moment.";
    STALE = 409 "stale" "A newer change was stored already" "Nothing to do: the card is ahead of this change.";
    EVENTS_GONE = 410 "events-gone" "The events from there on are gone" "Read what the cards are now (GET /api/v1/cards), then events without after: they begin with the one that oldest names.";
    WRONG_REVISION = 412 "wrong-revision" "The card is at another revision" "Read the card and decide anew.";
    TOO_LARGE = 413 "too-large" "The body is too large" "Send less; the detail names the limit.";
    INVALID = 422 "invalid" "The input breaks rules" "Mend what errors lists; nothing was stored.";
    IDEMPOTENCY_KEY_REUSED = 422 "idempotency-key-reused" "The Idempotency-Key belongs to another request" "Take a new key for each new request; repeat a request unchanged.";
    UNPUBLISHABLE = 422 "unpublishable" "The template breaks rules" "Mend what errors lists, then publish again.";
    TOO_MANY_REQUESTS = 429 "too-many-requests" "Too many requests" "Go on after the time in Retry-After.";
    FAULT = 500 "internal-error" "Something went wrong here" "Try again; tell us the request id if it stays.";
    INSUFFICIENT_STORAGE = 507 "insufficient-storage" "There is no space left" "Nothing was stored. Make space where the database is; then repeat the request.";
    UNAVAILABLE = 503 "unavailable" "The service can't answer now" "Try again after the time in Retry-After.";
}

/// Returns the kind with that code.
pub fn kind(code: &str) -> Option<&'static Kind> {
    KINDS.iter().copied().find(|kind| kind.code == code)
}

/// The most entries of a problem's `errors`.
const MOST_ERRORS: usize = Problems::MAX;
/// The most bytes of a document that is part of one of many lines.
const LONGEST_IN_LINE: usize = 4 * 1024;

/// A problem to be turned into an answer.
#[derive(Debug)]
pub struct Problem {
    kind: &'static Kind,
    detail: String,
    errors: Vec<Value>,
    /// The oldest event that can be read, if that is the problem.
    oldest: Option<String>,
    /// The actual cause, for the log only.
    cause: Option<String>,
}

impl Problem {
    /// Creates a problem of that kind; `detail` says what happened this time.
    pub fn new(kind: &'static Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), errors: Vec::new(), oldest: None, cause: None }
    }

    /// Creates the problem of input that breaks rules.
    pub fn invalid(problems: Problems) -> Self {
        let count = problems.count();
        let errors: Vec<InputProblem> = problems.into_vec();
        let detail = match errors.as_slice() {
            [one] => format!("{} {}", place(&one.pointer), one.detail),
            _ => format!("{count} members break rules"),
        };
        let errors = errors.into_iter().map(|e| json!({"pointer": e.pointer, "detail": e.detail})).collect();
        Self { errors, ..Self::new(&INVALID, detail) }
    }

    fn unpublishable(issues: Vec<Issue>) -> Self {
        let left_out = issues.len().saturating_sub(MOST_ERRORS);
        let listed = issues.into_iter().take(MOST_ERRORS).map(|mut issue| {
            cut(&mut issue.detail, Problems::MAX_DETAIL);
            json!(issue)
        });
        let mut errors: Vec<Value> = listed.collect();
        if left_out > 0 {
            errors.push(json!({"pointer": "", "detail": more(left_out)}));
        }
        Self { errors, ..Self::new(&UNPUBLISHABLE, "a phone would refuse passes of this template") }
    }

    fn fault(cause: String) -> Self {
        Self { cause: Some(cause), ..Self::new(&FAULT, "the request could not be completed; nothing was stored") }
    }

    fn unavailable(cause: String) -> Self {
        Self { cause: Some(cause), ..Self::new(&UNAVAILABLE, "the database can't be reached or is too busy") }
    }

    /// Creates the problem that too much memory is in use for others.
    pub fn no_room(no_room: NoRoom) -> Self {
        let detail = "too much of other requests is held in memory just now";
        Self { cause: Some(no_room.to_string()), ..Self::new(&UNAVAILABLE, detail) }
    }

    /// Returns the document (RFC 9457); `base_path` is the path of the service's public address.
    pub fn document(&self, base_path: &str) -> Value {
        let mut document = json!({
            "type": format!("{base_path}/problems/{}", self.kind.code),
            "title": self.kind.title,
            "status": self.kind.status,
            "detail": self.detail,
        });
        if let (false, Some(map)) = (self.errors.is_empty(), document.as_object_mut()) {
            map.insert("errors".to_owned(), Value::Array(self.errors.clone()));
        }
        if self.kind.code == EVENTS_GONE.code {
            document["oldest"] = json!(self.oldest);
        }
        document
    }

    /// Returns the document for one of many lines: as many of its errors as fit into 4 KiB, the others counted.
    pub fn short_document(&self, base_path: &str) -> Value {
        let mut document = self.document(base_path);
        if let Some(Value::Array(errors)) = document.get_mut("errors") {
            let mut room = LONGEST_IN_LINE;
            let fitting = errors.iter().take_while(|error| {
                let size = error.to_string().len();
                let fits = size <= room;
                room = room.saturating_sub(size);
                fits
            });
            let (fitting, all) = (fitting.count(), errors.len());
            if fitting < all {
                errors.truncate(fitting);
                errors.push(json!({"pointer": "", "detail": more(all - fitting)}));
            }
        }
        document
    }

    /// Returns the actual cause, when clients must not see it.
    pub fn cause(&self) -> Option<&str> {
        self.cause.as_deref()
    }
}

/// Returns the answer of a service whose public address has that path: a problem's type is the address of one of its
/// pages.
pub fn below(base_path: &str, answer: ServiceResponse<BoxBody>) -> ServiceResponse<BoxBody> {
    let problem = answer.response().error().and_then(|error| error.as_error::<Problem>());
    match problem.filter(|_| !base_path.is_empty()).map(|problem| problem.document(base_path).to_string()) {
        Some(document) => answer.map_body(|_, _| BoxBody::new(document)),
        None => answer,
    }
}

fn place(pointer: &str) -> &str {
    if pointer.is_empty() { "the body" } else { pointer }
}

impl From<ActionError> for Problem {
    fn from(error: ActionError) -> Self {
        match error {
            ActionError::Invalid(problems) => Self::invalid(problems),
            ActionError::NotFound(what) => Self::new(&NOT_FOUND, format!("there is no such {what}")),
            ActionError::Exists(what) => Self::new(&EXISTS, format!("there is a {what} of that id already")),
            ActionError::NotPublished => {
                Self::new(&NOT_PUBLISHED, "the template was never published, so it can't have cards")
            }
            ActionError::TemplateExists => Self::new(&TEMPLATE_EXISTS, "there is a template of that id"),
            ActionError::TemplateInUse => Self::new(
                &TEMPLATE_IN_USE,
                "cards are shown by the template: those that are there, and erased ones whose passes phones still hold",
            ),
            ActionError::IssuerMissing => {
                Self::new(&ISSUER_MISSING, "the workspace has no certificate to sign passes with")
            }
            ActionError::CertificateConfigured => {
                Self::new(&CERTIFICATE_CONFIGURED, "the certificate is one of the node's settings, not set by API")
            }
            ActionError::Unpublishable(issues) => Self::unpublishable(issues),
            ActionError::EventsGone { oldest } => Self {
                oldest,
                ..Self::new(
                    &EVENTS_GONE,
                    "the event is older than events are kept, so what came after it may be gone too",
                )
            },
            ActionError::WrongRevision { found: 0 } => Self::new(&WRONG_REVISION, "there is no such card yet"),
            ActionError::WrongRevision { found } => {
                Self::new(&WRONG_REVISION, format!("the card is at revision {found}"))
            }
            ActionError::Stale { stored } => {
                Self::new(&STALE, format!("a change with sequence {stored} was stored already"))
            }
            ActionError::ShuttingDown => Self::unavailable("shutting down".to_owned()),
            ActionError::Busy => Self::unavailable("see the request that found out".to_owned()),
            ActionError::DraftChanging => Self::new(
                &DRAFT_CHANGING,
                "the draft changed each time while it was being published; nothing was published",
            ),
            ActionError::Store(error @ StoreError::Full(_)) => Self {
                cause: Some(error.to_string()),
                ..Self::new(&INSUFFICIENT_STORAGE, "the database has no space left; nothing was stored")
            },
            ActionError::Store(error @ StoreError::Unwritable(_)) => Self {
                cause: Some(error.to_string()),
                ..Self::new(&UNAVAILABLE, "the database can't be written now; nothing was stored")
            },
            ActionError::Store(StoreError::Unavailable(cause)) => Self::unavailable(cause.to_string()),
            ActionError::Store(StoreError::Conflict(cause) | StoreError::Duplicate(cause)) => {
                Self::unavailable(format!("conflict: {cause}"))
            }
            ActionError::Store(other) => Self::fault(other.to_string()),
            ActionError::Secret(error) => Self::fault(error.to_string()),
            ActionError::Fault(cause) => Self::fault(cause),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        ActionError::from(error).into()
    }
}

impl From<WorkError> for Problem {
    fn from(error: WorkError) -> Self {
        ActionError::from(error).into()
    }
}

impl From<Problems> for Problem {
    fn from(problems: Problems) -> Self {
        Self::invalid(problems)
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.kind.code, self.detail)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.kind.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        // `below` adds the path of the public address: the service isn't known here.
        let body = self.document("");
        let mut response = HttpResponse::build(self.status_code());
        response.insert_header((header::CACHE_CONTROL, "no-store"));
        match self.kind.status {
            401 => {
                response.insert_header((header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")));
            }
            409 if [&IDEMPOTENCY_UNDER_WAY, &DRAFT_CHANGING].contains(&self.kind) => {
                response.insert_header((header::RETRY_AFTER, "1"));
            }
            503 => {
                response.insert_header((header::RETRY_AFTER, "2"));
            }
            _ => {}
        }
        response.content_type("application/problem+json").body(body.to_string())
    }
}

/// `GET /problems/{code}`: the page that a problem's `type` points to.
///
/// # Errors
/// When there is no such kind.
pub async fn problem_page(code: web::Path<String>) -> Result<HttpResponse, Problem> {
    let kind = kind(&code).ok_or_else(|| Problem::new(&NOT_FOUND, "there is no such kind of problem"))?;
    Ok(HttpResponse::Ok()
        .content_type("text/plain; charset=utf-8")
        .body(format!("{} ({})\n\n{}\n", kind.title, kind.status, kind.remedy)))
}

/// Answers any address that no route matches.
///
/// # Errors
/// Always.
pub async fn not_found(_: web::Data<crate::app::App>) -> Result<HttpResponse, Problem> {
    Err(Problem::new(&NOT_FOUND, "there is nothing at this address"))
}

/// Answers a known address with a method it doesn't support; `allowed` lists those it does (RFC 9110, 15.5.6).
pub fn method_not_allowed(allowed: &str) -> HttpResponse {
    let problem = Problem::new(&METHOD_NOT_ALLOWED, format!("the address knows {allowed} only"));
    let mut response = HttpResponse::from_error(problem);
    if let Ok(allowed) = HeaderValue::from_str(allowed) {
        response.headers_mut().insert(header::ALLOW, allowed);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_kind_has_its_own_code_and_a_remedy() {
        let codes: BTreeSet<_> = KINDS.iter().map(|kind| kind.code).collect();
        assert_eq!(codes.len(), KINDS.len());
        for kind in KINDS {
            assert!((400..600).contains(&kind.status) && !kind.remedy.is_empty(), "{}", kind.code);
        }
    }

    #[test]
    fn what_is_listed_is_bounded_and_the_rest_is_counted() {
        let issues = (0..120).map(|n| Issue::error("some-rule", format!("/{n}"), "wrong ".repeat(200))).collect();
        let document = Problem::unpublishable(issues).document("");
        let errors = document["errors"].as_array().expect("errors");
        assert_eq!((errors.len(), errors[100]["detail"].as_str()), (101, Some("20 more problems are not listed")));
        assert_eq!(errors[0]["detail"].as_str().map(|detail| detail.chars().count()), Some(500));

        let mut problems = Problems::new();
        (0..60).for_each(|n| problems.add(format!("/attributes/a{n}"), "is wrong ".repeat(20)));
        let problem = Problem::invalid(problems);
        assert_eq!(problem.document("")["errors"].as_array().map(Vec::len), Some(60));
        let short = problem.short_document("");
        let listed = short["errors"].as_array().expect("errors");
        assert!(short.to_string().len() < 5 * 1024 && listed.len() > 10, "{}", listed.len());
        assert_eq!(listed.last().map(|last| last["detail"].clone()), Some(json!(more(61 - listed.len()))));
    }

    #[actix_web::test]
    async fn a_fault_tells_nothing_of_its_cause() {
        let problem = Problem::from(ActionError::Fault("password=hunter2".to_owned()));
        let body = actix_web::body::to_bytes(problem.error_response().into_body()).await.expect("a body");
        assert!(!String::from_utf8_lossy(&body).contains("hunter2"));
        assert_eq!(problem.cause(), Some("password=hunter2"));
    }
}
