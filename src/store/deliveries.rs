//! Which changes each target has still to be notified of.
//!
//! `marks` counts the changes of which a target must be notified. A claim remembers the count, and a successful
//! delivery leaves the target due only if it was marked again meanwhile. So no change is lost between a claim and its
//! outcome, and a notification that is sent twice does no harm.
//!
//! Claims are made per issuer, and outcomes are recorded in batches, one statement for any number. A row's lease is
//! its fence: an outcome whose lease was lost to another worker changes nothing.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use serde_json::{Value, json};

use super::targets::{TargetKey, hold_of_batch, published};
use super::types::Json;
use super::{Session, StoreError, Tx, on_db, statements};
use crate::domain::ids::{CardId, IssuerId, SerialNumber, TargetAddress, TargetId, WorkspaceId};
use crate::domain::time::Timestamp;

/// Writes the outcomes of a batch to their targets; `o` are the rows of `$1`. `kind` is one of those in
/// [`DeliveryResult::to_json`]; any other value only returns the lease.
macro_rules! record_outcomes {
    ($outcomes:literal) => {
        concat!(
            "UPDATE targets SET
            notified_position = CASE WHEN o.kind = 'delivered' THEN o.position ELSE notified_position END,
            notified_at = CASE WHEN o.kind = 'delivered' THEN o.at ELSE notified_at END,
            polled_position = CASE WHEN o.acknowledged = 1 AND polled_position < o.position THEN o.position ELSE polled_position END,
            polled_at = CASE WHEN o.acknowledged = 1 THEN o.at ELSE polled_at END,
            attempts = CASE o.kind WHEN 'delivered' THEN 0 WHEN 'gave_up' THEN 0 WHEN 'retry' THEN o.attempts ELSE targets.attempts END,
            problem = CASE WHEN o.kind = 'delivered' THEN NULL ELSE COALESCE(o.problem, targets.problem) END,
            waits = CASE WHEN o.kind = 'retry' THEN o.waits WHEN o.kind = 'released' THEN targets.waits END,
            dead_since = CASE WHEN o.kind = 'gone' AND registered_at = o.registered THEN o.at ELSE dead_since END,
            due_at = CASE
                WHEN o.kind = 'delivered' THEN CASE WHEN targets.marks = o.marks THEN NULL ELSE o.due END
                WHEN o.kind = 'retry' THEN o.due
                WHEN o.kind = 'gave_up' THEN CASE WHEN targets.marks = o.marks THEN NULL ELSE o.at END
                WHEN o.kind = 'gone' AND registered_at = o.registered THEN NULL
                ELSE due_at END,
            scheduled_at = CASE
                WHEN o.kind = 'delivered' OR o.kind = 'gave_up' THEN CASE WHEN targets.marks = o.marks THEN NULL ELSE o.at END
                WHEN o.kind = 'retry' THEN o.at
                WHEN o.kind = 'gone' AND registered_at = o.registered THEN NULL
                ELSE scheduled_at END,
            remind_at = CASE
                WHEN o.kind = 'delivered' AND targets.marks = o.marks AND o.acknowledged = 0 AND polled_position < o.position THEN
                    CASE reminders WHEN 0 THEN o.remind_0 WHEN 1 THEN o.remind_1 WHEN 2 THEN o.remind_2 END
                WHEN o.kind = 'released' THEN remind_at END,
            lease = NULL, leased_at = NULL, leased_until = NULL
        FROM ", $outcomes, " AS o
        WHERE targets.workspace_id = o.workspace AND targets.issuer_id = o.issuer AND targets.id = o.target
            AND targets.lease = o.lease"
        )
    };
}

/// Selects the targets of a batch whose lease is still held.
macro_rules! holders {
    ($batch:literal) => {
        concat!(
            "WITH o AS MATERIALIZED (",
            $batch,
            ") SELECT d.workspace_id, d.issuer_id, d.id, d.lease FROM o CROSS JOIN targets d
            WHERE d.workspace_id = o.workspace AND d.issuer_id = o.issuer AND d.id = o.target AND d.lease = o.lease"
        )
    };
}

