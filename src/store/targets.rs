//! What is notified of changes, and for which cards it is registered.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::types::Json;
use super::{Session, StoreError, Tx, on_db, statements};
use crate::domain::cards::Card;
use crate::domain::ids::{CardId, IssuerId, SerialNumber, TargetAddress, TargetId, WorkspaceId};
use crate::domain::time::Timestamp;

/// Records a batch of polls. A reminder stays due when a push left after the poll was answered, or when the answer
/// named passes, which must still be fetched; only an answer without passes ends the wait for the phone.
macro_rules! record_polls {
    ($batch:literal) => {
        concat!(
            "WITH e AS MATERIALIZED (",
            $batch,
            ") UPDATE targets SET polled_position = e.position, polled_at = $2,
                remind_at = CASE WHEN targets.notified_position > e.position OR e.listed > 0 THEN targets.remind_at END
            FROM e WHERE targets.workspace_id = e.workspace AND targets.issuer_id = e.issuer AND targets.id = e.target
                AND targets.polled_position < e.position"
        )
    };
}

/// The position since which the card `c` shows what the last publishing of its template `t` shows; an earlier one where
/// publishings left the card unchanged, see [`Unchanged`](super::cards::Unchanged).
macro_rules! published {
    () => {
        "COALESCE((SELECT u.face FROM unchanged_faces u WHERE u.workspace_id = c.workspace_id AND u.card_id = c.id
            AND u.through >= t.position AND u.face >= c.position), t.position)"
    };
}

pub(super) use published;

/// Selects what a target holds of an issuer.
macro_rules! held {
    () => {
        concat!(
            "SELECT d.workspace_id, w.position AS newest, d.polled_position, c.id AS card_id, c.serial_number, c.position,
                r.position AS registered, CASE WHEN c.erased_at IS NULL THEN ",
            published!(),
            " ELSE 0 END AS published, CASE WHEN c.erased_at IS NULL THEN t.position ELSE 0 END AS last_published
            FROM issuers p JOIN workspaces w ON w.id = p.workspace_id
            JOIN targets d ON d.workspace_id = p.workspace_id AND d.issuer_id = p.id AND d.id = $2
            JOIN registrations r ON r.workspace_id = d.workspace_id AND r.issuer_id = d.issuer_id AND r.target_id = d.id
            JOIN cards c ON c.workspace_id = r.workspace_id AND c.id = r.card_id
            JOIN templates t ON t.workspace_id = c.workspace_id AND t.id = c.template_id
            WHERE p.id = $1 ORDER BY c.serial_number"
        )
    };
}

