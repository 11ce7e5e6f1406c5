//! Records the outcomes of deliveries, many in one short transaction.

use std::collections::{BTreeMap, HashSet};

use serde_json::json;

use crate::actions::error::ActionError;
use crate::app::App;
use crate::delivery::attempt::{Credentials, Done};
use crate::delivery::claim::REFUSED_PAUSE;
use crate::domain::actor::Actor;
use crate::domain::event::EventKind;
use crate::domain::ids::{IssuerId, WorkspaceId};
use crate::domain::time::Timestamp;
use crate::platform::crash;
use crate::platform::secrets::short_form;
use crate::store::deliveries::{self, DeliveryResult, Outcome};
use crate::store::events::{self, NewEvent};
use crate::store::passes::PassKey;
use crate::store::targets::TargetKey;
use crate::store::{Tx, issuer_pauses, passes, workspaces};

/// Records the outcomes of deliveries in one transaction.
///
/// # Errors
/// When the database fails; the deliveries are then repeated when their leases end.
pub async fn record(app: &App, done: &[Done]) -> Result<(), ActionError> {
    if done.is_empty() {
        return Ok(());
    }
    let now = app.now();
    let batch: Vec<DeliveryResult> = done.iter().map(|done| done.result.clone()).collect();
    let mut tx = app.store.begin_batch().await?;
    let recorded = deliveries::record_outcomes(&mut tx, &batch).await?;
    // Pauses are written in the order of issuers, the same on every node.
    let mut refused = BTreeMap::new();
    for done in done {
        if let Credentials::Refused { credentials, reason } = &done.credentials {
            refused.entry(done.issuer.id()).or_insert((done, credentials, reason));
        }
    }
    let mut paused = HashSet::new();
    for (id, (done, credentials, reason)) in refused {
        let probe_at = now.plus(REFUSED_PAUSE);
        let workspace = done.result.claimed.workspace();
        if issuer_pauses::begin(&mut tx, workspace, id, credentials, reason, now, probe_at).await? {
            let words = done.issuer.words();
            tracing::error!(
                issuer = %id,
                reason,
                "{} refuses the {}: pushes pause until it takes it",
                words.service,
                words.credentials
            );
            paused.insert(id);
        }
    }
    record_in_workspaces(app, &mut tx, done, &recorded, &paused).await?;
    tx.commit().await?;
    crash::point("after-record");
    for done in done {
        if let Credentials::Accepted { credentials } = &done.credentials {
            let words = done.issuer.words();
            let why = format!("{} takes the {} again", words.service, words.credentials);
            end_pause(app, done.issuer.id(), credentials, &why).await?;
        }
    }
    if recorded.len() < done.len() {
        tracing::debug!(lost = done.len() - recorded.len(), "leases ended before their deliveries were recorded");
    }
    Ok(())
}

/// What a batch of deliveries changes in one workspace.
#[derive(Default)]
struct InWorkspace<'d> {
    events: Vec<NewEvent<'d>>,
    acknowledged: BTreeMap<PassKey, i64>,
}

/// Records what passes acknowledged, and the outcomes in the events of the cards that the notifications were about.
/// Refused credentials are recorded when their pause begins, and an absence of the service with the deliveries that
/// discovered it, not for each probe.
async fn record_in_workspaces(
    app: &App,
    tx: &mut Tx,
    done: &[Done],
    recorded: &HashSet<(TargetKey, String)>,
    just_paused: &HashSet<&IssuerId>,
) -> Result<(), ActionError> {
    let mut by_workspace: BTreeMap<&WorkspaceId, InWorkspace<'_>> = BTreeMap::new();
    for Done { result, credentials, about, probe, issuer, acknowledged } in done {
        let key = result.claimed.key();
        let device = short_form(key.id.as_str());
        let (wallet, words) = (issuer.wallet(), issuer.words());
        let failed = |reason: &str, retry_at: Option<Timestamp>| {
            let data = json!({"wallet": wallet, "device": device, "reason": reason, "retry_at": retry_at});
            (EventKind::DeliveryFailed, data)
        };
        let (kind, data) = match (&result.outcome, credentials) {
            (Outcome::Delivered { .. }, _) => (EventKind::CardPushed, json!({"wallet": wallet, "device": device})),
            (Outcome::Retry { problem, due_at, .. }, _) => failed(problem, Some(*due_at)),
            (Outcome::Gone { problem } | Outcome::GaveUp { problem }, _) => failed(problem, None),
            (Outcome::Released { .. }, Credentials::Refused { reason, .. }) if just_paused.contains(issuer.id()) => {
                failed(&format!("{} refuses the {}: {reason}", words.service, words.credentials), None)
            }
            (Outcome::Released { problem: Some(problem) }, _) if !probe => failed(problem, None),
            (Outcome::Released { .. }, _) => continue,
        };
        if !recorded.contains(&(key, result.lease.clone())) {
            continue;
        }
        let in_workspace = by_workspace.entry(result.claimed.workspace()).or_default();
        for (card, serial) in about {
            // The id may belong to another card by now.
            let event = NewEvent { serial: Some(serial), ..app.event(kind, Some(card), data.clone())? };
            in_workspace.events.push(event);
        }
        if let Some((pass, version)) = acknowledged {
            let newest = in_workspace.acknowledged.entry(pass.clone()).or_default();
            *newest = (*newest).max(*version);
        }
    }
    for (workspace, InWorkspace { events, acknowledged }) in by_workspace {
        if events.is_empty() && acknowledged.is_empty() {
            continue;
        }
        let position = workspaces::next_position(tx, workspace).await?;
        if !acknowledged.is_empty() {
            passes::record_fetches(tx, workspace, &acknowledged, app.now()).await?;
        }
        events::record(tx, workspace, &Actor::System, position, app.now(), &events).await?;
    }
    Ok(())
}

/// Ends the pause of an issuer's credentials, if there is one.
///
/// # Errors
/// When the database fails.
pub(super) async fn end_pause(app: &App, id: &IssuerId, credentials: &str, why: &str) -> Result<(), ActionError> {
    let mut tx = app.store.begin().await?;
    let ended = issuer_pauses::end(&mut tx, id, credentials).await?;
    tx.commit().await?;
    if ended {
        tracing::info!(issuer = %id, why, "pushes go on");
        app.delivery_signal.notify_one();
    }
    Ok(())
}
