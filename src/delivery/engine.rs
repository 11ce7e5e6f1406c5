//! Notifies devices of changes: claims the devices that are due, pushes, and records the outcomes.
//!
//! A claim commits before its first push is sent, and outcomes are recorded in short transactions of their own, many in
//! each: no transaction is open during a network request. A node that dies in between leaves leases that end by
//! themselves, and another node pushes again. That does no harm: a push only makes the device poll, it never says what
//! changed.
//!
//! What follows a failed push depends on what is at fault. A dead or busy **device** waits alone. A refused
//! **certificate** pauses its issuer on every node, in the database, until a probe succeeds or the certificate is
//! replaced. A **service** that is away opens the breaker of this node's channel: only probes are sent and no device's
//! attempts are counted; when it is back, everything is sent as fast as the in-flight limit allows.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::actions::error::ActionError;
use crate::app::App;
use crate::delivery::channels::certificate_of;
use crate::domain::actor::Actor;
use crate::domain::delivery::backoff::{BUSY_PAUSE, REMIND_AFTER, WINDOW, delay};
use crate::domain::delivery::breaker::{Blame, Failure, Gate};
use crate::domain::event::EventKind;
use crate::domain::ids::{CardId, IssuerId, PushToken, SerialNumber, WorkspaceId};
use crate::domain::time::Timestamp;
use crate::platform::crash;
use crate::platform::random::{fraction, token};
use crate::platform::secrets::short_form;
use crate::store::events::{self, NewEvent};
use crate::store::issuer_pauses::{self, Pause};
use crate::store::targets::{self, Claimed, DeliveryResult, Fault, Outcome, TargetKey};
use crate::store::{Tx, workspaces};
use crate::wallets::PushOutcome;
use crate::wallets::issuers::AppleIssuer;

/// How long a claim is valid before another worker may repeat it. Longer than a push can take, including the wait for
/// its turn; shorter than the minute within which a dead node's work continues elsewhere.
const LEASE: Duration = Duration::from_secs(50);
/// How long a claimed device may wait for its turn. After that it is handed back, so that its push ends within the
/// lease.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// How long APNs keeps a push for a phone that is switched off.
const KEEP: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long after a refusal a certificate is tried again.
const REFUSED_PAUSE: Duration = Duration::from_secs(300);
/// The most devices reminded in one step.
const REMINDERS: i64 = 500;

/// A claimed device to push to.
#[derive(Debug)]
pub struct Delivery {
    claimed: Claimed,
    lease: String,
    issuer: Arc<AppleIssuer>,
    position: i64,
    /// The cards that the push is about.
    about: Vec<(CardId, SerialNumber)>,
    since: Instant,
    probe: bool,
    /// The refused certificate that this push tries again.
    refused: Option<String>,
}

/// What one round of claiming found.
#[derive(Debug, Default)]
pub struct Round {
    /// The deliveries claimed in this round.
    pub deliveries: Vec<Delivery>,
    /// When the next device is due that can't be claimed yet.
    pub next: Option<Timestamp>,
    /// Issuers of which more is due than there was capacity for.
    pub crowded: HashSet<IssuerId>,
}

/// One delivery with its outcome.
#[derive(Debug)]
pub struct Done {
    settled: DeliveryResult,
    issuer: Issuer,
    about: Vec<(CardId, SerialNumber)>,
    probe: bool,
}

/// What the answer to a push says about its certificate.
#[derive(Debug)]
enum Issuer {
    /// Nothing new.
    Known,
    Refused {
        certificate: String,
        reason: String,
    },
    TakenAgain {
        certificate: String,
    },
}

