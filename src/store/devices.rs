//! Devices, their registrations, and what each must still be told.
//!
//! A device counts the changes it must be told of in `marks`. A claim remembers the count; a delivery that succeeded
//! leaves the device due only if it was marked again meanwhile. So a change is never lost between a claim and its
//! outcome, and a push that is sent twice does no harm.

use std::time::Duration;

use serde_json::{Value, json};

use super::types::Json;
use super::{Session, StoreError, Tx, on_db, statements};
use crate::domain::card::Card;
use crate::domain::ids::{CardId, DeviceLibraryId, PassTypeId, PushToken, SerialNumber, WorkspaceId};
use crate::domain::time::Timestamp;

statements! {
    PUT = "INSERT INTO devices (workspace_id, pass_type_id, id, push_token, kind, registered_at, marks, attempts, pushed, asked)
        VALUES ($1, $2, $3, $4, $5, $6, 0, 0, 0, 0)
        ON CONFLICT (workspace_id, pass_type_id, id) DO UPDATE SET push_token = excluded.push_token, kind = excluded.kind,
            registered_at = excluded.registered_at, dead_since = NULL, problem = NULL, attempts = 0,
            due_at = CASE WHEN excluded.kind <> 'apns' THEN NULL WHEN devices.dead_since IS NULL THEN devices.due_at
                ELSE excluded.registered_at END,
            scheduled_at = CASE WHEN excluded.kind <> 'apns' THEN NULL WHEN devices.dead_since IS NULL
                THEN devices.scheduled_at ELSE excluded.registered_at END,
            lease = CASE WHEN devices.push_token = excluded.push_token THEN devices.lease END,
            leased_at = CASE WHEN devices.push_token = excluded.push_token THEN devices.leased_at END,
            leased_until = CASE WHEN devices.push_token = excluded.push_token THEN devices.leased_until END";
    REGISTER = "INSERT INTO registrations (workspace_id, pass_type_id, device_id, card_id, position, created_at)
        VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (workspace_id, pass_type_id, device_id, card_id) DO NOTHING";
    IS_REGISTERED = "SELECT COUNT(*) FROM registrations
        WHERE workspace_id = $1 AND pass_type_id = $2 AND device_id = $3 AND card_id = $4";
    UNREGISTER = "DELETE FROM registrations WHERE workspace_id = $1 AND pass_type_id = $2 AND device_id = $3 AND card_id = $4";
    LOCK = "SELECT asked FROM devices WHERE workspace_id = $1 AND pass_type_id = $2 AND id = $3" + " FOR NO KEY UPDATE";
    FORGET = "DELETE FROM devices WHERE workspace_id = $1 AND pass_type_id = $2 AND id = $3 AND NOT EXISTS (
        SELECT 1 FROM registrations r WHERE r.workspace_id = devices.workspace_id
            AND r.pass_type_id = devices.pass_type_id AND r.device_id = devices.id)";
    CHANGED = "SELECT c.serial_number, c.position, t.position, r.position FROM registrations r
        JOIN cards c ON c.workspace_id = r.workspace_id AND c.id = r.card_id
        JOIN templates t ON t.workspace_id = c.workspace_id AND t.id = c.template_id
        WHERE r.workspace_id = $1 AND r.pass_type_id = $2 AND r.device_id = $3
            AND (c.position > $4 OR (t.position > $4 AND c.erased_at IS NULL) OR r.position > $4)
        ORDER BY c.serial_number";
    NOTE_ASKED = "UPDATE devices SET asked = $4, asked_at = $5
        WHERE workspace_id = $1 AND pass_type_id = $2 AND id = $3 AND asked < $4";
    ASKED = "SELECT asked FROM devices WHERE workspace_id = $1 AND pass_type_id = $2 AND id = $3";
    OF_CARD = "SELECT COUNT(*), COALESCE(SUM(CASE WHEN d.asked >= $3 THEN 1 ELSE 0 END), 0) FROM registrations r
        JOIN devices d ON d.workspace_id = r.workspace_id AND d.pass_type_id = r.pass_type_id AND d.id = r.device_id
        WHERE r.workspace_id = $1 AND r.card_id = $2";
    OF_CARDS = {
        sqlite: "SELECT r.card_id, COUNT(*), COALESCE(SUM(CASE WHEN d.asked >= e.value ->> 'face' THEN 1 ELSE 0 END), 0)
            FROM json_each($2) e JOIN registrations r ON r.workspace_id = $1 AND r.card_id = e.value ->> 'card'
            JOIN devices d ON d.workspace_id = r.workspace_id AND d.pass_type_id = r.pass_type_id AND d.id = r.device_id
            GROUP BY r.card_id",
        postgres: "SELECT r.card_id, COUNT(*), COALESCE(SUM(CASE WHEN d.asked >= e.face THEN 1 ELSE 0 END), 0)
            FROM json_to_recordset(CAST($2 AS json)) AS e(card text, face bigint)
            JOIN registrations r ON r.workspace_id = $1 AND r.card_id = e.card
            JOIN devices d ON d.workspace_id = r.workspace_id AND d.pass_type_id = r.pass_type_id AND d.id = r.device_id
            GROUP BY r.card_id",
    };
    HOLD_OF_CARDS = {
        sqlite: "SELECT COUNT(*) FROM registrations
            WHERE workspace_id = $1 AND card_id IN (SELECT value FROM json_each($2))",
        postgres: "SELECT COUNT(*) FROM (SELECT d.id FROM devices d WHERE (d.workspace_id, d.pass_type_id, d.id) IN (
                SELECT r.workspace_id, r.pass_type_id, r.device_id FROM registrations r
                WHERE r.workspace_id = $1 AND r.card_id IN (SELECT json_array_elements_text(CAST($2 AS json))))
            ORDER BY d.workspace_id, d.pass_type_id, d.id FOR NO KEY UPDATE OF d) held",
    };
    MARK = {
        sqlite: "UPDATE devices SET marks = marks + 1,
            scheduled_at = CASE WHEN due_at IS NULL THEN $3 ELSE scheduled_at END,
            due_at = COALESCE(due_at, CASE WHEN pushed_at <= $3 AND pushed_at + $4 > $3 THEN pushed_at + $4 ELSE $3 END)
        WHERE workspace_id = $1 AND kind = 'apns' AND dead_since IS NULL AND (pass_type_id, id) IN (
            SELECT pass_type_id, device_id FROM registrations WHERE workspace_id = $1 AND card_id IN (SELECT value FROM json_each($2)))",
        postgres: "UPDATE devices SET marks = marks + 1,
            scheduled_at = CASE WHEN due_at IS NULL THEN $3 ELSE scheduled_at END,
            due_at = COALESCE(due_at, CASE WHEN pushed_at <= $3 AND pushed_at + $4 > $3 THEN pushed_at + $4 ELSE $3 END)
        WHERE workspace_id = $1 AND kind = 'apns' AND dead_since IS NULL AND (pass_type_id, id) IN (
            SELECT pass_type_id, device_id FROM registrations WHERE workspace_id = $1 AND card_id IN (SELECT json_array_elements_text(CAST($2 AS json))))",
    };
    CLAIM = {
        sqlite: "UPDATE devices SET lease = $1, leased_at = $2, leased_until = $3
            WHERE (workspace_id, pass_type_id, id) IN (SELECT workspace_id, pass_type_id, id FROM devices
                WHERE due_at IS NOT NULL AND (due_at <= $2 OR scheduled_at > $2)
                    AND (lease IS NULL OR leased_until <= $2 OR leased_at > $2)
                ORDER BY due_at LIMIT $4)
            RETURNING workspace_id, pass_type_id, id, push_token, registered_at, marks, attempts, due_at",
        postgres: "UPDATE devices SET lease = $1, leased_at = $2, leased_until = $3
            WHERE (workspace_id, pass_type_id, id) IN (SELECT workspace_id, pass_type_id, id FROM devices
                WHERE due_at IS NOT NULL AND (due_at <= $2 OR scheduled_at > $2)
                    AND (lease IS NULL OR leased_until <= $2 OR leased_at > $2)
                ORDER BY due_at LIMIT $4 FOR NO KEY UPDATE SKIP LOCKED)
            RETURNING workspace_id, pass_type_id, id, push_token, registered_at, marks, attempts, due_at",
    };
    NEXT_DUE = "SELECT MIN(due_at) FROM devices WHERE due_at IS NOT NULL AND lease IS NULL";
    PUSHED = "UPDATE devices SET pushed = $5, pushed_at = $6, attempts = 0, problem = NULL, lease = NULL, leased_at = NULL,
            leased_until = NULL, scheduled_at = CASE WHEN marks = $7 THEN NULL ELSE CAST($6 AS BIGINT) END,
            due_at = CASE WHEN marks = $7 THEN NULL ELSE CAST($6 AS BIGINT) + $8 END
        WHERE workspace_id = $1 AND pass_type_id = $2 AND id = $3 AND lease = $4";
    RETRY = "UPDATE devices SET attempts = $5, problem = $6, due_at = $7, scheduled_at = $8, lease = NULL, leased_at = NULL,
            leased_until = NULL
        WHERE workspace_id = $1 AND pass_type_id = $2 AND id = $3 AND lease = $4";
    GONE = "UPDATE devices SET dead_since = $5, problem = $6, due_at = NULL, scheduled_at = NULL, lease = NULL, leased_at = NULL,
            leased_until = NULL
        WHERE workspace_id = $1 AND pass_type_id = $2 AND id = $3 AND lease = $4 AND registered_at = $7";
    GIVE_UP = "UPDATE devices SET problem = $5, due_at = CASE WHEN marks = $6 THEN NULL ELSE CAST($7 AS BIGINT) END,
            scheduled_at = CASE WHEN marks = $6 THEN NULL ELSE CAST($7 AS BIGINT) END, lease = NULL, leased_at = NULL,
            leased_until = NULL
        WHERE workspace_id = $1 AND pass_type_id = $2 AND id = $3 AND lease = $4";
    RELEASE = "UPDATE devices SET lease = NULL, leased_at = NULL, leased_until = NULL WHERE lease = $1";
    RELEASE_ALL = "UPDATE devices SET lease = NULL, leased_at = NULL, leased_until = NULL WHERE lease IS NOT NULL";
    UNFINISHED = "SELECT COUNT(*) FROM devices WHERE due_at IS NOT NULL";
}