/// Selects the cards that pushes to a batch of targets are about: those that changed since the target's last poll and
/// since its registration, which brought the newest face. `r` are the registrations of the batch `o`, `c` their cards,
/// `t` the templates.
macro_rules! news {
    ($batch:literal, $joins:literal) => {
        concat!(
            "WITH o AS MATERIALIZED (",
            $batch,
            ") SELECT r.workspace_id, r.issuer_id, r.target_id, c.id, c.serial_number FROM o ",
            $joins,
            " WHERE c.erased_at IS NULL AND ((c.position > o.polled_position AND c.position > r.position)
                    OR (",
            published!(),
            " > o.polled_position AND ",
            published!(),
            " > r.position))
            ORDER BY c.id"
        )
    };
}

/// Whether the target hasn't followed its last push: it didn't poll, or hasn't fetched everything the push was about.
macro_rules! behind {
    () => {
        concat!(
            "(polled_position < notified_position OR EXISTS (SELECT 1 FROM registrations r
            JOIN cards c ON c.workspace_id = r.workspace_id AND c.id = r.card_id
            JOIN templates t ON t.workspace_id = c.workspace_id AND t.id = c.template_id
            WHERE r.workspace_id = targets.workspace_id AND r.issuer_id = targets.issuer_id AND r.target_id = targets.id
                AND ((c.position > r.position AND c.position <= targets.notified_position AND c.position > COALESCE((SELECT p.acknowledged
                        FROM passes p WHERE p.workspace_id = c.workspace_id AND p.card_id = c.id
                            AND p.issuer_id = targets.issuer_id), 0))
                    OR (c.erased_at IS NULL AND ",
            published!(),
            " > r.position AND ",
            published!(),
            " <= targets.notified_position
                        AND ",
            published!(),
            " > COALESCE((SELECT p.acknowledged
                            FROM passes p WHERE p.workspace_id = c.workspace_id AND p.card_id = c.id
                                AND p.issuer_id = targets.issuer_id), 0)))))"
        )
    };
}

/// Counts the cards that changed since a phone that holds them last polled or last fetched them. Examines up to $1
/// targets that are due, and as many that were pushed to and haven't followed yet.
macro_rules! cards_behind {
    ($joins:literal) => {
        concat!(
            "WITH o AS MATERIALIZED (SELECT workspace_id AS workspace, issuer_id AS issuer, id AS target, polled_position
                FROM (SELECT * FROM targets WHERE due_at IS NOT NULL LIMIT $1) due
                UNION ALL SELECT workspace_id, issuer_id, id, polled_position
                FROM (SELECT * FROM targets WHERE remind_at IS NOT NULL AND due_at IS NULL LIMIT $1) notified)
            SELECT COUNT(*) FROM (SELECT DISTINCT c.workspace_id, c.id FROM o ",
            $joins,
            " WHERE c.erased_at IS NULL AND ((c.position > r.position AND (c.position > o.polled_position OR c.position > ",
            fetched!(),
            ")) OR (",
            published!(),
            " > r.position AND (",
            published!(),
            " > o.polled_position OR ",
            published!(),
            " > ",
            fetched!(),
            ")))) behind"
        )
    };
}

/// The newest content version of the card `c` that the wallet of the target `o` has; 0 when it has none.
macro_rules! fetched {
    () => {
        "COALESCE((SELECT p.acknowledged FROM passes p WHERE p.workspace_id = c.workspace_id AND p.card_id = c.id
            AND p.issuer_id = o.issuer), 0)"
    };
}

/// Examines targets whose reminder is due, and makes those due that are behind.
macro_rules! remind {
    ($ending:literal) => {
        concat!(
            "WITH n AS MATERIALIZED (SELECT workspace_id, issuer_id, id, CASE WHEN ",
            behind!(),
            " THEN 1 ELSE 0 END AS behind FROM targets
                WHERE remind_at IS NOT NULL AND (remind_at <= $1 OR notified_at > $1) AND due_at IS NULL
                ORDER BY remind_at LIMIT $2",
            $ending,
            ") UPDATE targets SET remind_at = NULL, reminders = reminders + n.behind,
                due_at = CASE WHEN n.behind = 1 THEN $1 ELSE due_at END,
                scheduled_at = CASE WHEN n.behind = 1 THEN $1 ELSE scheduled_at END
            FROM n WHERE targets.workspace_id = n.workspace_id AND targets.issuer_id = n.issuer_id AND targets.id = n.id
            RETURNING CASE WHEN due_at IS NULL THEN 0 ELSE 1 END"
        )
    };
}

