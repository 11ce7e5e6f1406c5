//! `PATCH /api/v1/cards/{id}`

use actix_web::{HttpRequest, HttpResponse, web};

use super::{answer, if_match};
use crate::actions::cards::card_view::find_card;
use crate::actions::cards::command::CardCommand;
use crate::actions::cards::put_cards::put_card;
use crate::actions::keys::Scope;
use crate::app::App;
use crate::domain::ids::CardId;
use crate::http::auth::{CardsWrite, Key};
use crate::http::body::Json;
use crate::http::openapi::{Answer, Content, Needs, Operation, parameters, schemas};
use crate::http::problem::{INVALID, ISSUER_MISSING, NOT_FOUND, NOT_PUBLISHED, Problem, STALE, WRONG_REVISION};

/// The OpenAPI description of the operation.
pub const DOC: Operation = Operation {
    id: "patchCard",
    tag: "Cards",
    summary: "Change a card",
    description: "A JSON merge patch (RFC 7396): what is left out stays, null goes back to the default. A change that changes \
        nothing keeps the revision and sends no push.",
    needs: Needs::Scope(Scope::CardsWrite),
    parameters: &[&parameters::CARD_ID, &parameters::IF_MATCH],
    body: Content::Json(&schemas::CARD_PATCH),
    answers: &[Answer {
        status: 200,
        meaning: "The card, with its revision as ETag",
        content: Content::Json(&schemas::CARD),
    }],
    problems: &[&NOT_FOUND, &NOT_PUBLISHED, &ISSUER_MISSING, &STALE, &WRONG_REVISION, &INVALID],
};

/// Changes a card by a merge patch (RFC 7396).
///
/// # Errors
/// See [`put_card`].
pub async fn patch(
    app: web::Data<App>,
    key: Key<CardsWrite>,
    id: web::Path<String>,
    request: HttpRequest,
    body: Json,
) -> Result<HttpResponse, Problem> {
    let id = CardId::parse(&id).map_err(|_| Problem::new(&NOT_FOUND, "there is no such card"))?;
    let command = match CardCommand::patch(id.clone(), body.0, if_match(&request)) {
        Ok(command) => command,
        // A missing card is reported before problems of the patch.
        Err(wrong) => {
            find_card(&app, &key.workspace, &id).await?;
            return Err(wrong.into());
        }
    };
    let (issued, _) = put_card(&app, &key.workspace, &key.actor, command).await?;
    answer(&app, HttpResponse::Ok(), &issued).await
}
