//! `GET /api/v1/devices/logs`

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value, json};

use crate::actions::keys::Scope;
use crate::actions::passes::device_logs::list_device_log;
use crate::app::App;
use crate::http::auth::{CardsRead, Key};
use crate::http::openapi::{Answer, Content, Needs, Operation, parameters, schemas};
use crate::http::problem::{INVALID, Problem};
use crate::http::query::{Query, cursor};

/// The OpenAPI description of the operation.
pub const DOC: Operation = Operation {
    id: "listDeviceLogs",
    tag: "Cards",
    summary: "See what phones complain about",
    description: "Messages that phones sent to the web service's log, grouped by their form, the newest first. Numbers, names, \
                  addresses and tokens in them are replaced by stand-ins. Kept for 30 days, at most 200 groups.",
    needs: Needs::Scope(Scope::CardsRead),
    parameters: &[&parameters::LIMIT, &parameters::CURSOR],
    body: Content::Nothing,
    answers: &[Answer { status: 200, meaning: "The groups", content: Content::Json(&schemas::DEVICE_LOGS) }],
    problems: &[&INVALID],
};

/// Lists the workspace's groups of log messages.
///
/// # Errors
/// When the query is wrong.
pub async fn list(app: web::Data<App>, key: Key<CardsRead>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let mut query = Query::of(&request);
    let (limit, after) = (query.limit(), query.cursor::<(i64, String)>());
    query.finish()?;
    // Ignores a position that none of our answers contained.
    let after = after.filter(|(_, form)| form.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let mut found = list_device_log(&app, &key.workspace, after, limit + 1).await?;
    let more = i64::try_from(found.len()).is_ok_and(|count| count > limit);
    found.truncate(usize::try_from(limit).unwrap_or_default());
    let next = found.last().filter(|_| more).and_then(|last| cursor(&(last.last_at.micros(), &last.form)));
    let data: Vec<Value> = found
        .iter()
        .map(|group| {
            json!({
                "pass_type": group.pass_type_id,
                "message": group.message,
                "count": group.count,
                "first_at": group.first_at,
                "last_at": group.last_at,
                "serial_number": group.serial_number,
                "device": group.device,
            })
        })
        .collect();
    Ok(HttpResponse::Ok().json(json!({"data": data, "next_cursor": next})))
}
