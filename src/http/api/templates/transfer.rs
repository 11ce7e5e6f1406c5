//! `GET /api/v1/templates/{id}/export` and `POST /api/v1/templates/import`

use actix_web::http::header::{CONTENT_DISPOSITION, LOCATION};
use actix_web::{HttpMessage, HttpRequest, HttpResponse, web};
use serde_json::json;

use super::existing;
use crate::actions::keys::Scope;
use crate::actions::templates::transfer_template::{export_template, import_template};
use crate::app::App;
use crate::domain::ids::TemplateId;
use crate::http::admission::AnswerRoom;
use crate::http::auth::{Key, TemplatesRead, TemplatesWrite};
use crate::http::body::{ARCHIVE, Limited};
use crate::http::openapi::{Answer, Content, Needs, Operation, parameters, schemas};
use crate::http::problem::{INVALID, NOT_FOUND, Problem, TEMPLATE_EXISTS};
use crate::http::query::Query;

const ZIP: &str = "application/zip";

/// The OpenAPI description of [`export`].
pub const EXPORT_DOC: Operation = Operation {
    id: "exportTemplate",
    tag: "Templates",
    summary: "Take a template's draft out",
    description: "A ZIP archive with the document and the pictures as they were uploaded; POST /templates/import makes a \
                  template of it, in any workspace of any Passloom.",
    needs: Needs::Scope(Scope::TemplatesRead),
    parameters: &[&parameters::TEMPLATE_ID],
    body: Content::Nothing,
    answers: &[Answer { status: 200, meaning: "The archive", content: Content::Bytes(&[ZIP]) }],
    problems: &[&NOT_FOUND],
};

/// The OpenAPI description of [`import`].
pub const IMPORT_DOC: Operation = Operation {
    id: "importTemplate",
    tag: "Templates",
    summary: "Make a template of an archive",
    description: "An archive of GET /templates/{id}/export, a `.pkpass`, or a `.pkpasstemplate` of Apple's Pass Designer, of at \
                  most 64 MiB, packed and unpacked. Of a pass the values on the front become attributes with those values as \
                  defaults, those on the back texts of the template (take out what was one member's), and its code becomes \
                  the card's id. Nothing is published. Problems point into the archive.",
    needs: Needs::Scope(Scope::TemplatesWrite),
    parameters: &[&parameters::NEW_TEMPLATE_ID, &parameters::IDEMPOTENCY_KEY],
    body: Content::Bytes(&[ZIP, "application/vnd.apple.pkpass", "application/octet-stream"]),
    answers: &[Answer { status: 201, meaning: "Its draft was made", content: Content::Json(&schemas::IMPORTED) }],
    problems: &[&INVALID, &TEMPLATE_EXISTS],
};

/// Returns the draft as an archive.
///
/// # Errors
/// When there is no such template.
pub async fn export(
    app: web::Data<App>,
    key: Key<TemplatesRead>,
    id: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let id = existing(&id)?;
    // Memory for the pictures, and for the archive they are packed into.
    let held = app.memory.uploads.take(2 * ARCHIVE).await?;
    request.extensions_mut().insert(AnswerRoom(held));
    let archive = export_template(&app, &key.workspace, &id).await?;
    Ok(HttpResponse::Ok()
        .content_type(ZIP)
        .insert_header((CONTENT_DISPOSITION, format!("attachment; filename=\"{id}.zip\"")))
        .insert_header(("x-content-type-options", "nosniff"))
        .body(archive))
}

/// Creates a template from an archive (201).
///
/// # Errors
/// See [`import_template`].
pub async fn import(
    app: web::Data<App>,
    key: Key<TemplatesWrite>,
    request: HttpRequest,
    body: Limited<ARCHIVE>,
) -> Result<HttpResponse, Problem> {
    let mut query = Query::of(&request);
    let wanted = query.parsed("id", TemplateId::parse);
    query.finish()?;
    let id = import_template(&app, &key.workspace, &key.actor, wanted, body.0).await?;
    let location = format!("{}/api/v1/templates/{id}", app.base_path);
    Ok(HttpResponse::Created().insert_header((LOCATION, location)).json(json!({"id": id})))
}
