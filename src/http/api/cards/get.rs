//! `GET /api/v1/cards/{id}` and `GET /api/v1/cards/{id}/apple`

use actix_web::{HttpResponse, web};

use super::answer;
use crate::actions::card_answer::find_card;
use crate::actions::fetch_pass::signed_pass;
use crate::app::App;
use crate::domain::ids::{CardId, WorkspaceId};
use crate::domain::time::Timestamp;
use crate::http::auth::{CardsRead, Key};
use crate::http::problem::{NOT_FOUND, Problem};
use crate::http::public::download::pkpass;
use crate::store::cards::Issued;

async fn find(app: &App, workspace: &WorkspaceId, id: &str) -> Result<Issued, Problem> {
    let id = CardId::parse(id).map_err(|_| Problem::new(&NOT_FOUND, "there is no such card"))?;
    Ok(find_card(app, workspace, &id).await?)
}

/// The card.
///
/// # Errors
/// When there is none.
pub async fn get(app: web::Data<App>, key: Key<CardsRead>, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    let issued = find(&app, &key.workspace, &id).await?;
    answer(&app, HttpResponse::Ok(), &issued).await
}

/// The card's `.pkpass`.
///
/// # Errors
/// When there is no such card or it can't be signed.
pub async fn apple(app: web::Data<App>, key: Key<CardsRead>, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    let issued = find(&app, &key.workspace, &id).await?;
    let pass = signed_pass(&app, &issued).await?;
    Ok(pkpass(&pass, Timestamp::from_seconds(issued.modified())))
}
