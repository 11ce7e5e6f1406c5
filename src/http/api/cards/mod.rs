//! `/api/v1/cards`

pub mod erase;
pub mod events;
pub mod get;
pub mod list;
pub mod patch;
pub mod put;

use actix_web::http::header::{CACHE_CONTROL, ETAG, IF_MATCH};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};

use crate::actions::card_answer::card_answer;
use crate::actions::put_card::IfMatch;
use crate::app::App;
use crate::http::problem::Problem;
use crate::store::cards::Issued;

/// Writes a card with its revision as `ETag`.
async fn answer(app: &App, mut response: HttpResponseBuilder, issued: &Issued) -> Result<HttpResponse, Problem> {
    let body = card_answer(app, issued).await?;
    response.insert_header((CACHE_CONTROL, "no-store"));
    Ok(response.insert_header((ETAG, format!("\"{}\"", issued.card.revision))).json(body))
}

/// Reads `If-Match`. A tag that isn't one of ours matches nothing.
fn if_match(request: &HttpRequest) -> IfMatch {
    let Some(value) = request.headers().get(IF_MATCH) else { return IfMatch::Anything };
    match value.to_str().unwrap_or_default().trim() {
        "*" => IfMatch::Exists,
        tag => IfMatch::Revision(tag.trim_matches('"').parse().unwrap_or(-1)),
    }
}