statements! {
    NEWS = {
        sqlite: news!(
            "SELECT value ->> 'workspace' AS workspace, value ->> 'issuer' AS issuer, value ->> 'target' AS target,
                value ->> 'polled_position' AS polled_position FROM json_each($1)",
            "CROSS JOIN registrations r
                ON r.workspace_id = o.workspace AND r.issuer_id = o.issuer AND r.target_id = o.target
            CROSS JOIN cards c ON c.workspace_id = r.workspace_id AND c.id = r.card_id
            CROSS JOIN templates t ON t.workspace_id = c.workspace_id AND t.id = c.template_id"
        ),
        postgres: news!(
            "SELECT * FROM json_to_recordset(CAST($1 AS json)) AS r(workspace text, issuer text, target text, polled_position bigint)",
            "CROSS JOIN LATERAL (SELECT * FROM registrations WHERE workspace_id = o.workspace
                AND issuer_id = o.issuer AND target_id = o.target OFFSET 0) r
            CROSS JOIN LATERAL (SELECT * FROM cards WHERE workspace_id = r.workspace_id AND id = r.card_id OFFSET 0) c
            CROSS JOIN LATERAL (SELECT * FROM templates WHERE workspace_id = c.workspace_id AND id = c.template_id OFFSET 0) t"
        ),
    };
    HOLDERS = {
        sqlite: holders!("SELECT value ->> 'workspace' AS workspace, value ->> 'issuer' AS issuer,
            value ->> 'target' AS target, value ->> 'lease' AS lease FROM json_each($1)"),
        postgres: holders!("SELECT * FROM json_to_recordset(CAST($1 AS json))
            AS r(workspace text, issuer text, target text, lease text)"),
    };
    HOLD_OF_CARDS = {
        sqlite: "SELECT COUNT(*) FROM registrations
            WHERE workspace_id = $1 AND card_id IN (SELECT value FROM json_each($2))",
        postgres: "SELECT COUNT(*) FROM (SELECT d.id FROM targets d WHERE (d.workspace_id, d.issuer_id, d.id) IN (
                SELECT r.workspace_id, r.issuer_id, r.target_id FROM registrations r
                WHERE r.workspace_id = $1 AND r.card_id = ANY (ARRAY(SELECT json_array_elements_text(CAST($2 AS json)))))
            ORDER BY d.workspace_id, d.issuer_id, d.id FOR NO KEY UPDATE OF d) held",
    };
    MARK = {
        sqlite: "UPDATE targets SET marks = marks + 1, reminders = 0, remind_at = NULL,
            scheduled_at = CASE WHEN due_at IS NULL THEN $3 ELSE scheduled_at END,
            due_at = COALESCE(due_at, CASE WHEN notified_at <= $3 AND notified_at + $4 > $3 THEN notified_at + $4 ELSE $3 END)
        WHERE workspace_id = $1 AND kind <> 'other' AND dead_since IS NULL AND (issuer_id, id) IN (
            SELECT issuer_id, target_id FROM registrations WHERE workspace_id = $1 AND card_id IN (SELECT value FROM json_each($2)))",
        postgres: "UPDATE targets SET marks = marks + 1, reminders = 0, remind_at = NULL,
            scheduled_at = CASE WHEN due_at IS NULL THEN $3 ELSE scheduled_at END,
            due_at = COALESCE(due_at, CASE WHEN notified_at <= $3 AND notified_at + $4 > $3 THEN notified_at + $4 ELSE $3 END)
        WHERE workspace_id = $1 AND kind <> 'other' AND dead_since IS NULL AND (issuer_id, id) IN (
            SELECT issuer_id, target_id FROM registrations WHERE workspace_id = $1 AND card_id = ANY (ARRAY(SELECT json_array_elements_text(CAST($2 AS json)))))",
    };
    // Takes one step through the index for each issuer, however many of its targets wait.
    DUE_ISSUERS = "WITH RECURSIVE waiting (id) AS (
            SELECT MIN(issuer_id) FROM targets WHERE due_at IS NOT NULL
            UNION ALL
            SELECT (SELECT MIN(d.issuer_id) FROM targets d WHERE d.due_at IS NOT NULL AND d.issuer_id > waiting.id)
            FROM waiting WHERE waiting.id IS NOT NULL)
        SELECT p.workspace_id, p.id FROM waiting JOIN issuers p ON p.id = waiting.id ORDER BY p.id";
    OUTLOOK = "SELECT EXISTS (SELECT 1 FROM targets WHERE issuer_id = $1 AND due_at IS NOT NULL
                AND (due_at <= $2 OR scheduled_at > $2) AND (lease IS NULL OR leased_until <= $2 OR leased_at > $2 + 5000000)),
            (SELECT MIN(due_at) FROM targets WHERE issuer_id = $1 AND due_at > $2)";
    CLAIM = {
        sqlite: "UPDATE targets SET lease = $1, leased_at = $2, leased_until = $3
            WHERE (workspace_id, issuer_id, id) IN (SELECT workspace_id, issuer_id, id FROM targets
                WHERE issuer_id = $5 AND due_at IS NOT NULL AND (due_at <= $2 OR scheduled_at > $2)
                    AND (lease IS NULL OR leased_until <= $2 OR leased_at > $2 + 5000000)
                ORDER BY due_at LIMIT $4)
            RETURNING workspace_id, issuer_id, id, address, registered_at, marks, attempts, due_at, polled_position",
        postgres: "UPDATE targets SET lease = $1, leased_at = $2, leased_until = $3
            WHERE (workspace_id, issuer_id, id) IN (SELECT workspace_id, issuer_id, id FROM targets
                WHERE issuer_id = $5 AND due_at IS NOT NULL AND (due_at <= $2 OR scheduled_at > $2)
                    AND (lease IS NULL OR leased_until <= $2 OR leased_at > $2 + 5000000)
                ORDER BY due_at LIMIT $4 FOR NO KEY UPDATE SKIP LOCKED)
            RETURNING workspace_id, issuer_id, id, address, registered_at, marks, attempts, due_at, polled_position",
    };
    // A target that waits only because the service failed may serve as the probe, too.
    CLAIM_PROBE = {
        sqlite: "UPDATE targets SET lease = $1, leased_at = $2, leased_until = $3
            WHERE (workspace_id, issuer_id, id) IN (SELECT workspace_id, issuer_id, id FROM targets
                WHERE issuer_id = $4 AND due_at IS NOT NULL
                    AND (due_at <= $2 OR scheduled_at > $2 OR waits = 'service')
                    AND (lease IS NULL OR leased_until <= $2 OR leased_at > $2 + 5000000)
                ORDER BY due_at LIMIT 1)
            RETURNING workspace_id, issuer_id, id, address, registered_at, marks, attempts, due_at, polled_position",
        postgres: "UPDATE targets SET lease = $1, leased_at = $2, leased_until = $3
            WHERE (workspace_id, issuer_id, id) IN (SELECT workspace_id, issuer_id, id FROM targets
                WHERE issuer_id = $4 AND due_at IS NOT NULL
                    AND (due_at <= $2 OR scheduled_at > $2 OR waits = 'service')
                    AND (lease IS NULL OR leased_until <= $2 OR leased_at > $2 + 5000000)
                ORDER BY due_at LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED)
            RETURNING workspace_id, issuer_id, id, address, registered_at, marks, attempts, due_at, polled_position",
    };
    RECORD_OUTCOMES = {
        sqlite: record_outcomes!("(SELECT value ->> '$.workspace' AS workspace, value ->> '$.issuer' AS issuer,
            value ->> '$.target' AS target, value ->> '$.lease' AS lease, value ->> '$.marks' AS marks,
            value ->> '$.registered' AS registered, value ->> '$.kind' AS kind, value ->> '$.position' AS position,
            value ->> '$.attempts' AS attempts, value ->> '$.due' AS due, value ->> '$.problem' AS problem,
            value ->> '$.waits' AS waits, value ->> '$.at' AS at, value ->> '$.remind_0' AS remind_0,
            value ->> '$.remind_1' AS remind_1, value ->> '$.remind_2' AS remind_2,
            value ->> '$.acknowledged' AS acknowledged FROM json_each($1))"),
        postgres: record_outcomes!("(SELECT * FROM json_to_recordset(CAST($1 AS JSON)) AS r (workspace TEXT, issuer TEXT,
            target TEXT, lease TEXT, marks BIGINT, registered BIGINT, kind TEXT, position BIGINT, attempts BIGINT,
            due BIGINT, problem TEXT, waits TEXT, at BIGINT, remind_0 BIGINT, remind_1 BIGINT, remind_2 BIGINT, acknowledged BIGINT))"),
    };
    SERVICE_IS_BACK = {
        sqlite: "UPDATE targets SET due_at = $2, scheduled_at = $2, attempts = 0, waits = NULL
            WHERE (workspace_id, issuer_id, id) IN (SELECT workspace_id, issuer_id, id FROM targets
                WHERE issuer_id = $1 AND due_at > $2 AND waits = 'service' LIMIT 1000)",
        postgres: "UPDATE targets SET due_at = $2, scheduled_at = $2, attempts = 0, waits = NULL
            WHERE (workspace_id, issuer_id, id) IN (SELECT workspace_id, issuer_id, id FROM targets
                WHERE issuer_id = $1 AND due_at > $2 AND waits = 'service'
                LIMIT 1000 FOR NO KEY UPDATE SKIP LOCKED)",
    };
    TO_REMIND = "SELECT COUNT(*) FROM targets WHERE remind_at IS NOT NULL AND (remind_at <= $1 OR notified_at > $1)";
    REMIND = { sqlite: remind!(""), postgres: remind!(" FOR NO KEY UPDATE SKIP LOCKED") };
    RELEASE = "UPDATE targets SET lease = NULL, leased_at = NULL, leased_until = NULL WHERE lease = $1";
    RELEASE_ALL = "UPDATE targets SET lease = NULL, leased_at = NULL, leased_until = NULL WHERE lease IS NOT NULL";
    // Takes one step through the index for each issuer, as above.
    OLDEST_DUE = "WITH RECURSIVE waiting (id) AS (
            SELECT MIN(issuer_id) FROM targets WHERE due_at IS NOT NULL
            UNION ALL
            SELECT (SELECT MIN(d.issuer_id) FROM targets d WHERE d.due_at IS NOT NULL AND d.issuer_id > waiting.id)
            FROM waiting WHERE waiting.id IS NOT NULL)
        SELECT MIN(oldest) FROM (SELECT (SELECT MIN(d.due_at) FROM targets d
            WHERE d.due_at IS NOT NULL AND d.issuer_id = waiting.id) AS oldest FROM waiting WHERE waiting.id IS NOT NULL) each";
    CARDS_BEHIND = {
        sqlite: cards_behind!(
            "CROSS JOIN registrations r
                ON r.workspace_id = o.workspace AND r.issuer_id = o.issuer AND r.target_id = o.target
            CROSS JOIN cards c ON c.workspace_id = r.workspace_id AND c.id = r.card_id
            CROSS JOIN templates t ON t.workspace_id = c.workspace_id AND t.id = c.template_id"
        ),
        postgres: cards_behind!(
            "CROSS JOIN LATERAL (SELECT * FROM registrations WHERE workspace_id = o.workspace
                AND issuer_id = o.issuer AND target_id = o.target OFFSET 0) r
            CROSS JOIN LATERAL (SELECT * FROM cards WHERE workspace_id = r.workspace_id AND id = r.card_id OFFSET 0) c
            CROSS JOIN LATERAL (SELECT * FROM templates WHERE workspace_id = c.workspace_id AND id = c.template_id OFFSET 0) t"
        ),
    };
    UNFINISHED = "SELECT COUNT(*) FROM targets WHERE due_at IS NOT NULL";
}

