//! `GET` and `POST /api/v1/templates`

use actix_web::http::header::LOCATION;
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value, json};

use crate::actions::keys::Scope;
use crate::actions::templates::put_template::{create_template, get_template, list_templates};
use crate::app::App;
use crate::http::auth::{Key, TemplatesRead, TemplatesWrite};
use crate::http::body::TemplateJson;
use crate::http::openapi::{Answer, Content, Needs, Operation, parameters, schemas};
use crate::http::problem::{INVALID, Problem, TEMPLATE_EXISTS};
use crate::http::query::{Query, cursor};

/// The OpenAPI description of [`list`].
pub const LIST_DOC: Operation = Operation {
    id: "listTemplates",
    tag: "Templates",
    summary: "List the templates",
    description: "By id: what each is, not its whole document.",
    needs: Needs::Scope(Scope::TemplatesRead),
    parameters: &[&parameters::LIMIT, &parameters::CURSOR],
    body: Content::Nothing,
    answers: &[Answer { status: 200, meaning: "The templates", content: Content::Json(&schemas::TEMPLATES) }],
    problems: &[&INVALID],
};

/// The OpenAPI description of [`post`].
pub const POST_DOC: Operation = Operation {
    id: "createTemplate",
    tag: "Templates",
    summary: "Make a new template",
    description: "Under the `id` in the document, or one made here.",
    needs: Needs::Scope(Scope::TemplatesWrite),
    parameters: &[&parameters::IDEMPOTENCY_KEY],
    body: Content::Json(&schemas::NEW_TEMPLATE),
    answers: &[Answer { status: 201, meaning: "Its draft", content: Content::Json(&schemas::STORED_TEMPLATE) }],
    problems: &[&INVALID, &TEMPLATE_EXISTS],
};

/// Lists the workspace's templates by id: a summary of each, not its document.
///
/// # Errors
/// When the query is wrong or the database fails.
pub async fn list(app: web::Data<App>, key: Key<TemplatesRead>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let mut query = Query::of(&request);
    let (limit, after) = (query.limit(), query.cursor::<String>());
    query.finish()?;
    let found = list_templates(&app, &key.workspace, after.as_deref().unwrap_or_default(), limit + 1).await?;
    Ok(HttpResponse::Ok().json(page(found, limit)))
}

/// Creates a template (201), under the document's `id` or a generated one.
///
/// # Errors
/// See [`create_template`].
pub async fn post(app: web::Data<App>, key: Key<TemplatesWrite>, body: TemplateJson) -> Result<HttpResponse, Problem> {
    let id = create_template(&app, &key.workspace, &key.actor, body.0).await?;
    let document = get_template(&app, &key.workspace, &id).await?;
    Ok(HttpResponse::Created()
        .insert_header((LOCATION, format!("{}/api/v1/templates/{id}", app.base_path)))
        .json(document))
}

/// Returns a list's answer. One item more than the limit was requested, to know whether others follow.
pub(super) fn page<T: serde::Serialize>(mut found: Vec<(T, Value)>, limit: i64) -> Value {
    let limit = usize::try_from(limit).unwrap_or(0);
    let more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| more).and_then(|(place, _)| cursor(place));
    let data: Vec<Value> = found.into_iter().map(|(_, shown)| shown).collect();
    json!({"data": data, "next_cursor": next})
}
