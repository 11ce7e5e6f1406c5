//! Whether the service lives, whether it can do its work, and what it counts.

use actix_web::http::header::{ALLOW, HeaderValue};
use actix_web::{HttpResponse, web};
use serde_json::json;

use super::problem::{self, NOT_FOUND, Problem};
use crate::actions::api_keys::default_workspace;
use crate::actions::write_probe::can_write;
use crate::store::health as store_health;

/// `GET /healthz`: the process lives.
pub async fn healthz() -> HttpResponse {
    HttpResponse::Ok().json(json!({"status": "ok"}))
}

/// `GET /readyz`: the database answers and can be written, every job runs, and the node can sign: the default workspace has a valid certificate if it has any,
/// and some workspace has one; 503 with the reasons otherwise. Another workspace's certificate that ended is a warning, since
/// one tenant must not take the node from all others.
pub async fn readyz(app: web::Data<crate::app::App>) -> HttpResponse {
    let mut reasons = Vec::new();
    let asked = async { store_health::ping(&mut app.store.read().await?).await };
    match tokio::time::timeout(std::time::Duration::from_secs(5), asked).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!(%error, "the database doesn't answer");
            reasons.push("the database doesn't answer".to_owned());
        }
        Err(_) => reasons.push("the database doesn't answer within 5 seconds".to_owned()),
    }
    // One reason is enough.
    if reasons.is_empty() {
        match tokio::time::timeout(std::time::Duration::from_secs(5), can_write(&app)).await {
            Ok(Ok(())) => {}
            Ok(Err(reason)) => reasons.push(reason.to_owned()),
            Err(_) => reasons.push("the database can't be written within 5 seconds".to_owned()),
        }
    }
    reasons.extend(app.job_states.reasons());
    let (now, mut warnings) = (app.now(), Vec::new());
    let (serving, default) = (app.issuers.all_serving(now), default_workspace());
    for issuer in &serving {
        // A workspace that can still issue is not worth a whole node: its other pass types are told in the log.
        let mut own = serving.iter().filter(|other| other.workspace == issuer.workspace);
        let identity = &issuer.identity;
        if own.all(|other| !other.identity.is_valid(now)) {
            let told = format!(
                "the certificate of {} is valid from {} to {}",
                identity.pass_type, identity.not_before, identity.not_after
            );
            let essential = issuer.workspace == default || serving.iter().all(|other| !other.identity.is_valid(now));
            if essential { &mut reasons } else { &mut warnings }.push(told);
        }
    }
    if reasons.is_empty() {
        HttpResponse::Ok().json(json!({"status": "ready", "warnings": warnings}))
    } else {
        HttpResponse::ServiceUnavailable().json(json!({"status": "not ready", "reasons": reasons}))
    }
}

/// `GET /metrics`: counters for Prometheus.
pub async fn metrics(app: web::Data<crate::app::App>) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("application/openmetrics-text; version=1.0.0; charset=utf-8")
        .body(app.metrics.render())
}

/// `GET /problems/{code}`: what a problem's `type` leads to.
///
/// # Errors
/// When there is no such kind.
pub async fn problem_page(code: web::Path<String>) -> Result<HttpResponse, Problem> {
    let kind = problem::kind(&code).ok_or_else(|| Problem::new(&NOT_FOUND, "there is no such kind of problem"))?;
    Ok(HttpResponse::Ok()
        .content_type("text/plain; charset=utf-8")
        .body(format!("{} ({})\n\n{}\n", kind.title, kind.status, kind.remedy)))
}

/// Any address that no route knows.
///
/// # Errors
/// Always.
pub async fn not_found(_: web::Data<crate::app::App>) -> Result<HttpResponse, Problem> {
    Err(Problem::new(&NOT_FOUND, "there is nothing at this address"))
}

/// A known address with a method that it doesn't know; `allowed` are those that it knows (RFC 9110, 15.5.6).
pub fn method_not_allowed(allowed: &str) -> HttpResponse {
    let problem = Problem::new(&problem::METHOD_NOT_ALLOWED, format!("the address knows {allowed} only"));
    let mut response = HttpResponse::from_error(problem);
    if let Ok(allowed) = HeaderValue::from_str(allowed) {
        response.headers_mut().insert(ALLOW, allowed);
    }
    response
}