/// Marks the targets that hold any of the cards as due: at once, or at the end of the window since their last push.
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

/// A target that this worker may push to until its lease ends.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Claimed {
    workspace_id: WorkspaceId,
    issuer_id: IssuerId,
    id: TargetId,
    /// The token that the push goes to.
    pub address: TargetAddress,
    /// When the token was registered.
    pub registered_at: Timestamp,
    /// The number of changes that a push now covers.
    pub marks: i64,
    /// The number of failures in a row so far.
    pub attempts: i64,
    /// Since when the target has been due.
    pub due_at: Timestamp,
    /// The position up to which the target had polled.
    polled_position: i64,
}

impl Claimed {
    /// Returns the target's key.
    pub fn key(&self) -> TargetKey {
        TargetKey { workspace: self.workspace_id.clone(), issuer: self.issuer_id.clone(), id: self.id.clone() }
    }

    /// Returns the issuer under which it is notified.
    pub fn issuer(&self) -> &IssuerId {
        &self.issuer_id
    }

    /// Returns the workspace of the target.
    pub fn workspace(&self) -> &WorkspaceId {
        &self.workspace_id
    }
}

/// Returns the issuers with a target that must still be notified, now or later, each with its workspace.
///
/// # Errors
/// When the database fails.
pub async fn due_issuers(session: &mut impl Session) -> Result<Vec<(WorkspaceId, IssuerId)>, StoreError> {
    on_db!(session, DUE_ISSUERS, |sql, c| Ok(sqlx::query_as(sql).fetch_all(c).await?))
}

