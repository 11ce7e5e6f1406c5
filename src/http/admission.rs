//! Admission by memory: reserves memory for a request before it is needed, for its body, the parsed body, the work and
//! the answer. Reservations are kept in the request's extensions and released with it; the answer's is released with
//! the answer's body. [`crate::platform::memory`] explains their order and why requests can't deadlock.

use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;
use actix_web::web::Bytes;
use actix_web::{HttpMessage, HttpRequest, HttpResponse, ResponseError};

use super::body::{ARCHIVE, JSON};
use super::openapi::{Content, Operation, parameters};
use super::problem::{FAULT, Problem};
use super::server::Shared;
use crate::actions::keys::Bearer;
use crate::app::App;
use crate::platform::memory::{Held, NoRoom};

const MIB: usize = 1024 * 1024;
/// How much is reserved for a body without a key before it is read: phones send less.
const FIRST_OF_STRANGERS: usize = 4 * 1024;
/// The memory to work on a card: as stored, as it was, as it will be and as it is answered.
const CARD: usize = 2 * MIB;
/// The memory to work on a template.
const TEMPLATE: usize = 4 * MIB;
/// The memory for a page of a list while it is made.
const PAGE: usize = 12 * MIB;
/// Smaller answers are not counted. Smaller bodies have a share of their own.
pub const SMALL: usize = 64 * 1024;
/// Bodies with a smaller parsed size have a share of their own.
const SMALL_PARSED: usize = 512 * 1024;
/// The size of the pieces in which an answer is handed to its connection, which copies them.
const PIECE: usize = 64 * 1024;

/// The memory reserved for a request's body.
#[derive(Debug)]
pub struct BodyRoom {
    held: Held,
    bytes: usize,
    of_stranger: bool,
}

