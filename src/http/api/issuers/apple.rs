//! `GET` and `PUT /api/v1/issuers/apple`, `DELETE /api/v1/issuers/apple/{fingerprint}`

use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpResponse, web};

use crate::actions::issuers::{apple_issuer_answer, put_apple_issuer, remove_apple_certificate};
use crate::actions::keys::Scope;
use crate::app::App;
use crate::domain::ids::WorkspaceId;
use crate::http::auth::{Admin, Key};
use crate::http::body::Json;
use crate::http::openapi::{Answer, Content, Needs, Operation, parameters, schemas};
use crate::http::problem::{CERTIFICATE_CONFIGURED, INVALID, NOT_FOUND, Problem};

/// The OpenAPI description of the operation.
pub const GET_DOC: Operation = Operation {
    id: "getAppleIssuer",
    tag: "Workspaces and keys",
    summary: "See the Apple certificates",
    description: "Names, dates and which one signs now; nothing private.",
    needs: Needs::Scope(Scope::Admin),
    parameters: &[],
    body: Content::Nothing,
    answers: &[Answer { status: 200, meaning: "The certificates", content: Content::Json(&schemas::APPLE_ISSUER) }],
    problems: &[&NOT_FOUND],
};

/// The OpenAPI description of the operation.
pub const PUT_DOC: Operation = Operation {
    id: "putAppleIssuer",
    tag: "Workspaces and keys",
    summary: "Add an Apple certificate",
    description: "Beside those there are: the newest valid one of a pass type signs and pushes, new cards get the pass \
        type that was set last, and cards keep the one they were issued under. Apple's intermediates are known. At most 50, with keys of RSA (2048 to \
        4096 bits) or P-256. Outside the sandbox it must lead to Apple's roots, or to one that PASSLOOM_APPLE_ROOT names. \
        A pass type that another workspace holds goes to the newer valid certificate of Apple's: its former workspace \
        loses its certificates of that pass type, and phones fetch its cards no more.",
    needs: Needs::Scope(Scope::Admin),
    parameters: &[],
    body: Content::Json(&schemas::NEW_APPLE_ISSUER),
    answers: &[Answer { status: 200, meaning: "The certificates", content: Content::Json(&schemas::APPLE_ISSUER) }],
    problems: &[&INVALID],
};

/// The OpenAPI description of the operation.
pub const DELETE_DOC: Operation = Operation {
    id: "removeAppleCertificate",
    tag: "Workspaces and keys",
    summary: "Remove an Apple certificate",
    description: "Every node stops signing and pushing by it within seconds. Also the last one of a pass type is removed, \
        since a key that others may know must go at once: cards of that pass type stay, and can't be signed or pushed \
        until the workspace has another (issuer-missing). The pass type stays the workspace's until somebody proves it.",
    needs: Needs::Scope(Scope::Admin),
    parameters: &[&parameters::FINGERPRINT],
    body: Content::Nothing,
    answers: &[Answer { status: 204, meaning: "It is removed", content: Content::Nothing }],
    problems: &[&NOT_FOUND, &CERTIFICATE_CONFIGURED],
};

async fn answer(app: &App, workspace: &WorkspaceId) -> Result<HttpResponse, Problem> {
    let issuer = apple_issuer_answer(app, workspace).await?;
    let issuer = issuer.ok_or_else(|| Problem::new(&NOT_FOUND, "the workspace has no certificate of Apple's"))?;
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(issuer))
}

/// Returns the workspace's certificates: names, dates and which one signs now; nothing private.
///
/// # Errors
/// When it has none.
pub async fn get(app: web::Data<App>, key: Key<Admin>) -> Result<HttpResponse, Problem> {
    answer(&app, &key.workspace).await
}

/// Adds a certificate to the existing ones.
///
/// # Errors
/// See [`put_apple_issuer`].
pub async fn put(app: web::Data<App>, key: Key<Admin>, body: Json) -> Result<HttpResponse, Problem> {
    put_apple_issuer(&app, &key.workspace, &key.actor, &body.0).await?;
    answer(&app, &key.workspace).await
}

/// Removes a certificate (204).
///
/// # Errors
/// When the workspace has none of that fingerprint, or it comes from the configuration.
pub async fn delete(
    app: web::Data<App>,
    key: Key<Admin>,
    fingerprint: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    remove_apple_certificate(&app, &key.workspace, &key.actor, &fingerprint).await?;
    Ok(HttpResponse::NoContent().finish())
}