/// Claims devices that are due now, of each issuer up to the capacity that `room` returns.
///
/// # Errors
/// When the database fails.
pub async fn claim_due(app: &App, room: impl Fn(&IssuerId) -> usize) -> Result<Round, ActionError> {
    let now = app.now();
    let mut reader = app.store.read().await?;
    let pauses: HashMap<_, _> =
        issuer_pauses::all(&mut reader).await?.into_iter().map(|pause| (pause.issuer_id.clone(), pause)).collect();
    let waiting = targets::due_issuers(&mut reader).await?;
    drop(reader);
    let mut round = Round::default();
    for (workspace, issuer_id) in waiting {
        // Without a certificate on this node nothing can be pushed here.
        let issuer = match app.find_apple_issuer_of(&workspace, &issuer_id).await {
            Ok(Some(issuer)) => issuer,
            Ok(None) => continue,
            Err(error) => {
                tracing::debug!(%issuer_id, %error, "a certificate can't be had");
                continue;
            }
        };
        let certificate = certificate_of(&issuer);
        let pause = match pauses.get(&issuer_id) {
            Some(pause) if pause.credentials != certificate => {
                end_pause(app, &issuer_id, &pause.credentials, "there is another certificate").await?;
                None
            }
            other => other,
        };
        let gate = app.channels.gate(&issuer_id, &certificate, now);
        match (pause, gate) {
            (None, Gate::Open) => {
                claim_some(app, &workspace, &issuer_id, &issuer, room(&issuer_id), &mut round).await?;
            }
            (Some(pause), _) if !pause.is_due(now) => round.until(pause.probe_at),
            (_, Gate::Closed(until)) => round.until(until),
            (pause, gate) => {
                if let Some(delivery) = claim_probe(app, &workspace, &issuer_id, &issuer, pause).await? {
                    if gate == Gate::Probe {
                        app.channels.probing(&issuer_id, now);
                    }
                    round.deliveries.push(delivery);
                }
            }
        }
    }
    let refused = pauses.into_keys().map(|issuer_id| (issuer_id, "refused"));
    let unreachable = app.channels.troubled().into_iter().map(|issuer_id| (issuer_id, "unreachable"));
    app.metrics.pushes_paused(refused.chain(unreachable));
    Ok(round)
}

impl Round {
    fn until(&mut self, moment: Timestamp) {
        self.next = Some(self.next.map_or(moment, |next| next.min(moment)));
    }
}

async fn claim_some(
    app: &App,
    workspace: &WorkspaceId,
    issuer_id: &IssuerId,
    issuer: &Arc<AppleIssuer>,
    room: usize,
    round: &mut Round,
) -> Result<(), ActionError> {
    let now = app.now();
    // The queue is read without a transaction first, since writers on SQLite wait for each other.
    let (ready, next) = targets::outlook(&mut app.store.read().await?, issuer_id, now).await?;
    if let Some(next) = next {
        round.until(next);
    }
    if !ready {
        return Ok(());
    }
    if room == 0 {
        round.crowded.insert(issuer_id.clone());
        return Ok(());
    }
    let lease = token(&*app.random)?;
    let limit = i64::try_from(room).unwrap_or(i64::MAX);
    let mut tx = app.store.begin().await?;
    let claimed = targets::claim(&mut tx, issuer_id, &lease, now, now.plus(LEASE), limit).await?;
    tx.commit().await?;
    if claimed.is_empty() {
        return Ok(());
    }
    crash::point("after-claim");
    if claimed.len() >= room {
        round.crowded.insert(issuer_id.clone());
    }
    let (position, mut changed) = told(app, workspace, &claimed).await?;
    let since = Instant::now();
    round.deliveries.extend(claimed.into_iter().map(|claimed| Delivery {
        about: changed.remove(&claimed.key()).unwrap_or_default(),
        claimed,
        lease: lease.clone(),
        issuer: Arc::clone(issuer),
        position,
        since,
        probe: false,
        refused: None,
    }));
    Ok(())
}

/// Claims one device to find out whether pushes are accepted again; during a pause only one node at a time does so.
async fn claim_probe(
    app: &App,
    workspace: &WorkspaceId,
    issuer_id: &IssuerId,
    issuer: &Arc<AppleIssuer>,
    pause: Option<&Pause>,
) -> Result<Option<Delivery>, ActionError> {
    let now = app.now();
    let lease = token(&*app.random)?;
    let mut tx = app.store.begin().await?;
    let Some(claimed) = targets::claim_probe(&mut tx, issuer_id, &lease, now, now.plus(LEASE)).await? else {
        return Ok(None);
    };
    if let Some(pause) = pause
        && !issuer_pauses::take_probe(&mut tx, issuer_id, &pause.credentials, now, now.plus(REFUSED_PAUSE)).await?
    {
        return Ok(None);
    }
    tx.commit().await?;
    crash::point("after-claim");
    let (position, mut changed) = told(app, workspace, std::slice::from_ref(&claimed)).await?;
    let about = changed.remove(&claimed.key()).unwrap_or_default();
    let refused = pause.map(|pause| pause.credentials.clone());
    let issuer = Arc::clone(issuer);
    Ok(Some(Delivery { claimed, lease, issuer, position, about, since: Instant::now(), probe: true, refused }))
}