/// Returns whether a target of the issuer can be claimed now, and when the next one is due after that.
///
/// # Errors
/// When the database fails.
pub async fn outlook(
    session: &mut impl Session,
    issuer: &IssuerId,
    now: Timestamp,
) -> Result<(bool, Option<Timestamp>), StoreError> {
    on_db!(session, OUTLOOK, |sql, c| Ok(sqlx::query_as(sql).bind(issuer).bind(now).fetch_one(c).await?))
}

/// Claims up to `limit` due targets of an issuer under the lease named `lease`. Due times and leases also end when
/// the clock went back to before they were set. Leases need more than five seconds of that: the clocks of two nodes
/// always differ a little, and the slower node must not claim what the other has just claimed. Commit at once: the
/// network comes after.
///
/// # Errors
/// When the database fails.
pub async fn claim(
    tx: &mut Tx,
    issuer: &IssuerId,
    lease: &str,
    now: Timestamp,
    until: Timestamp,
    limit: i64,
) -> Result<Vec<Claimed>, StoreError> {
    on_db!(tx, CLAIM, |sql, c| {
        Ok(sqlx::query_as(sql).bind(lease).bind(now).bind(until).bind(limit).bind(issuer).fetch_all(c).await?)
    })
}

/// Claims one target of an issuer to find out whether its pushes are accepted again: one that is due, or that waits
/// only because the service failed.
///
/// # Errors
/// When the database fails.
pub async fn claim_probe(
    tx: &mut Tx,
    issuer: &IssuerId,
    lease: &str,
    now: Timestamp,
    until: Timestamp,
) -> Result<Option<Claimed>, StoreError> {
    on_db!(tx, CLAIM_PROBE, |sql, c| {
        Ok(sqlx::query_as(sql).bind(lease).bind(now).bind(until).bind(issuer).fetch_optional(c).await?)
    })
}

