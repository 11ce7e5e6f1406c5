//! Work that goes through many cards at a paced rate, such as marking the targets of a published template's cards: one row
//! for the whole of it instead of one for each card. A job goes through the cards.
//!
//! A new kind of fan-out needs a variant of [`FanOutKind`], a statement that selects its cards, and its step in
//! `actions::fan_out`.

use super::{Session, StoreError, Tx, on_db, statements};
use crate::domain::ids::{CardId, TemplateId, WorkspaceId};
use crate::domain::time::Timestamp;

statements! {
    START = "INSERT INTO fan_outs (workspace_id, kind, selection, last_card_id, started_at, next_at) VALUES ($1, $2, $3, '', $4, 0)
        ON CONFLICT (workspace_id, kind, selection) DO UPDATE SET last_card_id = '', started_at = excluded.started_at";
    SET_FIRST = "UPDATE fan_outs SET first_position = COALESCE(first_position, $4)
        WHERE workspace_id = $1 AND kind = $2 AND selection = $3";
    // A time too far ahead was set before the clock went back.
    NEXT = "SELECT workspace_id, kind, selection, last_card_id, first_position FROM fan_outs WHERE next_at <= $1 OR next_at > $2
        ORDER BY CASE WHEN next_at > $2 THEN 0 ELSE next_at END, started_at LIMIT 1";
    CLAIM = "SELECT workspace_id, kind, selection, last_card_id, first_position FROM fan_outs WHERE next_at <= $1 OR next_at > $2
        ORDER BY CASE WHEN next_at > $2 THEN 0 ELSE next_at END, started_at LIMIT 1" + " FOR UPDATE SKIP LOCKED";
    CARDS_OF_TEMPLATE = "SELECT c.id FROM cards c WHERE c.workspace_id = $1 AND c.template_id = $2 AND c.id > $3 AND c.erased_at IS NULL
        AND EXISTS (SELECT 1 FROM registrations r WHERE r.workspace_id = c.workspace_id AND r.card_id = c.id)
        ORDER BY c.id LIMIT $4";
    ADVANCE = "UPDATE fan_outs SET last_card_id = $4, next_at = $5 WHERE workspace_id = $1 AND kind = $2 AND selection = $3";
    FINISH = "DELETE FROM fan_outs WHERE workspace_id = $1 AND kind = $2 AND selection = $3";
    IS_UNDER_WAY = "SELECT COUNT(*) FROM fan_outs WHERE workspace_id = $1 AND kind = $2 AND selection = $3";
    UNFINISHED = "SELECT COUNT(*) AS count, COALESCE(MIN(CASE WHEN next_at > $1 THEN 0 ELSE next_at END), 0) AS next_at
        FROM fan_outs";
}

/// What a fan-out does with its cards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FanOutKind {
    /// Marks the targets that hold cards of a published template; the selection is the template.
    Publishing,
}

impl FanOutKind {
    /// Returns the name in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Publishing => "publishing",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        (text == Self::Publishing.as_str()).then_some(Self::Publishing)
    }
}

/// The key of a fan-out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FanOutKey {
    /// The workspace of the cards.
    pub workspace: WorkspaceId,
    /// What is done with them.
    pub kind: FanOutKind,
    /// Which cards those are; its meaning depends on the kind.
    pub selection: String,
}

impl FanOutKey {
    /// Returns the key of the fan-out after publishings of a template.
    pub fn publishing(workspace: &WorkspaceId, template: &TemplateId) -> Self {
        Self { workspace: workspace.clone(), kind: FanOutKind::Publishing, selection: template.as_str().to_owned() }
    }
}

/// A fan-out under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FanOut {
    /// Its key.
    pub key: FanOutKey,
    /// The last card that was gone through; empty at the beginning.
    pub last_card: String,
    /// The first publishing that it covers; `None` after a restore.
    pub first_position: Option<i64>,
}

type Row = (WorkspaceId, String, String, String, Option<i64>);

fn fan_out((workspace, kind, selection, last_card, first_position): Row) -> Result<FanOut, StoreError> {
    let unknown = StoreError::Inconsistent { table: "fan_outs", column: "kind" };
    let kind = FanOutKind::parse(&kind).ok_or(unknown)?;
    Ok(FanOut { key: FanOutKey { workspace, kind, selection }, last_card, first_position })
}

