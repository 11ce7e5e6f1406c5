//! `PATCH /api/v1/cards/{id}`

use actix_web::{HttpRequest, HttpResponse, web};

use super::{answer, if_match};
use crate::actions::change_card::change_card;
use crate::app::App;
use crate::domain::ids::CardId;
use crate::http::auth::{CardsWrite, Key};
use crate::http::body::Json;
use crate::http::problem::{NOT_FOUND, Problem};

/// Changes a card by a merge patch (RFC 7396).
///
/// # Errors
/// See [`change_card`].
pub async fn patch(
    app: web::Data<App>,
    key: Key<CardsWrite>,
    id: web::Path<String>,
    request: HttpRequest,
    body: Json,
) -> Result<HttpResponse, Problem> {
    let id = CardId::parse(&id).map_err(|_| Problem::new(&NOT_FOUND, "there is no such card"))?;
    let issued = change_card(&app, &key.workspace, &id, &body.0, if_match(&request)).await?;
    answer(&app, HttpResponse::Ok(), &issued).await
}
