//! `PUT /api/v1/cards/{id}`

use actix_web::{HttpRequest, HttpResponse, web};

use super::{answer, if_match};
use crate::actions::put_card::put_card;
use crate::actions::put_template::Put;
use crate::app::App;
use crate::domain::ids::CardId;
use crate::domain::input::Problems;
use crate::http::auth::{CardsWrite, Key};
use crate::http::body::Json;
use crate::http::problem::Problem;

/// Issues a card (201) or replaces what the backend said of it (200).
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
    let (issued, put) = put_card(&app, &key.workspace, &id, &body.0, if_match(&request)).await?;
    let response = match put {
        Put::Created => HttpResponse::Created(),
        Put::Replaced => HttpResponse::Ok(),
    };
    answer(&app, response, &issued).await
}