statements! {
    PUT = "INSERT INTO targets (workspace_id, issuer_id, id, address, kind, registered_at, marks, attempts,
            notified_position, polled_position, reminders)
        VALUES ($1, $2, $3, $4, $5, $6, 0, 0, 0, 0, 0)
        ON CONFLICT (workspace_id, issuer_id, id) DO UPDATE SET address = excluded.address, kind = excluded.kind,
            registered_at = excluded.registered_at, dead_since = NULL, problem = NULL, attempts = 0, waits = NULL,
            due_at = CASE WHEN excluded.kind = 'other' THEN NULL WHEN targets.dead_since IS NOT NULL
                    OR (targets.due_at IS NOT NULL AND targets.address <> excluded.address)
                THEN excluded.registered_at ELSE targets.due_at END,
            scheduled_at = CASE WHEN excluded.kind = 'other' THEN NULL WHEN targets.dead_since IS NOT NULL
                    OR (targets.due_at IS NOT NULL AND targets.address <> excluded.address)
                THEN excluded.registered_at ELSE targets.scheduled_at END,
            lease = CASE WHEN targets.address = excluded.address THEN targets.lease END,
            leased_at = CASE WHEN targets.address = excluded.address THEN targets.leased_at END,
            leased_until = CASE WHEN targets.address = excluded.address THEN targets.leased_until END,
            remind_at = CASE WHEN excluded.kind <> 'other' THEN targets.remind_at END";
    // The issuer may have been moved to another workspace while this waited.
    REGISTER = "INSERT INTO registrations (workspace_id, issuer_id, target_id, card_id, position, created_at)
        SELECT p.workspace_id, p.id, CAST($3 AS TEXT), CAST($4 AS TEXT), CAST($5 AS BIGINT), CAST($6 AS BIGINT)
        FROM issuers p WHERE p.id = $2 AND p.workspace_id = $1
        ON CONFLICT (workspace_id, issuer_id, target_id, card_id) DO NOTHING";
    IS_REGISTERED = "SELECT COUNT(*) FROM registrations
        WHERE workspace_id = $1 AND issuer_id = $2 AND target_id = $3 AND card_id = $4";
    // A repeated registration that changes nothing is found by this, so that nothing is written for it.
    IS_REGISTERED_AS_GIVEN = "SELECT COUNT(*) FROM registrations r
        JOIN targets d ON d.workspace_id = r.workspace_id AND d.issuer_id = r.issuer_id AND d.id = r.target_id
        WHERE r.workspace_id = $1 AND r.issuer_id = $2 AND r.target_id = $3 AND r.card_id = $4
            AND d.address = $5 AND d.kind = $6 AND d.dead_since IS NULL AND d.problem IS NULL
            AND d.registered_at > $7 AND d.registered_at <= $8";
    GIVES_WAY = "SELECT d.id FROM registrations r
        JOIN targets d ON d.workspace_id = r.workspace_id AND d.issuer_id = r.issuer_id AND d.id = r.target_id
        WHERE r.workspace_id = $1 AND r.card_id = $2 AND r.issuer_id = $3 AND (d.dead_since IS NOT NULL OR d.polled_position = 0)
        ORDER BY CASE WHEN d.dead_since IS NULL THEN 1 ELSE 0 END, r.created_at, d.id LIMIT 1";
    COUNT_OF_PASS = "SELECT COUNT(*) FROM registrations WHERE workspace_id = $1 AND card_id = $2 AND issuer_id = $3";
    UNREGISTER = "DELETE FROM registrations WHERE workspace_id = $1 AND issuer_id = $2 AND target_id = $3 AND card_id = $4";
    LOCK = "SELECT polled_position FROM targets WHERE workspace_id = $1 AND issuer_id = $2 AND id = $3" + " FOR NO KEY UPDATE";
    LEAVE_REGISTRATIONS = "DELETE FROM registrations WHERE workspace_id = $1 AND issuer_id = $2";
    LEAVE_TARGETS = "DELETE FROM targets WHERE workspace_id = $1 AND issuer_id = $2";
    FORGET = "DELETE FROM targets WHERE workspace_id = $1 AND issuer_id = $2 AND id = $3 AND NOT EXISTS (
        SELECT 1 FROM registrations r WHERE r.workspace_id = targets.workspace_id
            AND r.issuer_id = targets.issuer_id AND r.target_id = targets.id)";
    HELD = { sqlite: held!(), postgres: held!() };
    RECORD_POLLS = {
        sqlite: record_polls!("SELECT value ->> 'workspace' AS workspace, value ->> 'issuer' AS issuer,
            value ->> 'target' AS target, value ->> 'position' AS position, value ->> 'listed' AS listed FROM json_each($1)"),
        postgres: record_polls!("SELECT * FROM json_to_recordset(CAST($1 AS json))
            AS r(workspace text, issuer text, target text, position bigint, listed bigint)"),
    };
    OF_CARD = "SELECT COUNT(*), COALESCE(SUM(CASE WHEN d.polled_position >= $3 THEN 1 ELSE 0 END), 0) FROM registrations r
        JOIN targets d ON d.workspace_id = r.workspace_id AND d.issuer_id = r.issuer_id AND d.id = r.target_id
        WHERE r.workspace_id = $1 AND r.card_id = $2";
    OF_CARDS = {
        sqlite: "SELECT r.card_id, r.issuer_id, COUNT(*), COALESCE(SUM(CASE WHEN d.polled_position >= e.value ->> 'face' THEN 1 ELSE 0 END), 0)
            FROM json_each($2) e CROSS JOIN registrations r ON r.workspace_id = $1 AND r.card_id = e.value ->> 'card'
            CROSS JOIN targets d ON d.workspace_id = r.workspace_id AND d.issuer_id = r.issuer_id AND d.id = r.target_id
            GROUP BY r.card_id, r.issuer_id",
        postgres: "SELECT r.card_id, r.issuer_id, COUNT(*), COALESCE(SUM(CASE WHEN d.polled_position >= e.face THEN 1 ELSE 0 END), 0)
            FROM json_to_recordset(CAST($2 AS json)) AS e(card text, face bigint)
            CROSS JOIN LATERAL (SELECT * FROM registrations WHERE workspace_id = $1 AND card_id = e.card OFFSET 0) r
            JOIN targets d ON d.workspace_id = r.workspace_id AND d.issuer_id = r.issuer_id AND d.id = r.target_id
            GROUP BY r.card_id, r.issuer_id",
    };
    TARGETS = "SELECT d.issuer_id, d.id, d.kind, d.dead_since, d.problem, d.due_at, d.remind_at, d.notified_position, d.notified_at, d.polled_position, d.polled_at
        FROM registrations r
        JOIN targets d ON d.workspace_id = r.workspace_id AND d.issuer_id = r.issuer_id AND d.id = r.target_id
        WHERE r.workspace_id = $1 AND r.card_id = $2 ORDER BY r.created_at, d.id LIMIT 1000";
    HOLD_OF_BATCH = {
        sqlite: "SELECT COUNT(*) FROM json_each($1)",
        postgres: "SELECT COUNT(*) FROM (SELECT d.id FROM targets d
            JOIN json_to_recordset(CAST($1 AS JSON)) AS o (workspace TEXT, issuer TEXT, target TEXT)
                ON d.workspace_id = o.workspace AND d.issuer_id = o.issuer AND d.id = o.target
            ORDER BY d.workspace_id, d.issuer_id, d.id FOR NO KEY UPDATE OF d) held",
    };
}