/// How a device is told of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// Apple's push service.
    Apns,
    /// A reader of another maker that registers as phones do; it is told nothing and asks by itself.
    Other,
}

impl DeviceKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Apns => "apns",
            Self::Other => "other",
        }
    }
}

/// Which device.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct DeviceKey {
    pub workspace: WorkspaceId,
    pub pass_type: PassTypeId,
    pub id: DeviceLibraryId,
}

/// Adds a device or replaces its push token. A dead one lives again and is due at once, since it wasn't marked while it
/// was dead. A new token ends the lease of a push under way: whatever comes of that push, the new token heard nothing.
///
/// # Errors
/// When the database fails.
pub async fn put(
    tx: &mut Tx,
    key: &DeviceKey,
    token: &PushToken,
    kind: DeviceKind,
    now: Timestamp,
) -> Result<(), StoreError> {
    on_db!(tx, PUT, |sql, c| {
        let query = sqlx::query(sql).bind(&key.workspace).bind(&key.pass_type).bind(&key.id).bind(token);
        query.bind(kind.as_str()).bind(now).execute(c).await?;
        Ok(())
    })
}

/// Whether the device is registered for the card.
///
/// # Errors
/// When the database fails.
pub async fn is_registered(session: &mut impl Session, key: &DeviceKey, card: &CardId) -> Result<bool, StoreError> {
    on_db!(session, IS_REGISTERED, |sql, c| {
        let query = sqlx::query_scalar(sql).bind(&key.workspace).bind(&key.pass_type).bind(&key.id).bind(card);
        let count: i64 = query.fetch_one(c).await?;
        Ok(count > 0)
    })
}

