//! Claims the targets that are due.
//!
//! A claim commits before its first notification is sent. A node that dies in between leaves leases that end by
//! themselves, and another node notifies again. That does no harm: a nudge only makes a target poll, and a document
//! replaces the one before.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::actions::error::ActionError;
use crate::app::App;
use crate::delivery::attempt::push;
use crate::delivery::record::{end_pause, record};
use crate::domain::delivery::breaker::Gate;
use crate::domain::ids::{CardId, IssuerId, SerialNumber, WorkspaceId};
use crate::domain::time::Timestamp;
use crate::platform::crash;
use crate::platform::random::token;
use crate::store::deliveries::{self, Claimed};
use crate::store::issuer_pauses::{self, Pause};
use crate::store::targets::TargetKey;
use crate::store::workspaces;
use crate::wallets::Issuer;

/// How long a claim is valid before another worker may repeat it. Longer than a delivery can take, including the wait
/// for its turn; shorter than the minute within which a dead node's work continues elsewhere.
const LEASE: Duration = Duration::from_secs(50);
/// How long after a refusal credentials are tried again.
pub(super) const REFUSED_PAUSE: Duration = Duration::from_secs(300);

/// A claimed target to notify.
#[derive(Debug)]
pub struct Delivery {
    pub(super) claimed: Claimed,
    pub(super) lease: String,
    pub(super) issuer: Arc<dyn Issuer>,
    pub(super) position: i64,
    /// The cards that the notification is about.
    pub(super) about: Vec<(CardId, SerialNumber)>,
    pub(super) since: Instant,
    pub(super) probe: bool,
    /// The refused credentials that this notification tries again.
    pub(super) refused: Option<String>,
}

impl Delivery {
    /// Returns the lease under which it was claimed.
    pub fn lease(&self) -> &str {
        &self.lease
    }

    /// Returns the issuer under which the target is notified.
    pub fn issuer(&self) -> &IssuerId {
        self.issuer.id()
    }

    /// Returns how many of its issuer's deliveries may be under way.
    pub fn in_flight(&self, app: &App) -> usize {
        in_flight(app, &*self.issuer)
    }
}

/// What one round of claiming found.
#[derive(Debug, Default)]
pub struct Round {
    /// The deliveries claimed in this round.
    pub deliveries: Vec<Delivery>,
    /// When the next target is due that can't be claimed yet.
    pub next: Option<Timestamp>,
    /// Issuers of which more is due than there was capacity for.
    pub backlogged: HashSet<IssuerId>,
    /// Why nothing could be claimed for an issuer; the others are not affected.
    pub failure: Option<ActionError>,
}

/// Returns how many of an issuer's deliveries may be under way. Where its rate is limited, that is at most a second's
/// worth: more would only wait for their turns, past the end of their leases.
fn in_flight(app: &App, issuer: &dyn Issuer) -> usize {
    let plan = issuer.rate_plan();
    let a_second = plan.per_second.map(|rate| usize::try_from(rate).unwrap_or(usize::MAX));
    [Some(app.in_flight), plan.in_flight, a_second].into_iter().flatten().min().unwrap_or(1).max(1)
}

impl Round {
    fn until(&mut self, moment: Timestamp) {
        self.next = Some(self.next.map_or(moment, |next| next.min(moment)));
    }
}

/// Claims targets that are due now, of each issuer up to its capacity. `capacity` is given the issuer and how many of its
/// deliveries may be under way.
///
/// # Errors
/// When the database fails before anything was claimed.
pub async fn claim_due(app: &App, capacity: impl Fn(&IssuerId, usize) -> usize) -> Result<Round, ActionError> {
    release_waiting(app).await?;
    let mut reader = app.store.read().await?;
    let pauses: HashMap<_, _> =
        issuer_pauses::all(&mut reader).await?.into_iter().map(|pause| (pause.issuer_id.clone(), pause)).collect();
    let waiting = deliveries::due_issuers(&mut reader).await?;
    drop(reader);
    let mut round = Round::default();
    for (workspace, id) in waiting {
        // Without credentials on this node nothing can be sent here.
        let issuer = match app.find_issuer(&workspace, &id).await {
            Ok(Some(issuer)) => issuer,
            Ok(None) => continue,
            Err(error) => {
                tracing::debug!(issuer = %id, %error, "an issuer's credentials can't be loaded");
                continue;
            }
        };
        let free = capacity(&id, in_flight(app, &*issuer));
        if let Err(error) = claim_of(app, &workspace, &issuer, pauses.get(&id), free, &mut round).await {
            tracing::debug!(issuer = %id, %error, "nothing can be claimed for an issuer");
            round.failure.get_or_insert(error);
        }
    }
    let refused = pauses.into_keys().map(|id| (id, "refused"));
    let unreachable = app.channels.troubled().into_iter().map(|id| (id, "unreachable"));
    app.metrics.pushes_paused(refused.chain(unreachable));
    Ok(round)
}

/// Makes targets due that waited for a service which answers again.
async fn release_waiting(app: &App) -> Result<(), ActionError> {
    for id in app.channels.take_recovered() {
        let released = async {
            loop {
                let mut tx = app.store.begin().await?;
                let released = deliveries::service_is_back(&mut tx, &id, app.now()).await?;
                tx.commit().await?;
                if released == 0 {
                    return Ok::<_, ActionError>(());
                }
            }
        };
        if let Err(error) = released.await {
            app.channels.recovered(&id);
            return Err(error);
        }
    }
    Ok(())
}

