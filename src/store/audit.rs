//! The audit list: who changed what and when. It joins entries of its own, for what no event
//! records, with the events that are changes.
//!
//! Entries are recorded by the transaction that makes the change, at the position which that transaction took, so a
//! reader who has read up to an entry never misses one that commits later. Entries are only ever added; no statement
//! changes one, and only retention removes them. They hold no secret and no personal value.

use futures_util::TryStreamExt;
use serde_json::{Map, Value};

use super::types::Json;
use super::{Session, StoreError, Tx, on_db, statements};
use crate::domain::actor::Actor;
use crate::domain::audit::AuditAction;
use crate::domain::event::EventKind;
use crate::domain::ids::{CardId, WorkspaceId};
use crate::domain::time::Timestamp;

/// Selects events as entries; their data is read only where they are changes.
macro_rules! of_events {
    ($condition:literal) => {
        concat!(
            "SELECT position, 1 AS source, n, id, at, actor_kind, actor_id, type AS action, card_id AS subject_id,
                CASE WHEN type IN ('card.created', 'card.updated', 'card.expired', 'card.erased', 'template.published')
                    THEN data ELSE '{}' END AS data
            FROM events WHERE workspace_id = $1 AND ",
            $condition
        )
    };
}

statements! {
    RECORD = "INSERT INTO audit (workspace_id, position, n, id, at, actor_kind, actor_id, action, subject_kind, subject_id, data)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
    OLDEST = "SELECT position, n, at FROM audit WHERE workspace_id = $1 ORDER BY position, n LIMIT $2";
    REMOVE_THROUGH = "DELETE FROM audit WHERE workspace_id = $1 AND (position, n) <= ($2, $3)";
    AFTER = {
        sqlite: concat!(
            "SELECT * FROM (SELECT position, 0 AS source, n, id, at, actor_kind, actor_id, action, subject_id, data FROM audit
                WHERE workspace_id = $1 AND (position, n) > ($2, $3) ORDER BY position, n LIMIT $5) a
            UNION ALL SELECT * FROM (", of_events!("(position, n) > ($2, $4) ORDER BY position, n LIMIT $5"), ") e"
        ),
        postgres: concat!(
            "SELECT * FROM (SELECT position, 0 AS source, n, id, at, actor_kind, actor_id, action, subject_id, data FROM audit
                WHERE workspace_id = $1 AND (position, n) > ($2, $3) ORDER BY position, n LIMIT $5) a
            UNION ALL SELECT * FROM (", of_events!("(position, n) > ($2, $4) ORDER BY position, n LIMIT $5"), ") e"
        ),
    };
    OF_CARD = {
        sqlite: of_events!("card_id = $2 AND (position, n) > ($3, $4) ORDER BY position, n LIMIT $5"),
        postgres: of_events!("card_id = $2 AND (position, n) > ($3, $4) ORDER BY position, n LIMIT $5"),
    };
}

/// Returns place and moment of up to `limit` of a workspace's oldest entries.
///
/// # Errors
/// When the database fails.
pub async fn oldest(
    session: &mut impl Session,
    workspace: &WorkspaceId,
    limit: i64,
) -> Result<Vec<(i64, i64, Timestamp)>, StoreError> {
    on_db!(session, OLDEST, |sql, c| Ok(sqlx::query_as(sql).bind(workspace).bind(limit).fetch_all(c).await?))
}

/// Removes a workspace's entries up to that place and returns how many those were. Only retention does that.
///
/// # Errors
/// When the database fails.
pub async fn remove_through(
    tx: &mut Tx,
    workspace: &WorkspaceId,
    (position, n): (i64, i64),
) -> Result<u64, StoreError> {
    on_db!(tx, REMOVE_THROUGH, |sql, c| {
        Ok(sqlx::query(sql).bind(workspace).bind(position).bind(n).execute(c).await?.rows_affected())
    })
}

/// An entry to be recorded.
#[derive(Debug)]
pub struct NewEntry<'a> {
    /// Unique everywhere.
    pub id: uuid::Uuid,
    /// What was done.
    pub action: AuditAction,
    /// The key, issuer, certificate, template or workspace that it was done to, as [`AuditAction::subject`] says.
    pub subject: &'a str,
    /// The entry's other data, an object: no secret, no personal value.
    pub data: Value,
}

/// Adds entries in the caller's transaction, which took `position` ([`super::workspaces::next_position`]) for them.
///
/// # Errors
/// When the database fails.
pub async fn record(
    tx: &mut Tx,
    workspace: &WorkspaceId,
    actor: &Actor,
    position: i64,
    now: Timestamp,
    entries: &[NewEntry<'_>],
) -> Result<(), StoreError> {
    for (n, entry) in (1_i64..).zip(entries) {
        on_db!(tx, RECORD, |sql, c| {
            let query = sqlx::query(sql).bind(workspace).bind(position).bind(n).bind(entry.id.to_string()).bind(now);
            let query = query.bind(actor.kind()).bind(actor.id()).bind(entry.action.as_str());
            let query = query.bind(entry.action.subject()).bind(entry.subject).bind(Json(&entry.data));
            query.execute(c).await?;
        });
    }
    Ok(())
}

/// How far a reader has read the list: a position, and the last entry and event read at that position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub struct Place {
    pub position: i64,
    pub entry: i64,
    pub event: i64,
}