/// Registers the device for a card at that position; does nothing when it is registered.
///
/// # Errors
/// When the database fails.
pub async fn register(
    tx: &mut Tx,
    key: &DeviceKey,
    card: &CardId,
    position: i64,
    now: Timestamp,
) -> Result<(), StoreError> {
    on_db!(tx, REGISTER, |sql, c| {
        let query = sqlx::query(sql).bind(&key.workspace).bind(&key.pass_type).bind(&key.id).bind(card);
        query.bind(position).bind(now).execute(c).await?;
        Ok(())
    })
}

/// Ends a registration; false when there was none. A device without registrations is forgotten.
///
/// # Errors
/// When the database fails.
pub async fn unregister(tx: &mut Tx, key: &DeviceKey, card: &CardId) -> Result<bool, StoreError> {
    // The device is held first: a registration under way for another card must not be orphaned.
    on_db!(tx, LOCK, |sql, c| {
        let query = sqlx::query(sql).bind(&key.workspace).bind(&key.pass_type).bind(&key.id);
        query.fetch_optional(c).await?;
    });
    let removed = on_db!(tx, UNREGISTER, |sql, c| {
        let query = sqlx::query(sql).bind(&key.workspace).bind(&key.pass_type).bind(&key.id).bind(card);
        query.execute(c).await?.rows_affected()
    });
    on_db!(tx, FORGET, |sql, c| {
        sqlx::query(sql).bind(&key.workspace).bind(&key.pass_type).bind(&key.id).execute(c).await?;
    });
    Ok(removed > 0)
}