/// Claims targets of one issuer, as far as it may be notified now.
async fn claim_of(
    app: &App,
    workspace: &WorkspaceId,
    issuer: &Arc<dyn Issuer>,
    pause: Option<&Pause>,
    capacity: usize,
    round: &mut Round,
) -> Result<(), ActionError> {
    let (now, credentials) = (app.now(), issuer.credentials());
    let pause = match pause {
        Some(pause) if pause.credentials != credentials => {
            end_pause(app, issuer.id(), &pause.credentials, "there are other credentials").await?;
            None
        }
        other => other,
    };
    match (pause, app.channels.gate(issuer.id(), &credentials, now)) {
        (None, Gate::Open) => claim_some(app, workspace, issuer, capacity, round).await,
        (Some(pause), _) if !pause.is_due(now) => {
            round.until(pause.probe_at);
            Ok(())
        }
        (_, Gate::Closed(until)) => {
            round.until(until);
            Ok(())
        }
        (pause, gate) => {
            if let Some(delivery) = claim_probe(app, workspace, issuer, pause).await? {
                if gate == Gate::Probe {
                    app.channels.probing(issuer.id(), now);
                }
                round.deliveries.push(delivery);
            }
            Ok(())
        }
    }
}

async fn claim_some(
    app: &App,
    workspace: &WorkspaceId,
    issuer: &Arc<dyn Issuer>,
    capacity: usize,
    round: &mut Round,
) -> Result<(), ActionError> {
    let now = app.now();
    // The queue is read without a transaction first, since writers on SQLite wait for each other.
    let (ready, next) = deliveries::outlook(&mut app.store.read().await?, issuer.id(), now).await?;
    if let Some(next) = next {
        round.until(next);
    }
    if !ready {
        return Ok(());
    }
    if capacity == 0 {
        round.backlogged.insert(issuer.id().clone());
        return Ok(());
    }
    let lease = token(&*app.random)?;
    let limit = i64::try_from(capacity).unwrap_or(i64::MAX);
    let mut tx = app.store.begin().await?;
    let claimed = deliveries::claim(&mut tx, issuer.id(), &lease, now, now.plus(LEASE), limit).await?;
    tx.commit().await?;
    if claimed.is_empty() {
        return Ok(());
    }
    crash::point("after-claim");
    if claimed.len() >= capacity {
        round.backlogged.insert(issuer.id().clone());
    }
    let (position, mut changed) = changed_cards(app, workspace, &claimed, &lease).await?;
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

/// Claims one target to find out whether notifications are accepted again; during a pause only one node at a time does
/// so.
async fn claim_probe(
    app: &App,
    workspace: &WorkspaceId,
    issuer: &Arc<dyn Issuer>,
    pause: Option<&Pause>,
) -> Result<Option<Delivery>, ActionError> {
    let now = app.now();
    let lease = token(&*app.random)?;
    let mut tx = app.store.begin().await?;
    let Some(claimed) = deliveries::claim_probe(&mut tx, issuer.id(), &lease, now, now.plus(LEASE)).await? else {
        return Ok(None);
    };
    if let Some(pause) = pause
        && !issuer_pauses::take_probe(&mut tx, issuer.id(), &pause.credentials, now, now.plus(REFUSED_PAUSE)).await?
    {
        return Ok(None);
    }
    tx.commit().await?;
    crash::point("after-claim");
    let (position, mut changed) = changed_cards(app, workspace, std::slice::from_ref(&claimed), &lease).await?;
    let about = changed.remove(&claimed.key()).unwrap_or_default();
    let refused = pause.map(|pause| pause.credentials.clone());
    let issuer = Arc::clone(issuer);
    Ok(Some(Delivery { claimed, lease, issuer, position, about, since: Instant::now(), probe: true, refused }))
}

/// Returns the position covered by notifications sent from now on, and the changed cards per target. What was claimed
/// is handed back when that can't be read.
async fn changed_cards(
    app: &App,
    workspace: &WorkspaceId,
    claimed: &[Claimed],
    lease: &str,
) -> Result<(i64, HashMap<TargetKey, Vec<(CardId, SerialNumber)>>), ActionError> {
    let read = async {
        let mut reader = app.store.read().await?;
        let position = workspaces::position(&mut reader, workspace).await?;
        Ok::<_, ActionError>((position, deliveries::news(&mut reader, claimed).await?))
    };
    match read.await {
        Err(error) => {
            hand_back(app, &HashSet::from([lease.to_owned()])).await?;
            Err(error)
        }
        read => read,
    }
}

/// Notifies every target that is due now, records the outcomes and returns how many there were. For tests, which drive
/// deliveries step by step.
///
/// # Errors
/// When the database fails. What was claimed and not recorded is repeated when its lease ends.
pub async fn deliver_due(app: &Arc<App>) -> Result<usize, ActionError> {
    let round = claim_due(app, |_, in_flight| in_flight).await?;
    let count = round.deliveries.len();
    let done = futures_util::future::join_all(round.deliveries.into_iter().map(|delivery| push(app, delivery))).await;
    record(app, &done).await?;
    round.failure.map_or(Ok(count), Err)
}

/// Hands back deliveries that will not be made: the targets stay due.
///
/// # Errors
/// When the database fails.
pub async fn hand_back(app: &App, leases: &HashSet<String>) -> Result<(), ActionError> {
    let mut tx = app.store.begin().await?;
    for lease in leases {
        deliveries::release(&mut tx, lease).await?;
    }
    Ok(tx.commit().await?)
}