/// How a target is notified of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetKind {
    /// By Apple's push service.
    Apns,
    /// By Google's service: the target is a saved pass itself.
    Google,
    /// Not at all: a reader of another maker that registers as phones do and polls by itself.
    Other,
}

impl TargetKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Apns => "apns",
            Self::Google => "google",
            Self::Other => "other",
        }
    }
}

/// The key of a target.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub struct TargetKey {
    pub workspace: WorkspaceId,
    pub issuer: IssuerId,
    pub id: TargetId,
}

/// Adds a target or replaces its push token. A dead target is alive again and due at once, since it wasn't marked while
/// it was dead. A new token ends the lease of a push under way: whatever its outcome, that push went to the old token.
///
/// # Errors
/// When the database fails.
pub async fn put(
    tx: &mut Tx,
    key: &TargetKey,
    token: &TargetAddress,
    kind: TargetKind,
    now: Timestamp,
) -> Result<(), StoreError> {
    on_db!(tx, PUT, |sql, c| {
        let query = sqlx::query(sql).bind(&key.workspace).bind(&key.issuer).bind(&key.id).bind(token);
        query.bind(kind.as_str()).bind(now).execute(c).await?;
        Ok(())
    })
}

/// Whether the target is registered for the card.
///
/// # Errors
/// When the database fails.
pub async fn is_registered(session: &mut impl Session, key: &TargetKey, card: &CardId) -> Result<bool, StoreError> {
    on_db!(session, IS_REGISTERED, |sql, c| {
        let query = sqlx::query_scalar(sql).bind(&key.workspace).bind(&key.issuer).bind(&key.id).bind(card);
        let count: i64 = query.fetch_one(c).await?;
        Ok(count > 0)
    })
}

/// Whether the target is alive and registered for the card with that token, which was registered after `since`.
///
/// # Errors
/// When the database fails.
pub async fn is_registered_as_given(
    session: &mut impl Session,
    key: &TargetKey,
    card: &CardId,
    (token, kind): (&TargetAddress, TargetKind),
    (since, now): (Timestamp, Timestamp),
) -> Result<bool, StoreError> {
    on_db!(session, IS_REGISTERED_AS_GIVEN, |sql, c| {
        let query = sqlx::query_scalar(sql).bind(&key.workspace).bind(&key.issuer).bind(&key.id).bind(card);
        let count: i64 = query.bind(token).bind(kind.as_str()).bind(since).bind(now).fetch_one(c).await?;
        Ok(count > 0)
    })
}

/// Returns the target to replace when a card has as many as it may have: one whose token is dead, otherwise one that
/// has never polled, as phones do right after they registered; of those the first to register. `None` when all are in
/// use.
///
/// # Errors
/// When the database fails.
pub async fn gives_way(
    session: &mut impl Session,
    card: &Card,
    issuer: &IssuerId,
) -> Result<Option<TargetKey>, StoreError> {
    let id: Option<TargetId> = on_db!(session, GIVES_WAY, |sql, c| {
        sqlx::query_scalar(sql).bind(&card.workspace).bind(&card.id).bind(issuer).fetch_optional(c).await?
    });
    Ok(id.map(|id| TargetKey { workspace: card.workspace.clone(), issuer: issuer.clone(), id }))
}