/// The serial numbers registered by the device whose face or registration is newer than `after`, with the newest
/// of their positions; from one snapshot.
///
/// # Errors
/// When the database fails.
pub async fn changed(
    session: &mut impl Session,
    key: &DeviceKey,
    after: i64,
) -> Result<(Vec<SerialNumber>, i64), StoreError> {
    let rows: Vec<(SerialNumber, i64, i64, i64)> = on_db!(session, CHANGED, |sql, c| {
        let query = sqlx::query_as(sql).bind(&key.workspace).bind(&key.pass_type).bind(&key.id);
        query.bind(after).fetch_all(c).await?
    });
    let newest = rows.iter().map(|(_, card, template, registration)| *card.max(template).max(registration)).max();
    Ok((rows.into_iter().map(|(serial, ..)| serial).collect(), newest.unwrap_or(0)))
}

/// Up to which position the device has asked what changed; `None` when the device is unknown.
///
/// # Errors
/// When the database fails.
pub async fn asked(session: &mut impl Session, key: &DeviceKey) -> Result<Option<i64>, StoreError> {
    on_db!(session, ASKED, |sql, c| {
        let query = sqlx::query_scalar(sql).bind(&key.workspace).bind(&key.pass_type).bind(&key.id);
        Ok(query.fetch_optional(c).await?)
    })
}

/// Notes up to which position the device was told what changed.
///
/// # Errors
/// When the database fails.
pub async fn note_asked(tx: &mut Tx, key: &DeviceKey, position: i64, now: Timestamp) -> Result<(), StoreError> {
    on_db!(tx, NOTE_ASKED, |sql, c| {
        let query = sqlx::query(sql).bind(&key.workspace).bind(&key.pass_type).bind(&key.id);
        query.bind(position).bind(now).execute(c).await?;
        Ok(())
    })
}

/// How many devices hold the card, and how many of them asked since it reached `face`.
///
/// # Errors
/// When the database fails.
pub async fn of_card(session: &mut impl Session, card: &Card, face: i64) -> Result<(i64, i64), StoreError> {
    on_db!(session, OF_CARD, |sql, c| {
        Ok(sqlx::query_as(sql).bind(&card.workspace).bind(&card.id).bind(face).fetch_one(c).await?)
    })
}

/// The same for many cards at once; those that no device holds are left out.
///
/// # Errors
/// When the database fails.
pub async fn of_cards(
    session: &mut impl Session,
    workspace: &WorkspaceId,
    faces: &[(&CardId, i64)],
) -> Result<Vec<(CardId, i64, i64)>, StoreError> {
    let faces: Vec<Value> = faces.iter().map(|(card, face)| json!({"card": card, "face": face})).collect();
    on_db!(session, OF_CARDS, |sql, c| Ok(sqlx::query_as(sql).bind(workspace).bind(Json(faces)).fetch_all(c).await?))
}

/// Marks the devices that hold any of the cards as due: at once, or at the end of the window since their last push.
///
/// # Errors
/// When the database fails.
pub async fn mark(
    tx: &mut Tx,
    workspace: &WorkspaceId,
    cards: &[&CardId],
    now: Timestamp,
    window: Duration,
) -> Result<u64, StoreError> {
    let held: i64 = on_db!(tx, HOLD_OF_CARDS, |sql, c| sqlx::query_scalar(sql)
        .bind(workspace)
        .bind(Json(cards))
        .fetch_one(c)
        .await?);
    if held == 0 {
        return Ok(0);
    }
    on_db!(tx, MARK, |sql, c| {
        let query = sqlx::query(sql).bind(workspace).bind(Json(cards)).bind(now).bind(micros(window));
        Ok(query.execute(c).await?.rows_affected())
    })
}

/// A device that this worker may push to until its lease ends.
#[derive(Debug, sqlx::FromRow)]
pub struct Claimed {
    workspace_id: WorkspaceId,
    pass_type_id: PassTypeId,
    id: DeviceLibraryId,
    /// Where the push goes.
    pub push_token: PushToken,
    /// When the token was registered.
    pub registered_at: Timestamp,
    /// The changes that a push now tells of.
    pub marks: i64,
    /// Failures in a row so far.
    pub attempts: i64,
    /// Since when it was due.
    pub due_at: Timestamp,
}

