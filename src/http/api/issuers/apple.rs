//! `GET` and `PUT /api/v1/issuers/apple`

use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpResponse, web};

use crate::actions::api_keys::Scope;
use crate::actions::issuers::{apple_issuer_answer, put_apple_issuer};
use crate::app::App;
use crate::domain::ids::WorkspaceId;
use crate::http::auth::{Admin, Key};
use crate::http::body::Json;
use crate::http::openapi::{Answer, Content, Needs, Operation, schemas};
use crate::http::problem::{INVALID, NOT_FOUND, Problem};

/// What it says of itself.
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

/// What it says of itself.
pub const PUT_DOC: Operation = Operation {
    id: "putAppleIssuer",
    tag: "Workspaces and keys",
    summary: "Add an Apple certificate",
    description: "Beside those there are: the newest valid one of a pass type signs and pushes, new cards get the pass \
        type that was set last, and cards keep the one they were issued under. Apple's intermediates are known.",
    needs: Needs::Scope(Scope::Admin),
    parameters: &[],
    body: Content::Json(&schemas::NEW_APPLE_ISSUER),
    answers: &[Answer { status: 200, meaning: "The certificates", content: Content::Json(&schemas::APPLE_ISSUER) }],
    problems: &[&INVALID],
};

async fn answer(app: &App, workspace: &WorkspaceId) -> Result<HttpResponse, Problem> {
    let issuer = apple_issuer_answer(app, workspace).await?;
    let issuer = issuer.ok_or_else(|| Problem::new(&NOT_FOUND, "the workspace has no certificate of Apple's"))?;
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(issuer))
}

/// The workspace's certificates: names, dates and which signs now; nothing private.
///
/// # Errors
/// When it has none.
pub async fn get(app: web::Data<App>, key: Key<Admin>) -> Result<HttpResponse, Problem> {
    answer(&app, &key.workspace).await
}

/// Adds a certificate, beside those there are.
///
/// # Errors
/// See [`put_apple_issuer`].
pub async fn put(app: web::Data<App>, key: Key<Admin>, body: Json) -> Result<HttpResponse, Problem> {
    put_apple_issuer(&app, &key.workspace, &body.0).await?;
    answer(&app, &key.workspace).await
}
