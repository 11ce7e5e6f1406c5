//! `GET /api/v1/keys`

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::actions::keys::{Scope, list_keys};
use crate::app::App;
use crate::http::auth::{Admin, Key};
use crate::http::openapi::{Answer, Content, Needs, Operation, parameters, schemas};
use crate::http::problem::{INVALID, Problem};
use crate::http::query::{Query, cursor};

/// The OpenAPI description of the operation.
pub const DOC: Operation = Operation {
    id: "listKeys",
    tag: "Workspaces and keys",
    summary: "List the API keys",
    description: "Oldest first, revoked ones too, without their secrets.",
    needs: Needs::Scope(Scope::Admin),
    parameters: &[&parameters::LIMIT, &parameters::CURSOR],
    body: Content::Nothing,
    answers: &[Answer { status: 200, meaning: "The keys", content: Content::Json(&schemas::KEYS) }],
    problems: &[&INVALID],
};

/// Lists the workspace's keys, oldest first, without their secrets.
///
/// # Errors
/// When the query is wrong.
pub async fn list(app: web::Data<App>, key: Key<Admin>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let mut query = Query::of(&request);
    let (limit, after) = (query.limit(), query.cursor::<(u64, u64)>());
    query.finish()?;
    let after = after.map(|(high, low)| Uuid::from_u64_pair(high, low).to_string());
    let mut found = list_keys(&app, &key.workspace, after.as_deref(), limit + 1).await?;
    let more = i64::try_from(found.len()).is_ok_and(|count| count > limit);
    found.truncate(usize::try_from(limit).unwrap_or_default());
    let next = found.last().filter(|_| more).and_then(|last| cursor(&Uuid::try_parse(&last.id).ok()?.as_u64_pair()));
    let data: Vec<Value> = found
        .iter()
        .map(|key| {
            let scopes: Vec<&str> = key.scopes.split_whitespace().collect();
            json!({
                "id": key.id, "name": key.name, "scopes": scopes, "created_at": key.created_at,
                "revoked": key.revoked_at.is_some(), "revoked_at": key.revoked_at,
            })
        })
        .collect();
    Ok(HttpResponse::Ok().json(json!({"data": data, "next_cursor": next})))
}
