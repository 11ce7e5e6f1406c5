//! `/api/v1/templates/{id}/images/{role}?locale=&tier=`

use actix_web::{HttpMessage, HttpRequest, HttpResponse, web};
use serde_json::json;

use super::existing;
use crate::actions::keys::Scope;
use crate::actions::templates::images::{ImagePlace, delete_image, get_image, list_images, put_image};
use crate::app::App;
use crate::domain::input::Problems;
use crate::http::admission::AnswerRoom;
use crate::http::auth::{Key, TemplatesRead, TemplatesWrite};
use crate::http::body::{IMAGE, Limited};
use crate::http::openapi::{Answer, Content, Needs, Operation, Parameter, parameters, schemas};
use crate::http::problem::{INVALID, NOT_FOUND, Problem};
use crate::wallets::images::media_type;

const PARAMETERS: &[&Parameter] =
    &[&parameters::TEMPLATE_ID, &parameters::ROLE, &parameters::IMAGE_LOCALE, &parameters::IMAGE_TIER];
const MEDIA_TYPES: &[&str] = &["image/png", "image/jpeg", "image/webp"];

/// The OpenAPI description of [`put`].
pub const PUT_DOC: Operation = Operation {
    id: "putImage",
    tag: "Templates",
    summary: "Give the draft a picture",
    description: "Every scale is made from it: send the largest. At most 16 MiB and 40 megapixels.",
    needs: Needs::Scope(Scope::TemplatesWrite),
    parameters: PARAMETERS,
    body: Content::Bytes(MEDIA_TYPES),
    answers: &[Answer { status: 204, meaning: "It was stored", content: Content::Nothing }],
    problems: &[&NOT_FOUND, &INVALID],
};

/// The OpenAPI description of [`get`].
pub const GET_DOC: Operation = Operation {
    id: "getImage",
    tag: "Templates",
    summary: "Read a picture of the draft",
    description: "As it was sent.",
    needs: Needs::Scope(Scope::TemplatesRead),
    parameters: PARAMETERS,
    body: Content::Nothing,
    answers: &[Answer { status: 200, meaning: "The picture", content: Content::Bytes(MEDIA_TYPES) }],
    problems: &[&NOT_FOUND, &INVALID],
};

/// The OpenAPI description of [`list`].
pub const LIST_DOC: Operation = Operation {
    id: "listImages",
    tag: "Templates",
    summary: "List the pictures of the draft",
    description: "All of them, in one page.",
    needs: Needs::Scope(Scope::TemplatesRead),
    parameters: &[&parameters::TEMPLATE_ID],
    body: Content::Nothing,
    answers: &[Answer { status: 200, meaning: "The pictures", content: Content::Json(&schemas::IMAGES) }],
    problems: &[&NOT_FOUND],
};

/// The OpenAPI description of [`delete`].
pub const DELETE_DOC: Operation = Operation {
    id: "deleteImage",
    tag: "Templates",
    summary: "Take a picture from the draft",
    description: "",
    needs: Needs::Scope(Scope::TemplatesWrite),
    parameters: PARAMETERS,
    body: Content::Nothing,
    answers: &[Answer { status: 204, meaning: "It is gone", content: Content::Nothing }],
    problems: &[&NOT_FOUND, &INVALID],
};

type Path = web::Path<(String, String)>;

fn place(role: &str, request: &HttpRequest) -> Result<ImagePlace, Problem> {
    let query = web::Query::<std::collections::HashMap<String, String>>::from_query(request.query_string());
    let query = query.map(web::Query::into_inner).unwrap_or_default();
    if let Some(unknown) = query.keys().find(|name| !["locale", "tier"].contains(&name.as_str())) {
        let shown: String = unknown.chars().take(64).collect();
        return Err(Problems::one(format!("/{shown}"), "is unknown; known are locale and tier").into());
    }
    let given = |name: &str| query.get(name).map(String::as_str);
    Ok(ImagePlace::parse(role, given("locale"), given("tier"))?)
}

/// Stores a picture of the draft (204).
///
/// # Errors
/// See [`put_image`].
pub async fn put(
    app: web::Data<App>,
    key: Key<TemplatesWrite>,
    path: Path,
    request: HttpRequest,
    body: Limited<IMAGE>,
) -> Result<HttpResponse, Problem> {
    let place = place(&path.1, &request)?;
    put_image(&app, &key.workspace, &key.actor, &existing(&path.0)?, &place, body.0).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Returns the picture as it was uploaded.
///
/// # Errors
/// When there is none.
pub async fn get(
    app: web::Data<App>,
    key: Key<TemplatesRead>,
    path: Path,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let place = place(&path.1, &request)?;
    // Reserved for the largest possible picture; what it doesn't need is released.
    let held = app.memory.uploads.take(IMAGE).await?;
    request.extensions_mut().insert(AnswerRoom(held));
    let bytes = get_image(&app, &key.workspace, &existing(&path.0)?, &place).await?;
    let kind = media_type(&bytes).unwrap_or("application/octet-stream");
    Ok(HttpResponse::Ok().content_type(kind).insert_header(("x-content-type-options", "nosniff")).body(bytes))
}

/// Lists the draft's pictures: role, language, tier, media type and size of each.
///
/// # Errors
/// When there is no such template.
pub async fn list(
    app: web::Data<App>,
    key: Key<TemplatesRead>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let images = list_images(&app, &key.workspace, &existing(&id)?).await?;
    Ok(HttpResponse::Ok().json(json!({"data": images, "next_cursor": null})))
}

/// Deletes the picture of the draft (204).
///
/// # Errors
/// When there is none.
pub async fn delete(
    app: web::Data<App>,
    key: Key<TemplatesWrite>,
    path: Path,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let place = place(&path.1, &request)?;
    delete_image(&app, &key.workspace, &key.actor, &existing(&path.0)?, &place).await?;
    Ok(HttpResponse::NoContent().finish())
}
