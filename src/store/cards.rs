//! Cards, each with its template's newest publication and its passes.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::passes::{Fetch, PassColumns, PassRecord, newest_fetch};
use super::types::{Json, one_row};
use super::{Session, StoreError, Tx, on_db, statements};
use crate::domain::cards::message::MessageText;
use crate::domain::cards::{Card, Content, Publication, State};
use crate::domain::ids::{CardId, FieldKey, IssuerId, SerialNumber, TemplateId, WorkspaceId};
use crate::domain::time::Timestamp;
use crate::domain::values::locale::Language;
use crate::domain::wallet::WalletKind;

macro_rules! card_columns {
    (sqlite) => {
        card_columns!(
            "(SELECT json_group_array(json_array(p.wallet, p.issuer_id, p.object_id, p.acknowledged, p.acknowledged_at))
                FROM passes p WHERE p.workspace_id = c.workspace_id AND p.card_id = c.id)"
        )
    };
    (postgres) => {
        card_columns!(
            "CAST(COALESCE((SELECT json_agg(json_build_array(p.wallet, p.issuer_id, p.object_id, p.acknowledged, p.acknowledged_at))
                FROM passes p WHERE p.workspace_id = c.workspace_id AND p.card_id = c.id), '[]') AS TEXT)"
        )
    };
    ($passes:literal) => {
        concat!("c.workspace_id, c.id, c.serial_number, c.template_id, c.locale, c.attributes, c.state,
            c.expires_at, c.expired_at, c.sequence, c.revision, c.position, c.modified, c.page_generation,
            c.live_message, c.message, c.created_at, c.updated_at,
            t.version AS t_version, t.position AS t_position, t.modified AS t_modified,
            ", $passes, " AS passes,
            (SELECT u.face FROM unchanged_faces u WHERE u.workspace_id = c.workspace_id AND u.card_id = c.id) AS u_face,
            (SELECT u.modified FROM unchanged_faces u WHERE u.workspace_id = c.workspace_id AND u.card_id = c.id)
                AS u_modified,
            (SELECT u.through FROM unchanged_faces u WHERE u.workspace_id = c.workspace_id AND u.card_id = c.id)
                AS u_through")
    };
}

macro_rules! find_card {
    ($database:ident from $from:literal, $where:literal) => {
        concat!(
            "SELECT ",
            card_columns!($database),
            " FROM ",
            $from,
            " JOIN templates t ON t.workspace_id = c.workspace_id AND t.id = c.template_id WHERE ",
            $where
        )
    };
    ($database:ident $where:literal) => {
        find_card!($database from "cards c", $where)
    };
}

/// Locks cards and selects the columns that show whether they changed since they were read; see [`Held`].
macro_rules! hold_cards {
    ($from:literal, $hold:literal) => {
        concat!(
            "SELECT c.id, c.serial_number, c.revision, c.sequence, c.locale, c.attributes,
                (SELECT MAX(p.acknowledged) FROM passes p WHERE p.workspace_id = c.workspace_id AND p.card_id = c.id) AS face
            FROM ",
            $from,
            $hold
        )
    };
}

