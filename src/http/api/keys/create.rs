//! `POST /api/v1/keys`

use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpResponse, web};

use crate::actions::keys::{Scope, create_key};
use crate::app::App;
use crate::http::auth::{Admin, Key};
use crate::http::body::Json;
use crate::http::openapi::{Answer, Content, Needs, Operation, parameters, schemas};
use crate::http::problem::{INVALID, Problem};

/// The OpenAPI description of the operation.
pub const DOC: Operation = Operation {
    id: "createKey",
    tag: "Workspaces and keys",
    summary: "Make an API key",
    description: "The answer is the only one that ever holds the secret.",
    needs: Needs::Scope(Scope::Admin),
    parameters: &[&parameters::IDEMPOTENCY_KEY],
    body: Content::Json(&schemas::NEW_KEY),
    answers: &[Answer {
        status: 201,
        meaning: "The key with its secret",
        content: Content::Json(&schemas::ISSUED_KEY),
    }],
    problems: &[&INVALID],
};

/// Creates a key (201); this answer is the only one that ever holds its secret.
///
/// # Errors
/// See [`create_key`].
pub async fn create(app: web::Data<App>, key: Key<Admin>, body: Json) -> Result<HttpResponse, Problem> {
    let made = create_key(&app, &key.workspace, &key.actor, &body.0).await?;
    Ok(HttpResponse::Created().insert_header((CACHE_CONTROL, "no-store")).json(made))
}
