//! What happened, in the order of commits. An event is recorded by the transaction that makes it happen, at the
//! position which that transaction took: so whoever read up to an event never misses one that commits later.
//!
//! Events hold no personal values: names of attributes, never their contents.

use serde_json::{Map, Value, json};

use super::types::Json;
use super::{Session, StoreError, Tx, on_db, statements};
use crate::domain::event::EventKind;
use crate::domain::ids::{CardId, SerialNumber, WorkspaceId};
use crate::domain::time::Timestamp;

statements! {
    RECORD = {
        sqlite: "INSERT INTO events (workspace_id, position, n, id, type, card_id, at, data)
            SELECT $1, $2, 1 + e.key + (SELECT COALESCE(MAX(n), 0) FROM events WHERE workspace_id = $1 AND position = $2),
                e.value ->> 'id', e.value ->> 'type', e.value ->> 'card', $3, e.value ->> 'data'
            FROM json_each($4) e WHERE e.value ->> 'card' IS NULL
                OR (SELECT c.erased_at IS NULL AND c.serial_number = COALESCE(e.value ->> 'serial', c.serial_number)
                    FROM cards c WHERE c.workspace_id = $1 AND c.id = e.value ->> 'card')",
        postgres: "INSERT INTO events (workspace_id, position, n, id, type, card_id, at, data)
            SELECT $1, $2, e.n + (SELECT COALESCE(MAX(n), 0) FROM events WHERE workspace_id = $1 AND position = $2),
                e.id, e.type, e.card, $3, e.data
            FROM ROWS FROM (json_to_recordset(CAST($4 AS json)) AS (id text, type text, card text, serial text, data text))
                WITH ORDINALITY AS e(id, type, card, serial, data, n)
            WHERE e.card IS NULL
                OR (SELECT c.erased_at IS NULL AND c.serial_number = COALESCE(e.serial, c.serial_number)
                    FROM cards c WHERE c.workspace_id = $1 AND c.id = e.card)",
    };
    OF_CARD = "SELECT id, type, at, data, position, n FROM events
        WHERE workspace_id = $1 AND card_id = $2 AND (position, n) > ($3, $4) ORDER BY position, n LIMIT $5";
    AFTER = "SELECT id, type, at, data, position, n FROM events
        WHERE workspace_id = $1 AND (position, n) > ($2, $3) AND type <> '' ORDER BY position, n LIMIT $4";
    PLACE_OF = "SELECT position, n FROM events WHERE workspace_id = $1 AND id = $2";
    FORGET = "UPDATE events SET card_id = NULL, type = '', data = '{}' WHERE workspace_id = $1 AND card_id = $2";
    PAGE_OPENED = "SELECT at FROM events WHERE workspace_id = $1 AND card_id = $2 AND type = 'card.page_opened'
        ORDER BY position DESC LIMIT 1";
}

/// An event on its way into the database. Make one with [`crate::app::App::event`], which gives it its id.
#[derive(Debug)]
pub struct NewEvent<'c> {
    /// Unique everywhere; without dots, since it is also the id of the webhook calls that tell of it.
    pub id: uuid::Uuid,
    /// What happened.
    pub kind: EventKind,
    /// To which card.
    pub card: Option<&'c CardId>,
    /// Its serial number, when what happened was seen before the transaction: should the id be another card's by then,
    /// nothing is recorded.
    pub serial: Option<&'c SerialNumber>,
    /// The rest of what there is to say, an object; the card's id is added to it.
    pub data: Value,
}

/// Records events in the caller's transaction, which took `position` ([`super::workspaces::take_position`]). Nothing is
/// recorded of a card that isn't there any more: an erasure takes a position, too, so it either sees an event or is seen.
///
/// # Errors
/// When the database fails.
pub async fn record(
    tx: &mut Tx,
    workspace: &WorkspaceId,
    position: i64,
    now: Timestamp,
    events: &[NewEvent<'_>],
) -> Result<(), StoreError> {
    let rows: Vec<Value> = events
        .iter()
        .map(|event| {
            let mut data = Map::new();
            if let Some(card) = event.card {
                data.insert("card".to_owned(), json!(card));
            }
            if let Value::Object(more) = &event.data {
                data.extend(more.clone());
            }
            json!({"id": event.id.to_string(), "type": event.kind.as_str(), "card": event.card, "serial": event.serial, "data": data})
        })
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    on_db!(tx, RECORD, |sql, c| {
        sqlx::query(sql).bind(workspace).bind(position).bind(now).bind(Json(&rows)).execute(c).await?;
        Ok(())
    })
}

/// Where an event stands in its workspace's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub struct Place {
    pub position: i64,
    pub n: i64,
}

impl Place {
    /// Before every event.
    pub const START: Self = Self { position: 0, n: 0 };
}

/// An event as it was recorded.
#[derive(Debug, sqlx::FromRow)]
pub struct Event {
    /// Unique everywhere.
    pub id: String,
    /// The kind's word.
    #[sqlx(rename = "type")]
    pub kind: String,
    /// When.
    pub at: Timestamp,
    /// What there is to say.
    pub data: Json<Map<String, Value>>,
    position: i64,
    n: i64,
}

impl Event {
    /// Where it stands.
    pub fn place(&self) -> Place {
        Place { position: self.position, n: self.n }
    }
}

/// Up to `limit` of a card's events after a place, oldest first.
///
/// # Errors
/// When the database fails.
pub async fn of_card(
    session: &mut impl Session,
    workspace: &WorkspaceId,
    card: &CardId,
    after: Place,
    limit: i64,
) -> Result<Vec<Event>, StoreError> {
    on_db!(session, OF_CARD, |sql, c| {
        let query = sqlx::query_as(sql).bind(workspace).bind(card).bind(after.position).bind(after.n);
        Ok(query.bind(limit).fetch_all(c).await?)
    })
}

/// Up to `limit` of a workspace's events after a place, oldest first. What commits later comes later in this order.
///
/// # Errors
/// When the database fails.
pub async fn after(
    session: &mut impl Session,
    workspace: &WorkspaceId,
    after: Place,
    limit: i64,
) -> Result<Vec<Event>, StoreError> {
    on_db!(session, AFTER, |sql, c| {
        let query = sqlx::query_as(sql).bind(workspace).bind(after.position).bind(after.n);
        Ok(query.bind(limit).fetch_all(c).await?)
    })
}

/// Where the event of that id stands, also when its card was erased since.
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

/// When the card's page was last noted as opened.
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

/// Erases what was noted of a card; the places of its events stay.
///
/// # Errors
/// When the database fails.
pub async fn forget(tx: &mut Tx, workspace: &WorkspaceId, card: &CardId) -> Result<(), StoreError> {
    on_db!(tx, FORGET, |sql, c| {
        sqlx::query(sql).bind(workspace).bind(card).execute(c).await?;
        Ok(())
    })
}
