//! Counts events by day, and removes those that are older than they are kept: never one that wasn't counted.
//!
//! Of a workspace's events, those up to some place are removed and all after it stay, so a reader never stumbles over a
//! gap: whoever stopped before the oldest that is left is told so. The newest event stays however old it is, so a reader who
//! has read everything stays where he is.

use super::error::ActionError;
use crate::app::App;
use crate::domain::ids::{CardId, WorkspaceId};
use crate::domain::time::Timestamp;
use crate::store::daily_counts::{self, Counts};
use crate::store::events::{self, Place};
use crate::store::{Tx, audit, workspaces};

/// How many events are counted or removed in one transaction.
const STEP: i64 = 500;

/// Counts everything that there is to count, some events at a time, until `stop` says so.
///
/// # Errors
/// When the database fails; one workspace's failure holds up no other.
pub async fn count_events(app: &App, mut stop: impl FnMut() -> bool) -> Result<(), ActionError> {
    let (mut after, mut failure) = (String::new(), None);
    while let Some(workspace) = daily_counts::behind(&mut app.store.read().await?, &after).await? {
        let more = loop {
            match count(app, &workspace).await {
                Ok(true) if !stop() => {}
                done => break done,
            }
        };
        failure = failure.or(more.err());
        if stop() {
            break;
        }
        after = workspace.as_str().to_owned();
    }
    failure.map_or(Ok(()), Err)
}

/// Counts some of a workspace's events; whether there may be more.
async fn count(app: &App, workspace: &WorkspaceId) -> Result<bool, ActionError> {
    let zone = app.zone_of(workspace).await?;
    let day = |at: Timestamp| zone.civil(at).date().to_string();
    let mut tx = app.store.begin().await?;
    let mark = daily_counts::hold_mark(&mut tx, workspace).await?;
    // Everything up to here is committed, so it is among what is read next.
    let seen = Place { position: workspaces::position(&mut tx, workspace).await?, n: i64::MAX };
    let found = daily_counts::uncounted(&mut tx, workspace, mark.counted, STEP).await?;
    let mut counts = Counts::default();
    found.iter().for_each(|event| counts.add(event, day));
    let more = i64::try_from(found.len()).is_ok_and(|count| count >= STEP);
    let last = found.last().map_or(mark.counted, daily_counts::Countable::place);
    let counted = match more {
        true => last,
        // A position's events commit together.
        false => seen.max(Place { n: i64::MAX, ..last }),
    };
    daily_counts::add(&mut tx, workspace, &counts).await?;
    daily_counts::set_counted(&mut tx, workspace, counted).await?;
    tx.commit().await?;
    Ok(more)
}

/// Counts a card's events in the transaction that erases them. The workspace's counter is held.
///
/// # Errors
/// When the database fails.
pub(super) async fn count_before_erasing(
    tx: &mut Tx,
    workspace: &WorkspaceId,
    card: &CardId,
    day: impl Fn(Timestamp) -> String,
) -> Result<(), ActionError> {
    let mark = daily_counts::hold_mark(tx, workspace).await?;
    let counts = daily_counts::count_card(tx, workspace, card, mark.counted, day).await?;
    Ok(daily_counts::add(tx, workspace, &counts).await?)
}

/// Removes events and entries of the audit list that are older than they are kept, some at a time, until `stop` says so;
/// how many.
///
/// # Errors
/// When the database fails; one workspace's failure holds up no other.
pub async fn prune_events(app: &App, mut stop: impl FnMut() -> bool) -> Result<u64, ActionError> {
    let before = app.now().minus(app.event_retention);
    let (mut after, mut failure, mut removed) = (String::new(), None, 0);
    while let Some(workspace) = events::aged(&mut app.store.read().await?, before, &after).await? {
        loop {
            match prune(app, &workspace, before).await {
                Ok(0) => break,
                Ok(count) => removed += count,
                Err(error) => {
                    failure = failure.or(Some(error));
                    break;
                }
            }
            if stop() {
                return failure.map_or(Ok(removed), Err);
            }
        }
        after = workspace.as_str().to_owned();
    }
    failure.map_or(Ok(removed), Err)
}

/// Removes some of a workspace's old events and entries; how many.
async fn prune(app: &App, workspace: &WorkspaceId, before: Timestamp) -> Result<u64, ActionError> {
    while count(app, workspace).await? {}
    let mut tx = app.store.begin().await?;
    let mark = daily_counts::hold_mark(&mut tx, workspace).await?;
    let oldest = events::oldest(&mut tx, workspace, STEP + 1).await?;
    // One is left of what was found: that may be the newest.
    let old = oldest.iter().take(oldest.len().saturating_sub(1));
    let old: Vec<_> = old.take_while(|event| event.at < before && event.place() <= mark.counted).collect();
    let mut removed = 0;
    if let Some(last) = old.last() {
        let newest = old.iter().map(|event| event.id.as_str()).chain(mark.pruned_id.as_deref()).max();
        removed += events::remove_through(&mut tx, workspace, last.place()).await?;
        daily_counts::set_pruned(&mut tx, workspace, newest.unwrap_or_default()).await?;
    }
    let entries = audit::oldest(&mut tx, workspace, STEP).await?;
    if let Some((position, n, _)) = entries.iter().take_while(|(_, _, at)| *at < before).last() {
        removed += audit::remove_through(&mut tx, workspace, (*position, *n)).await?;
    }
    tx.commit().await?;
    Ok(removed)
}