/// The outcome of a push.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// The service accepted it; it covers everything up to the position at which it was claimed.
    Delivered {
        /// How soon the next push may follow.
        window: Duration,
        /// How long after it the push is repeated when the target doesn't poll: after the first push of a change, and
        /// after the first and the second repetition.
        remind_after: [Duration; 3],
    },
    /// It is tried again at `due_at`.
    Retry {
        /// The number of failures in a row.
        attempts: i64,
        /// When to try again.
        due_at: Timestamp,
        /// What it is blamed on.
        fault: Fault,
        /// The reason, in plain words.
        problem: String,
    },
    /// The token is dead, unless it was registered again meanwhile.
    Gone {
        /// The reason, in plain words.
        problem: String,
    },
    /// Trying again won't help. The target stays, and the next change, including one made since the claim, tries anew.
    GaveUp {
        /// The reason, in plain words.
        problem: String,
    },
    /// There is no outcome for this target (nothing was sent, or the service or the certificate is at fault): it stays
    /// due as it was.
    Released {
        /// The reason, when it is worth recording.
        problem: Option<String>,
    },
}

/// What a failed push is blamed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The push service: the wait ends when it works again.
    Service,
    /// This target alone.
    Target,
}

/// A claim with its outcome, ready to be recorded.
#[derive(Debug, Clone)]
pub struct DeliveryResult {
    /// The claim.
    pub claimed: Claimed,
    /// The lease under which it was claimed.
    pub lease: String,
    /// The workspace's position when it was claimed.
    pub position: i64,
    /// The outcome of the push.
    pub outcome: Outcome,
    /// Whether the target has the card itself now, so that it need not poll.
    pub acknowledged: bool,
    /// When the outcome was known.
    pub at: Timestamp,
}

