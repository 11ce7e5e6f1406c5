//! `PUT`, `GET` and `DELETE /api/v1/templates/{id}`

use actix_web::{HttpResponse, web};

use super::existing;
use crate::actions::keys::Scope;
use crate::actions::templates::put_template::{Put, delete_template, get_template, put_template};
use crate::app::App;
use crate::domain::ids::TemplateId;
use crate::domain::input::Problems;
use crate::http::auth::{Key, TemplatesRead, TemplatesWrite};
use crate::http::body::TemplateJson;
use crate::http::openapi::{Answer, Content, Needs, Operation, parameters, schemas};
use crate::http::problem::{INVALID, NOT_FOUND, Problem, TEMPLATE_IN_USE};

/// The OpenAPI description of [`put`].
pub const PUT_DOC: Operation = Operation {
    id: "putTemplate",
    tag: "Templates",
    summary: "Replace the draft of a template",
    description: "Makes the template when it isn't there. Cards don't change until it is published.",
    needs: Needs::Scope(Scope::TemplatesWrite),
    parameters: &[&parameters::TEMPLATE_ID],
    body: Content::Json(&schemas::STORED_TEMPLATE),
    answers: &[
        Answer { status: 200, meaning: "It was replaced", content: Content::Json(&schemas::STORED_TEMPLATE) },
        Answer { status: 201, meaning: "It was made", content: Content::Json(&schemas::STORED_TEMPLATE) },
    ],
    problems: &[&INVALID],
};

/// The OpenAPI description of [`get`].
pub const GET_DOC: Operation = Operation {
    id: "getTemplate",
    tag: "Templates",
    summary: "Read the draft of a template",
    description: "",
    needs: Needs::Scope(Scope::TemplatesRead),
    parameters: &[&parameters::TEMPLATE_ID],
    body: Content::Nothing,
    answers: &[Answer { status: 200, meaning: "The draft", content: Content::Json(&schemas::STORED_TEMPLATE) }],
    problems: &[&NOT_FOUND],
};

/// The OpenAPI description of [`delete`].
pub const DELETE_DOC: Operation = Operation {
    id: "deleteTemplate",
    tag: "Templates",
    summary: "Delete a template",
    description: "Takes away its draft, its versions and its pictures. Refused while it has cards.",
    needs: Needs::Scope(Scope::TemplatesWrite),
    parameters: &[&parameters::TEMPLATE_ID],
    body: Content::Nothing,
    answers: &[Answer { status: 204, meaning: "It is gone", content: Content::Nothing }],
    problems: &[&NOT_FOUND, &TEMPLATE_IN_USE],
};

/// Replaces the draft (200), or creates a template (201).
///
/// # Errors
/// See [`put_template`].
pub async fn put(
    app: web::Data<App>,
    key: Key<TemplatesWrite>,
    id: web::Path<String>,
    body: TemplateJson,
) -> Result<HttpResponse, Problem> {
    let id = TemplateId::parse(&id).map_err(|e| Problems::one("/id", e.to_string()))?;
    let put = put_template(&app, &key.workspace, &key.actor, &id, body.0).await?;
    let document = get_template(&app, &key.workspace, &id).await?;
    Ok(match put {
        Put::Created => HttpResponse::Created().json(document),
        Put::Replaced => HttpResponse::Ok().json(document),
    })
}

/// Returns the draft.
///
/// # Errors
/// When there is no such template.
pub async fn get(app: web::Data<App>, key: Key<TemplatesRead>, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(get_template(&app, &key.workspace, &existing(&id)?).await?))
}

/// Deletes the template with everything that belongs to it (204).
///
/// # Errors
/// When there is no such template, or it has cards.
pub async fn delete(
    app: web::Data<App>,
    key: Key<TemplatesWrite>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    delete_template(&app, &key.workspace, &key.actor, &existing(&id)?).await?;
    Ok(HttpResponse::NoContent().finish())
}
