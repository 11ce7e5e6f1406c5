//! `GET /api/v1/cards/{id}/delivery`

use actix_web::{HttpResponse, web};

use super::get::find;
use crate::actions::keys::Scope;
use crate::app::App;
use crate::delivery::ledger::delivery_ledger;
use crate::http::auth::{CardsRead, Key};
use crate::http::openapi::{Answer, Content, Needs, Operation, parameters, schemas};
use crate::http::problem::{NOT_FOUND, Problem};

/// The OpenAPI description of the operation.
pub const DOC: Operation = Operation {
    id: "getCardDelivery",
    tag: "Cards",
    summary: "See where a card's newest face has got to",
    description: "For each device: the face it should show, what it was told, when it asked, what it fetched, and when it is \
                  behind, why. A fetch names no device, so it counts for those that asked since the change.",
    needs: Needs::Scope(Scope::CardsRead),
    parameters: &[&parameters::CARD_ID],
    body: Content::Nothing,
    answers: &[Answer { status: 200, meaning: "The ledger", content: Content::Json(&schemas::DELIVERY) }],
    problems: &[&NOT_FOUND],
};

/// Returns the freshness ledger of a card: its delivery state for each device.
///
/// # Errors
/// When there is no such card.
pub async fn delivery(
    app: web::Data<App>,
    key: Key<CardsRead>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let issued = find(&app, &key.workspace, &id).await?;
    Ok(HttpResponse::Ok().json(delivery_ledger(&app, issued).await?))
}
