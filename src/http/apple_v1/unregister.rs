//! `DELETE /v1/devices/{device}/registrations/{pass type}/{serial}`

use actix_web::{HttpRequest, HttpResponse, web};

use super::{Failure, registration, unauthorized};
use crate::actions::passes::register_device::unregister_device;
use crate::app::App;
use crate::http::auth::authorization;

/// Ends a registration: 200, even if there was none; 401 for a wrong token.
///
/// # Errors
/// When the database fails.
pub async fn unregister(
    app: web::Data<App>,
    path: web::Path<(String, String, String)>,
    request: HttpRequest,
) -> Result<HttpResponse, Failure> {
    let (Some((device, pass_type, serial)), Some((_, token))) = (registration(&path), authorization(&request)) else {
        return Ok(unauthorized());
    };
    let authorized = unregister_device(&app, &pass_type, &serial, &device, token).await?;
    Ok(if authorized { HttpResponse::Ok().finish() } else { unauthorized() })
}
