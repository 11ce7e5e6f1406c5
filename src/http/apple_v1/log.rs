//! `POST /v1/log`

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::Value;

use super::Failure;
use crate::actions::passes::device_logs::record_device_log;
use crate::app::App;
use crate::http::address::client_address;
use crate::http::body::{self, LOG, of_phone};
use crate::telemetry::from_outside;

/// The most messages of one request that are read; phones send at most 50.
const MOST: usize = 50;

/// Stores a phone's log messages: always 200, because phones repeat anything else. From an address that sends too many,
/// nothing more is read or stored for the rest of the minute.
///
/// # Errors
/// When the body is too large, breaks off or stalls.
pub async fn log(app: web::Data<App>, request: HttpRequest, payload: web::Payload) -> Result<HttpResponse, Failure> {
    if app.complaints.allows(client_address(&app.trusted_proxies, &request)).await {
        let body = body::read(&request, payload.into_inner(), LOG).await?;
        let body: Value = of_phone(&body);
        let messages = body.get("logs").and_then(Value::as_array);
        let messages: Vec<&str> = messages.into_iter().flatten().filter_map(Value::as_str).take(MOST).collect();
        for message in &messages {
            let Some(left_out) = app.strangers_lines.reports.next(app.now()) else { continue };
            let form = crate::domain::device_log_entry::read(message).form;
            tracing::info!(message = from_outside(&form), left_out, "a phone reports");
        }
        if let Err(error) = record_device_log(&app, &messages).await {
            tracing::warn!(%error, "what a phone reports can't be kept");
        }
    }
    Ok(HttpResponse::Ok().finish())
}
