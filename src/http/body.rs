//! Reads a request's body within limits of size and time.

use std::time::Duration;

use actix_web::web::Bytes;
use actix_web::{FromRequest, HttpMessage, HttpRequest, dev::Payload, http::header};
use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use serde_json::Value;
use tokio::time::Instant;

use super::admission::{self, BodyRoom, ParsedRoom, SMALL};
use super::problem::{NOT_JSON, Problem, TOO_LARGE, TOO_SLOW};
use super::server::Shared;
use crate::actions::templates::images::LARGEST_PICTURE;
use crate::actions::templates::put_template::LARGEST_DOCUMENT;
use crate::domain::input::{Problems, normalise_line_ends};
use crate::platform::memory::parsed_size;

/// How long the next piece of a body may take, and how long a body may take beyond the time that its length allows.
const PATIENCE: Duration = Duration::from_secs(10);
/// The slowest average rate of a body, in bytes a second. Otherwise pieces that each come in time could hold a
/// connection for days: a byte every nine seconds.
const SLOWEST: u32 = 32 * 1024;
/// How long any body may take.
const LONGEST_TIME: Duration = Duration::from_secs(600);

/// The limit of a JSON document: 1 MiB.
pub const JSON: usize = LARGEST_DOCUMENT;
/// The limit of a picture: 16 MiB.
pub const IMAGE: usize = LARGEST_PICTURE;
/// The limit of an archive: 64 MiB.
pub const ARCHIVE: usize = 64 * 1024 * 1024;
/// The most values in a JSON document: each takes much more memory and time than its text, and no document of the API
/// needs as many.
pub const VALUES: usize = 10_000;
/// The most values in a template's document.
pub const VALUES_OF_TEMPLATE: usize = 100_000;
/// The most values in a phone's request.
const MOST_OF_PHONES: usize = 500;
/// The limit of a phone's registration: 64 KiB.
pub const REGISTRATION: usize = 64 * 1024;
/// The limit of a phone's log messages: 256 KiB.
pub const LOG: usize = 256 * 1024;

/// A body of at most the given number of bytes; a longer one is answered 413 without reading on.
#[derive(Debug)]
pub struct Limited<const MAX: usize>(pub Bytes);

impl<const MAX: usize> FromRequest for Limited<MAX> {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (request, payload) = (request.clone(), payload.take());
        Box::pin(async move {
            let body = read(&request, payload, MAX).await?;
            admission::work(&request).await?;
            Ok(Self(body))
        })
    }
}

/// Reads a request's body of at most `max` bytes; a longer one is refused without reading on.
///
/// Memory for the announced length is reserved before the body is read; without a key, as it arrives.
///
/// # Errors
/// When it is longer, breaks off, or stalls; when there is no memory for it.
pub async fn read(request: &HttpRequest, mut payload: Payload, max: usize) -> Result<Bytes, Problem> {
    let announced: Option<usize> =
        request.headers().get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok());
    let too_large = || Problem::new(&TOO_LARGE, format!("expected at most {max} bytes"));
    if announced.is_some_and(|length| length > max) {
        return Err(too_large());
    }
    let mut held = match request.app_data::<Shared>() {
        Some(app) => admission::body_room(app, request, announced, max).await?.map(|held| (app, held)),
        // Only tests read a body without a service around it.
        None => None,
    };
    let mut body = actix_web::web::BytesMut::with_capacity(announced.unwrap_or(0));
    let late = || Problem::new(&TOO_SLOW, "the rest of the body didn't come in time");
    let began = Instant::now();
    loop {
        let next = payload.next();
        let next = tokio::time::timeout_at(due(began, Instant::now(), body.len()), next).await.map_err(|_| late())?;
        let Some(chunk) = next else { break };
        let chunk = chunk.map_err(|_| Problem::new(&NOT_JSON, "the body broke off"))?;
        if body.len() + chunk.len() > max {
            return Err(too_large());
        }
        if let Some((app, held)) = &mut held {
            held.fit(app, body.len() + chunk.len())?;
        }
        body.extend_from_slice(&chunk);
    }
    if let Some((_, held)) = held {
        request.extensions_mut().insert(held);
    }
    Ok(body.freeze())
}

/// Returns when the next piece of a body must have arrived.
fn due(began: Instant, now: Instant, read: usize) -> Instant {
    let explained = Duration::from_secs(read as u64) / SLOWEST;
    (now + PATIENCE).min(began + (PATIENCE + explained).min(LONGEST_TIME))
}

