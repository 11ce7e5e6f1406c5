//! Health checks: whether the process is alive, and whether it can do its work.

use actix_web::{HttpResponse, web};
use serde_json::json;

use crate::actions::keys::default_workspace;
use crate::actions::write_probe::can_write;
use crate::store::health as store_health;

/// `GET /healthz`: answers while the process is alive.
pub async fn healthz() -> HttpResponse {
    HttpResponse::Ok().json(json!({"status": "ok"}))
}

/// `GET /readyz`: 200 when the database answers and can be written, every job runs, and the node can sign; otherwise
/// 503 with the reasons. The node can sign when the default workspace has a valid certificate, if it has any, and some
/// workspace has one. An expired certificate of another workspace is a warning, since one tenant must not take the node
/// from all others.
pub async fn readyz(app: web::Data<crate::app::App>) -> HttpResponse {
    let mut reasons = Vec::new();
    if *app.stopping.borrow() {
        reasons.push("the node stops".to_owned());
    }
    let ping = async { store_health::ping(&mut app.store.read().await?).await };
    let answers = match tokio::time::timeout(std::time::Duration::from_secs(5), ping).await {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            tracing::warn!(%error, "the database doesn't answer");
            reasons.push("the database doesn't answer".to_owned());
            false
        }
        Err(_) => {
            reasons.push("the database doesn't answer within 5 seconds".to_owned());
            false
        }
    };
    // A database that doesn't answer needn't be tested for writing.
    if answers {
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
        // A workspace that can still issue doesn't make the node unready: its other pass types are reported in the log.
        let mut own = serving.iter().filter(|other| other.workspace == issuer.workspace);
        let identity = &issuer.identity;
        if own.all(|other| !other.identity.is_valid(now)) {
            let reason = format!(
                "the certificate of {} is valid from {} to {}",
                identity.pass_type, identity.not_before, identity.not_after
            );
            let essential = issuer.workspace == default || serving.iter().all(|other| !other.identity.is_valid(now));
            if essential { &mut reasons } else { &mut warnings }.push(reason);
        }
    }
    if reasons.is_empty() {
        HttpResponse::Ok().json(json!({"status": "ready", "warnings": warnings}))
    } else {
        HttpResponse::ServiceUnavailable().json(json!({"status": "not ready", "reasons": reasons}))
    }
}
