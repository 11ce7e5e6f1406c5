//! `POST /api/v1/workspaces`

use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpResponse, web};
use serde_json::json;

use crate::actions::workspaces::create_workspace::create_workspace;
use crate::app::App;
use crate::http::auth::Bootstrap;
use crate::http::body::Json;
use crate::http::openapi::{Answer, Content, Needs, Operation, parameters, schemas};
use crate::http::problem::{EXISTS, INVALID, Problem};

/// The OpenAPI description of the operation.
pub const DOC: Operation = Operation {
    id: "createWorkspace",
    tag: "Workspaces and keys",
    summary: "Add a workspace",
    description: "With its first key, which has every scope.",
    needs: Needs::BootstrapKey,
    parameters: &[&parameters::IDEMPOTENCY_KEY],
    body: Content::Json(&schemas::NEW_WORKSPACE),
    answers: &[Answer {
        status: 201,
        meaning: "The workspace and its key",
        content: Content::Json(&schemas::WORKSPACE),
    }],
    problems: &[&INVALID, &EXISTS],
};

/// Adds a workspace (201), with its first key.
///
/// # Errors
/// See [`create_workspace`].
pub async fn create(app: web::Data<App>, key: Bootstrap, body: Json) -> Result<HttpResponse, Problem> {
    let made = create_workspace(&app, &key.actor, &body.0).await?;
    let mut answer = json!({"id": made.id, "name": made.name, "key": made.key});
    if let Some(zone) = made.time_zone {
        answer["time_zone"] = json!(zone);
    }
    Ok(HttpResponse::Created().insert_header((CACHE_CONTROL, "no-store")).json(answer))
}
