//! Counts events by day, and removes those older than the retention time, but never one that wasn't counted.
//!
//! A workspace's events are removed up to some position and kept after it, so a reader never meets a gap: one who
//! stopped before the oldest remaining event gets an error. The newest event is kept however old it is, so that a
//! reader who has read everything keeps a valid position.

use super::error::ActionError;
use crate::app::App;
use crate::domain::ids::{CardId, WorkspaceId};
use crate::domain::time::Timestamp;
use crate::store::daily_counts::{self, Counts};
use crate::store::events::{self, Place};
use crate::store::{Tx, audit, workspaces};

/// How many events are counted or removed in one transaction.
const STEP: i64 = 500;

/// Counts all events that are not counted yet, some at a time, until `stop` returns true.
///
/// # Errors
/// When the database fails; one workspace's failure doesn't hold up the others.
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

/// Counts some of a workspace's events; returns whether there may be more.
async fn count(app: &App, workspace: &WorkspaceId) -> Result<bool, ActionError> {
    let zone = app.zone_of(workspace).await?;
    let day = |at: Timestamp| zone.civil(at).date().to_string();
    let mut tx = app.store.begin().await?;
    let mark = daily_counts::hold_mark(&mut tx, workspace).await?;
    // Every event up to this position is committed, so the next read includes it.
    let seen = Place { position: workspaces::position(&mut tx, workspace).await?, n: i64::MAX };
    let found = daily_counts::uncounted(&mut tx, workspace, mark.counted, STEP).await?;
    let mut counts = Counts::default();
    found.iter().for_each(|event| counts.add(event, day));
    let more = i64::try_from(found.len()).is_ok_and(|count| count >= STEP);
    let last = found.last().map_or(mark.counted, daily_counts::Countable::place);
    let counted = match more {
        true => last,
        // Events of one position commit together.
        false => seen.max(Place { n: i64::MAX, ..last }),
    };
    daily_counts::add(&mut tx, workspace, &counts).await?;
    daily_counts::set_counted(&mut tx, workspace, counted).await?;
    tx.commit().await?;
    Ok(more)
}

/// Counts a card's events in the transaction that erases them. The caller holds the workspace's counter.
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

/// Removes events and audit entries older than the retention time, some at a time, until `stop` returns true; returns
/// how many.
///
/// # Errors
/// When the database fails; one workspace's failure doesn't hold up the others.
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

/// Removes some of a workspace's old events and entries; returns how many.
async fn prune(app: &App, workspace: &WorkspaceId, before: Timestamp) -> Result<u64, ActionError> {
    while count(app, workspace).await? {}
    let mut tx = app.store.begin().await?;
    let mark = daily_counts::hold_mark(&mut tx, workspace).await?;
    let oldest = events::oldest(&mut tx, workspace, STEP + 1).await?;
    // The last one found is kept: it may be the newest.
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
