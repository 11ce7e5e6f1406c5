//! Makes one delivery and decides what follows from its answer. No transaction is opened here.
//!
//! What follows a failure depends on what is at fault. A dead or busy **target** waits alone. Refused **credentials**
//! pause their issuer on every node, in the database, until a probe succeeds or they are replaced. A **service** that is
//! away opens the breaker of this node's channel: only probes are sent and no target's attempts are counted; when it is
//! back, everything is sent as fast as the issuer's rate plan allows.

use std::time::Duration;

use crate::actions::error::ActionError;
use crate::actions::passes::renders::Reader;
use crate::app::App;
use crate::delivery::claim::Delivery;
use crate::domain::delivery::backoff::{BUSY_PAUSE, REMIND_AFTER, WINDOW, delay};
use crate::domain::delivery::breaker::{Blame, Failure};
use crate::domain::ids::{CardId, IssuerId, SerialNumber};
use crate::domain::render::{render, render_erased};
use crate::domain::time::Timestamp;
use crate::platform::crash;
use crate::platform::random::fraction;
use crate::platform::secrets::short_form;
use crate::store::cards;
use crate::store::deliveries::{Claimed, DeliveryResult, Fault, Outcome};
use crate::store::passes::PassKey;
use crate::wallets::{CardIdentity, Issuer, Payload, PayloadKind, PushOutcome};

/// How long a claimed target may wait for its turn. After that it is handed back, so that its delivery ends within the
/// lease.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// One delivery with its outcome.
#[derive(Debug)]
pub struct Done {
    pub(super) result: DeliveryResult,
    pub(super) credentials: Credentials,
    pub(super) about: Vec<(CardId, SerialNumber)>,
    pub(super) probe: bool,
    /// The issuer under which the target was notified.
    pub(super) issuer: std::sync::Arc<dyn Issuer>,
    /// The pass whose target now has that content version.
    pub(super) acknowledged: Option<(PassKey, i64)>,
}

/// What the answer to a notification says about its issuer's credentials.
#[derive(Debug)]
pub(super) enum Credentials {
    /// Nothing new.
    Known,
    /// They are refused.
    Refused { credentials: String, reason: String },
    /// They were refused before and are accepted again.
    Accepted { credentials: String },
}

/// Makes one delivery; [`record`](super::record::record) stores its outcome.
pub async fn push(app: &App, delivery: Delivery) -> Done {
    let Delivery { claimed, lease, issuer, position, about, since, probe, refused } = delivery;
    let id = claimed.issuer().clone();
    let outcome = Outcome::Released { problem: None };
    let result = DeliveryResult { claimed, lease, position, outcome, acknowledged: false, at: app.now() };
    let mut done = Done { result, credentials: Credentials::Known, about, probe, issuer, acknowledged: None };
    let too_late = || (!probe && !app.channels.is_open(&id)) || since.elapsed() > LONGEST_WAIT;
    // One that is too late already takes no turn from the others.
    if !too_late()
        && let Some(rate) = done.issuer.rate_plan().per_second
    {
        tokio::time::sleep(app.channels.turn(&id, rate)).await;
    }
    // The connection may have failed, or the claim grown too old, while this delivery waited for its turn.
    if too_late() {
        return done;
    }
    let claimed = &done.result.claimed;
    let (payload, covers) = match payload(app, &*done.issuer, claimed).await {
        Ok(payload) => payload,
        Err(error) => {
            let problem = format!("the card can't be written for its wallet: {error}");
            done.result.outcome = match error {
                // Nothing that time mends: the next change tries anew.
                ActionError::NotFound(_) | ActionError::IssuerMissing => Outcome::GaveUp { problem },
                _ => later(app, claimed, app.now(), None, problem, Fault::Target),
            };
            return done;
        }
    };
    let before = app.channels.answers(&id);
    let answer = done.issuer.deliver(&claimed.address, &payload, app.now()).await;
    crash::point("after-push");
    let now = app.now();
    let credentials = match (&answer, refused) {
        (PushOutcome::NoAnswer { .. } | PushOutcome::Unreachable { .. } | PushOutcome::ServiceUnwell { .. }, _) => {
            Credentials::Known
        }
        (PushOutcome::IssuerRefused { reason }, _) => {
            Credentials::Refused { credentials: done.issuer.credentials(), reason: reason.clone() }
        }
        (_, Some(credentials)) => Credentials::Accepted { credentials },
        (_, None) => Credentials::Known,
    };
    let outcome = outcome_of(app, &*done.issuer, claimed, answer, before, now);
    done.credentials = match (&outcome, credentials) {
        // No answer doesn't show whether the credentials are accepted again.
        (Outcome::Released { .. }, Credentials::Accepted { .. }) => Credentials::Known,
        (_, credentials) => credentials,
    };
    done.acknowledged = covers.filter(|_| matches!(outcome, Outcome::Delivered { .. }));
    done.result.acknowledged = done.acknowledged.is_some();
    (done.result.outcome, done.result.at) = (outcome, now);
    done
}

