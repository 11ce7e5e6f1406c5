//! `GET /api/v1/cards/{id}/events`

use actix_web::{HttpRequest, HttpResponse, web};

use crate::actions::events::events_of_card;
use crate::actions::keys::Scope;
use crate::app::App;
use crate::domain::ids::CardId;
use crate::http::api::events;
use crate::http::auth::{CardsRead, Key};
use crate::http::openapi::{Answer, Content, Needs, Operation, parameters, schemas};
use crate::http::problem::{INVALID, NOT_FOUND, Problem};
use crate::http::query::{Query, cursor};
use crate::store::events::Place;

/// The OpenAPI description of the operation.
pub const DOC: Operation = Operation {
    id: "listCardEvents",
    tag: "Events",
    summary: "Read what happened to a card",
    description: "Oldest first: issued, page opened, installed on a device, changed, pushed, fetched, removed; and each \
        failed delivery with its `reason` and, when it is tried again by itself, `retry_at`.",
    needs: Needs::Scope(Scope::CardsRead),
    parameters: &[&parameters::CARD_ID, &parameters::LIMIT, &parameters::CURSOR],
    body: Content::Nothing,
    answers: &[Answer { status: 200, meaning: "The events", content: Content::Json(&schemas::EVENTS) }],
    problems: &[&NOT_FOUND, &INVALID],
};

/// Lists the card's events, oldest first.
///
/// # Errors
/// When there is no such card, or the query breaks rules.
pub async fn events(
    app: web::Data<App>,
    key: Key<CardsRead>,
    id: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let id = CardId::parse(&id).map_err(|_| Problem::new(&NOT_FOUND, "there is no such card"))?;
    let mut query = Query::of(&request);
    let limit = query.limit();
    let after = query.cursor().map_or(Place::START, |(position, n)| Place { position, n });
    query.finish()?;
    let found = events_of_card(&app, &key.workspace, &id, after, limit).await?;
    let next = found.events.last().filter(|_| found.more).and_then(|last| {
        let place = last.place();
        cursor(&(place.position, place.n))
    });
    Ok(events::answer(&found, next))
}
