//! `DELETE /api/v1/keys/{id}`

use actix_web::{HttpResponse, web};

use crate::actions::api_keys::revoke_key;
use crate::app::App;
use crate::http::auth::{Admin, Key};
use crate::http::problem::Problem;

/// Revokes a key (204), also the one that asks.
///
/// # Errors
/// When the workspace has no such key.
pub async fn revoke(app: web::Data<App>, key: Key<Admin>, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    revoke_key(&app, &key.workspace, &id).await?;
    Ok(HttpResponse::NoContent().finish())
}