/// Returns the position covered by pushes sent from now on, and the changed cards per device.
async fn told(
    app: &App,
    workspace: &WorkspaceId,
    claimed: &[Claimed],
) -> Result<(i64, HashMap<TargetKey, Vec<(CardId, SerialNumber)>>), ActionError> {
    let mut reader = app.store.read().await?;
    let position = workspaces::position(&mut reader, workspace).await?;
    Ok((position, targets::news(&mut reader, claimed).await?))
}

/// Pushes to every device that is due now, records the outcomes and returns how many there were. For tests, which drive
/// deliveries step by step.
///
/// # Errors
/// When the database fails. What was claimed and not recorded is repeated when its lease ends.
pub async fn deliver_due(app: &Arc<App>) -> Result<usize, ActionError> {
    let round = claim_due(app, |_| app.in_flight).await?;
    let count = round.deliveries.len();
    let done = futures_util::future::join_all(round.deliveries.into_iter().map(|delivery| push(app, delivery))).await;
    record(app, &done).await?;
    Ok(count)
}

/// Hands back deliveries that will not be made: the devices stay due.
///
/// # Errors
/// When the database fails.
pub async fn hand_back(app: &App, leases: &HashSet<String>) -> Result<(), ActionError> {
    let mut tx = app.store.begin().await?;
    for lease in leases {
        targets::release(&mut tx, lease).await?;
    }
    Ok(tx.commit().await?)
}

impl Delivery {
    /// Returns the lease under which it was claimed.
    pub fn lease(&self) -> &str {
        &self.lease
    }

    /// Returns the issuer, which is the push's topic.
    pub fn issuer(&self) -> &IssuerId {
        self.claimed.issuer()
    }
}

/// Makes one delivery. Does not use the database: [`record`] does.
pub async fn push(app: &App, delivery: Delivery) -> Done {
    let Delivery { claimed, lease, issuer, position, about, since, probe, refused } = delivery;
    let issuer_id = claimed.issuer().clone();
    // The connection may have failed, or the claim grown too old, while this delivery waited for its turn.
    if (!probe && !app.channels.is_open(&issuer_id)) || since.elapsed() > LONGEST_WAIT {
        let outcome = Outcome::Released { problem: None };
        let settled = DeliveryResult { claimed, lease, position, outcome, at: app.now() };
        return Done { settled, issuer: Issuer::Known, about, probe };
    }
    let token = PushToken::trusted(claimed.address.as_str().to_owned());
    let before = app.channels.answers(&issuer_id);
    let answer = issuer.apns.push(&issuer.identity.pass_type, &token, app.now().plus(KEEP)).await;
    crash::point("after-push");
    let now = app.now();
    let mut said = match (&answer, &refused) {
        (PushOutcome::NoAnswer { .. } | PushOutcome::Unreachable { .. } | PushOutcome::ServiceUnwell { .. }, _) => {
            Issuer::Known
        }
        (PushOutcome::IssuerRefused { reason }, _) => {
            Issuer::Refused { certificate: certificate_of(&issuer), reason: reason.clone() }
        }
        (_, Some(certificate)) => Issuer::TakenAgain { certificate: certificate.clone() },
        (_, None) => Issuer::Known,
    };
    let device = short_form(claimed.key().id.as_str());
    let outcome = match answer {
        PushOutcome::Delivered => {
            answered(app, &issuer_id).await;
            app.metrics.push("delivered");
            app.metrics.push_delay_seconds.observe(now.since(claimed.due_at).as_secs_f64());
            Outcome::Pushed { window: WINDOW, remind_after: REMIND_AFTER }
        }
        // A token that was registered again after it died is alive; the statement that records this checks that it
        // wasn't registered meanwhile.
        PushOutcome::TargetGone { since, reason } if since.is_none_or(|since| since > claimed.registered_at) => {
            answered(app, &issuer_id).await;
            app.metrics.push("gone");
            if let Some(left_out) = app.strangers_lines.pushes.next(now) {
                tracing::info!(device, reason, left_out, "a push token is dead");
            }
            Outcome::Gone { problem: format!("the push token is dead: {reason}") }
        }
        PushOutcome::TargetGone { reason, .. } => {
            answered(app, &issuer_id).await;
            let reason = format!("APNs says that the token died before it was registered: {reason}");
            later(app, &claimed, now, None, reason, Fault::Target)
        }
        PushOutcome::Refused { reason } => {
            answered(app, &issuer_id).await;
            app.metrics.push("refused");
            if let Some(left_out) = app.strangers_lines.pushes.next(now) {
                tracing::warn!(device, reason, left_out, "a push was refused");
            }
            Outcome::GaveUp { problem: format!("APNs refused the push: {reason}") }
        }
        PushOutcome::IssuerRefused { .. } => {
            answered(app, &issuer_id).await;
            app.metrics.push("issuer_refused");
            Outcome::Released { problem: None }
        }
        PushOutcome::TryLater { after, reason } => {
            answered(app, &issuer_id).await;
            later(app, &claimed, now, Some(after.unwrap_or(BUSY_PAUSE)), reason, Fault::Target)
        }
        PushOutcome::ServiceUnwell { reason } => failed(app, &claimed, Failure::Unwell, reason, now),
        PushOutcome::NoAnswer { reason } => failed(app, &claimed, Failure::NoAnswer { before }, reason, now),
        PushOutcome::Unreachable { reason } => failed(app, &claimed, Failure::Connect, reason, now),
    };
    // A dead token doesn't show whether the certificate is accepted for others; any answer except a 403 does.
    if matches!(outcome, Outcome::Released { .. }) && matches!(said, Issuer::TakenAgain { .. }) {
        said = Issuer::Known;
    }
    Done { settled: DeliveryResult { claimed, lease, position, outcome, at: now }, issuer: said, about, probe }
}