/// A JSON document of at most 1 MiB and the given number of values, whatever its content type.
#[derive(Debug)]
pub struct Json<const MOST_VALUES: usize = VALUES>(pub Value);

/// A template's document.
pub type TemplateJson = Json<VALUES_OF_TEMPLATE>;

impl<const MOST_VALUES: usize> FromRequest for Json<MOST_VALUES> {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (request, payload) = (request.clone(), payload.take());
        Box::pin(async move {
            let bytes = read(&request, payload, JSON).await?;
            let body = bytes.clone();
            let weighed = aside(&request, bytes.len(), move || {
                let size = parsed_size(&body);
                if size.values <= MOST_VALUES {
                    return Ok::<_, Problem>(size.bytes);
                }
                // Invalid JSON is refused as such, which this check finds without keeping any of it.
                serde_json::from_slice::<serde::de::IgnoredAny>(&body).map_err(|e| not_json(&e))?;
                let detail = format!("has about {} values; expected at most {MOST_VALUES}", size.values);
                Err(Problems::one("", detail).into())
            });
            let room = admission::parsed_room(&request, weighed.await??).await?;
            let parsed = aside(&request, bytes.len(), move || {
                let mut value = serde_json::from_slice(&bytes).map_err(|e| not_json(&e))?;
                normalise_line_ends(&mut value);
                Ok(Self(value))
            });
            let parsed = parsed.await?;
            request.extensions_mut().remove::<BodyRoom>();
            request.extensions_mut().insert::<ParsedRoom>(room);
            admission::work(&request).await?;
            parsed
        })
    }
}

/// Processes a body of that length: a small one at once, a large one off the threads that serve.
async fn aside<T: Send + 'static>(
    request: &HttpRequest,
    length: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Problem> {
    // A small one takes less than a millisecond.
    if length <= SMALL {
        return Ok(work());
    }
    Ok(admission::app_of(request)?.parsing_bodies.run(work).await?)
}

/// The parser's message may quote the body, which may hold personal values, so it isn't repeated.
fn not_json(error: &serde_json::Error) -> Problem {
    let what = match error.classify() {
        serde_json::error::Category::Eof => "ends too early",
        _ => "is not valid",
    };
    Problem::new(&NOT_JSON, format!("the JSON {what} at line {}, column {}", error.line(), error.column()))
}

/// Parses a phone's body as JSON; null when it is invalid or has more values than phones send.
pub fn of_phone(body: &[u8]) -> Value {
    let few = parsed_size(body).values <= MOST_OF_PHONES;
    if few { serde_json::from_slice(body).unwrap_or_default() } else { Value::Null }
}

#[cfg(test)]
mod tests {
    use actix_web::ResponseError;
    use actix_web::error::PayloadError;
    use actix_web::test::TestRequest;
    use futures_util::stream;

    use super::*;

    /// Returns the result for a body of that many pieces of that size, one after each pause, and how long it takes.
    async fn dripped(pieces: usize, size: usize, pause: Duration) -> (Result<usize, u16>, u64) {
        let pieces = stream::iter(0..pieces).then(move |_| async move {
            tokio::time::sleep(pause).await;
            Ok::<_, PayloadError>(Bytes::from(vec![b' '; size]))
        });
        let (request, began) = (TestRequest::default().to_http_request(), Instant::now());
        let read = read(&request, Payload::from(pieces.boxed_local()), 64 * 1024 * 1024).await;
        let read = read.map(|body| body.len()).map_err(|problem| problem.status_code().as_u16());
        (read, began.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_drips_is_given_up_and_a_slow_one_is_read() {
        let seconds = Duration::from_secs;
        // Each piece comes in time.
        assert_eq!(dripped(10_000, 1, seconds(9)).await, (Err(408), 10));
        assert_eq!(dripped(10_000, 1, seconds(1)).await, (Err(408), 10));
        assert_eq!(dripped(100, 32 * 1024, seconds(1)).await, (Ok(100 * 32 * 1024), 100));
        assert_eq!(dripped(1, 10, seconds(11)).await, (Err(408), 10), "a long pause is too long at any speed");
        let (read, took) = dripped(1_000, 33 * 1024, seconds(1)).await;
        assert_eq!((read, took), (Err(408), 600), "no body takes longer");
    }
}
