//! `DELETE /api/v1/cards/{id}`

use actix_web::{HttpRequest, HttpResponse, web};

use super::if_match;
use crate::actions::cards::erase_card::erase_card;
use crate::actions::keys::Scope;
use crate::app::App;
use crate::domain::ids::CardId;
use crate::http::auth::{CardsWrite, Key};
use crate::http::openapi::{Answer, Content, Needs, Operation, parameters};
use crate::http::problem::{NOT_FOUND, Problem, WRONG_REVISION};

/// The OpenAPI description of the operation.
pub const DOC: Operation = Operation {
    id: "deleteCard",
    tag: "Cards",
    summary: "Erase a card",
    description: "Its values and its events are erased; phones get a void pass without any value by their next fetch, and its \
        addresses answer 410. The same id may be issued again: as a new card with a new serial number and addresses.",
    needs: Needs::Scope(Scope::CardsWrite),
    parameters: &[&parameters::CARD_ID, &parameters::IF_MATCH],
    body: Content::Nothing,
    answers: &[Answer { status: 204, meaning: "It is erased", content: Content::Nothing }],
    problems: &[&NOT_FOUND, &WRONG_REVISION],
};

/// Erases the card: 204.
///
/// # Errors
/// See [`erase_card`].
pub async fn erase(
    app: web::Data<App>,
    key: Key<CardsWrite>,
    id: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let id = CardId::parse(&id).map_err(|_| Problem::new(&NOT_FOUND, "there is no such card"))?;
    erase_card(&app, &key.workspace, &key.actor, &id, &if_match(&request)).await?;
    Ok(HttpResponse::NoContent().finish())
}
