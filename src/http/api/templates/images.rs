//! `/api/v1/templates/{id}/images/{role}?locale=&tier=`

use actix_web::{HttpRequest, HttpResponse, web};

use super::existing;
use crate::actions::images::{ImagePlace, delete_image, get_image, put_image};
use crate::app::App;
use crate::domain::input::Problems;
use crate::http::auth::{Key, TemplatesRead, TemplatesWrite};
use crate::http::body::{IMAGE, Limited};
use crate::http::problem::Problem;
use crate::wallets::apple::images::media_type;

type Path = web::Path<(String, String)>;

fn place(role: &str, request: &HttpRequest) -> Result<ImagePlace, Problem> {
    let query = web::Query::<std::collections::HashMap<String, String>>::from_query(request.query_string());
    let query = query.map(web::Query::into_inner).unwrap_or_default();
    if let Some(unknown) = query.keys().find(|name| !["locale", "tier"].contains(&name.as_str())) {
        let shown: String = unknown.chars().take(64).collect();
        return Err(Problems::one(format!("/{shown}"), "is unknown; known are locale and tier").into());
    }
    let given = |name: &str| query.get(name).map(String::as_str).filter(|text| !text.is_empty());
    Ok(ImagePlace::parse(role, given("locale"), given("tier"))?)
}

/// Gives the draft a picture (204).
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
    put_image(&app, &key.workspace, &existing(&path.0)?, &place, body.0.to_vec()).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// The picture as it was uploaded.
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
    let bytes = get_image(&app, &key.workspace, &existing(&path.0)?, &place).await?;
    let kind = media_type(&bytes).unwrap_or("application/octet-stream");
    Ok(HttpResponse::Ok().content_type(kind).insert_header(("x-content-type-options", "nosniff")).body(bytes))
}

/// Takes the picture from the draft (204).
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
    delete_image(&app, &key.workspace, &existing(&path.0)?, &place).await?;
    Ok(HttpResponse::NoContent().finish())
}
