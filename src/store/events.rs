//! The events of a workspace, in the order of commits. An event is recorded by the transaction that causes it, at the
//! position which that transaction took, so a reader who has read up to an event never misses one that commits later.
//!
//! Events hold no personal values: the names of attributes, never their contents.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures_util::TryStreamExt;
use serde_json::{Map, Value, json};

use super::types::Json;
use super::{Session, StoreError, Tx, on_db, statements};
use crate::domain::actor::Actor;
use crate::domain::event::EventKind;
use crate::domain::ids::{CardId, SerialNumber, WorkspaceId};
use crate::domain::time::Timestamp;

/// Selects, for each card and kind of a batch, the newest event and the moment at which the card's day became full:
/// that of the event which is $3 places before the newest. Cards that no longer exist are left out.
macro_rules! repeated {
    ($batch:literal, $joins:literal) => {
        concat!(
            "WITH e AS MATERIALIZED (",
            $batch,
            ") SELECT e.nr, newest.id, newest.data,
                (SELECT x.at FROM events x WHERE x.workspace_id = $1 AND x.card_id = e.card AND x.type = e.type
                        AND (x.type = 'card.installed' OR x.type = 'card.removed' OR x.type = 'delivery.failed')
                    ORDER BY x.position DESC, x.n DESC LIMIT 1 OFFSET $3) AS full_since
            FROM e ",
            $joins
        )
    };
}

/// Replaces the data of events.
macro_rules! count_repeats {
    ($batch:literal) => {
        concat!(
            "WITH e AS MATERIALIZED (",
            $batch,
            ") UPDATE events SET data = e.data FROM e WHERE events.id = e.id AND events.workspace_id = $1"
        )
    };
}

statements! {
    REPEATED = {
        sqlite: repeated!("SELECT key AS nr, value ->> 'card' AS card, value ->> 'serial' AS serial, value ->> 'type' AS type
                FROM json_each($2)",
            "CROSS JOIN cards c ON c.workspace_id = $1 AND c.id = e.card AND c.erased_at IS NULL
                AND c.serial_number = COALESCE(e.serial, c.serial_number)
            CROSS JOIN events newest ON newest.id = (SELECT x.id FROM events x
                WHERE x.workspace_id = $1 AND x.card_id = e.card AND x.type = e.type
                    AND (x.type = 'card.installed' OR x.type = 'card.removed' OR x.type = 'delivery.failed')
                ORDER BY x.position DESC, x.n DESC LIMIT 1)"),
        postgres: repeated!("SELECT r.nr, r.card, r.serial, r.type FROM json_to_recordset(CAST($2 AS json))
                AS r(nr bigint, card text, serial text, type text)",
            "CROSS JOIN LATERAL (SELECT * FROM cards WHERE workspace_id = $1 AND id = e.card AND erased_at IS NULL
                AND serial_number = COALESCE(e.serial, serial_number) OFFSET 0) c
            CROSS JOIN LATERAL (SELECT x.id, x.data FROM events x
                WHERE x.workspace_id = $1 AND x.card_id = e.card AND x.type = e.type
                    AND (x.type = 'card.installed' OR x.type = 'card.removed' OR x.type = 'delivery.failed')
                ORDER BY x.position DESC, x.n DESC LIMIT 1) newest"),
    };
    COUNT_REPEATS = {
        sqlite: count_repeats!("SELECT value ->> 'id' AS id, value ->> 'data' AS data FROM json_each($2)"),
        postgres: count_repeats!("SELECT * FROM json_to_recordset(CAST($2 AS json)) AS r(id text, data text)"),
    };
    RECORD = {
        sqlite: "INSERT INTO events (workspace_id, position, n, id, type, card_id, at, data, actor_kind, actor_id)
            SELECT $1, $2, 1 + e.key + (SELECT COALESCE(MAX(n), 0) FROM events WHERE workspace_id = $1 AND position = $2),
                e.value ->> 'id', e.value ->> 'type', e.value ->> 'card', $3, e.value ->> 'data', $5, $6
            FROM json_each($4) e WHERE e.value ->> 'card' IS NULL
                OR (SELECT c.erased_at IS NULL AND c.serial_number = COALESCE(e.value ->> 'serial', c.serial_number)
                    FROM cards c WHERE c.workspace_id = $1 AND c.id = e.value ->> 'card')",
        postgres: "INSERT INTO events (workspace_id, position, n, id, type, card_id, at, data, actor_kind, actor_id)
            SELECT $1, $2, e.n + (SELECT COALESCE(MAX(n), 0) FROM events WHERE workspace_id = $1 AND position = $2),
                e.id, e.type, e.card, $3, e.data, $5, $6
            FROM ROWS FROM (json_to_recordset(CAST($4 AS json)) AS (id text, type text, card text, serial text, data text))
                WITH ORDINALITY AS e(id, type, card, serial, data, n)
            WHERE e.card IS NULL
                OR (SELECT c.erased_at IS NULL AND c.serial_number = COALESCE(e.serial, c.serial_number)
                    FROM cards c WHERE c.workspace_id = $1 AND c.id = e.card)",
    };
    OF_CARD = "SELECT id, type, at, actor_kind, actor_id, data, position, n FROM events
        WHERE workspace_id = $1 AND card_id = $2 AND (position, n) > ($3, $4) ORDER BY position, n LIMIT $5";
    AFTER = "SELECT id, type, at, actor_kind, actor_id, data, position, n FROM events
        WHERE workspace_id = $1 AND (position, n) > ($2, $3) AND type <> '' ORDER BY position, n LIMIT $4";
    PLACE_OF = "SELECT position, n FROM events WHERE workspace_id = $1 AND id = $2";
    FORGET = "UPDATE events SET card_id = NULL, type = '', data = '{}' WHERE workspace_id = $1 AND card_id = $2";
    OLDEST = "SELECT id, at, position, n FROM events WHERE workspace_id = $1 ORDER BY position, n LIMIT $2";
    OLDEST_SHOWN = "SELECT id FROM events WHERE workspace_id = $1 AND type <> '' ORDER BY position, n LIMIT 1";
    REMOVE_THROUGH = "DELETE FROM events WHERE workspace_id = $1 AND (position, n) <= ($2, $3)";
    // The newest event of a workspace is always kept, so the oldest one counts only where there is a second.
    AGED = "SELECT w.id FROM workspaces w WHERE w.id > $1 AND (
            ((SELECT e.at FROM events e WHERE e.workspace_id = w.id ORDER BY e.position, e.n LIMIT 1) < $2
                AND (SELECT e.at FROM events e WHERE e.workspace_id = w.id ORDER BY e.position, e.n LIMIT 1 OFFSET 1) IS NOT NULL)
            OR (SELECT a.at FROM audit a WHERE a.workspace_id = w.id ORDER BY a.position, a.n LIMIT 1) < $2)
        ORDER BY w.id LIMIT 1";
    PAGE_OPENED = "SELECT at FROM events WHERE workspace_id = $1 AND card_id = $2 AND type = 'card.page_opened'
        ORDER BY position DESC LIMIT 1";
}