/// Returns how many targets of an issuer hold the card.
///
/// # Errors
/// When the database fails.
pub async fn count_of_pass(session: &mut impl Session, card: &Card, issuer: &IssuerId) -> Result<i64, StoreError> {
    on_db!(session, COUNT_OF_PASS, |sql, c| {
        Ok(sqlx::query_scalar(sql).bind(&card.workspace).bind(&card.id).bind(issuer).fetch_one(c).await?)
    })
}

/// Locks targets, in key order.
///
/// # Errors
/// When the database fails.
pub async fn hold(tx: &mut Tx, keys: &[&TargetKey]) -> Result<(), StoreError> {
    let rows = keys.iter().map(|k| json!({"workspace": k.workspace, "issuer": k.issuer, "target": k.id}));
    hold_of_batch(tx, &Value::from_iter(rows).to_string()).await
}

/// Registers the target for a card at that position; does nothing when it is registered.
///
/// # Errors
/// When the database fails.
pub async fn register(
    tx: &mut Tx,
    key: &TargetKey,
    card: &CardId,
    position: i64,
    now: Timestamp,
) -> Result<(), StoreError> {
    on_db!(tx, REGISTER, |sql, c| {
        let query = sqlx::query(sql).bind(&key.workspace).bind(&key.issuer).bind(&key.id).bind(card);
        query.bind(position).bind(now).execute(c).await?;
        Ok(())
    })
}

/// Ends a registration; false when there was none. A target without registrations is deleted.
///
/// # Errors
/// When the database fails.
pub async fn unregister(tx: &mut Tx, key: &TargetKey, card: &CardId) -> Result<bool, StoreError> {
    // The target is locked first: a registration under way for another card must not be orphaned.
    on_db!(tx, LOCK, |sql, c| {
        let query = sqlx::query(sql).bind(&key.workspace).bind(&key.issuer).bind(&key.id);
        query.fetch_optional(c).await?;
    });
    let removed = on_db!(tx, UNREGISTER, |sql, c| {
        let query = sqlx::query(sql).bind(&key.workspace).bind(&key.issuer).bind(&key.id).bind(card);
        query.execute(c).await?.rows_affected()
    });
    forget_unregistered(tx, key).await?;
    Ok(removed > 0)
}

/// Deletes a target that has no registrations.
///
/// # Errors
/// When the database fails.
pub async fn forget_unregistered(tx: &mut Tx, key: &TargetKey) -> Result<(), StoreError> {
    on_db!(tx, FORGET, |sql, c| {
        sqlx::query(sql).bind(&key.workspace).bind(&key.issuer).bind(&key.id).execute(c).await?;
        Ok(())
    })
}

/// Deletes a workspace's targets of an issuer that it no longer owns.
///
/// # Errors
/// When the database fails.
pub async fn leave_issuer(tx: &mut Tx, workspace: &WorkspaceId, issuer: &IssuerId) -> Result<(), StoreError> {
    for statement in [LEAVE_REGISTRATIONS, LEAVE_TARGETS] {
        on_db!(tx, statement, |sql, c| {
            sqlx::query(sql).bind(workspace).bind(issuer).execute(c).await?;
        });
    }
    Ok(())
}

/// The passes that a target holds of an issuer, from one snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The workspace that owns the issuer.
    pub workspace: WorkspaceId,
    /// The workspace's newest position: every change up to it is included.
    pub newest: i64,
    /// The position up to which the target has polled.
    pub polled_position: i64,
    /// Its passes, ordered by serial number.
    pub passes: Vec<HeldPass>,
}

/// A pass that a target holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldPass {
    /// Its card.
    pub card: CardId,
    /// Its serial number.
    pub serial: SerialNumber,
    /// The position of its newest face, or that of its registration if it is later.
    pub position: i64,
    /// That position without its template's last publishing; set while it isn't known what that changed of the card.
    pub else_at: Option<i64>,
}

#[derive(sqlx::FromRow)]
struct HeldRow {
    workspace_id: WorkspaceId,
    newest: i64,
    polled_position: i64,
    card_id: CardId,
    serial_number: SerialNumber,
    position: i64,
    registered: i64,
    published: i64,
    last_published: i64,
}

