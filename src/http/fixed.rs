//! Answers whose content stands as long as the service runs: made once, and sent again only to readers that don't have them.

use std::sync::OnceLock;

use actix_web::http::header::{CACHE_CONTROL, ETAG, HeaderMap, IF_NONE_MATCH};
use actix_web::web::{self, Bytes};
use actix_web::{HttpRequest, HttpResponse};

use super::admission::of_shared_content;
use super::endpoint::Endpoint;
use super::problem::Problem;
use crate::platform::secrets::digest;

/// A content with its media type and a validator made from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fixed {
    content_type: &'static str,
    etag: String,
    bytes: Bytes,
}

impl Fixed {
    /// Of these bytes.
    pub fn new(content_type: &'static str, bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let etag = format!("\"{}\"", hex::encode(&digest(&bytes)[..12]));
        Self { content_type, etag, bytes }
    }

    /// The answer: 304 to a reader that has this content, else the content. `headers` are added to both.
    pub fn answer(&self, request: &HttpRequest, headers: &[(&'static str, &'static str)]) -> HttpResponse {
        let mut response = match is_known(request.headers(), &self.etag) {
            true => HttpResponse::NotModified(),
            false => HttpResponse::Ok(),
        };
        response.insert_header((ETAG, self.etag.as_str())).insert_header((CACHE_CONTROL, "public, max-age=300"));
        for header in headers {
            response.insert_header(*header);
        }
        match is_known(request.headers(), &self.etag) {
            true => response.finish(),
            false => of_shared_content(response.content_type(self.content_type).body(self.bytes.clone())),
        }
    }
}

/// Whether a request says that it has the content of that tag (RFC 9110, 13.1.2: a list, compared weakly).
pub fn is_known(headers: &HeaderMap, etag: &str) -> bool {
    let given = headers.get_all(IF_NONE_MATCH).filter_map(|value| value.to_str().ok());
    let mut tags = given.flat_map(|value| value.split(',')).map(str::trim);
    tags.any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

/// The contents that all of a node's threads share.
#[derive(Debug)]
pub struct FixedContents {
    /// What they describe: the routes of backends.
    pub backends: &'static [Endpoint],
    /// The OpenAPI document.
    pub openapi: OnceLock<Fixed>,
    /// The API's documentation for people.
    pub docs: OnceLock<Fixed>,
}

impl FixedContents {
    /// Nothing is made yet.
    pub fn new(backends: &'static [Endpoint]) -> Self {
        Self { backends, openapi: OnceLock::new(), docs: OnceLock::new() }
    }
}

/// The contents as handlers get them.
pub type Contents = web::Data<FixedContents>;

/// The content in that place; `make` makes it when it is first asked for.
///
/// # Errors
/// When it can't be made.
pub fn once(place: &OnceLock<Fixed>, make: impl FnOnce() -> Result<Fixed, Problem>) -> Result<&Fixed, Problem> {
    match place.get() {
        Some(made) => Ok(made),
        // Two threads may make it at the same time; one content stays.
        None => make().map(|made| place.get_or_init(|| made)),
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn a_content_is_made_once_and_sent_to_whom_lacks_it() {
        let contents = FixedContents::new(&[]);
        let mut made = 0;
        for _ in 0..3 {
            let content = once(&contents.docs, || {
                made += 1;
                Ok(Fixed::new("text/plain", "content"))
            });
            let answer = content.expect("made").answer(&TestRequest::default().to_http_request(), &[]);
            assert_eq!(answer.status(), 200);
        }
        assert_eq!(made, 1);
        let etag = contents.docs.get().expect("made").etag.clone();
        for (given, status) in [
            (etag.clone(), 304),
            (format!("W/{etag}"), 304),
            (format!("\"other\", {etag}"), 304),
            ("*".to_owned(), 304),
            ("\"other\"".to_owned(), 200),
        ] {
            let request = TestRequest::default().insert_header((IF_NONE_MATCH, given.as_str())).to_http_request();
            let answer = contents.docs.get().expect("made").answer(&request, &[]);
            assert_eq!(answer.status(), status, "{given}");
            assert!(answer.headers().contains_key(ETAG) && answer.headers().contains_key(CACHE_CONTROL));
        }
    }
}
