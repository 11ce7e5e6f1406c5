//! `GET /v1/devices/{device}/registrations/{pass type}?passesUpdatedSince={tag}`

use std::collections::HashMap;

use actix_web::{HttpResponse, web};
use serde_json::json;

use super::Failure;
use crate::actions::passes::list_changed::list_changed;
use crate::app::App;
use crate::domain::ids::{DeviceLibraryId, PassTypeId};

/// Lists what changed: 200 with serial numbers and the next tag (a string), or 204 when nothing did or the device is
/// unknown. Apple's phones send no credentials here.
///
/// # Errors
/// When the database fails.
pub async fn changed(
    app: web::Data<App>,
    path: web::Path<(String, String)>,
    query: web::Query<HashMap<String, String>>,
) -> Result<HttpResponse, Failure> {
    let (Ok(device), Ok(pass_type)) = (DeviceLibraryId::parse(&path.0), PassTypeId::parse(&path.1)) else {
        return Ok(HttpResponse::NoContent().finish());
    };
    let tag = query.get("passesUpdatedSince").map(String::as_str);
    Ok(match list_changed(&app, &pass_type, &device, tag).await? {
        Some(found) => HttpResponse::Ok()
            .insert_header(("cache-control", "no-store"))
            .json(json!({"serialNumbers": found.serials, "lastUpdated": found.tag.to_string()})),
        None => HttpResponse::NoContent().finish(),
    })
}