/// Runs a statement for a fan-out, with further arguments after its key.
macro_rules! for_key {
    ($tx:ident, $sql:ident, $key:ident $(, $argument:expr)*) => {
        on_db!($tx, $sql, |sql, c| {
            let query = sqlx::query(sql).bind(&$key.workspace).bind($key.kind.as_str()).bind(&$key.selection);
            query$(.bind($argument))*.execute(c).await?;
            Ok(())
        })
    };
}

/// Begins, or begins again. Call it before taking the workspace's position: a fan-out locks this row while it waits for
/// targets, and the transactions that hold those wait for the position.
///
/// # Errors
/// When the database fails.
pub async fn start(tx: &mut Tx, key: &FanOutKey, now: Timestamp) -> Result<(), StoreError> {
    for_key!(tx, START, key, now)
}

/// Records the publishing that a fan-out was begun for, unless it still covers an earlier one.
///
/// # Errors
/// When the database fails.
pub async fn set_first(tx: &mut Tx, key: &FanOutKey, position: i64) -> Result<(), StoreError> {
    for_key!(tx, SET_FIRST, key, position)
}

/// Returns the fan-out that [`claim`] would lock if no other node has one locked.
///
/// # Errors
/// When the database fails.
pub async fn next(
    session: &mut impl Session,
    now: Timestamp,
    too_late: Timestamp,
) -> Result<Option<FanOut>, StoreError> {
    let row: Option<Row> =
        on_db!(session, NEXT, |sql, c| sqlx::query_as(sql).bind(now).bind(too_late).fetch_optional(c).await?);
    row.map(fan_out).transpose()
}

/// Returns the fan-out that has waited longest of those that may continue now and that no other node has locked; it is
/// locked until the transaction ends. One scheduled for later than `too_late` may continue, too.
///
/// # Errors
/// When the database fails.
pub async fn claim(tx: &mut Tx, now: Timestamp, too_late: Timestamp) -> Result<Option<FanOut>, StoreError> {
    let row: Option<Row> =
        on_db!(tx, CLAIM, |sql, c| sqlx::query_as(sql).bind(now).bind(too_late).fetch_optional(c).await?);
    row.map(fan_out).transpose()
}

/// Returns the next cards of a fan-out that a target holds, ordered by id.
///
/// # Errors
/// When the database fails.
pub async fn next_cards(session: &mut impl Session, fan_out: &FanOut, limit: i64) -> Result<Vec<CardId>, StoreError> {
    let cards = match fan_out.key.kind {
        FanOutKind::Publishing => CARDS_OF_TEMPLATE,
    };
    on_db!(session, cards, |sql, c| {
        let query = sqlx::query_scalar(sql).bind(&fan_out.key.workspace).bind(&fan_out.key.selection);
        Ok(query.bind(&fan_out.last_card).bind(limit).fetch_all(c).await?)
    })
}

/// Records the last card that was gone through, and when the fan-out may continue.
///
/// # Errors
/// When the database fails.
pub async fn advance(tx: &mut Tx, key: &FanOutKey, last: &CardId, next_at: Timestamp) -> Result<(), StoreError> {
    for_key!(tx, ADVANCE, key, last, next_at)
}

/// Ends a fan-out, if there is one.
///
/// # Errors
/// When the database fails.
pub async fn finish(tx: &mut Tx, key: &FanOutKey) -> Result<(), StoreError> {
    for_key!(tx, FINISH, key)
}

/// Whether that fan-out is under way.
///
/// # Errors
/// When the database fails.
pub async fn is_under_way(session: &mut impl Session, key: &FanOutKey) -> Result<bool, StoreError> {
    on_db!(session, IS_UNDER_WAY, |sql, c| {
        let query = sqlx::query_scalar(sql).bind(&key.workspace).bind(key.kind.as_str()).bind(&key.selection);
        let count: i64 = query.fetch_one(c).await?;
        Ok(count > 0)
    })
}

/// The fan-outs under way.
#[derive(Debug, Clone, Copy, sqlx::FromRow)]
pub struct Unfinished {
    /// The number of them.
    pub count: i64,
    /// When the first of them may continue.
    pub next_at: Timestamp,
}

/// Returns the fan-outs under way. A time after `too_late` counts as past.
///
/// # Errors
/// When the database fails.
pub async fn unfinished(session: &mut impl Session, too_late: Timestamp) -> Result<Unfinished, StoreError> {
    on_db!(session, UNFINISHED, |sql, c| Ok(sqlx::query_as(sql).bind(too_late).fetch_one(c).await?))
}
