//! `DELETE /api/v1/keys/{id}`

use actix_web::{HttpResponse, web};

use crate::actions::keys::{Scope, revoke_key};
use crate::app::App;
use crate::http::auth::{Admin, Key};
use crate::http::openapi::{Answer, Content, Needs, Operation, parameters};
use crate::http::problem::{NOT_FOUND, Problem};

/// The OpenAPI description of the operation.
pub const DOC: Operation = Operation {
    id: "revokeKey",
    tag: "Workspaces and keys",
    summary: "Revoke an API key",
    description: "It stops at once. A key may revoke itself.",
    needs: Needs::Scope(Scope::Admin),
    parameters: &[&parameters::KEY_ID],
    body: Content::Nothing,
    answers: &[Answer { status: 204, meaning: "It is revoked", content: Content::Nothing }],
    problems: &[&NOT_FOUND],
};

/// Revokes a key (204), even the one used for the request.
///
/// # Errors
/// When the workspace has no such key.
pub async fn revoke(app: web::Data<App>, key: Key<Admin>, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    revoke_key(&app, &key.workspace, &key.actor, &id).await?;
    Ok(HttpResponse::NoContent().finish())
}