/// The memory reserved for a parsed body.
#[derive(Debug)]
pub struct ParsedRoom(#[allow(dead_code)] Held);

/// The memory reserved for working on a request.
struct Turn(#[allow(dead_code)] Held);

/// The memory reserved for an answer that is being made or sent. A handler may reserve it before it makes a large
/// answer.
#[derive(Debug)]
pub struct AnswerRoom(pub Held);

/// How many bytes of an answer are its own, if others are shared; kept in the response's extensions.
#[derive(Debug)]
pub struct OwnBytes(pub usize);

/// Marks an answer's content as shared, so that sending it needs no further memory.
pub fn of_shared_content(mut answer: HttpResponse) -> HttpResponse {
    answer.extensions_mut().insert(OwnBytes(0));
    answer
}

impl From<NoRoom> for Problem {
    fn from(no_room: NoRoom) -> Self {
        Self::no_room(no_room)
    }
}

/// Reserves memory for a body; `None` when a middleware around the handler has read it before.
///
/// # Errors
/// When no memory becomes free in time.
pub async fn body_room(
    app: &App,
    request: &HttpRequest,
    announced: Option<usize>,
    max: usize,
) -> Result<Option<BodyRoom>, Problem> {
    if request.extensions().contains::<BodyRoom>() {
        return Ok(None);
    }
    let of_stranger = !request.extensions().contains::<Bearer>();
    let expected = announced.unwrap_or(max);
    let (share, bytes) = match max {
        _ if of_stranger => (&app.memory.strangers, expected.min(FIRST_OF_STRANGERS)),
        // The unpacked content needs memory in addition.
        ARCHIVE => (&app.memory.uploads, 2 * expected),
        max if max > JSON => (&app.memory.uploads, expected),
        _ if expected <= SMALL => (&app.memory.small_documents, expected),
        _ => (&app.memory.documents, expected),
    };
    let held = share.take(bytes).await?;
    Ok(Some(BodyRoom { held, bytes: bytes.max(1024), of_stranger }))
}

impl BodyRoom {
    /// Reserves more when a stranger's body grows to that length. Doesn't wait, since strangers could wait for each
    /// other.
    ///
    /// # Errors
    /// When no memory is free.
    pub fn fit(&mut self, app: &App, length: usize) -> Result<(), Problem> {
        if self.of_stranger && length > self.bytes {
            let more = (length - self.bytes).max(FIRST_OF_STRANGERS);
            self.held.add(app.memory.strangers.try_take(more)?);
            self.bytes += more;
        }
        Ok(())
    }
}

/// Reserves memory for a parsed JSON body.
///
/// # Errors
/// When no memory becomes free in time.
pub async fn parsed_room(request: &HttpRequest, bytes: usize) -> Result<ParsedRoom, Problem> {
    let memory = &app_of(request)?.memory;
    let share = if bytes <= SMALL_PARSED { &memory.small_parsed } else { &memory.parsed };
    Ok(ParsedRoom(share.take(bytes).await?))
}

/// Returns the service that answers a request.
///
/// # Errors
/// When the request has none.
pub fn app_of(request: &HttpRequest) -> Result<&Shared, Problem> {
    request.app_data::<Shared>().ok_or_else(|| Problem::new(&FAULT, "the service is not set up"))
}

/// Waits until a backend's request may be worked on. A phone's request holds nothing large.
///
/// # Errors
/// When the wait takes too long.
pub async fn work(request: &HttpRequest) -> Result<(), Problem> {
    let waits = request.extensions().contains::<Bearer>() && !request.extensions().contains::<Turn>();
    if waits {
        let memory = &app_of(request)?.memory;
        let of_templates = request.match_pattern().is_some_and(|pattern| pattern.starts_with("/api/v1/templates"));
        let held = match of_templates {
            true => memory.templates.take(TEMPLATE).await?,
            false => memory.cards.take(CARD).await?,
        };
        request.extensions_mut().insert(Turn(held));
    }
    Ok(())
}

/// Middleware around the handler of an operation without a body: a page of a list reserves memory for its answer before
/// it is read, all others wait as [`work`] does. Operations with a body wait once it is read.
///
/// # Errors
/// Those of the handler.
pub async fn admitted(
    operation: &'static Operation,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse, actix_web::Error> {
    match begin(operation, request.request()).await {
        Ok(()) => Ok(next.call(request).await?.map_into_boxed_body()),
        Err(problem) => Ok(ServiceResponse::from_err(problem, request.into_parts().0)),
    }
}

async fn begin(operation: &Operation, request: &HttpRequest) -> Result<(), Problem> {
    if !matches!(operation.body, Content::Nothing) {
        return Ok(());
    }
    if operation.parameters.iter().any(|parameter| parameter.name == parameters::LIMIT.name) {
        let held = app_of(request)?.memory.answers.take(PAGE).await?;
        request.extensions_mut().insert(AnswerRoom(held));
        return Ok(());
    }
    work(request).await
}

/// An answer on its way to its connection, with its reserved memory.
pub enum Sent {
    /// Sent as it was made.
    Whole(BoxBody, #[allow(dead_code)] Option<Held>),
    /// Sent in pieces, so that the connection copies one at a time.
    Pieces(Bytes, #[allow(dead_code)] Option<Held>),
}

impl std::fmt::Debug for Sent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sent({:?})", self.size())
    }
}

impl MessageBody for Sent {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        match self {
            Self::Whole(body, _) => body.size(),
            Self::Pieces(bytes, _) => BodySize::Sized(bytes.len() as u64),
        }
    }

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        match self.get_mut() {
            Self::Whole(body, _) => Pin::new(body).poll_next(context),
            Self::Pieces(bytes, _) if bytes.is_empty() => Poll::Ready(None),
            Self::Pieces(bytes, _) => {
                let piece = bytes.split_to(bytes.len().min(PIECE));
                Poll::Ready(Some(Ok(piece)))
            }
        }
    }
}

/// Releases what a request held while it was worked on, and reserves memory for its answer if that is large; a large
/// answer is not sent when no memory is free.
pub async fn answered(app: &App, response: ServiceResponse<BoxBody>) -> ServiceResponse<Sent> {
    let room = {
        let mut extensions = response.request().extensions_mut();
        extensions.remove::<Turn>();
        extensions.remove::<ParsedRoom>();
        extensions.remove::<BodyRoom>();
        extensions.remove::<AnswerRoom>()
    };
    let own = response.response().extensions().get::<OwnBytes>().map(|own| own.0);
    let size = match (own, response.response().body().size()) {
        (Some(own), _) => own,
        (None, BodySize::Sized(size)) => usize::try_from(size).unwrap_or(usize::MAX),
        (None, BodySize::Stream | BodySize::None) => 0,
    };
    let room = match room.map(|room| room.0) {
        _ if size <= SMALL => None,
        Some(mut held) => {
            held.shrink_to(size);
            Some(held)
        }
        None => match app.memory.answers.take(size).await {
            Ok(held) => Some(held),
            Err(no_room) => {
                tracing::warn!(%no_room, size, "an answer is not sent");
                let request = response.into_parts().0;
                let refusal = Problem::no_room(no_room).error_response();
                return ServiceResponse::new(request, refusal).map_body(|_, body| Sent::Whole(body, None));
            }
        },
    };
    response.map_body(|_, body| match body.size() {
        BodySize::Sized(size) if size > PIECE as u64 => match body.try_into_bytes() {
            Ok(bytes) => Sent::Pieces(bytes, room),
            Err(body) => Sent::Whole(body, room),
        },
        _ => Sent::Whole(body, room),
    })
}
