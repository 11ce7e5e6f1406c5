//! Reading a request's body, bounded.

use std::time::Duration;

use actix_web::web::Bytes;
use actix_web::{FromRequest, HttpRequest, dev::Payload, http::header};
use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use serde_json::Value;

use super::problem::{NOT_JSON, Problem, TOO_LARGE, TOO_SLOW};
use crate::actions::images::LARGEST_PICTURE;
use crate::actions::put_template::LARGEST_DOCUMENT;
use crate::domain::input::normalise_line_ends;

/// How long the next piece of a body may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A JSON document of at most 1 MiB.
pub const JSON: usize = LARGEST_DOCUMENT;
/// A picture of at most 16 MiB.
pub const IMAGE: usize = LARGEST_PICTURE;
/// An archive of at most 64 MiB.
pub const ARCHIVE: usize = 64 * 1024 * 1024;
/// What a phone sends to register.
pub const REGISTRATION: usize = 64 * 1024;
/// What a phone sends to be logged.
pub const LOG: usize = 256 * 1024;

/// A body of at most so many bytes; a longer one is answered 413 without reading on.
#[derive(Debug)]
pub struct Limited<const MAX: usize>(pub Bytes);

impl<const MAX: usize> FromRequest for Limited<MAX> {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (request, payload) = (request.clone(), payload.take());
        Box::pin(async move { Ok(Self(read(&request, payload, MAX).await?)) })
    }
}

/// Reads a request's body of at most `max` bytes; a longer one is refused without reading on.
///
/// # Errors
/// When it is longer, breaks off, or doesn't go on.
pub async fn read(request: &HttpRequest, mut payload: Payload, max: usize) -> Result<Bytes, Problem> {
    let announced: Option<usize> =
        request.headers().get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok());
    let too_large = || Problem::new(&TOO_LARGE, format!("expected at most {max} bytes"));
    if announced.is_some_and(|length| length > max) {
        return Err(too_large());
    }
    let mut body = actix_web::web::BytesMut::new();
    let late = || Problem::new(&TOO_SLOW, "the rest of the body didn't come");
    while let Some(chunk) = tokio::time::timeout(PATIENCE, payload.next()).await.map_err(|_| late())? {
        let chunk = chunk.map_err(|_| Problem::new(&NOT_JSON, "the body broke off"))?;
        if body.len() + chunk.len() > max {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// A JSON document of at most 1 MiB, whatever its announced type.
#[derive(Debug)]
pub struct Json(pub Value);

impl FromRequest for Json {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let body = Limited::<JSON>::from_request(request, payload);
        Box::pin(async move {
            let Limited(bytes) = body.await?;
            match serde_json::from_slice(&bytes) {
                Ok(mut value) => {
                    normalise_line_ends(&mut value);
                    Ok(Self(value))
                }
                // The parser's own words may quote the body, which may hold personal values.
                Err(e) => {
                    let what = match e.classify() {
                        serde_json::error::Category::Eof => "ends too early",
                        _ => "is not valid",
                    };
                    Err(Problem::new(&NOT_JSON, format!("the JSON {what} at line {}, column {}", e.line(), e.column())))
                }
            }
        })
    }
}