/// Returns what the target holds of the issuer; `None` when it is not registered there.
///
/// # Errors
/// When the database fails.
pub async fn held(
    session: &mut impl Session,
    issuer: &IssuerId,
    target: &TargetId,
) -> Result<Option<Held>, StoreError> {
    let rows: Vec<HeldRow> =
        on_db!(session, HELD, |sql, c| sqlx::query_as(sql).bind(issuer).bind(target).fetch_all(c).await?);
    let Some(HeldRow { workspace_id, newest, polled_position, .. }) = rows.first() else { return Ok(None) };
    let (workspace, newest, polled_position) = (workspace_id.clone(), *newest, *polled_position);
    let pass = |row: HeldRow| {
        let own = row.position.max(row.registered);
        HeldPass {
            card: row.card_id,
            serial: row.serial_number,
            position: own.max(row.published),
            else_at: (row.published == row.last_published && row.published > own).then_some(own),
        }
    };
    let passes = rows.into_iter().map(pass);
    Ok(Some(Held { workspace, newest, polled_position, passes: passes.collect() }))
}

/// A target's poll for changes, as it was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    /// The position up to which it was answered.
    pub position: i64,
    /// Whether the answer named passes, which the target must still fetch.
    pub listed: bool,
}

/// Records polls; one older than the stored one changes nothing.
///
/// # Errors
/// When the database fails.
pub async fn record_polls(
    tx: &mut Tx,
    polled_position: &BTreeMap<TargetKey, Question>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let rows = polled_position.iter().map(|(key, Question { position, listed })| {
        let listed = i64::from(*listed);
        json!({"workspace": key.workspace, "issuer": key.issuer, "target": key.id, "position": position, "listed": listed})
    });
    let rows = Value::from_iter(rows).to_string();
    hold_of_batch(tx, &rows).await?;
    on_db!(tx, RECORD_POLLS, |sql, c| {
        sqlx::query(sql).bind(&rows).bind(now).execute(c).await?;
        Ok(())
    })
}

/// Locks the targets of a batch in key order: every transaction that locks several does so in the same order.
pub(super) async fn hold_of_batch(tx: &mut Tx, rows: &str) -> Result<(), StoreError> {
    let _: i64 = on_db!(tx, HOLD_OF_BATCH, |sql, c| sqlx::query_scalar(sql).bind(rows).fetch_one(c).await?);
    Ok(())
}

/// Returns how many targets hold the card, and how many of them have polled since it reached `face`.
///
/// # Errors
/// When the database fails.
pub async fn of_card(session: &mut impl Session, card: &Card, face: i64) -> Result<(i64, i64), StoreError> {
    on_db!(session, OF_CARD, |sql, c| {
        Ok(sqlx::query_as(sql).bind(&card.workspace).bind(&card.id).bind(face).fetch_one(c).await?)
    })
}

/// A target that holds a card, with what decides whether its pass is current.
#[derive(Debug, sqlx::FromRow)]
#[allow(missing_docs)]
pub struct TargetState {
    #[sqlx(rename = "issuer_id")]
    pub issuer: IssuerId,
    pub id: TargetId,
    pub kind: String,
    pub dead_since: Option<Timestamp>,
    pub problem: Option<String>,
    pub due_at: Option<Timestamp>,
    pub remind_at: Option<Timestamp>,
    /// The position up to which it was notified.
    pub notified_position: i64,
    pub notified_at: Option<Timestamp>,
    /// The position up to which it has polled.
    pub polled_position: i64,
    pub polled_at: Option<Timestamp>,
}

/// Returns the targets that hold the card, in the order of their registration; at most a thousand.
///
/// # Errors
/// When the database fails.
pub async fn targets(session: &mut impl Session, card: &Card) -> Result<Vec<TargetState>, StoreError> {
    on_db!(session, TARGETS, |sql, c| {
        Ok(sqlx::query_as(sql).bind(&card.workspace).bind(&card.id).fetch_all(c).await?)
    })
}

/// Returns the same as [`of_card`] for many cards at once, for each issuer; cards that no target holds are left out.
///
/// # Errors
/// When the database fails.
pub async fn of_cards(
    session: &mut impl Session,
    workspace: &WorkspaceId,
    faces: &[(&CardId, i64)],
) -> Result<Vec<(CardId, IssuerId, i64, i64)>, StoreError> {
    let faces: Vec<Value> = faces.iter().map(|(card, face)| json!({"card": card, "face": face})).collect();
    on_db!(session, OF_CARDS, |sql, c| Ok(sqlx::query_as(sql).bind(workspace).bind(Json(faces)).fetch_all(c).await?))
}
