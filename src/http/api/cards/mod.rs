//! `/api/v1/cards`

pub mod bulk;
mod bulk_line;
pub mod delivery;
pub mod erase;
pub mod events;
pub mod get;
pub mod list;
pub mod patch;
pub mod put;

use actix_web::http::header::{CACHE_CONTROL, ETAG, IF_MATCH};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};

use crate::actions::cards::card_view::card_answer;
use crate::actions::cards::command::IfMatch;
use crate::app::App;
use crate::http::problem::Problem;
use crate::store::cards::Issued;

/// Returns the answer with a card, its revision as `ETag`.
async fn answer(app: &App, mut response: HttpResponseBuilder, issued: &Issued) -> Result<HttpResponse, Problem> {
    let body = card_answer(app, issued).await?;
    response.insert_header((CACHE_CONTROL, "no-store"));
    Ok(response.insert_header((ETAG, format!("\"{}\"", issued.card.revision))).json(body))
}

/// Reads `If-Match` (RFC 9110, 13.1.1): `*`, or a list of tags, of which one must match. A weak tag or one that isn't
/// ours matches nothing.
fn if_match(request: &HttpRequest) -> IfMatch {
    let mut lines = request.headers().get_all(IF_MATCH).peekable();
    if lines.peek().is_none() {
        return IfMatch::Anything;
    }
    let mut revisions = Vec::new();
    for tag in lines.flat_map(|line| line.to_str().unwrap_or_default().split(',')) {
        match tag.trim() {
            "*" => return IfMatch::Exists,
            tag => revisions.extend(revision(tag)),
        }
    }
    IfMatch::Revisions(revisions)
}

/// Returns the revision of a tag; quotes may be missing, as some clients omit them.
fn revision(tag: &str) -> Option<i64> {
    let bare = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).unwrap_or(tag);
    bare.bytes().all(|b| b.is_ascii_digit()).then(|| bare.parse().ok()).flatten()
}
