//! `/api/v1/templates/{id}/versions`

use actix_web::{HttpRequest, HttpResponse, web};

use super::collection::page;
use super::existing;
use crate::actions::keys::Scope;
use crate::actions::templates::put_template::get_template;
use crate::actions::templates::template_versions::{list_versions, restore_version};
use crate::app::App;
use crate::http::auth::{Key, TemplatesRead, TemplatesWrite};
use crate::http::openapi::{Answer, Content, Needs, Operation, parameters, schemas};
use crate::http::problem::{INVALID, NOT_FOUND, Problem};
use crate::http::query::Query;

/// The OpenAPI description of [`list`].
pub const LIST_DOC: Operation = Operation {
    id: "listVersions",
    tag: "Templates",
    summary: "List the published versions of a template",
    description: "The newest first.",
    needs: Needs::Scope(Scope::TemplatesRead),
    parameters: &[&parameters::TEMPLATE_ID, &parameters::LIMIT, &parameters::CURSOR],
    body: Content::Nothing,
    answers: &[Answer { status: 200, meaning: "The versions", content: Content::Json(&schemas::VERSIONS) }],
    problems: &[&NOT_FOUND, &INVALID],
};

/// The OpenAPI description of [`restore`].
pub const RESTORE_DOC: Operation = Operation {
    id: "restoreVersion",
    tag: "Templates",
    summary: "Make a published version the draft again",
    description: "Its document and its pictures. Cards don't change until the draft is published.",
    needs: Needs::Scope(Scope::TemplatesWrite),
    parameters: &[&parameters::TEMPLATE_ID, &parameters::VERSION, &parameters::IDEMPOTENCY_KEY],
    body: Content::Nothing,
    answers: &[Answer { status: 200, meaning: "The draft", content: Content::Json(&schemas::STORED_TEMPLATE) }],
    problems: &[&NOT_FOUND],
};

/// Lists the published versions, newest first.
///
/// # Errors
/// When there is no such template, or the query is wrong.
pub async fn list(
    app: web::Data<App>,
    key: Key<TemplatesRead>,
    id: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let id = existing(&id)?;
    let mut query = Query::of(&request);
    let (limit, before) = (query.limit(), query.cursor::<i64>());
    query.finish()?;
    let found = list_versions(&app, &key.workspace, &id, before, limit + 1).await?;
    Ok(HttpResponse::Ok().json(page(found, limit)))
}

/// Makes a version the draft again; returns the draft (200).
///
/// # Errors
/// When there is no such template or version.
pub async fn restore(
    app: web::Data<App>,
    key: Key<TemplatesWrite>,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, Problem> {
    let id = existing(&path.0)?;
    let version = path.1.parse().map_err(|_| Problem::new(&NOT_FOUND, "there is no such template version"))?;
    restore_version(&app, &key.workspace, &key.actor, &id, version).await?;
    Ok(HttpResponse::Ok().json(get_template(&app, &key.workspace, &id).await?))
}
