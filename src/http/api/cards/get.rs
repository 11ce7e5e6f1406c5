//! `GET /api/v1/cards/{id}` and `GET /api/v1/cards/{id}/apple`

use actix_web::{HttpResponse, web};

use super::answer;
use crate::actions::cards::card_view::find_card;
use crate::actions::keys::Scope;
use crate::actions::passes::ensure_pass::ensure_pass;
use crate::actions::passes::fetch_pass::signed_pass;
use crate::actions::passes::renders::Reader;
use crate::app::App;
use crate::domain::ids::{CardId, WorkspaceId};
use crate::domain::time::Timestamp;
use crate::domain::wallet::WalletKind;
use crate::http::auth::{CardsRead, Key};
use crate::http::openapi::{Answer, Content, Needs, Operation, parameters, schemas};
use crate::http::problem::{ISSUER_MISSING, NOT_FOUND, Problem};
use crate::http::public::download::pkpass;
use crate::store::cards::Issued;

/// Returns the card that a path names.
///
/// # Errors
/// When there is none.
pub(super) async fn find(app: &App, workspace: &WorkspaceId, id: &str) -> Result<Issued, Problem> {
    let id = CardId::parse(id).map_err(|_| Problem::new(&NOT_FOUND, "there is no such card"))?;
    Ok(find_card(app, workspace, &id).await?)
}

/// The OpenAPI description of [`get`].
pub const DOC: Operation = Operation {
    id: "getCard",
    tag: "Cards",
    summary: "Read a card",
    description: "With its addresses, and how many phones hold it and show its newest face.",
    needs: Needs::Scope(Scope::CardsRead),
    parameters: &[&parameters::CARD_ID],
    body: Content::Nothing,
    answers: &[Answer {
        status: 200,
        meaning: "The card, with its revision as ETag",
        content: Content::Json(&schemas::CARD),
    }],
    problems: &[&NOT_FOUND],
};

/// The OpenAPI description of [`apple`].
pub const APPLE_DOC: Operation = Operation {
    id: "getApplePass",
    tag: "Cards",
    summary: "Download the Apple pass",
    description: "The signed .pkpass, as customers get it at urls.apple.",
    needs: Needs::Scope(Scope::CardsRead),
    parameters: &[&parameters::CARD_ID],
    body: Content::Nothing,
    answers: &[Answer { status: 200, meaning: "The pass", content: Content::Bytes(&["application/vnd.apple.pkpass"]) }],
    problems: &[&NOT_FOUND, &ISSUER_MISSING],
};

/// Returns the card.
///
/// # Errors
/// When there is none.
pub async fn get(app: web::Data<App>, key: Key<CardsRead>, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    let issued = find(&app, &key.workspace, &id).await?;
    answer(&app, HttpResponse::Ok(), &issued).await
}

/// Returns the card's `.pkpass`.
///
/// # Errors
/// When there is no such card or it can't be signed.
pub async fn apple(app: web::Data<App>, key: Key<CardsRead>, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    let mut issued = find(&app, &key.workspace, &id).await?;
    ensure_pass(&app, &mut issued, WalletKind::Apple).await?;
    let pass = signed_pass(&app, &issued, Reader::Backend).await?;
    app.metrics.passes_served.inc();
    Ok(pkpass(&pass, Timestamp::from_seconds(issued.modified())))
}
