//! `POST /api/v1/templates/{id}/check` and `…/preview`: they store nothing and need no issuer.

use actix_web::{HttpResponse, web};
use serde_json::json;

use super::existing;
use crate::actions::keys::Scope;
use crate::actions::templates::check_template::check_template;
use crate::actions::templates::preview_template::preview_template;
use crate::app::App;
use crate::http::auth::{Key, TemplatesRead};
use crate::http::body::Json;
use crate::http::openapi::{Answer, Content, Needs, Operation, parameters, schemas};
use crate::http::problem::{DRAFT_CHANGING, INVALID, NOT_FOUND, Problem};

/// The OpenAPI description of [`check`].
pub const CHECK_DOC: Operation = Operation {
    id: "checkTemplate",
    tag: "Templates",
    summary: "Check the draft",
    description: "Every rule that its passes would break, as a phone would judge them; errors first, which forbid publishing.",
    needs: Needs::Scope(Scope::TemplatesRead),
    parameters: &[&parameters::TEMPLATE_ID],
    body: Content::Nothing,
    answers: &[Answer { status: 200, meaning: "The broken rules", content: Content::Json(&schemas::CHECKED) }],
    problems: &[&NOT_FOUND, &DRAFT_CHANGING, &INVALID],
};

/// The OpenAPI description of [`preview`].
pub const PREVIEW_DOC: Operation = Operation {
    id: "previewTemplate",
    tag: "Templates",
    summary: "Show what the draft makes of given values",
    description: "The pass of a card with these values, made by the same code as a real one, and what it breaks. Without \
        `attributes`, each has its default or a plausible value.",
    needs: Needs::Scope(Scope::TemplatesRead),
    parameters: &[&parameters::TEMPLATE_ID],
    body: Content::Json(&schemas::PREVIEW_REQUEST),
    answers: &[Answer { status: 200, meaning: "The preview", content: Content::Json(&schemas::PREVIEW) }],
    problems: &[&NOT_FOUND, &DRAFT_CHANGING, &INVALID],
};

/// Lists every rule violation of the draft.
///
/// # Errors
/// When there is no such template.
pub async fn check(
    app: web::Data<App>,
    key: Key<TemplatesRead>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let issues = check_template(&app, &key.workspace, &existing(&id)?).await?;
    Ok(HttpResponse::Ok().json(json!({"issues": issues})))
}

/// Returns what the draft makes of given values.
///
/// # Errors
/// See [`preview_template`].
pub async fn preview(
    app: web::Data<App>,
    key: Key<TemplatesRead>,
    id: web::Path<String>,
    body: Json,
) -> Result<HttpResponse, Problem> {
    let preview = preview_template(&app, &key.workspace, &existing(&id)?, &body.0).await?;
    Ok(HttpResponse::Ok().insert_header(("cache-control", "no-store")).json(preview))
}
