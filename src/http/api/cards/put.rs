//! `PUT /api/v1/cards/{id}`

use actix_web::{HttpRequest, HttpResponse, web};

use super::{answer, if_match};
use crate::actions::cards::command::CardCommand;
use crate::actions::cards::plan_changes::WriteOutcome;
use crate::actions::cards::put_cards::put_card;
use crate::actions::keys::Scope;
use crate::app::App;
use crate::domain::ids::CardId;
use crate::domain::input::Problems;
use crate::http::auth::{CardsWrite, Key};
use crate::http::body::Json;
use crate::http::openapi::{Answer, Content, Needs, Operation, parameters, schemas};
use crate::http::problem::{INVALID, ISSUER_MISSING, NOT_PUBLISHED, Problem, STALE, WRONG_REVISION};

/// The OpenAPI description of the operation.
pub const DOC: Operation = Operation {
    id: "putCard",
    tag: "Cards",
    summary: "Issue or replace a card",
    description: "Members that are left out go back to their defaults, the state to active. Values that a phone would refuse \
        are named at their attribute.",
    needs: Needs::Scope(Scope::CardsWrite),
    parameters: &[&parameters::CARD_ID, &parameters::IF_MATCH],
    body: Content::Json(&schemas::CARD_PUT),
    answers: &[
        Answer { status: 200, meaning: "It stood and was replaced", content: Content::Json(&schemas::CARD) },
        Answer { status: 201, meaning: "It was issued", content: Content::Json(&schemas::CARD) },
    ],
    problems: &[&NOT_PUBLISHED, &ISSUER_MISSING, &STALE, &WRONG_REVISION, &INVALID],
};

/// Issues a card (201) or replaces its content (200).
///
/// # Errors
/// See [`put_card`].
pub async fn put(
    app: web::Data<App>,
    key: Key<CardsWrite>,
    id: web::Path<String>,
    request: HttpRequest,
    body: Json,
) -> Result<HttpResponse, Problem> {
    let id = CardId::parse(&id).map_err(|e| Problems::one("/id", e.to_string()))?;
    let command = CardCommand::put(id, body.0, if_match(&request))?;
    let (issued, done) = put_card(&app, &key.workspace, &key.actor, command).await?;
    let response = match done {
        WriteOutcome::Created => HttpResponse::Created(),
        WriteOutcome::Updated | WriteOutcome::Unchanged => HttpResponse::Ok(),
    };
    answer(&app, response, &issued).await
}
