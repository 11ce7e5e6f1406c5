//! `POST /v1/devices/{device}/registrations/{pass type}/{serial}`

use actix_web::http::header::RETRY_AFTER;
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::Value;

use super::{Failure, registration, unauthorized};
use crate::actions::passes::holder::holder;
use crate::actions::passes::register_device::{Registered, register_device};
use crate::app::App;
use crate::domain::ids::PushToken;
use crate::http::auth::authorization;
use crate::http::body::{self, REGISTRATION, of_phone};
use crate::store::targets::TargetKind;

/// Registers a device: 201 new, 200 known, 401 for a wrong token and an unknown serial alike, 400 without a push token.
/// The body is read only when the client holds the pass.
///
/// # Errors
/// When the database fails.
pub async fn register(
    app: web::Data<App>,
    path: web::Path<(String, String, String)>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Failure> {
    let (Some((device, pass_type, serial)), Some((scheme, token))) = (registration(&path), authorization(&request))
    else {
        return Ok(unauthorized());
    };
    if holder(&app, &pass_type, &serial, token).await?.is_none() {
        return Ok(unauthorized());
    }
    let body = body::read(&request, payload.into_inner(), REGISTRATION).await?;
    let sent = of_phone(&body);
    let push_token = sent.get("pushToken").and_then(Value::as_str).and_then(|text| PushToken::parse(text).ok());
    // Wallets of other makers use another scheme, or Apple's scheme with a header of their own.
    let apples = scheme.eq_ignore_ascii_case("ApplePass") && !request.headers().contains_key("x-pass-client");
    let kind = if apples && push_token.as_ref().is_some_and(PushToken::is_hexadecimal) {
        TargetKind::Apns
    } else {
        TargetKind::Other
    };
    let registered = register_device(&app, &pass_type, &serial, &device, token, push_token.as_ref(), kind).await?;
    Ok(match registered {
        Registered::Created => HttpResponse::Created().finish(),
        Registered::Known => HttpResponse::Ok().finish(),
        Registered::Unauthorized => unauthorized(),
        Registered::NoPushToken => HttpResponse::BadRequest().finish(),
        Registered::TooMany => HttpResponse::TooManyRequests().insert_header((RETRY_AFTER, "86400")).finish(),
    })
}