/// Records that the service answers. If it had been away, everything that waited for it becomes due now.
async fn answered(app: &App, issuer_id: &IssuerId) {
    let Some(since) = app.channels.answered(issuer_id) else { return };
    let away_s = app.now().since(since).as_secs();
    tracing::info!(%issuer_id, away_s, "APNs answers again: everything that waited for it leaves");
    if let Err(error) = release_waiting(app, issuer_id).await {
        tracing::warn!(%error, "devices that wait for APNs could not be made due; their own times stand");
    }
}

async fn release_waiting(app: &App, issuer_id: &IssuerId) -> Result<(), ActionError> {
    loop {
        let mut tx = app.store.begin().await?;
        let released = targets::service_is_back(&mut tx, issuer_id, app.now()).await?;
        tx.commit().await?;
        app.delivery_signal.notify_one();
        if released == 0 {
            return Ok(());
        }
    }
}

fn failed(app: &App, claimed: &Claimed, failure: Failure, reason: String, now: Timestamp) -> Outcome {
    match app.channels.failed(claimed.issuer(), failure, &reason, now) {
        Blame::Push => later(app, claimed, now, None, reason, Fault::Service),
        Blame::Service { opened } => {
            app.metrics.push("unreachable");
            if opened {
                tracing::error!(issuer_id = %claimed.issuer(), reason, "APNs is away: only probes are sent");
            }
            Outcome::Released { problem: Some(reason) }
        }
    }
}

fn later(
    app: &App,
    claimed: &Claimed,
    now: Timestamp,
    after: Option<Duration>,
    problem: String,
    fault: Fault,
) -> Outcome {
    app.metrics.push("later");
    let attempts = claimed.attempts + 1;
    let wait = delay(attempts, after, fraction(&*app.random));
    let device = short_form(claimed.key().id.as_str());
    if let Some(left_out) = app.strangers_lines.pushes.next(now) {
        tracing::info!(device, problem, attempts, wait_s = wait.as_secs(), left_out, "a push failed");
    }
    Outcome::Retry { attempts, due_at: now.plus(wait), fault, problem }
}