impl DeliveryResult {
    fn to_json(&self) -> Value {
        let (claimed, at) = (&self.claimed, self.at);
        let mut row = json!({
            "workspace": claimed.workspace_id, "issuer": claimed.issuer_id, "target": claimed.id, "lease": self.lease,
            "marks": claimed.marks, "position": self.position, "registered": claimed.registered_at.micros(), "at": at.micros(), "kind": "released",
            "acknowledged": i64::from(self.acknowledged),
        });
        let mut set = |name: &str, value: Value| row[name] = value;
        match &self.outcome {
            Outcome::Delivered { window, remind_after: [first, second, third] } => {
                set("kind", "delivered".into());
                set("due", at.plus(*window).micros().into());
                set("remind_0", at.plus(*first).micros().into());
                set("remind_1", at.plus(*second).micros().into());
                set("remind_2", at.plus(*third).micros().into());
            }
            Outcome::Retry { attempts, due_at, fault, problem } => {
                set("kind", "retry".into());
                set("attempts", (*attempts).into());
                set("due", due_at.micros().into());
                set("waits", if *fault == Fault::Service { "service" } else { "target" }.into());
                set("problem", problem.as_str().into());
            }
            Outcome::Gone { problem } => {
                set("kind", "gone".into());
                set("problem", problem.as_str().into());
            }
            Outcome::GaveUp { problem } => {
                set("kind", "gave_up".into());
                set("problem", problem.as_str().into());
            }
            Outcome::Released { problem } => set("problem", problem.as_deref().into()),
        }
        row
    }
}

/// Returns the cards that pushes to these targets are about: those that changed since each target last polled. Call it
/// after the claim has been committed.
///
/// # Errors
/// When the database fails.
pub async fn news(
    session: &mut impl Session,
    claimed: &[Claimed],
) -> Result<HashMap<TargetKey, Vec<(CardId, SerialNumber)>>, StoreError> {
    let rows = claimed
        .iter()
        .map(|c| json!({"workspace": c.workspace_id, "issuer": c.issuer_id, "target": c.id, "polled_position": c.polled_position}));
    let rows = Value::from_iter(rows).to_string();
    let found: Vec<(WorkspaceId, IssuerId, TargetId, CardId, SerialNumber)> =
        on_db!(session, NEWS, |sql, c| sqlx::query_as(sql).bind(&rows).fetch_all(c).await?);
    let mut changed: HashMap<TargetKey, Vec<(CardId, SerialNumber)>> = HashMap::new();
    for (workspace, issuer, id, card, serial) in found {
        changed.entry(TargetKey { workspace, issuer, id }).or_default().push((card, serial));
    }
    Ok(changed)
}