/// Selects a page of a workspace's cards in a given order: at most $4 cards, ending once the attributes of the cards
/// read so far reach $5 bytes. One further row shows that the list goes on. Cards may be large, so the page is found by
/// their keys and sizes first.
macro_rules! page_of_cards {
    ($database:ident, $where:literal, $also:literal, $order:literal, $qualified:literal, $join:literal) => {
        concat!(
            "SELECT ",
            card_columns!($database),
            ", p.size FROM (SELECT sized.id, sized.size, COALESCE(SUM(sized.size) OVER (ORDER BY ",
            $order,
            " ROWS BETWEEN UNBOUNDED PRECEDING AND 2 PRECEDING), 0) AS earlier
                FROM (SELECT c.id, c.updated_at, CAST(octet_length(c.attributes) AS BIGINT) AS size FROM cards c
                    WHERE c.workspace_id = $1 AND c.erased_at IS NULL AND ",
            $where,
            $also,
            " ORDER BY ",
            $order,
            " LIMIT $4) sized) p ",
            $join,
            " JOIN templates t ON t.workspace_id = c.workspace_id AND t.id = c.template_id WHERE p.earlier < $5 ORDER BY ",
            $qualified
        )
    };
    (sqlite $where:literal, $also:literal, $order:literal, $qualified:literal) => {
        page_of_cards!(sqlite, $where, $also, $order, $qualified, "CROSS JOIN cards c ON c.workspace_id = $1 AND c.id = p.id")
    };
    (postgres $where:literal, $also:literal, $order:literal, $qualified:literal) => {
        page_of_cards!(postgres, $where, $also, $order, $qualified,
            "CROSS JOIN LATERAL (SELECT * FROM cards WHERE workspace_id = $1 AND cards.id = p.id OFFSET 0) c")
    };
}

macro_rules! list_cards {
    ($database:ident $also:literal) => {
        page_of_cards!($database "(c.updated_at, c.id) > ($2, $3)", $also, "updated_at, id", "c.updated_at, c.id")
    };
}

/// Records faces that a publishing left unchanged, for cards that have not changed since they were examined.
macro_rules! keep_faces {
    ($batch:literal) => {
        concat!(
            "WITH e AS MATERIALIZED (",
            $batch,
            ") INSERT INTO unchanged_faces (workspace_id, card_id, face, modified, through)
                SELECT $1, e.card, e.face, e.modified, e.through FROM e
            WHERE (SELECT c.serial_number = e.serial AND c.position = e.position AND c.revision = e.revision
                FROM cards c WHERE c.workspace_id = $1 AND c.id = e.card)
            ON CONFLICT (workspace_id, card_id) DO UPDATE SET face = excluded.face, modified = excluded.modified,
                through = excluded.through"
        )
    };
}

/// Writes a batch of changed cards. The batch is materialised first; otherwise SQLite evaluates it again for each card
/// of the workspace.
macro_rules! update_cards {
    ($batch:literal, $same:literal) => {
        concat!(
            "WITH e AS MATERIALIZED (",
            $batch,
            ") UPDATE cards SET template_id = e.template, locale = e.locale, attributes = e.attributes, state = e.state,
                expires_at = e.expires_at, expired_at = e.expired_at, sequence = e.sequence, revision = e.revision,
                position = e.position, modified = e.modified, live_message = e.live_message, message = e.message, created_at = e.created_at,
                updated_at = e.updated_at
            FROM e WHERE ",
            $same
        )
    };
}

statements! {
    FIND = {
        sqlite: find_card!(sqlite "c.workspace_id = $1 AND c.id = $2"),
        postgres: find_card!(postgres "c.workspace_id = $1 AND c.id = $2"),
    };
    HOLD = "SELECT id FROM cards WHERE workspace_id = $1 AND id = $2" + " FOR NO KEY UPDATE";
    BY_SERIAL = {
        sqlite: find_card!(sqlite from "passes h JOIN cards c ON c.workspace_id = h.workspace_id AND c.id = h.card_id",
            "h.issuer_id = $1 AND h.object_id = $2 AND h.workspace_id = (SELECT i.workspace_id FROM issuers i WHERE i.id = $1)"),
        postgres: find_card!(postgres from "passes h JOIN cards c ON c.workspace_id = h.workspace_id AND c.id = h.card_id",
            "h.issuer_id = $1 AND h.object_id = $2 AND h.workspace_id = (SELECT i.workspace_id FROM issuers i WHERE i.id = $1)"),
    };
    HOLD_MANY = {
        sqlite: hold_cards!("json_each($2) e CROSS JOIN cards c ON c.workspace_id = $1 AND c.id = e.value", ""),
        postgres: hold_cards!("cards c WHERE c.workspace_id = $1
            AND c.id = ANY (ARRAY(SELECT json_array_elements_text(CAST($2 AS json)))) ORDER BY c.id", " FOR NO KEY UPDATE OF c"),
    };
    FIND_MANY = {
        sqlite: find_card!(sqlite from "json_each($2) e CROSS JOIN cards c ON c.workspace_id = $1 AND c.id = e.value", "TRUE"),
        postgres: find_card!(postgres from "json_array_elements_text(CAST($2 AS json)) e(id)
            CROSS JOIN LATERAL (SELECT * FROM cards WHERE workspace_id = $1 AND cards.id = e.id OFFSET 0) c", "TRUE"),
    };
    SIZES = {
        sqlite: "SELECT c.id, CAST(octet_length(c.attributes) AS BIGINT) FROM json_each($2) e
            CROSS JOIN cards c ON c.workspace_id = $1 AND c.id = e.value",
        postgres: "SELECT c.id, c.size FROM json_array_elements_text(CAST($2 AS json)) e(id) CROSS JOIN LATERAL
            (SELECT id, CAST(octet_length(attributes) AS BIGINT) AS size FROM cards
                WHERE workspace_id = $1 AND cards.id = e.id OFFSET 0) c",
    };
    HOLD_BY_SERIAL = "SELECT c.id FROM passes h JOIN cards c ON c.workspace_id = h.workspace_id AND c.id = h.card_id
        WHERE h.issuer_id = $1 AND h.object_id = $2" + " FOR NO KEY UPDATE OF c";
    BY_PAGE = {
        sqlite: find_card!(sqlite "c.page_token_hash = $1"),
        postgres: find_card!(postgres "c.page_token_hash = $1"),
    };
    OF_TEMPLATE = {
        sqlite: page_of_cards!(sqlite "c.template_id = $2 AND c.id > $3", "", "id", "c.id"),
        postgres: page_of_cards!(postgres "c.template_id = $2 AND c.id > $3", "", "id", "c.id"),
    };
    INSERT_MANY = {
        sqlite: "INSERT INTO cards (workspace_id, id, serial_number, template_id, locale, attributes, state,
                expires_at, expired_at, sequence, revision, position, modified, page_generation, live_message, message,
                created_at, updated_at, page_token_hash)
            SELECT $1, value ->> 'id', value ->> 'serial', value ->> 'template', value ->> 'locale',
                value ->> 'attributes', value ->> 'state', value ->> 'expires_at', value ->> 'expired_at',
                value ->> 'sequence', value ->> 'revision', 0, 0, value ->> 'page_generation', value ->> 'live_message',
                value ->> 'message', value ->> 'created_at', value ->> 'updated_at', unhex(value ->> 'page_token_hash')
            FROM json_each($2) WHERE TRUE ON CONFLICT (workspace_id, id) DO NOTHING",
        postgres: "INSERT INTO cards (workspace_id, id, serial_number, template_id, locale, attributes, state,
                expires_at, expired_at, sequence, revision, position, modified, page_generation, live_message, message,
                created_at, updated_at, page_token_hash)
            SELECT $1, id, serial, template, locale, attributes, state, expires_at, expired_at, sequence,
                revision, 0, 0, page_generation, live_message, message, created_at, updated_at, decode(page_token_hash, 'hex')
            FROM json_to_recordset(CAST($2 AS json)) AS e(id text, serial text, template text, locale text,
                attributes text, state text, expires_at bigint, expired_at bigint, sequence bigint, revision bigint,
                page_generation bigint, live_message text, message text, created_at bigint, updated_at bigint, page_token_hash text)
            ON CONFLICT (workspace_id, id) DO NOTHING",
    };
    UPDATE_MANY = {
        sqlite: update_cards!("SELECT $1 AS workspace, value ->> 'id' AS id, value ->> 'template' AS template,
                value ->> 'locale' AS locale, value ->> 'attributes' AS attributes, value ->> 'state' AS state,
                value ->> 'expires_at' AS expires_at, value ->> 'expired_at' AS expired_at, value ->> 'sequence' AS sequence,
                value ->> 'revision' AS revision, value ->> 'position' AS position, value ->> 'modified' AS modified,
                value ->> 'live_message' AS live_message, value ->> 'message' AS message, value ->> 'created_at' AS created_at,
                value ->> 'updated_at' AS updated_at
            FROM json_each($2)", "cards.workspace_id = e.workspace AND cards.id = e.id"),
        // The rows are locked, so their physical location (ctid) doesn't change. In a workspace of less
        // than some ten thousand cards, PostgreSQL would otherwise read all of it rather than look up the hundred rows
        // that it expects in any batch.
        postgres: update_cards!("SELECT r.*, c.place
            FROM json_to_recordset(CAST($2 AS json)) AS r(id text, template text, locale text, attributes text, state text,
                expires_at bigint, expired_at bigint, sequence bigint, revision bigint, position bigint, modified bigint,
                live_message text, message text, created_at bigint, updated_at bigint)
            CROSS JOIN LATERAL (SELECT ctid AS place FROM cards WHERE workspace_id = $1 AND cards.id = r.id OFFSET 0) c",
            "cards.ctid = e.place"),
    };
    ENDED = {
        sqlite: "SELECT workspace_id FROM cards WHERE state = 'active' AND expires_at <= $1
            AND workspace_id NOT IN (SELECT value FROM json_each($2)) ORDER BY expires_at LIMIT 1",
        postgres: "SELECT workspace_id FROM cards WHERE state = 'active' AND expires_at <= $1
            AND workspace_id <> ALL (ARRAY(SELECT json_array_elements_text(CAST($2 AS json)))) ORDER BY expires_at LIMIT 1",
    };
    HOLD_ENDED = "SELECT id, CAST(octet_length(attributes) AS BIGINT) FROM cards WHERE workspace_id = $1 AND state = 'active' AND expires_at <= $2
        ORDER BY expires_at LIMIT $3" + " FOR NO KEY UPDATE SKIP LOCKED";
    LIST = { sqlite: list_cards!(sqlite ""), postgres: list_cards!(postgres "") };
    LIST_ACTIVE = {
        sqlite: list_cards!(sqlite " AND c.state = 'active'"),
        postgres: list_cards!(postgres " AND c.state = 'active'"),
    };
    LIST_SET_ASIDE = {
        sqlite: list_cards!(sqlite " AND c.state = $6 AND c.state <> 'active'"),
        postgres: list_cards!(postgres " AND c.state = $6 AND c.state <> 'active'"),
    };
    LIST_OF_TEMPLATE = {
        sqlite: list_cards!(sqlite " AND c.template_id = $6"),
        postgres: list_cards!(postgres " AND c.template_id = $6"),
    };
    LIST_OF_TEMPLATE_AND_STATE = {
        sqlite: list_cards!(sqlite " AND c.template_id = $6 AND c.state = $7"),
        postgres: list_cards!(postgres " AND c.template_id = $6 AND c.state = $7"),
    };
    STAND_ASIDE = "UPDATE cards SET page_token_hash = $3 WHERE workspace_id = $1 AND id = $2";
    MARK_ERASED = "UPDATE cards SET erased_at = $3 WHERE workspace_id = $1 AND id = $2";
    MOVE_REGISTRATIONS = "UPDATE registrations SET card_id = $3 WHERE workspace_id = $1 AND card_id = $2";
    MOVE_PASSES = "UPDATE passes SET card_id = $3, acknowledged = NULL, acknowledged_at = NULL WHERE workspace_id = $1 AND card_id = $2";
    FORGET_UNCHANGED = "DELETE FROM unchanged_faces WHERE workspace_id = $1 AND card_id = $2";
    KEEP_FACES = {
        sqlite: keep_faces!("SELECT value ->> 'card' AS card, value ->> 'serial' AS serial, value ->> 'position' AS position,
                value ->> 'revision' AS revision, value ->> 'face' AS face, value ->> 'modified' AS modified,
                value ->> 'through' AS through FROM json_each($2)"),
        postgres: keep_faces!("SELECT * FROM json_to_recordset(CAST($2 AS json)) AS r(card text, serial text, position bigint,
                revision bigint, face bigint, modified bigint, through bigint)"),
    };
    UNHELD_ENDED = "SELECT id FROM cards WHERE workspace_id = $1 AND state = 'active' AND expires_at <= $2
        ORDER BY expires_at LIMIT $3";
    DELETE = "DELETE FROM cards WHERE workspace_id = $1 AND id = $2";
    NEWEST_OF_TEMPLATE = "SELECT MAX(modified) FROM cards WHERE workspace_id = $1 AND template_id = $2";
}

/// A card with the newest publication of its template, from one snapshot. Together they make a face.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The card.
    pub card: Card,
    /// Its template's newest publication.
    pub publication: Publication,
    /// Its passes, one for each wallet that it was issued in.
    pub passes: Vec<PassRecord>,
    /// What the last examination of a publishing found.
    pub unchanged: Option<Unchanged>,
}

/// A face that publishings left unchanged: none up to the position `through` changed anything that the card has shown
/// since `face`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Unchanged {
    pub face: i64,
    /// The face's `Last-Modified` in whole seconds.
    pub modified: i64,
    pub through: i64,
}

impl Issued {
    /// Returns the card's face number; see [`Card::face`]. A publishing that changes nothing of the card leaves it as
    /// it is.
    pub fn face(&self) -> i64 {
        self.kept().map_or_else(|| self.card.face(&self.publication), |kept| kept.face)
    }

    /// Returns the face that the newest publishing left unchanged, if it did.
    fn kept(&self) -> Option<Unchanged> {
        let holds = |kept: &Unchanged| kept.through >= self.publication.position && kept.face >= self.card.position;
        self.unchanged.filter(|kept| holds(kept) && !self.card.id.is_erased())
    }

    /// Whether it is known what the newest publishing changed of the card.
    pub fn is_looked_at(&self) -> bool {
        self.card.id.is_erased() || self.card.position >= self.publication.position || self.kept().is_some()
    }

    /// Returns the newest content version that any wallet has.
    pub fn fetched(&self) -> Option<Fetch> {
        newest_fetch(&self.passes)
    }

    /// Returns the card's pass in a wallet.
    pub fn pass(&self, wallet: WalletKind) -> Option<&PassRecord> {
        self.passes.iter().find(|pass| pass.wallet == wallet)
    }

    /// Whether the backend changed the card after its template was last published, so that it was checked against that
    /// version. A card that isn't active may have been changed although its values don't suit the template.
    pub fn changed_since_publishing(&self) -> bool {
        self.card.position > self.publication.position && self.card.content.state == State::Active
    }

    /// Returns the face's `Last-Modified` in seconds; see [`Card::face_modified`].
    pub fn modified(&self) -> i64 {
        self.kept().map_or_else(|| self.card.face_modified(&self.publication), |kept| kept.modified)
    }
}

#[derive(sqlx::FromRow)]
struct Row {
    workspace_id: WorkspaceId,
    id: CardId,
    serial_number: SerialNumber,
    template_id: TemplateId,
    locale: Option<String>,
    attributes: Json<Map<String, Value>>,
    state: String,
    expires_at: Option<Timestamp>,
    expired_at: Option<Timestamp>,
    sequence: Option<i64>,
    revision: i64,
    position: i64,
    modified: i64,
    page_generation: i64,
    live_message: Option<FieldKey>,
    message: Option<Json<Value>>,
    created_at: Timestamp,
    updated_at: Timestamp,
    t_version: Option<i64>,
    t_position: i64,
    t_modified: i64,
    passes: Json<Vec<PassColumns>>,
    u_face: Option<i64>,
    u_modified: Option<i64>,
    u_through: Option<i64>,
    /// The size of the attributes as text in bytes; set in pages only.
    #[sqlx(default)]
    size: Option<i64>,
}

/// The most bytes of attributes in a page; the card that reaches the limit is still included.
pub const PAGE_BYTES: i64 = 2 * 1024 * 1024;

/// A page of cards in a given order.
#[derive(Debug)]
pub struct Page {
    /// As many as were requested, or fewer when they are large.
    pub cards: Vec<Issued>,
    /// Whether more cards follow.
    pub more: bool,
}

impl Page {
    /// Makes a page of rows that were selected with one beyond the limit.
    fn of(mut rows: Vec<Row>, limit: i64) -> Result<Self, StoreError> {
        let most = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut bytes = 0;
        let reached = rows.iter().position(|row| {
            bytes += row.size.unwrap_or(0);
            bytes >= PAGE_BYTES
        });
        let fitting = reached.map_or(most, |last| most.min(last + 1));
        let more = rows.len() > fitting;
        rows.truncate(fitting);
        let cards = rows.into_iter().map(Row::issued).collect::<Result<_, _>>()?;
        Ok(Self { cards, more })
    }
}

impl Row {
    fn issued(self) -> Result<Issued, StoreError> {
        let unreadable = |column| StoreError::Inconsistent { table: "cards", column };
        let locale = self.locale.map(|tag| Language::parse(&tag).map_err(|_| unreadable("locale"))).transpose()?;
        let message = self.message.map(|Json(message)| MessageText::stored(&message).ok_or(unreadable("message")));
        let version = self.t_version.ok_or(StoreError::Inconsistent { table: "templates", column: "version" })?;
        let card = Card {
            workspace: self.workspace_id,
            id: self.id,
            serial: self.serial_number,
            content: Content {
                template: self.template_id,
                locale,
                attributes: self.attributes.0,
                state: State::parse(&self.state).map_err(|_| unreadable("state"))?,
                expires_at: self.expires_at,
            },
            expired_at: self.expired_at,
            sequence: self.sequence,
            revision: self.revision,
            position: self.position,
            modified: self.modified,
            page_generation: self.page_generation,
            live_message: self.live_message,
            message: message.transpose()?,
            created_at: self.created_at,
            updated_at: self.updated_at,
        };
        let publication = Publication { version, position: self.t_position, modified: self.t_modified };
        let passes = self.passes.0.into_iter().map(|columns| PassRecord::of(columns).ok_or(unreadable("passes")));
        let passes = passes.collect::<Result<_, _>>()?;
        let unchanged = self.u_face.zip(self.u_modified).zip(self.u_through);
        let unchanged = unchanged.map(|((face, modified), through)| Unchanged { face, modified, through });
        Ok(Issued { card, publication, passes, unchanged })
    }
}

macro_rules! finder {
    ($(#[$doc:meta])* $name:ident, $sql:ident, $session:ty, $a:ident: $A:ty $(, $b:ident: $B:ty)?) => {
        $(#[$doc])*
        ///
        /// # Errors
        /// When the database fails or holds something unreadable.
        pub async fn $name(session: &mut $session, $a: $A $(, $b: $B)?) -> Result<Option<Issued>, StoreError> {
            let row: Option<Row> = on_db!(session, $sql, |sql, c| {
                sqlx::query_as(sql).bind($a)$(.bind($b))?.fetch_optional(c).await?
            });
            row.map(Row::issued).transpose()
        }
    };
}

finder!(
    /// Returns the card of that id.
    find, FIND, impl Session, workspace: &WorkspaceId, id: &CardId
);
finder!(
    /// Returns the card of that serial number, as phones know it; none when its issuer was moved to another
    /// workspace.
    by_serial, BY_SERIAL, impl Session, issuer: &IssuerId, serial: &SerialNumber
);
finder!(
    /// Returns the card whose page has the token with that hash.
    by_page, BY_PAGE, impl Session, page_token_hash: &[u8]
);

/// Returns a template's cards after the given id, ordered by id.
///
/// # Errors
/// When the database fails or holds something unreadable.
pub async fn of_template(
    session: &mut impl Session,
    workspace: &WorkspaceId,
    template: &TemplateId,
    after: &str,
    limit: i64,
) -> Result<Page, StoreError> {
    let rows: Vec<Row> = on_db!(session, OF_TEMPLATE, |sql, c| {
        let query = sqlx::query_as(sql).bind(workspace).bind(template).bind(after).bind(limit + 1);
        query.bind(PAGE_BYTES).fetch_all(c).await?
    });
    Page::of(rows, limit)
}

/// Returns the card of that id, locked until the transaction ends. It is locked by itself and read afterwards: a
/// statement that joins and waits would join the new card with the template of the old one, and find nothing.
///
/// # Errors
/// When the database fails or holds something unreadable.
pub async fn lock(tx: &mut Tx, workspace: &WorkspaceId, id: &CardId) -> Result<Option<Issued>, StoreError> {
    let held = on_db!(tx, HOLD, |sql, c| sqlx::query(sql).bind(workspace).bind(id).fetch_optional(c).await?.is_some());
    // A card that wasn't there to be locked counts as absent: it may have been erased and issued anew during the wait.
    if held { find(tx, workspace, id).await } else { Ok(None) }
}

/// Returns the card of that serial number, locked until the transaction ends; see [`lock`].
///
/// # Errors
/// When the database fails or holds something unreadable.
pub async fn lock_by_serial(
    tx: &mut Tx,
    issuer: &IssuerId,
    serial: &SerialNumber,
) -> Result<Option<Issued>, StoreError> {
    loop {
        let held = on_db!(tx, HOLD_BY_SERIAL, |sql, c| {
            sqlx::query(sql).bind(issuer).bind(serial).fetch_optional(c).await?.is_some()
        });
        let found = by_serial(tx, issuer, serial).await?;
        // The erasure that this waited for replaced the row with another, which is locked in turn.
        if held || found.is_none() {
            return Ok(found);
        }
    }
}

/// Returns the cards of these ids; ids without a card are left out.
///
/// # Errors
/// When the database fails or holds something unreadable.
pub async fn find_many(
    session: &mut impl Session,
    workspace: &WorkspaceId,
    ids: &[&CardId],
) -> Result<Vec<Issued>, StoreError> {
    let rows: Vec<Row> = on_db!(session, FIND_MANY, |sql, c| {
        sqlx::query_as(sql).bind(workspace).bind(Json(ids)).fetch_all(c).await?
    });
    rows.into_iter().map(Row::issued).collect()
}

/// Returns the size of these cards' attributes in bytes; ids without a card are left out.
///
/// # Errors
/// When the database fails.
pub async fn sizes(
    session: &mut impl Session,
    workspace: &WorkspaceId,
    ids: &[&CardId],
) -> Result<HashMap<CardId, i64>, StoreError> {
    let rows: Vec<(CardId, i64)> =
        on_db!(session, SIZES, |sql, c| sqlx::query_as(sql).bind(workspace).bind(Json(ids)).fetch_all(c).await?);
    Ok(rows.into_iter().collect())
}

/// The state of a locked card that shows whether it is still as it was when it was read: every stored column that may
/// change without a new revision, and the newest face that phones had fetched when the statement began, before any wait
/// for another transaction.
#[derive(Debug, sqlx::FromRow)]
pub struct Held {
    /// The card.
    pub id: CardId,
    serial_number: SerialNumber,
    revision: i64,
    sequence: Option<i64>,
    locale: Option<String>,
    attributes: Json<Map<String, Value>>,
    face: Option<i64>,
}

impl Held {
    /// Whether the card and its last fetch are unchanged since they were read.
    pub fn is(&self, card: &Card, fetched: Option<Fetch>) -> bool {
        self.id == card.id
            && self.serial_number == card.serial
            && self.revision == card.revision
            && self.sequence == card.sequence
            && self.locale.as_deref() == card.content.locale.as_ref().map(Language::as_str)
            && self.attributes.0 == card.content.attributes
            && self.face == fetched.map(|fetch| fetch.face)
    }
}

/// Locks the cards of these ids until the transaction ends, in key order; ids without a card are left out. Read the
/// cards afterwards; see [`lock`].
///
/// # Errors
/// When the database fails or holds something unreadable.
pub async fn hold_many(tx: &mut Tx, workspace: &WorkspaceId, ids: &[&CardId]) -> Result<Vec<Held>, StoreError> {
    on_db!(tx, HOLD_MANY, |sql, c| Ok(sqlx::query_as(sql).bind(workspace).bind(Json(ids)).fetch_all(c).await?))
}

/// Adds cards of one workspace. Returns false when one of them exists already; nothing must be committed then. Their
/// positions are set by [`update_many`] afterwards.
///
/// # Errors
/// When the database fails.
pub async fn insert_many(tx: &mut Tx, workspace: &WorkspaceId, cards: &[(&Card, Vec<u8>)]) -> Result<bool, StoreError> {
    let mut rows = Vec::with_capacity(cards.len());
    for (card, page_token_hash) in cards {
        let mut row = row_of(card)?;
        row.insert("serial".to_owned(), json!(card.serial));
        row.insert("page_generation".to_owned(), json!(card.page_generation));
        row.insert("page_token_hash".to_owned(), json!(hex::encode(page_token_hash)));
        rows.push(row);
    }
    on_db!(tx, INSERT_MANY, |sql, c| {
        let done = sqlx::query(sql).bind(workspace).bind(Json(rows)).execute(c).await?;
        Ok(done.rows_affected() == cards.len() as u64)
    })
}

/// Writes changed cards of one workspace, which must have been locked.
///
/// # Errors
/// When the database fails or one of them is gone.
pub async fn update_many(tx: &mut Tx, workspace: &WorkspaceId, cards: &[&Card]) -> Result<(), StoreError> {
    let rows: Vec<Map<String, Value>> = cards.iter().map(|card| row_of(card)).collect::<Result<_, _>>()?;
    on_db!(tx, UPDATE_MANY, |sql, c| {
        let done = sqlx::query(sql).bind(workspace).bind(Json(rows)).execute(c).await?;
        if done.rows_affected() == cards.len() as u64 { Ok(()) } else { Err(StoreError::RowGone("cards")) }
    })
}

/// Returns the columns of a card that may change, for batch statements.
fn row_of(card: &Card) -> Result<Map<String, Value>, StoreError> {
    let content = &card.content;
    let attributes = serde_json::to_string(&content.attributes);
    let attributes = attributes.map_err(|_| StoreError::Inconsistent { table: "cards", column: "attributes" })?;
    let row = json!({
        "id": card.id,
        "template": content.template,
        "locale": content.locale.as_ref().map(Language::as_str),
        "attributes": attributes,
        "state": content.state.as_str(),
        "expires_at": content.expires_at.map(Timestamp::micros),
        "expired_at": card.expired_at.map(Timestamp::micros),
        "sequence": card.sequence,
        "revision": card.revision,
        "position": card.position,
        "modified": card.modified,
        "live_message": card.live_message,
        "message": card.message.as_ref().map(|message| message.to_json().to_string()),
        "created_at": card.created_at.micros(),
        "updated_at": card.updated_at.micros(),
    });
    match row {
        Value::Object(row) => Ok(row),
        _ => Ok(Map::new()),
    }
}

/// Returns the workspace of the active card whose end passed first, leaving out the workspaces in `others`.
///
/// # Errors
/// When the database fails.
pub async fn ended(
    session: &mut impl Session,
    now: Timestamp,
    others: &[WorkspaceId],
) -> Result<Option<WorkspaceId>, StoreError> {
    on_db!(session, ENDED, |sql, c| {
        Ok(sqlx::query_scalar(sql).bind(now).bind(Json(others)).fetch_optional(c).await?)
    })
}

/// Returns the first of these cards until their sizes reach `most` bytes; always at least one.
fn within(sized: Vec<(CardId, i64)>, most: i64) -> Vec<CardId> {
    let mut bytes = 0;
    let fitting = sized.into_iter().take_while(|(_, size)| {
        let fits = bytes < most;
        bytes += size;
        fits
    });
    fitting.map(|(id, _)| id).collect()
}

/// Returns up to `limit` active cards whose end has passed, fewer when they are large, locked until the transaction
/// ends. Cards that another node has locked are skipped.
///
/// # Errors
/// When the database fails or holds something unreadable.
pub async fn lock_ended(
    tx: &mut Tx,
    workspace: &WorkspaceId,
    now: Timestamp,
    limit: i64,
) -> Result<Vec<Issued>, StoreError> {
    let held: Vec<(CardId, i64)> = on_db!(tx, HOLD_ENDED, |sql, c| {
        sqlx::query_as(sql).bind(workspace).bind(now).bind(limit).fetch_all(c).await?
    });
    let held = within(held, PAGE_BYTES);
    find_many(tx, workspace, &held.iter().collect::<Vec<_>>()).await
}

/// Returns the same cards as [`lock_ended`], without locking them.
///
/// # Errors
/// When the database fails or holds something unreadable.
pub async fn all_ended(
    session: &mut impl Session,
    workspace: &WorkspaceId,
    now: Timestamp,
    limit: i64,
) -> Result<Vec<Issued>, StoreError> {
    let ids: Vec<CardId> = on_db!(session, UNHELD_ENDED, |sql, c| {
        sqlx::query_scalar(sql).bind(workspace).bind(now).bind(limit).fetch_all(c).await?
    });
    find_many(session, workspace, &ids.iter().collect::<Vec<_>>()).await
}

/// Records which faces publishings left unchanged, except for cards that changed since they were read.
///
/// # Errors
/// When the database fails.
pub async fn keep_faces(tx: &mut Tx, workspace: &WorkspaceId, found: &[(Card, Unchanged)]) -> Result<(), StoreError> {
    if found.is_empty() {
        return Ok(());
    }
    let row = |(card, kept): &(Card, Unchanged)| {
        json!({"card": card.id, "serial": card.serial, "position": card.position, "revision": card.revision,
            "face": kept.face, "modified": kept.modified, "through": kept.through})
    };
    let rows: Vec<Value> = found.iter().map(row).collect();
    on_db!(tx, KEEP_FACES, |sql, c| {
        sqlx::query(sql).bind(workspace).bind(Json(rows)).execute(c).await?;
        Ok(())
    })
}

/// Selects the cards of a list.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Cards of that template only.
    pub template: Option<TemplateId>,
    /// Cards in that state only.
    pub state: Option<State>,
}

/// Returns up to `limit` cards after a place, fewer when they are large, in the order in which they last changed.
/// Whatever changes or commits meanwhile comes later in this order, so a reader who pages through it finds it there.
///
/// # Errors
/// When the database fails or holds something unreadable.
pub async fn list(
    session: &mut impl Session,
    workspace: &WorkspaceId,
    filter: &Filter,
    (updated_at, id): (Timestamp, &str),
    limit: i64,
) -> Result<Page, StoreError> {
    let sql = match (&filter.template, filter.state) {
        (None, None) => LIST,
        (None, Some(State::Active)) => LIST_ACTIVE,
        (None, Some(_)) => LIST_SET_ASIDE,
        (Some(_), None) => LIST_OF_TEMPLATE,
        (Some(_), Some(_)) => LIST_OF_TEMPLATE_AND_STATE,
    };
    let rows: Vec<Row> = on_db!(session, sql, |sql, c| {
        let mut query = sqlx::query_as(sql).bind(workspace).bind(updated_at).bind(id).bind(limit + 1).bind(PAGE_BYTES);
        if let Some(template) = &filter.template {
            query = query.bind(template);
        }
        match filter.state {
            Some(State::Active) if filter.template.is_none() => {}
            Some(state) => query = query.bind(state.as_str()),
            None => {}
        }
        query.fetch_all(c).await?
    });
    Page::of(rows, limit)
}

/// Erases a card that was locked. `remains` replaces it for the phones that hold the pass: the same serial number and
/// page, under an id that no backend can name ([`CardId::erased`]). The card's own id is free afterwards.
///
/// # Errors
/// When the database fails.
pub async fn erase(
    tx: &mut Tx,
    id: &CardId,
    remains: &Card,
    page_token_hash: &[u8],
    now: Timestamp,
) -> Result<(), StoreError> {
    let workspace = &remains.workspace;
    // The old row gives up its unique value before the new one takes it; no token's hash is as short.
    let aside = format!("erased {}", remains.serial);
    on_db!(tx, STAND_ASIDE, |sql, c| {
        let query = sqlx::query(sql).bind(workspace).bind(id).bind(aside.as_bytes());
        one_row(query.execute(c).await?.rows_affected(), "cards")?;
    });
    insert_many(tx, workspace, &[(remains, page_token_hash.to_vec())]).await?;
    update_many(tx, workspace, &[remains]).await?;
    on_db!(tx, MARK_ERASED, |sql, c| {
        let query = sqlx::query(sql).bind(workspace).bind(&remains.id).bind(now);
        one_row(query.execute(c).await?.rows_affected(), "cards")?;
    });
    for moving in [MOVE_REGISTRATIONS, MOVE_PASSES] {
        on_db!(tx, moving, |sql, c| {
            sqlx::query(sql).bind(workspace).bind(id).bind(&remains.id).execute(c).await?;
        });
    }
    on_db!(tx, FORGET_UNCHANGED, |sql, c| {
        sqlx::query(sql).bind(workspace).bind(id).execute(c).await?;
    });
    on_db!(tx, DELETE, |sql, c| {
        let done = sqlx::query(sql).bind(workspace).bind(id).execute(c).await?;
        one_row(done.rows_affected(), "cards")
    })
}

/// Returns the latest `modified` among a template's cards.
///
/// # Errors
/// When the database fails.
pub async fn newest_of_template(
    session: &mut impl Session,
    workspace: &WorkspaceId,
    template: &TemplateId,
) -> Result<Option<i64>, StoreError> {
    on_db!(session, NEWEST_OF_TEMPLATE, |sql, c| {
        Ok(sqlx::query_scalar(sql).bind(workspace).bind(template).fetch_one(c).await?)
    })
}
