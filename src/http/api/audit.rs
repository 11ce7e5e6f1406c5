//! `GET /api/v1/audit`

use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value, json};

use crate::actions::audit::audit_list;
use crate::actions::keys::Scope;
use crate::app::App;
use crate::domain::actor::Actor;
use crate::domain::audit::kinds;
use crate::domain::ids::CardId;
use crate::http::auth::{Admin, Key};
use crate::http::openapi::{Answer, Content, Needs, Operation, Parameter, Place as At, parameters, schemas};
use crate::http::problem::{INVALID, Problem};
use crate::http::query::{Query, cursor};
use crate::store::audit::{Filter, Place};

/// The OpenAPI description of the operation.
pub const DOC: Operation = Operation {
    id: "listAudit",
    tag: "Events",
    summary: "Read who changed what",
    description: "Who or which key changed what and when, oldest first: workspaces made, keys made and revoked, issuers put and \
        certificates removed, templates put, imported, restored, published and deleted, their images, and cards created, \
        changed, expired and erased. What commits later comes later. What phones and customers do, and deliveries, are events \
        only. A page looks at up to 2,000 entries, so with a filter it may be short or empty while `next_cursor` leads on. \
        Entries are never changed, and are kept as long as events; those of an erased card go with it but for the erasure.",
    needs: Needs::Scope(Scope::Admin),
    parameters: &[&ACTOR, &TYPE, &CARD, &parameters::LIMIT, &parameters::CURSOR],
    body: Content::Nothing,
    answers: &[Answer { status: 200, meaning: "The entries", content: Content::Json(&schemas::AUDIT) }],
    problems: &[&INVALID],
};

const ACTOR: Parameter = Parameter {
    name: "actor",
    place: At::Query,
    meaning: "Only what comes from this one: `system`, or a kind and an id such as `api_key:bootstrap`.",
    schema: || json!({"type": "string", "maxLength": 200, "examples": ["system", "api_key:bootstrap"]}),
};
const TYPE: Parameter = Parameter {
    name: "type",
    place: At::Query,
    meaning: "Only what is of this kind.",
    schema: || json!({"enum": kinds()}),
};
const CARD: Parameter =
    Parameter { name: "card", place: At::Query, meaning: "Only changes of this card.", schema: schemas::card_id };

/// Lists who changed what in the workspace, oldest first.
///
/// # Errors
/// When the query breaks rules.
pub async fn list(app: web::Data<App>, key: Key<Admin>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let mut query = Query::of(&request);
    let limit = query.limit();
    let after = query.cursor::<(i64, i64, i64)>();
    let known = |word: &str| match kinds().contains(&word) {
        true => Ok(word.to_owned()),
        false => Err(format!("is no kind of entry; expected one of {}", kinds().join(", "))),
    };
    let filter = Filter {
        actor: query.parsed("actor", Actor::parse),
        action: query.parsed("type", known),
        card: query.parsed("card", CardId::parse),
    };
    query.finish()?;
    let after = after.map_or(Place::START, |(position, entry, event)| Place { position, entry, event });
    let limit = usize::try_from(limit).unwrap_or_default();
    let found = audit_list(&app, &key.workspace, &filter, after, limit).await?;
    let data: Vec<Value> = found
        .entries
        .iter()
        .map(|entry| {
            let (kind, id) = entry.subject();
            json!({
                "id": entry.id, "type": entry.action, "timestamp": entry.at, "actor": entry.actor(),
                "subject": {"kind": kind, "id": id}, "data": entry.data.0,
            })
        })
        .collect();
    let next = found.next.and_then(|place| cursor(&(place.position, place.entry, place.event)));
    let answer = json!({"data": data, "next_cursor": next});
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(answer))
}
