//! Tells devices that something changed: claims what is due, pushes, and records what came of it.
//!
//! A claim commits before the first push leaves, and every outcome is recorded in a transaction of its own: no
//! transaction is open while the network is asked. A node that dies in between leaves a lease that ends by itself,
//! and another node pushes again, which does no harm: a push says "ask me", never what changed.

use std::sync::Arc;
use std::time::Duration;

use super::error::ActionError;
use crate::app::App;
use crate::domain::retry::{WINDOW, delay};
use crate::domain::time::Timestamp;
use crate::outside::crash;
use crate::outside::random::{fraction, token};
use crate::store::devices::{self, Claimed, Outcome};
use crate::store::workspaces;
use crate::wallets::PushOutcome;

/// How long a claim may take before another worker repeats it. Longer than a push can take, shorter than the minute
/// within which a dead node's work goes on.
const LEASE: Duration = Duration::from_secs(45);
/// How many pushes are under way at once; APNs allows about a thousand on a connection.
pub const AT_ONCE: usize = 500;
/// How long APNs keeps a push for a phone that is off.
const KEEP: Duration = Duration::from_secs(30 * 24 * 3600);
/// How soon an issuer that was refused is tried again.
const REFUSED_PAUSE: Duration = Duration::from_secs(300);

/// A device to push to, and the lease under which.
#[derive(Debug)]
pub struct Delivery {
    device: Claimed,
    lease: String,
}

/// Claims up to `limit` devices that are due now.
///
/// # Errors
/// When the database fails.
pub async fn claim_due(app: &App, limit: usize) -> Result<Vec<Delivery>, ActionError> {
    let now = app.now();
    let lease = token(&*app.random)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut tx = app.store.begin().await?;
    let claimed = devices::claim(&mut tx, &lease, now, now.plus(LEASE), limit).await?;
    tx.commit().await?;
    if !claimed.is_empty() {
        crash::point("after-claim");
    }
    Ok(claimed.into_iter().map(|device| Delivery { device, lease: lease.clone() }).collect())
}

/// Pushes to every device that is due now and waits for the outcomes; how many there were. For tests, which drive
/// deliveries by hand.
///
/// # Errors
/// When the database fails. What was claimed and not recorded is repeated when its lease ends.
pub async fn deliver_due(app: &Arc<App>) -> Result<usize, ActionError> {
    let due = claim_due(app, AT_ONCE).await?;
    let count = due.len();
    let pushes = futures_util::future::join_all(due.into_iter().map(|delivery| deliver(app, delivery)));
    pushes.await.into_iter().collect::<Result<Vec<()>, _>>()?;
    Ok(count)
}

/// Hands back a delivery that will not be made any more: the device is due as before.
///
/// # Errors
/// When the database fails.
pub async fn hand_back(app: &App, leases: &[String]) -> Result<(), ActionError> {
    let mut tx = app.store.begin().await?;
    for lease in leases {
        devices::release(&mut tx, lease).await?;
    }
    Ok(tx.commit().await?)
}

impl Delivery {
    /// The lease under which it was claimed.
    pub fn lease(&self) -> &str {
        &self.lease
    }
}

/// Makes one delivery and records what came of it.
///
/// # Errors
/// When the database fails; the delivery is then repeated when its lease ends.
pub async fn deliver(app: &Arc<App>, Delivery { device, lease }: Delivery) -> Result<(), ActionError> {
    // Whatever was committed before this moment is told by the push that leaves after it.
    let position = workspaces::position(&mut app.store.read().await?, device.workspace()).await?;
    let outcome = ask(app, &device).await;
    crash::point("after-push");
    let now = app.now();
    let recorded = match outcome {
        PushOutcome::Delivered => {
            app.metrics.push("delivered");
            app.metrics.push_delay_seconds.observe(now.since(device.due_at).as_secs_f64());
            Outcome::Pushed { position, window: WINDOW }
        }
        // A token that was registered again after it died lives; the record checks that nobody registered meanwhile.
        PushOutcome::TargetGone { since, reason } if since.is_none_or(|since| since >= device.registered_at) => {
            app.metrics.push("gone");
            tracing::info!(device = %short(device.key().id.as_str()), reason, "a push token is dead");
            Outcome::Gone { problem: format!("the push token is dead: {reason}") }
        }
        PushOutcome::TargetGone { reason, .. } => later(app, &device, now, None, reason),
        PushOutcome::Refused { reason } => {
            app.metrics.push("refused");
            tracing::warn!(device = %short(device.key().id.as_str()), reason, "a push was refused");
            Outcome::GaveUp { problem: format!("APNs refused the push: {reason}") }
        }
        PushOutcome::IssuerRefused { reason } => {
            app.metrics.push("issuer_refused");
            tracing::error!(pass_type = %device.pass_type(), reason, "APNs refuses the certificate");
            let problem = format!("APNs refuses the certificate: {reason}");
            Outcome::Retry { attempts: device.attempts, due_at: now.plus(REFUSED_PAUSE), problem }
        }
        PushOutcome::TryLater { after, reason } => later(app, &device, now, after, reason),
    };
    let mut tx = app.store.begin().await?;
    let mine = devices::record(&mut tx, &device, &lease, &recorded, now).await?;
    tx.commit().await?;
    crash::point("after-record");
    if !mine {
        tracing::debug!("a lease ended before its push was recorded");
    }
    Ok(())
}

async fn ask(app: &Arc<App>, device: &Claimed) -> PushOutcome {
    let known = app.find_apple_issuer_of(device.workspace(), device.pass_type()).await.ok().flatten();
    let Some(issuer) = known else {
        return PushOutcome::IssuerRefused { reason: "there is no certificate for this pass type".to_owned() };
    };
    issuer.apns.push(device.pass_type(), &device.push_token, app.now().plus(KEEP)).await
}

fn later(app: &App, device: &Claimed, now: Timestamp, after: Option<Duration>, reason: String) -> Outcome {
    app.metrics.push("later");
    let attempts = device.attempts + 1;
    let wait = delay(attempts, after, fraction(&*app.random));
    tracing::info!(device = %short(device.key().id.as_str()), reason, attempts, wait_s = wait.as_secs(), "a push failed");
    Outcome::Retry { attempts, due_at: now.plus(wait), problem: reason }
}

/// Enough of a device's name to find it, too little to ask the web service for it.
fn short(id: &str) -> String {
    let mut start: String = id.chars().take(6).collect();
    start.push('…');
    start
}