/// Records the outcomes of pushes in one transaction.
///
/// # Errors
/// When the database fails; the deliveries are then repeated when their leases end.
pub async fn record(app: &App, done: &[Done]) -> Result<(), ActionError> {
    if done.is_empty() {
        return Ok(());
    }
    let now = app.now();
    let batch: Vec<DeliveryResult> = done.iter().map(|done| done.settled.clone()).collect();
    let mut tx = app.store.begin_batch().await?;
    let recorded = targets::record_outcomes(&mut tx, &batch).await?;
    // Pauses are written in the order of issuers, the same on every node.
    let mut refused = BTreeMap::new();
    for Done { settled, issuer, .. } in done {
        if let Issuer::Refused { certificate, reason } = issuer {
            refused.entry(settled.claimed.issuer()).or_insert((settled.claimed.workspace(), certificate, reason));
        }
    }
    let mut paused = HashSet::new();
    for (issuer_id, (workspace, certificate, reason)) in refused {
        let probe_at = now.plus(REFUSED_PAUSE);
        if issuer_pauses::begin(&mut tx, workspace, issuer_id, certificate, reason, now, probe_at).await? {
            tracing::error!(%issuer_id, reason, "APNs refuses the certificate: pushes pause until it takes it");
            paused.insert(issuer_id);
        }
    }
    record_events(app, &mut tx, done, &recorded, &paused).await?;
    tx.commit().await?;
    crash::point("after-record");
    for Done { settled, issuer, .. } in done {
        if let Issuer::TakenAgain { certificate } = issuer {
            end_pause(app, settled.claimed.issuer(), certificate, "APNs takes the certificate again").await?;
        }
    }
    if recorded.len() < done.len() {
        tracing::debug!(lost = done.len() - recorded.len(), "leases ended before their pushes were recorded");
    }
    Ok(())
}

/// Records the outcomes in the events of the cards that the pushes were about. A refused certificate is recorded when
/// its pause begins, and an absence of APNs with the pushes that discovered it, not for each probe.
async fn record_events(
    app: &App,
    tx: &mut Tx,
    done: &[Done],
    recorded: &HashSet<(TargetKey, String)>,
    just_paused: &HashSet<&IssuerId>,
) -> Result<(), ActionError> {
    let mut new_events: BTreeMap<&WorkspaceId, Vec<NewEvent<'_>>> = BTreeMap::new();
    for Done { settled, issuer, about, probe } in done {
        let key = settled.claimed.key();
        let device = short_form(key.id.as_str());
        let failed = |reason: &str, retry_at: Option<Timestamp>| {
            let data = json!({"wallet": "apple", "device": device, "reason": reason, "retry_at": retry_at});
            (EventKind::DeliveryFailed, data)
        };
        let (kind, data) = match (&settled.outcome, issuer) {
            (Outcome::Pushed { .. }, _) => (EventKind::CardPushed, json!({"wallet": "apple", "device": device})),
            (Outcome::Retry { problem, due_at, .. }, _) => failed(problem, Some(*due_at)),
            (Outcome::Gone { problem } | Outcome::GaveUp { problem }, _) => failed(problem, None),
            (Outcome::Released { .. }, Issuer::Refused { reason, .. }) if just_paused.contains(&key.issuer) => {
                failed(&format!("APNs refuses the certificate: {reason}"), None)
            }
            (Outcome::Released { problem: Some(problem) }, _) if !probe => failed(problem, None),
            (Outcome::Released { .. }, _) => continue,
        };
        if !recorded.contains(&(key, settled.lease.clone())) {
            continue;
        }
        for (card, serial) in about {
            // The id may belong to another card by now.
            let event = NewEvent { serial: Some(serial), ..app.event(kind, Some(card), data.clone())? };
            new_events.entry(settled.claimed.workspace()).or_default().push(event);
        }
    }
    for (workspace, events) in new_events {
        let position = workspaces::next_position(tx, workspace).await?;
        events::record(tx, workspace, &Actor::System, position, app.now(), &events).await?;
    }
    Ok(())
}

async fn end_pause(app: &App, issuer_id: &IssuerId, certificate: &str, why: &str) -> Result<(), ActionError> {
    let mut tx = app.store.begin().await?;
    let ended = issuer_pauses::end(&mut tx, issuer_id, certificate).await?;
    tx.commit().await?;
    if ended {
        tracing::info!(%issuer_id, why, "pushes go on");
        app.delivery_signal.notify_one();
    }
    Ok(())
}

/// Makes devices due once more that were pushed to and haven't followed since: they didn't poll, or didn't fetch
/// everything the push was about. Returns how many were examined.
///
/// # Errors
/// When the database fails.
pub async fn remind_due(app: &App) -> Result<u64, ActionError> {
    let now = app.now();
    if targets::to_remind(&mut app.store.read().await?, now).await? == 0 {
        return Ok(0);
    }
    let mut tx = app.store.begin().await?;
    let (reminded, looked_at) = targets::remind(&mut tx, now, REMINDERS).await?;
    tx.commit().await?;
    if reminded > 0 {
        app.delivery_signal.notify_one();
    }
    Ok(looked_at)
}