/// Returns what is sent to a target and, when that is the card itself, the pass and content version that it has then.
async fn payload(
    app: &App,
    issuer: &dyn Issuer,
    claimed: &Claimed,
) -> Result<(Payload, Option<(PassKey, i64)>), ActionError> {
    if issuer.payload_kind() == PayloadKind::Nudge {
        return Ok((Payload::Nudge, None));
    }
    // Where the card itself is sent, a target is one pass, under the same id.
    let object_id = claimed.key().id.as_str().to_owned();
    let serial = SerialNumber::trusted(object_id.clone());
    let issued = cards::by_serial(&mut app.store.read().await?, issuer.id(), &serial).await?;
    let issued = issued.ok_or(ActionError::NotFound("pass"))?;
    let card = &issued.card;
    let pass = PassKey { card: card.id.clone(), issuer: issuer.id().clone(), object_id };
    let covers = (pass, issued.face());
    let page = app.page_url(&card.workspace, &card.serial, card.page_generation).await?;
    let published = match card.id.is_erased() {
        true => app.published(&card.workspace, &card.content.template, issued.publication.version).await?,
        false => app.shown(Reader::Comparison, &issued, &page).await?.0,
    };
    let auth_token = app.secret(&card.workspace).await?.auth_token(&card.serial);
    let issuer = app.find_issuer(&card.workspace, issuer.id()).await?.ok_or(ActionError::IssuerMissing)?;
    let (card, public_url) = (issued.card, app.public_url.clone());
    let write = move || {
        let rendered = match card.id.is_erased() {
            true => render_erased(&published.template, &card),
            false => render(&published.template, &card, &page)?,
        };
        let prepared = published.prepared(issuer.wallet()).ok_or(ActionError::IssuerMissing)?;
        let (serial, auth_token, public_url) = (&card.serial, &auth_token, public_url.as_str());
        let identity = CardIdentity { serial, issuer: &*issuer, auth_token, public_url };
        Ok::<_, ActionError>(Payload::Document(prepared.document(&rendered, Some(&identity)).json))
    };
    // Like comparisons, deliveries can wait: they take no turn from backends and customers.
    Ok((app.render(Reader::Comparison, write).await??, Some(covers)))
}

/// Returns the outcome that an answer means. `before` is the number of answers on the channel when it was sent.
fn outcome_of(
    app: &App,
    issuer: &dyn Issuer,
    claimed: &Claimed,
    answer: PushOutcome,
    before: u64,
    now: Timestamp,
) -> Outcome {
    let (id, service) = (issuer.id(), issuer.words().service);
    let target = short_form(claimed.key().id.as_str());
    match answer {
        PushOutcome::Delivered => {
            answered(app, issuer);
            app.metrics.push("delivered");
            app.metrics.push_delay_seconds.observe(now.since(claimed.due_at).as_secs_f64());
            Outcome::Delivered { window: WINDOW, remind_after: REMIND_AFTER }
        }
        // A target that registered again after it died is alive; the statement that records this checks that it wasn't
        // registered meanwhile.
        PushOutcome::TargetGone { since, reason } if since.is_none_or(|since| since > claimed.registered_at) => {
            answered(app, issuer);
            app.metrics.push("gone");
            if let Some(left_out) = app.strangers_lines.pushes.next(now) {
                tracing::info!(target, reason, left_out, "a target is gone");
            }
            Outcome::Gone { problem: format!("the push token is dead: {reason}") }
        }
        PushOutcome::TargetGone { reason, .. } => {
            answered(app, issuer);
            let reason = format!("{service} says that the token died before it was registered: {reason}");
            later(app, claimed, now, None, reason, Fault::Target)
        }
        PushOutcome::Refused { reason } => {
            answered(app, issuer);
            app.metrics.push("refused");
            if let Some(left_out) = app.strangers_lines.pushes.next(now) {
                tracing::warn!(target, reason, left_out, "a push was refused");
            }
            Outcome::GaveUp { problem: format!("{service} refused the push: {reason}") }
        }
        PushOutcome::IssuerRefused { .. } => {
            answered(app, issuer);
            app.metrics.push("issuer_refused");
            Outcome::Released { problem: None }
        }
        PushOutcome::TryLater { after, reason } => {
            answered(app, issuer);
            later(app, claimed, now, Some(after.unwrap_or(BUSY_PAUSE)), reason, Fault::Target)
        }
        PushOutcome::ServiceUnwell { reason } => failed(app, id, service, claimed, Failure::Unwell, reason, now),
        PushOutcome::NoAnswer { reason } => {
            failed(app, id, service, claimed, Failure::NoAnswer { before }, reason, now)
        }
        PushOutcome::Unreachable { reason } => failed(app, id, service, claimed, Failure::Connect, reason, now),
    }
}

/// Notes that the service answers. If it had been away, the next claim makes everything due that waited for it.
fn answered(app: &App, issuer: &dyn Issuer) {
    let Some(since) = app.channels.answered(issuer.id()) else { return };
    let (away_s, service) = (app.now().since(since).as_secs(), issuer.words().service);
    tracing::info!(issuer = %issuer.id(), away_s, "{service} answers again: everything that waited for it leaves");
    app.channels.recovered(issuer.id());
    app.delivery_signal.notify_here();
}

fn failed(
    app: &App,
    id: &IssuerId,
    service: &str,
    claimed: &Claimed,
    failure: Failure,
    reason: String,
    now: Timestamp,
) -> Outcome {
    match app.channels.failed(id, failure, &reason, now) {
        Blame::Push => later(app, claimed, now, None, reason, Fault::Service),
        Blame::Service { opened } => {
            app.metrics.push("unreachable");
            if opened {
                tracing::error!(issuer = %id, reason, "{service} is away: only probes are sent");
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
    let target = short_form(claimed.key().id.as_str());
    if let Some(left_out) = app.strangers_lines.pushes.next(now) {
        tracing::info!(target, problem, attempts, wait_s = wait.as_secs(), left_out, "a push failed");
    }
    Outcome::Retry { attempts, due_at: now.plus(wait), fault, problem }
}
