//! `GET /api/v1/cards`

use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::json;

use crate::actions::cards::card_view::card_answers;
use crate::actions::cards::list_cards::list_cards;
use crate::actions::keys::Scope;
use crate::app::App;
use crate::domain::cards::State;
use crate::domain::ids::TemplateId;
use crate::domain::time::Timestamp;
use crate::http::auth::{CardsRead, Key};
use crate::http::openapi::{Answer, Content, Needs, Operation, parameters, schemas};
use crate::http::problem::{INVALID, Problem};
use crate::http::query::{Query, cursor};
use crate::store::cards::Filter;

/// The OpenAPI description of the operation.
pub const DOC: Operation = Operation {
    id: "listCards",
    tag: "Cards",
    summary: "List cards",
    description: "In the order in which they last changed. A card that changes or commits while you page comes later in the \
        list, so none is missed; `updated_at` grows with every change, also when the clock goes back.",
    needs: Needs::Scope(Scope::CardsRead),
    parameters: &[
        &parameters::OF_TEMPLATE,
        &parameters::IN_STATE,
        &parameters::UPDATED_SINCE,
        &parameters::LIMIT,
        &parameters::CURSOR,
    ],
    body: Content::Nothing,
    answers: &[Answer { status: 200, meaning: "The cards", content: Content::Json(&schemas::CARDS) }],
    problems: &[&INVALID],
};

/// Lists the cards, the most recently changed last. A card that changes or commits during paging comes later.
///
/// # Errors
/// When the query breaks rules.
pub async fn list(app: web::Data<App>, key: Key<CardsRead>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let mut query = Query::of(&request);
    let filter =
        Filter { template: query.parsed("template", TemplateId::parse), state: query.parsed("state", State::parse) };
    let since = query.parsed("updated_since", |text| {
        // A plus sign that wasn't escaped arrives as a space.
        let text = text.replace(' ', "+");
        Timestamp::parse_rfc3339(&text)
            .ok_or("is not a time of RFC 3339 of the years 1 to 9999; expected for example 2026-12-31T18:00:00Z")
    });
    let limit = query.limit();
    let place: Option<(i64, String)> = query.cursor();
    query.finish()?;
    let since = (since.map_or(i64::MIN, Timestamp::micros), String::new());
    let (updated_at, id) = place.map_or_else(|| since.clone(), |place| place.max(since.clone()));
    let after = (Timestamp::from_micros(updated_at), id.as_str());
    let found = list_cards(&app, &key.workspace, &filter, after, limit).await?;
    let next = found.cards.last().filter(|_| found.more);
    let next = next.and_then(|last| cursor(&(last.card.updated_at.micros(), &last.card.id)));
    let data = card_answers(&app, &found.cards).await?;
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(json!({"data": data, "next_cursor": next})))
}
