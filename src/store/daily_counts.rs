//! Daily counts of what happened to the cards of each template: counted from events, and kept when these are removed.
//!
//! The workspace's mark says up to which event everything is counted. A counting transaction locks the mark and moves
//! it, so no event is counted twice, and none is removed uncounted.

use std::collections::BTreeMap;

use futures_util::TryStreamExt;

use super::events::Place;
use super::{Session, StoreError, Tx, on_db, statements};
use crate::domain::event::EventKind;
use crate::domain::ids::{CardId, TemplateId, WorkspaceId};
use crate::domain::time::Timestamp;

/// Selects events with the template of their card; the arguments are the database's syntax for a member of a JSON text.
macro_rules! countable {
    ($wallet:literal, $condition:literal) => {
        concat!(
            "SELECT e.position, e.n, e.type, e.at, ",
            $wallet,
            " AS wallet, (SELECT c.template_id FROM cards c WHERE c.workspace_id = e.workspace_id AND c.id = e.card_id) AS template
            FROM events e WHERE e.workspace_id = $1 AND ",
            $condition
        )
    };
}

statements! {
    ADD_MARK = "INSERT INTO event_marks (workspace_id, counted_position, counted_n) VALUES ($1, 0, 0) ON CONFLICT (workspace_id) DO NOTHING";
    HOLD_MARK = "SELECT counted_position, counted_n, pruned_id FROM event_marks WHERE workspace_id = $1" + " FOR UPDATE";
    MARK = "SELECT counted_position, counted_n, pruned_id FROM event_marks WHERE workspace_id = $1";
    SET_COUNTED = "UPDATE event_marks SET counted_position = $2, counted_n = $3 WHERE workspace_id = $1";
    SET_PRUNED = "UPDATE event_marks SET pruned_id = $2 WHERE workspace_id = $1";
    BEHIND = "SELECT w.id FROM workspaces w LEFT JOIN event_marks m ON m.workspace_id = w.id
        WHERE w.id > $1 AND (m.workspace_id IS NULL OR m.counted_position < w.position OR m.counted_n < $2)
        ORDER BY w.id LIMIT 1";
    UNCOUNTED = {
        sqlite: countable!("e.data ->> 'wallet'", "(e.position, e.n) > ($2, $3) ORDER BY e.position, e.n LIMIT $4"),
        postgres: countable!("CAST(e.data AS json) ->> 'wallet'", "(e.position, e.n) > ($2, $3) ORDER BY e.position, e.n LIMIT $4"),
    };
    UNCOUNTED_OF_CARD = {
        sqlite: countable!("e.data ->> 'wallet'", "e.card_id = $4 AND (e.position, e.n) > ($2, $3) ORDER BY e.position, e.n"),
        postgres: countable!("CAST(e.data AS json) ->> 'wallet'", "e.card_id = $4 AND (e.position, e.n) > ($2, $3) ORDER BY e.position, e.n"),
    };
    ADD = "INSERT INTO daily_counts (workspace_id, day, template_id, wallet, link, issued, updated, installed, removed, pushed, fetched)
        VALUES ($1, $2, $3, $4, '', $5, $6, $7, $8, $9, $10)
        ON CONFLICT (workspace_id, day, template_id, wallet, link) DO UPDATE SET
            issued = daily_counts.issued + excluded.issued, updated = daily_counts.updated + excluded.updated,
            installed = daily_counts.installed + excluded.installed, removed = daily_counts.removed + excluded.removed,
            pushed = daily_counts.pushed + excluded.pushed, fetched = daily_counts.fetched + excluded.fetched";
    LIST = "SELECT day, template_id, wallet, issued, updated, installed, removed, pushed, fetched FROM daily_counts
        WHERE workspace_id = $1 AND day >= $2 AND day <= $3 ORDER BY day, template_id, wallet, link LIMIT $4";
}

/// How far a workspace's events have been counted and removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The place up to which everything is counted.
    pub counted: Place,
    /// The newest id of the events that were removed.
    pub pruned_id: Option<String>,
}

type MarkRow = (i64, i64, Option<String>);

fn mark_of((position, n, pruned_id): MarkRow) -> Mark {
    Mark { counted: Place { position, n }, pruned_id }
}

/// Locks a workspace's mark until the transaction ends, and creates it when it doesn't exist. Where the workspace's
/// counter is locked as well, the counter is locked first.
///
/// # Errors
/// When the database fails.
pub async fn hold_mark(tx: &mut Tx, workspace: &WorkspaceId) -> Result<Mark, StoreError> {
    on_db!(tx, ADD_MARK, |sql, c| {
        sqlx::query(sql).bind(workspace).execute(c).await?;
    });
    let row: MarkRow = on_db!(tx, HOLD_MARK, |sql, c| sqlx::query_as(sql).bind(workspace).fetch_one(c).await?);
    Ok(mark_of(row))
}

/// Returns a workspace's mark; `None` when nothing has been counted yet.
///
/// # Errors
/// When the database fails.
pub async fn mark(session: &mut impl Session, workspace: &WorkspaceId) -> Result<Option<Mark>, StoreError> {
    let row: Option<MarkRow> =
        on_db!(session, MARK, |sql, c| sqlx::query_as(sql).bind(workspace).fetch_optional(c).await?);
    Ok(row.map(mark_of))
}

