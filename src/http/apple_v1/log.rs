//! `POST /v1/log`

use actix_web::HttpResponse;
use serde_json::Value;

use crate::http::body::{LOG, Limited};
use crate::telemetry::from_outside;

/// The most messages of one request that are written to the log; phones send at most 50.
const MOST: usize = 50;

/// Takes what a phone has to say: always 200, because phones repeat anything else.
pub async fn log(body: Limited<LOG>) -> HttpResponse {
    let body: Value = serde_json::from_slice(&body.0).unwrap_or_default();
    let messages = body.get("logs").and_then(Value::as_array);
    for message in messages.into_iter().flatten().filter_map(Value::as_str).take(MOST) {
        tracing::info!(message = from_outside(message), "a phone reports");
    }
    HttpResponse::Ok().finish()
}
