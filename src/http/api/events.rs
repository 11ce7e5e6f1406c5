//! `GET /api/v1/events`

use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value, json};

use crate::actions::events::events_after;
use crate::actions::keys::Scope;
use crate::app::App;
use crate::http::auth::{CardsRead, Key};
use crate::http::openapi::{Answer, Content, Needs, Operation, parameters, schemas};
use crate::http::problem::{EVENTS_GONE, INVALID, Problem};
use crate::http::query::Query;
use crate::store::events::Page;

/// The OpenAPI description of the operation.
pub const DOC: Operation = Operation {
    id: "listEvents",
    tag: "Events",
    summary: "Read what happened",
    description: "What happened in the workspace after the event `after`, oldest first; everything without it. What commits \
        later comes later, so nothing is missed. A cursor is the id of the last event read. \
        Events are kept for PASSLOOM_EVENT_RETENTION days, the newest one always; an event that is older leads to 410 with the \
        `oldest` that is left.",
    needs: Needs::Scope(Scope::CardsRead),
    parameters: &[&parameters::AFTER, &parameters::LIMIT, &parameters::CURSOR],
    body: Content::Nothing,
    answers: &[Answer { status: 200, meaning: "The events", content: Content::Json(&schemas::EVENTS) }],
    problems: &[&INVALID, &EVENTS_GONE],
};

/// Lists events of the workspace after the event `after`, oldest first. A cursor is also an event's id: the last one
/// read.
///
/// # Errors
/// When the query breaks rules or names no event of the workspace.
pub async fn list(app: web::Data<App>, key: Key<CardsRead>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let mut query = Query::of(&request);
    let limit = query.limit();
    let (after, cursor) = (query.get("after"), query.get("cursor"));
    query.finish()?;
    // A client that pages may keep sending its `after`: a cursor is always later.
    let after = match &cursor {
        Some(id) => ("/cursor", Some(id.as_str())),
        None => ("/after", after.as_deref()),
    };
    let found = events_after(&app, &key.workspace, after, limit).await?;
    let next = found.events.last().filter(|_| found.more).map(|last| last.id.clone());
    Ok(answer(&found, next))
}

/// Returns the answer with a page of events.
pub(super) fn answer(found: &Page, next_cursor: Option<String>) -> HttpResponse {
    let data: Vec<Value> = found
        .events
        .iter()
        .map(|event| json!({"id": event.id, "type": event.kind, "timestamp": event.at, "actor": event.actor(), "data": event.data.0}))
        .collect();
    HttpResponse::Ok()
        .insert_header((CACHE_CONTROL, "no-store"))
        .json(json!({"data": data, "next_cursor": next_cursor}))
}
