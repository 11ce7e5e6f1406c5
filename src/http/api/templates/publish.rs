//! `POST /api/v1/templates/{id}/publish`

use actix_web::{HttpResponse, web};
use serde_json::json;

use super::existing;
use crate::actions::publish_template::publish_template;
use crate::app::App;
use crate::http::auth::{Key, TemplatesWrite};
use crate::http::problem::Problem;

/// Publishes the draft.
///
/// # Errors
/// See [`publish_template`].
pub async fn publish(
    app: web::Data<App>,
    key: Key<TemplatesWrite>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let version = publish_template(&app, &key.workspace, &existing(&id)?).await?;
    Ok(HttpResponse::Ok().json(json!({"version": version})))
}