/// Records the outcomes of many pushes in one statement, except those whose lease was lost to another worker meanwhile.
/// Returns the targets whose outcome was recorded, each with its lease.
///
/// # Errors
/// When the database fails.
pub async fn record_outcomes(
    tx: &mut Tx,
    batch: &[DeliveryResult],
) -> Result<HashSet<(TargetKey, String)>, StoreError> {
    let rows = Value::from_iter(batch.iter().map(DeliveryResult::to_json)).to_string();
    hold_of_batch(tx, &rows).await?;
    let holders: Vec<(WorkspaceId, IssuerId, TargetId, String)> =
        on_db!(tx, HOLDERS, |sql, c| sqlx::query_as(sql).bind(&rows).fetch_all(c).await?);
    on_db!(tx, RECORD_OUTCOMES, |sql, c| {
        sqlx::query(sql).bind(&rows).execute(c).await?;
    });
    let holders = holders.into_iter();
    Ok(holders.map(|(workspace, issuer, id, lease)| (TargetKey { workspace, issuer, id }, lease)).collect())
}

/// Makes up to a thousand targets of the issuer due that wait only because the push service had failed, and returns
/// how many those were. To be called when the service answers again.
///
/// # Errors
/// When the database fails.
pub async fn service_is_back(tx: &mut Tx, issuer: &IssuerId, now: Timestamp) -> Result<u64, StoreError> {
    on_db!(tx, SERVICE_IS_BACK, |sql, c| Ok(sqlx::query(sql).bind(issuer).bind(now).execute(c).await?.rows_affected()))
}

/// Returns how many targets were pushed to, haven't polled since, and should be reminded now.
///
/// # Errors
/// When the database fails.
pub async fn to_remind(session: &mut impl Session, now: Timestamp) -> Result<i64, StoreError> {
    on_db!(session, TO_REMIND, |sql, c| Ok(sqlx::query_scalar(sql).bind(now).fetch_one(c).await?))
}

/// Examines up to `limit` of the targets to be reminded and makes those due that are still behind. Returns how many are
/// behind, and how many were examined.
///
/// # Errors
/// When the database fails.
pub async fn remind(tx: &mut Tx, now: Timestamp, limit: i64) -> Result<(u64, u64), StoreError> {
    let rows: Vec<i64> = on_db!(tx, REMIND, |sql, c| {
        // PostgreSQL types integer constants as 32-bit.
        let rows: Vec<i32> = sqlx::query_scalar(sql).bind(now).bind(limit).fetch_all(c).await?;
        rows.into_iter().map(i64::from).collect()
    });
    Ok((rows.iter().sum::<i64>().unsigned_abs(), rows.len() as u64))
}

/// Returns what a lease still holds; the targets stay due.
///
/// # Errors
/// When the database fails.
pub async fn release(tx: &mut Tx, lease: &str) -> Result<u64, StoreError> {
    on_db!(tx, RELEASE, |sql, c| Ok(sqlx::query(sql).bind(lease).execute(c).await?.rows_affected()))
}

/// Ends every lease. To be called only where no other node can hold one: when a node starts on an embedded database,
/// the process that held them is gone.
///
/// # Errors
/// When the database fails.
pub async fn release_all(tx: &mut Tx) -> Result<u64, StoreError> {
    on_db!(tx, RELEASE_ALL, |sql, c| Ok(sqlx::query(sql).execute(c).await?.rows_affected()))
}

/// Returns how many targets must still be notified of a change.
///
/// # Errors
/// When the database fails.
pub async fn unfinished(session: &mut impl Session) -> Result<i64, StoreError> {
    on_db!(session, UNFINISHED, |sql, c| Ok(sqlx::query_scalar(sql).fetch_one(c).await?))
}

/// Returns the earliest due time of all targets; it lies in the future when none is due yet.
///
/// # Errors
/// When the database fails.
pub async fn oldest_due(session: &mut impl Session) -> Result<Option<Timestamp>, StoreError> {
    on_db!(session, OLDEST_DUE, |sql, c| Ok(sqlx::query_scalar(sql).fetch_one(c).await?))
}

/// Returns how many cards a phone holds in an older state, among up to `limit` targets that are due and as many that
/// were pushed to and haven't followed yet.
///
/// # Errors
/// When the database fails.
pub async fn cards_behind(session: &mut impl Session, limit: i64) -> Result<i64, StoreError> {
    on_db!(session, CARDS_BEHIND, |sql, c| Ok(sqlx::query_scalar(sql).bind(limit).fetch_one(c).await?))
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}
