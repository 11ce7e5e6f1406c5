//! Passes: each card in each wallet that it was issued in, and the newest content version that the wallet has.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::{Value, json};

use super::types::Json;
use super::{Session, StoreError, Tx, on_db, statements};
use crate::domain::ids::{CardId, IssuerId, SerialNumber, WorkspaceId};
use crate::domain::time::Timestamp;
use crate::domain::wallet::WalletKind;

/// Records a batch of acknowledged content versions, except for passes that no longer belong to the card of that id.
macro_rules! record_fetches {
    ($batch:literal, $same:literal) => {
        concat!(
            "WITH e AS MATERIALIZED (",
            $batch,
            ") UPDATE passes SET acknowledged = e.face, acknowledged_at = $3 FROM e
            WHERE ",
            $same,
            " RETURNING passes.card_id, passes.wallet"
        )
    };
}

statements! {
    INSERT_MANY = {
        sqlite: "INSERT INTO passes (workspace_id, card_id, wallet, issuer_id, object_id)
            SELECT $1, value ->> 'card', value ->> 'wallet', value ->> 'issuer', value ->> 'object' FROM json_each($2)
            WHERE TRUE ON CONFLICT (workspace_id, card_id, wallet) DO NOTHING",
        postgres: "INSERT INTO passes (workspace_id, card_id, wallet, issuer_id, object_id)
            SELECT $1, card, wallet, issuer, object
            FROM json_to_recordset(CAST($2 AS json)) AS e(card text, wallet text, issuer text, object text)
            ON CONFLICT (workspace_id, card_id, wallet) DO NOTHING",
    };
    // Returns one row whether or not there is such a pass, so that the time of the answer doesn't reveal which.
    WORKSPACE_OF = "SELECT COALESCE((SELECT workspace_id FROM passes WHERE issuer_id = $1 AND object_id = $2), '')";
    OWNER_OF = "SELECT workspace_id FROM passes WHERE issuer_id = $1 AND object_id = $2";
    // An object's id is unique within its issuer, so the index is searched once for each issuer.
    ISSUERS_OF = {
        sqlite: "SELECT value, (SELECT i.id FROM issuers i
                WHERE (SELECT COUNT(*) FROM passes p WHERE p.issuer_id = i.id AND p.object_id = value) > 0 LIMIT 1)
            FROM json_each($1)",
        postgres: "SELECT object, (SELECT i.id FROM issuers i
                WHERE (SELECT COUNT(*) FROM passes p WHERE p.issuer_id = i.id AND p.object_id = object) > 0 LIMIT 1)
            FROM json_array_elements_text(CAST($1 AS json)) AS e(object)",
    };
    RECORD_FETCHES = {
        sqlite: record_fetches!("SELECT value ->> 'card' AS card, value ->> 'issuer' AS issuer, value ->> 'object' AS object,
            value ->> 'face' AS face FROM json_each($2)",
            "passes.issuer_id = e.issuer AND passes.object_id = e.object AND passes.card_id = e.card
                AND passes.workspace_id = $1 AND COALESCE(passes.acknowledged, -1) < e.face"),
        // Looked up one by one, whatever PostgreSQL believes about the table; see `UPDATE_MANY` of cards. No row moves
        // meanwhile, since the workspace's counter is held.
        postgres: record_fetches!("SELECT r.*, p.place FROM json_to_recordset(CAST($2 AS json))
                AS r(card text, issuer text, object text, face bigint)
            CROSS JOIN LATERAL (SELECT ctid AS place FROM passes
                WHERE issuer_id = r.issuer AND object_id = r.object AND card_id = r.card AND workspace_id = $1
                    AND COALESCE(acknowledged, -1) < r.face OFFSET 0) p", "passes.ctid = e.place"),
    };
}

/// A card in one wallet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassRecord {
    /// The wallet.
    pub wallet: WalletKind,
    /// The issuer under which it was made; never changes.
    pub issuer: IssuerId,
    /// Its number at the issuer: at Apple the serial number.
    pub object_id: String,
    /// The newest content version that the wallet has; `None` when it never fetched or acknowledged one.
    pub fetched: Option<Fetch>,
}

/// The newest content version that a wallet has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fetch {
    /// The content version.
    pub face: i64,
    /// When it was first fetched or acknowledged.
    pub at: Timestamp,
}

/// The columns of a pass as the statements of cards select them.
pub(super) type PassColumns = (String, String, String, Option<i64>, Option<i64>);