impl Claimed {
    /// Which device.
    pub fn key(&self) -> DeviceKey {
        DeviceKey { workspace: self.workspace_id.clone(), pass_type: self.pass_type_id.clone(), id: self.id.clone() }
    }

    /// Its pass type, which is the push's topic.
    pub fn pass_type(&self) -> &PassTypeId {
        &self.pass_type_id
    }

    /// Whose.
    pub fn workspace(&self) -> &WorkspaceId {
        &self.workspace_id
    }
}

/// Claims up to `limit` due devices for the lease named `lease`. Due times and leases also end when the clock went
/// back behind the moment they were set. Commit at once: the network comes after.
///
/// # Errors
/// When the database fails.
pub async fn claim(
    tx: &mut Tx,
    lease: &str,
    now: Timestamp,
    until: Timestamp,
    limit: i64,
) -> Result<Vec<Claimed>, StoreError> {
    on_db!(tx, CLAIM, |sql, c| {
        Ok(sqlx::query_as(sql).bind(lease).bind(now).bind(until).bind(limit).fetch_all(c).await?)
    })
}

/// When the next device is due.
///
/// # Errors
/// When the database fails.
pub async fn next_due(session: &mut impl Session) -> Result<Option<Timestamp>, StoreError> {
    on_db!(session, NEXT_DUE, |sql, c| Ok(sqlx::query_scalar(sql).fetch_one(c).await?))
}

/// What came of a push.
#[derive(Debug)]
pub enum Outcome {
    /// The service took it; it told of everything up to `position`.
    Pushed {
        /// The workspace's position when the device was claimed.
        position: i64,
        /// How soon the next push may follow.
        window: Duration,
    },
    /// Again at `due_at`, in plain words why.
    Retry {
        /// Failures in a row.
        attempts: i64,
        /// When to try again.
        due_at: Timestamp,
        /// Why.
        problem: String,
    },
    /// The token is dead, unless it was registered again meanwhile.
    Gone {
        /// Why.
        problem: String,
    },
    /// Asking again won't help; the device stays and the next change (also one since the claim) tries anew.
    GaveUp {
        /// Why.
        problem: String,
    },
}

/// Records the outcome of a push, unless the lease was lost to another worker meanwhile. False when it was lost.
///
/// # Errors
/// When the database fails.
pub async fn record(
    tx: &mut Tx,
    claimed: &Claimed,
    lease: &str,
    outcome: &Outcome,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let sql = match outcome {
        Outcome::Pushed { .. } => PUSHED,
        Outcome::Retry { .. } => RETRY,
        Outcome::Gone { .. } => GONE,
        Outcome::GaveUp { .. } => GIVE_UP,
    };
    let changed = on_db!(tx, sql, |sql, c| {
        let query =
            sqlx::query(sql).bind(&claimed.workspace_id).bind(&claimed.pass_type_id).bind(&claimed.id).bind(lease);
        let query = match outcome {
            Outcome::Pushed { position, window } => {
                query.bind(*position).bind(now).bind(claimed.marks).bind(micros(*window))
            }
            Outcome::Retry { attempts, due_at, problem } => query.bind(*attempts).bind(problem).bind(*due_at).bind(now),
            Outcome::Gone { problem } => query.bind(now).bind(problem).bind(claimed.registered_at),
            Outcome::GaveUp { problem } => query.bind(problem).bind(claimed.marks).bind(now),
        };
        query.execute(c).await?.rows_affected()
    });
    Ok(changed == 1)
}

/// Hands back what a lease still holds; it stays due.
///
/// # Errors
/// When the database fails.
pub async fn release(tx: &mut Tx, lease: &str) -> Result<u64, StoreError> {
    on_db!(tx, RELEASE, |sql, c| Ok(sqlx::query(sql).bind(lease).execute(c).await?.rows_affected()))
}

/// Ends every lease. Only where no other node can hold one: a node that starts on an embedded database knows that
/// whoever held them is gone.
///
/// # Errors
/// When the database fails.
pub async fn release_all(tx: &mut Tx) -> Result<u64, StoreError> {
    on_db!(tx, RELEASE_ALL, |sql, c| Ok(sqlx::query(sql).execute(c).await?.rows_affected()))
}

/// How many devices must still be told of a change.
///
/// # Errors
/// When the database fails.
pub async fn unfinished(session: &mut impl Session) -> Result<i64, StoreError> {
    on_db!(session, UNFINISHED, |sql, c| Ok(sqlx::query_scalar(sql).fetch_one(c).await?))
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}