/// The period within which a card's events of some kinds are limited.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// An event to be recorded. Make one with [`crate::app::App::event`], which sets its id.
#[derive(Debug)]
pub struct NewEvent<'c> {
    /// Unique everywhere; without dots, since it is also the id of the webhook calls for it.
    pub id: uuid::Uuid,
    /// What happened.
    pub kind: EventKind,
    /// The card that it happened to.
    pub card: Option<&'c CardId>,
    /// Its serial number, when the event was observed before the transaction: if the id belongs to another card by
    /// then, nothing is recorded.
    pub serial: Option<&'c SerialNumber>,
    /// The event's other data, an object; the card's id is added to it.
    pub data: Value,
}

/// Records events in the caller's transaction, which took `position` ([`super::workspaces::next_position`]); all of
/// them are attributed to `actor`. Nothing is recorded of a card that no longer exists: an erasure takes a position,
/// too, so the two are always ordered.
///
/// # Errors
/// When the database fails.
pub async fn record(
    tx: &mut Tx,
    workspace: &WorkspaceId,
    actor: &Actor,
    position: i64,
    now: Timestamp,
    events: &[NewEvent<'_>],
) -> Result<(), StoreError> {
    let repeats = count_repeats(tx, workspace, now, events).await?;
    let rows: Vec<Value> = events
        .iter()
        .enumerate()
        .filter(|(nr, _)| !repeats.contains(nr))
        .map(|(_, event)| {
            let data = data_of(event);
            json!({"id": event.id.to_string(), "type": event.kind.as_str(), "card": event.card, "serial": event.serial, "data": data})
        })
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    on_db!(tx, RECORD, |sql, c| {
        let query = sqlx::query(sql).bind(workspace).bind(position).bind(now).bind(Json(&rows));
        query.bind(actor.kind()).bind(actor.id()).execute(c).await?;
        Ok(())
    })
}

/// The newest event of a kind, for the event with that number in a batch.
#[derive(sqlx::FromRow)]
struct Repeated {
    nr: i64,
    id: String,
    data: Json<Map<String, Value>>,
    full_since: Option<Timestamp>,
}

fn data_of(event: &NewEvent<'_>) -> Map<String, Value> {
    let mut data = Map::new();
    if let Some(card) = event.card {
        data.insert("card".to_owned(), json!(card));
    }
    if let Value::Object(more) = &event.data {
        data.extend(more.clone());
    }
    data
}

/// Counts events of a card that already has as many of their kind as a day may have ([`EventKind::most_a_day`]), and
/// returns which those are. The newest event of the kind then holds the number of repetitions, the time of the last one
/// and its data. Its place stays, so a reader who is past it misses a count, never an event.
async fn count_repeats(
    tx: &mut Tx,
    workspace: &WorkspaceId,
    now: Timestamp,
    events: &[NewEvent<'_>],
) -> Result<HashSet<usize>, StoreError> {
    let mut counted = HashSet::new();
    let mut said: HashMap<String, Map<String, Value>> = HashMap::new();
    for kind in EventKind::ALL {
        let Some(most) = kind.most_a_day() else { continue };
        let of_kind = events.iter().enumerate().filter(|(_, event)| event.kind == kind && event.card.is_some());
        let of_kind: Vec<(usize, &NewEvent<'_>)> = of_kind.collect();
        if of_kind.is_empty() {
            continue;
        }
        let rows = of_kind.iter().enumerate().map(
            |(nr, (_, event))| json!({"nr": nr, "card": event.card, "serial": event.serial, "type": kind.as_str()}),
        );
        let rows = Value::from_iter(rows).to_string();
        let offset = i64::try_from(most - 1).unwrap_or(i64::MAX);
        let found: Vec<Repeated> = on_db!(tx, REPEATED, |sql, c| {
            sqlx::query_as(sql).bind(workspace).bind(&rows).bind(offset).fetch_all(c).await?
        });
        for Repeated { nr, id, data: Json(data), full_since } in found {
            // An event that lies in the future was recorded before the clock went back.
            let is_full = full_since.is_some_and(|since| since <= now && now.since(since) < DAY);
            let event = usize::try_from(nr).ok().and_then(|nr| of_kind.get(nr));
            let (true, Some((place, event))) = (is_full, event) else { continue };
            counted.insert(*place);
            let data = said.entry(id).or_insert(data);
            let repeats = data.get("repeats").and_then(Value::as_i64).unwrap_or(0) + 1;
            data.extend(data_of(event));
            data.insert("repeats".to_owned(), json!(repeats));
            data.insert("last_at".to_owned(), json!(now));
        }
    }
    if !said.is_empty() {
        let rows = said.into_iter().map(|(id, data)| json!({"id": id, "data": Value::Object(data).to_string()}));
        let rows = Value::from_iter(rows).to_string();
        on_db!(tx, COUNT_REPEATS, |sql, c| {
            sqlx::query(sql).bind(workspace).bind(&rows).execute(c).await?;
        });
    }
    Ok(counted)
}

/// The place of an event in its workspace's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub struct Place {
    pub position: i64,
    pub n: i64,
}

impl Place {
    /// The place before every event.
    pub const START: Self = Self { position: 0, n: 0 };
}

/// An event as it was recorded.
#[derive(Debug, sqlx::FromRow)]
pub struct Event {
    /// Unique everywhere.
    pub id: String,
    /// The name of its kind.
    #[sqlx(rename = "type")]
    pub kind: String,
    /// When it happened.
    pub at: Timestamp,
    /// Its data.
    pub data: Json<Map<String, Value>>,
    actor_kind: Option<String>,
    actor_id: Option<String>,
    position: i64,
    n: i64,
}

impl Event {
    /// Returns the actor that caused it; unknown for events from before actors were recorded.
    pub fn actor(&self) -> Option<Actor> {
        Actor::from_stored(self.actor_kind.as_deref()?, self.actor_id.clone())
    }

    /// Returns its place.
    pub fn place(&self) -> Place {
        Place { position: self.position, n: self.n }
    }
}

/// A page of events in their order, and whether more follow.
#[derive(Debug, Default)]
#[allow(missing_docs)]
pub struct Page {
    pub events: Vec<Event>,
    pub more: bool,
    bytes: usize,
}

/// The most bytes of events in a page; the event that reaches the limit is still included.
const PAGE_BYTES: usize = 2 * 1024 * 1024;

impl Page {
    /// Adds the next event; false when the page is full without it.
    fn add(&mut self, event: Event, limit: usize) -> bool {
        self.more = self.events.len() >= limit || self.bytes >= PAGE_BYTES;
        if !self.more {
            self.bytes += 200 + serde_json::to_string(&event.data.0).map_or(0, |text| text.len());
            self.events.push(event);
        }
        !self.more
    }
}

/// Returns up to `limit` of a card's events after a place, fewer when they are large, oldest first.
///
/// # Errors
/// When the database fails.
pub async fn of_card(
    session: &mut impl Session,
    workspace: &WorkspaceId,
    card: &CardId,
    after: Place,
    limit: i64,
) -> Result<Page, StoreError> {
    let mut page = Page::default();
    let most = usize::try_from(limit).unwrap_or(usize::MAX);
    on_db!(session, OF_CARD, |sql, c| {
        let query = sqlx::query_as(sql).bind(workspace).bind(card).bind(after.position).bind(after.n);
        let mut events = query.bind(limit + 1).fetch(c);
        while let Some(event) = events.try_next().await? {
            if !page.add(event, most) {
                break;
            }
        }
    });
    Ok(page)
}

/// Returns up to `limit` of a workspace's events after a place, fewer when they are large, oldest first. What commits
/// later comes later in this order.
///
/// # Errors
/// When the database fails.
pub async fn after(
    session: &mut impl Session,
    workspace: &WorkspaceId,
    after: Place,
    limit: i64,
) -> Result<Page, StoreError> {
    let mut page = Page::default();
    let most = usize::try_from(limit).unwrap_or(usize::MAX);
    on_db!(session, AFTER, |sql, c| {
        let query = sqlx::query_as(sql).bind(workspace).bind(after.position).bind(after.n);
        let mut events = query.bind(limit + 1).fetch(c);
        while let Some(event) = events.try_next().await? {
            if !page.add(event, most) {
                break;
            }
        }
    });
    Ok(page)
}

/// Returns the place of the event with that id, even if its card has been erased since.
///
/// # Errors
/// When the database fails.
pub async fn place_of(
    session: &mut impl Session,
    workspace: &WorkspaceId,
    id: &str,
) -> Result<Option<Place>, StoreError> {
    let place: Option<(i64, i64)> =
        on_db!(session, PLACE_OF, |sql, c| sqlx::query_as(sql).bind(workspace).bind(id).fetch_optional(c).await?);
    Ok(place.map(|(position, n)| Place { position, n }))
}

/// An event as retention reads it.
#[derive(Debug, sqlx::FromRow)]
pub struct Aged {
    /// Its id.
    pub id: String,
    /// When it happened.
    pub at: Timestamp,
    position: i64,
    n: i64,
}

impl Aged {
    /// Returns its place.
    pub fn place(&self) -> Place {
        Place { position: self.position, n: self.n }
    }
}

/// Returns the first workspace after that id whose oldest event or audit entry is from before a moment. The only event
/// of a workspace doesn't count.
///
/// # Errors
/// When the database fails.
pub async fn aged(
    session: &mut impl Session,
    before: Timestamp,
    after: &str,
) -> Result<Option<WorkspaceId>, StoreError> {
    on_db!(session, AGED, |sql, c| Ok(sqlx::query_scalar(sql).bind(after).bind(before).fetch_optional(c).await?))
}

/// Returns up to `limit` of a workspace's oldest events, including those of erased cards.
///
/// # Errors
/// When the database fails.
pub async fn oldest(session: &mut impl Session, workspace: &WorkspaceId, limit: i64) -> Result<Vec<Aged>, StoreError> {
    on_db!(session, OLDEST, |sql, c| Ok(sqlx::query_as(sql).bind(workspace).bind(limit).fetch_all(c).await?))
}

/// Returns the id of the oldest event that readers are shown.
///
/// # Errors
/// When the database fails.
pub async fn oldest_shown(session: &mut impl Session, workspace: &WorkspaceId) -> Result<Option<String>, StoreError> {
    on_db!(session, OLDEST_SHOWN, |sql, c| Ok(sqlx::query_scalar(sql).bind(workspace).fetch_optional(c).await?))
}

/// Removes a workspace's events up to that place and returns how many those were. Only retention does that.
///
/// # Errors
/// When the database fails.
pub async fn remove_through(tx: &mut Tx, workspace: &WorkspaceId, last: Place) -> Result<u64, StoreError> {
    on_db!(tx, REMOVE_THROUGH, |sql, c| {
        let query = sqlx::query(sql).bind(workspace).bind(last.position).bind(last.n);
        Ok(query.execute(c).await?.rows_affected())
    })
}

/// Returns when the last opening of the card's page was recorded.
///
/// # Errors
/// When the database fails.
pub async fn page_opened(
    session: &mut impl Session,
    workspace: &WorkspaceId,
    card: &CardId,
) -> Result<Option<Timestamp>, StoreError> {
    on_db!(session, PAGE_OPENED, |sql, c| {
        Ok(sqlx::query_scalar(sql).bind(workspace).bind(card).fetch_optional(c).await?)
    })
}

/// Erases what was recorded of a card; the places of its events stay.
///
/// # Errors
/// When the database fails.
pub async fn forget(tx: &mut Tx, workspace: &WorkspaceId, card: &CardId) -> Result<(), StoreError> {
    on_db!(tx, FORGET, |sql, c| {
        sqlx::query(sql).bind(workspace).bind(card).execute(c).await?;
        Ok(())
    })
}
