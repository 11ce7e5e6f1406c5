//! `POST /api/v1/templates/{id}/publish`

use actix_web::{HttpResponse, web};
use serde_json::{Value, json};

use super::existing;
use crate::actions::keys::Scope;
use crate::actions::templates::publish_template::publish_template;
use crate::app::App;
use crate::http::auth::{Key, TemplatesWrite};
use crate::http::openapi::{Answer, Content, Needs, Operation, parameters, schemas};
use crate::http::problem::{DRAFT_CHANGING, INVALID, ISSUER_MISSING, NOT_FOUND, Problem, UNPUBLISHABLE};

/// The OpenAPI description of the operation.
pub const DOC: Operation = Operation {
    id: "publishTemplate",
    tag: "Templates",
    summary: "Publish the draft",
    description: "Every card of the template shows the new version, and the phones of those whose pass changes by it refresh at \
        a paced rate. A draft that is equal to the published version is answered with that version. Refused while a phone \
        would refuse its passes. Cards whose values would break a rule keep their version: up to 100 of them are named, of \
        the first 10,000 cards.",
    needs: Needs::Scope(Scope::TemplatesWrite),
    parameters: &[&parameters::TEMPLATE_ID, &parameters::IDEMPOTENCY_KEY],
    body: Content::Nothing,
    answers: &[Answer { status: 200, meaning: "The new version", content: Content::Json(&schemas::PUBLISHED) }],
    problems: &[&NOT_FOUND, &DRAFT_CHANGING, &ISSUER_MISSING, &UNPUBLISHABLE, &INVALID],
};

/// Publishes the draft.
///
/// # Errors
/// See [`publish_template`].
pub async fn publish(
    app: web::Data<App>,
    key: Key<TemplatesWrite>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let published = publish_template(&app, &key.workspace, &key.actor, &existing(&id)?).await?;
    let keeping: Vec<Value> = published
        .keeping
        .into_iter()
        .map(|card| json!({"id": card.id, "version": card.version, "errors": card.problems.into_vec()}))
        .collect();
    if keeping.is_empty() && published.complete {
        return Ok(HttpResponse::Ok().json(json!({"version": published.version})));
    }
    let cards = json!({"checked": published.cards_checked, "complete": published.complete, "keeping": keeping});
    Ok(HttpResponse::Ok().json(json!({"version": published.version, "cards": cards})))
}