impl Place {
    /// The place before everything.
    pub const START: Self = Self { position: 0, entry: 0, event: 0 };
}

/// Selects the entries of a list; `None` means any.
#[derive(Debug, Default)]
pub struct Filter {
    /// Entries of that actor only.
    pub actor: Option<Actor>,
    /// Entries of that kind only.
    pub action: Option<String>,
    /// Changes of that card only.
    pub card: Option<CardId>,
}

/// One action of an actor.
#[derive(Debug, sqlx::FromRow)]
pub struct Entry {
    position: i64,
    source: i32,
    n: i64,
    /// Unique everywhere; the event's own id where the entry is an event.
    pub id: String,
    /// When it was done.
    pub at: Timestamp,
    actor_kind: Option<String>,
    actor_id: Option<String>,
    /// The name of the action.
    pub action: String,
    subject_id: Option<String>,
    /// The entry's other data.
    pub data: Json<Map<String, Value>>,
}

impl Entry {
    /// Returns the actor that did it; unknown for events from before actors were recorded.
    pub fn actor(&self) -> Option<Actor> {
        Actor::from_stored(self.actor_kind.as_deref()?, self.actor_id.clone())
    }

    /// Returns kind and id of what it was done to.
    pub fn subject(&self) -> (&'static str, Option<&str>) {
        let named = |member: &str| self.data.0.get(member).and_then(Value::as_str);
        match EventKind::parse(&self.action) {
            Some(EventKind::TemplatePublished) => ("template", named("template")),
            Some(_) => ("card", self.subject_id.as_deref().or_else(|| named("card"))),
            None => {
                let action = AuditAction::ALL.into_iter().find(|action| action.as_str() == self.action);
                (action.map_or("", AuditAction::subject), self.subject_id.as_deref())
            }
        }
    }

    /// Returns its place.
    fn place(&self) -> Place {
        match self.source {
            0 => Place { position: self.position, entry: self.n, event: 0 },
            // Entries come before the events of their position.
            _ => Place { position: self.position, entry: i64::MAX, event: self.n },
        }
    }

    fn fits(&self, filter: &Filter) -> bool {
        (self.source == 0 || EventKind::parse(&self.action).is_some_and(EventKind::is_change))
            && filter.action.as_ref().is_none_or(|action| *action == self.action)
            && filter.actor.as_ref().is_none_or(|actor| self.actor().as_ref() == Some(actor))
    }
}

/// A page of entries in their order, and where the next page begins when there may be more.
#[derive(Debug, Default)]
#[allow(missing_docs)]
pub struct Page {
    pub entries: Vec<Entry>,
    pub next: Option<Place>,
}

/// The most rows of each table that are read for a page: an answer takes a bounded time, however few rows match.
const LOOKED_AT: usize = 2000;

/// Returns up to `limit` entries after a place, oldest first. At most 2,000 entries and 2,000 events are read, so the
/// page may be short, or empty, while there are more.
///
/// # Errors
/// When the database fails.
pub async fn after(
    session: &mut impl Session,
    workspace: &WorkspaceId,
    filter: &Filter,
    after: Place,
    limit: usize,
) -> Result<Page, StoreError> {
    let most = i64::try_from(LOOKED_AT).unwrap_or(i64::MAX);
    // One statement, so that both tables are read at one moment.
    let statement = if filter.card.is_some() { OF_CARD } else { AFTER };
    let (mut rows, mut counts, mut ends) = (Vec::new(), [0; 2], Vec::new());
    on_db!(session, statement, |sql, c| {
        let query = sqlx::query_as(sql).bind(workspace);
        let query = match &filter.card {
            Some(card) => query.bind(card).bind(after.position).bind(after.event),
            None => query.bind(after.position).bind(after.entry).bind(after.event),
        };
        let mut found = query.bind(most).fetch(c);
        while let Some(row) = found.try_next().await? {
            let row: Entry = row;
            let count = &mut counts[usize::from(row.source != 0)];
            *count += 1;
            if *count == LOOKED_AT {
                ends.push(row.place());
            }
            if row.fits(filter) {
                rows.push(row);
            }
        }
    });
    rows.sort_by_key(Entry::place);
    // What lies beyond the last row read of either table is left to the next page.
    let end = ends.into_iter().min();
    if let Some(end) = end {
        rows.retain(|row| row.place() <= end);
    }
    let next = match rows.get(limit.saturating_sub(1)) {
        Some(last) if rows.len() > limit => Some(last.place()),
        _ => end,
    };
    rows.truncate(limit);
    Ok(Page { entries: rows, next })
}