impl PassRecord {
    /// Reads the columns; `None` for a wallet that this version doesn't know.
    pub(super) fn of((wallet, issuer, object_id, face, at): PassColumns) -> Option<Self> {
        let fetched = face.zip(at).map(|(face, at)| Fetch { face, at: Timestamp::from_micros(at) });
        Some(Self { wallet: WalletKind::parse(&wallet)?, issuer: IssuerId::trusted(issuer), object_id, fetched })
    }

    /// Whether the wallet has that content version or a later one.
    pub fn is_fetched(&self, face: i64) -> bool {
        self.fetched.is_some_and(|fetch| fetch.face >= face)
    }
}

/// Returns the newest content version that any of a card's wallets has.
pub fn newest_fetch(passes: &[PassRecord]) -> Option<Fetch> {
    passes.iter().filter_map(|pass| pass.fetched).max_by_key(|fetch| fetch.face)
}

/// Adds passes of cards of one workspace; a card's pass in a wallet that it has one in stays.
///
/// # Errors
/// When the database fails.
pub async fn insert_many(
    tx: &mut Tx,
    workspace: &WorkspaceId,
    passes: &[(&CardId, &PassRecord)],
) -> Result<(), StoreError> {
    if passes.is_empty() {
        return Ok(());
    }
    let row = |(card, pass): &(&CardId, &PassRecord)| {
        let PassRecord { wallet, issuer, object_id, .. } = pass;
        json!({"card": card, "wallet": wallet, "issuer": issuer, "object": object_id})
    };
    let rows: Vec<Value> = passes.iter().map(row).collect();
    on_db!(tx, INSERT_MANY, |sql, c| {
        sqlx::query(sql).bind(workspace).bind(Json(rows)).execute(c).await?;
        Ok(())
    })
}

/// Returns the workspace of a pass; `None` when there is no such pass.
///
/// # Errors
/// When the database fails.
pub async fn workspace_of(
    session: &mut impl Session,
    issuer: &IssuerId,
    serial: &SerialNumber,
) -> Result<Option<WorkspaceId>, StoreError> {
    let workspace: String = on_db!(session, WORKSPACE_OF, |sql, c| {
        sqlx::query_scalar(sql).bind(issuer).bind(serial).fetch_one(c).await?
    });
    Ok(Some(workspace).filter(|workspace| !workspace.is_empty()).map(WorkspaceId::trusted))
}

/// Returns the workspace of a pass, even when its issuer was moved to another workspace.
///
/// # Errors
/// When the database fails.
pub async fn owner_of(
    session: &mut impl Session,
    issuer: &IssuerId,
    object_id: &str,
) -> Result<Option<WorkspaceId>, StoreError> {
    on_db!(session, OWNER_OF, |sql, c| {
        Ok(sqlx::query_scalar(sql).bind(issuer).bind(object_id).fetch_optional(c).await?)
    })
}

/// Returns the issuers of the passes with these ids in any workspace, including those of erased cards, which phones
/// still hold.
///
/// # Errors
/// When the database fails.
pub async fn issuers_of(
    session: &mut impl Session,
    object_ids: &HashSet<&str>,
) -> Result<HashMap<String, IssuerId>, StoreError> {
    if object_ids.is_empty() {
        return Ok(HashMap::new());
    }
    let rows: Vec<(String, Option<IssuerId>)> =
        on_db!(session, ISSUERS_OF, |sql, c| sqlx::query_as(sql).bind(Json(object_ids)).fetch_all(c).await?);
    Ok(rows.into_iter().filter_map(|(object, issuer)| Some((object, issuer?))).collect())
}

/// The key of a pass, with the card that it showed when it was read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub struct PassKey {
    pub card: CardId,
    pub issuer: IssuerId,
    pub object_id: String,
}

/// Records the content versions that wallets have, and returns the passes for which it is new. Ignores a version older
/// than the stored one, and cards erased meanwhile even if their id has been reused. The transaction must hold the
/// workspace's counter ([`workspaces::next_position`](super::workspaces::next_position)).
///
/// # Errors
/// When the database fails.
pub async fn record_fetches(
    tx: &mut Tx,
    workspace: &WorkspaceId,
    faces: &BTreeMap<PassKey, i64>,
    now: Timestamp,
) -> Result<Vec<(CardId, WalletKind)>, StoreError> {
    let row = |(key, face): (&PassKey, &i64)| json!({"card": key.card, "issuer": key.issuer, "object": key.object_id, "face": face});
    let rows: Vec<Value> = faces.iter().map(row).collect();
    on_db!(tx, RECORD_FETCHES, |sql, c| {
        Ok(sqlx::query_as(sql).bind(workspace).bind(Json(rows)).bind(now).fetch_all(c).await?)
    })
}