/// Moves the locked mark: everything up to that place is counted.
///
/// # Errors
/// When the database fails.
pub async fn set_counted(tx: &mut Tx, workspace: &WorkspaceId, counted: Place) -> Result<(), StoreError> {
    on_db!(tx, SET_COUNTED, |sql, c| {
        sqlx::query(sql).bind(workspace).bind(counted.position).bind(counted.n).execute(c).await?;
        Ok(())
    })
}

/// Records the newest id of the removed events on the locked mark.
///
/// # Errors
/// When the database fails.
pub async fn set_pruned(tx: &mut Tx, workspace: &WorkspaceId, id: &str) -> Result<(), StoreError> {
    on_db!(tx, SET_PRUNED, |sql, c| {
        sqlx::query(sql).bind(workspace).bind(id).execute(c).await?;
        Ok(())
    })
}

/// Returns the first workspace after that id which may have uncounted events.
///
/// # Errors
/// When the database fails.
pub async fn behind(session: &mut impl Session, after: &str) -> Result<Option<WorkspaceId>, StoreError> {
    on_db!(session, BEHIND, |sql, c| Ok(sqlx::query_scalar(sql).bind(after).bind(i64::MAX).fetch_optional(c).await?))
}

/// An event as it is read for counting.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Countable {
    position: i64,
    n: i64,
    #[sqlx(rename = "type")]
    kind: String,
    at: Timestamp,
    wallet: Option<String>,
    template: Option<TemplateId>,
}

impl Countable {
    /// Returns its place.
    pub fn place(&self) -> Place {
        Place { position: self.position, n: self.n }
    }
}

/// Returns up to `limit` of a workspace's events after a place, in their order.
///
/// # Errors
/// When the database fails.
pub async fn uncounted(
    tx: &mut Tx,
    workspace: &WorkspaceId,
    after: Place,
    limit: i64,
) -> Result<Vec<Countable>, StoreError> {
    on_db!(tx, UNCOUNTED, |sql, c| {
        let query = sqlx::query_as(sql).bind(workspace).bind(after.position).bind(after.n).bind(limit);
        Ok(query.fetch_all(c).await?)
    })
}

/// Returns counts of a card's events after a place.
///
/// # Errors
/// When the database fails.
pub async fn count_card(
    tx: &mut Tx,
    workspace: &WorkspaceId,
    card: &CardId,
    after: Place,
    day: impl Fn(Timestamp) -> String,
) -> Result<Counts, StoreError> {
    let mut counts = Counts::default();
    on_db!(tx, UNCOUNTED_OF_CARD, |sql, c| {
        let query = sqlx::query_as(sql).bind(workspace).bind(after.position).bind(after.n).bind(card);
        let mut events = query.fetch(c);
        while let Some(event) = events.try_next().await? {
            let event: Countable = event;
            counts.add(&event, &day);
        }
    });
    Ok(counts)
}

/// The number of events of each kind, in the order of [`COUNTED`].
type Numbers = [i64; 6];

/// The kinds of events that are counted, in the order of the table's columns.
const COUNTED: [EventKind; 6] = [
    EventKind::CardCreated,
    EventKind::CardUpdated,
    EventKind::CardInstalled,
    EventKind::CardRemoved,
    EventKind::CardPushed,
    EventKind::CardFetched,
];

/// Counts by day, template and wallet.
#[derive(Debug, Default)]
pub struct Counts(BTreeMap<(String, TemplateId, String), Numbers>);

impl Counts {
    /// Counts an event on the day that `day` returns for its time. Ignores events of erased cards and those without a
    /// card.
    pub fn add(&mut self, event: &Countable, day: impl Fn(Timestamp) -> String) {
        let kind = EventKind::parse(&event.kind);
        let column = COUNTED.iter().position(|counted| Some(*counted) == kind);
        if let (Some(column), Some(template)) = (column, &event.template) {
            let wallet = event.wallet.clone().unwrap_or_default();
            let numbers = self.0.entry((day(event.at), template.clone(), wallet)).or_default();
            if let Some(number) = numbers.get_mut(column) {
                *number += 1;
            }
        }
    }
}

/// Adds counts to the stored ones.
///
/// # Errors
/// When the database fails.
pub async fn add(tx: &mut Tx, workspace: &WorkspaceId, counts: &Counts) -> Result<(), StoreError> {
    for ((day, template, wallet), numbers) in &counts.0 {
        on_db!(tx, ADD, |sql, c| {
            let query = sqlx::query(sql).bind(workspace).bind(day).bind(template).bind(wallet);
            numbers.iter().fold(query, |query, number| query.bind(*number)).execute(c).await?;
        });
    }
    Ok(())
}

/// The counts of a day, a template and a wallet; the wallet is empty for what concerns none.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
#[allow(missing_docs)]
pub struct DailyCount {
    pub day: String,
    #[sqlx(rename = "template_id")]
    pub template: TemplateId,
    pub wallet: String,
    pub issued: i64,
    pub updated: i64,
    pub installed: i64,
    pub removed: i64,
    pub pushed: i64,
    pub fetched: i64,
}

/// Returns up to `limit` counts of the days from `first` to `last`, both included, ordered by day.
///
/// # Errors
/// When the database fails.
pub async fn list(
    session: &mut impl Session,
    workspace: &WorkspaceId,
    (first, last): (&str, &str),
    limit: i64,
) -> Result<Vec<DailyCount>, StoreError> {
    on_db!(session, LIST, |sql, c| {
        Ok(sqlx::query_as(sql).bind(workspace).bind(first).bind(last).bind(limit).fetch_all(c).await?)
    })
}
