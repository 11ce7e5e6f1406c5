//! Devices, their registrations, and which changes each has still to be notified of.
//!
//! `marks` counts the changes of which a device must be notified. A claim remembers the count, and a successful
//! delivery leaves the device due only if it was marked again meanwhile. So no change is lost between a claim and its
//! outcome, and a push that is sent twice does no harm.
//!
//! Claims are made per pass type, and outcomes are recorded in batches, one statement for any number. A row's lease is
//! its fence: an outcome whose lease was lost to another worker changes nothing.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use serde_json::{Value, json};

use super::types::Json;
use super::{Session, StoreError, Tx, on_db, statements};
use crate::domain::cards::Card;
use crate::domain::ids::{CardId, DeviceLibraryId, PassTypeId, PushToken, SerialNumber, WorkspaceId};
use crate::domain::time::Timestamp;

/// Writes the outcomes of a batch to their devices; `o` are the rows of `$1`. `kind` is one of those in
/// [`DeliveryResult::to_json`]; any other value only returns the lease.
macro_rules! record_outcomes {
    ($outcomes:literal) => {
        concat!(
            "UPDATE devices SET
            pushed = CASE WHEN o.kind = 'pushed' THEN o.position ELSE pushed END,
            pushed_at = CASE WHEN o.kind = 'pushed' THEN o.at ELSE pushed_at END,
            attempts = CASE o.kind WHEN 'pushed' THEN 0 WHEN 'gave_up' THEN 0 WHEN 'retry' THEN o.attempts ELSE devices.attempts END,
            problem = CASE WHEN o.kind = 'pushed' THEN NULL ELSE COALESCE(o.problem, devices.problem) END,
            waits = CASE WHEN o.kind = 'retry' THEN o.waits WHEN o.kind = 'released' THEN devices.waits END,
            dead_since = CASE WHEN o.kind = 'gone' AND registered_at = o.registered THEN o.at ELSE dead_since END,
            due_at = CASE
                WHEN o.kind = 'pushed' THEN CASE WHEN devices.marks = o.marks THEN NULL ELSE o.due END
                WHEN o.kind = 'retry' THEN o.due
                WHEN o.kind = 'gave_up' THEN CASE WHEN devices.marks = o.marks THEN NULL ELSE o.at END
                WHEN o.kind = 'gone' AND registered_at = o.registered THEN NULL
                ELSE due_at END,
            scheduled_at = CASE
                WHEN o.kind = 'pushed' OR o.kind = 'gave_up' THEN CASE WHEN devices.marks = o.marks THEN NULL ELSE o.at END
                WHEN o.kind = 'retry' THEN o.at
                WHEN o.kind = 'gone' AND registered_at = o.registered THEN NULL
                ELSE scheduled_at END,
            remind_at = CASE
                WHEN o.kind = 'pushed' AND devices.marks = o.marks AND asked < o.position THEN
                    CASE reminders WHEN 0 THEN o.remind_0 WHEN 1 THEN o.remind_1 WHEN 2 THEN o.remind_2 END
                WHEN o.kind = 'released' THEN remind_at END,
            lease = NULL, leased_at = NULL, leased_until = NULL
        FROM ", $outcomes, " AS o
        WHERE devices.workspace_id = o.workspace AND devices.pass_type_id = o.pass_type AND devices.id = o.device
            AND devices.lease = o.lease"
        )
    };
}

/// Records a batch of polls. A reminder stays due when a push left after the poll was answered, or when the answer
/// named passes, which must still be fetched; only an answer without passes ends the wait for the phone.
macro_rules! record_polls {
    ($batch:literal) => {
        concat!(
            "WITH e AS MATERIALIZED (",
            $batch,
            ") UPDATE devices SET asked = e.position, asked_at = $2,
                remind_at = CASE WHEN devices.pushed > e.position OR e.listed > 0 THEN devices.remind_at END
            FROM e WHERE devices.workspace_id = e.workspace AND devices.pass_type_id = e.pass_type AND devices.id = e.device
                AND devices.asked < e.position"
        )
    };
}

/// Selects the devices of a batch whose lease is still held.
macro_rules! holders {
    ($batch:literal) => {
        concat!(
            "WITH o AS MATERIALIZED (",
            $batch,
            ") SELECT d.workspace_id, d.pass_type_id, d.id, d.lease FROM o CROSS JOIN devices d
            WHERE d.workspace_id = o.workspace AND d.pass_type_id = o.pass_type AND d.id = o.device AND d.lease = o.lease"
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

/// Selects what a device holds of a pass type.
macro_rules! held {
    () => {
        concat!(
            "SELECT d.workspace_id, w.position AS newest, d.asked, c.id AS card_id, c.serial_number, c.position,
                r.position AS registered, CASE WHEN c.erased_at IS NULL THEN ",
            published!(),
            " ELSE 0 END AS published, CASE WHEN c.erased_at IS NULL THEN t.position ELSE 0 END AS last_published
            FROM pass_types p JOIN workspaces w ON w.id = p.workspace_id
            JOIN devices d ON d.workspace_id = p.workspace_id AND d.pass_type_id = p.id AND d.id = $2
            JOIN registrations r ON r.workspace_id = d.workspace_id AND r.pass_type_id = d.pass_type_id AND r.device_id = d.id
            JOIN cards c ON c.workspace_id = r.workspace_id AND c.id = r.card_id
            JOIN templates t ON t.workspace_id = c.workspace_id AND t.id = c.template_id
            WHERE p.id = $1 ORDER BY c.serial_number"
        )
    };
}

/// Selects the cards that pushes to a batch of devices are about: those that changed since the device's last poll and
/// since its registration, which brought the newest face. `r` are the registrations of the batch `o`, `c` their cards,
/// `t` the templates.
macro_rules! news {
    ($batch:literal, $joins:literal) => {
        concat!(
            "WITH o AS MATERIALIZED (",
            $batch,
            ") SELECT r.workspace_id, r.pass_type_id, r.device_id, c.id, c.serial_number FROM o ",
            $joins,
            " WHERE c.erased_at IS NULL AND ((c.position > o.asked AND c.position > r.position)
                    OR (",
            published!(),
            " > o.asked AND ",
            published!(),
            " > r.position))
            ORDER BY c.id"
        )
    };
}

/// Whether the device hasn't followed its last push: it didn't poll, or hasn't fetched everything the push was about.
macro_rules! behind {
    () => {
        concat!(
            "(asked < pushed OR EXISTS (SELECT 1 FROM registrations r
            JOIN cards c ON c.workspace_id = r.workspace_id AND c.id = r.card_id
            JOIN templates t ON t.workspace_id = c.workspace_id AND t.id = c.template_id
            WHERE r.workspace_id = devices.workspace_id AND r.pass_type_id = devices.pass_type_id AND r.device_id = devices.id
                AND ((c.position > r.position AND c.position <= devices.pushed AND c.position > COALESCE((SELECT f.face
                        FROM fetches f WHERE f.workspace_id = c.workspace_id AND f.card_id = c.id), 0))
                    OR (c.erased_at IS NULL AND ",
            published!(),
            " > r.position AND ",
            published!(),
            " <= devices.pushed
                        AND ",
            published!(),
            " > COALESCE((SELECT f.face
                            FROM fetches f WHERE f.workspace_id = c.workspace_id AND f.card_id = c.id), 0)))))"
        )
    };
}

/// Counts the cards that changed since a phone that holds them last polled or last fetched them. Examines up to $1
/// devices that are due, and as many that were pushed to and haven't followed yet.
macro_rules! cards_behind {
    ($joins:literal) => {
        concat!(
            "WITH o AS MATERIALIZED (SELECT workspace_id AS workspace, pass_type_id AS pass_type, id AS device, asked
                FROM (SELECT * FROM devices WHERE due_at IS NOT NULL LIMIT $1) due
                UNION ALL SELECT workspace_id, pass_type_id, id, asked
                FROM (SELECT * FROM devices WHERE remind_at IS NOT NULL AND due_at IS NULL LIMIT $1) told)
            SELECT COUNT(*) FROM (SELECT DISTINCT c.workspace_id, c.id FROM o ",
            $joins,
            " WHERE c.erased_at IS NULL AND ((c.position > r.position AND (c.position > o.asked OR c.position > ",
            fetched!(),
            ")) OR (",
            published!(),
            " > r.position AND (",
            published!(),
            " > o.asked OR ",
            published!(),
            " > ",
            fetched!(),
            ")))) behind"
        )
    };
}

/// The newest face of the card `c` that was fetched; 0 when none was.
macro_rules! fetched {
    () => {
        "COALESCE((SELECT f.face FROM fetches f WHERE f.workspace_id = c.workspace_id AND f.card_id = c.id), 0)"
    };
}

/// Examines devices whose reminder is due, and makes those due that are behind.
macro_rules! remind {
    ($ending:literal) => {
        concat!(
            "WITH n AS MATERIALIZED (SELECT workspace_id, pass_type_id, id, CASE WHEN ",
            behind!(),
            " THEN 1 ELSE 0 END AS behind FROM devices
                WHERE remind_at IS NOT NULL AND (remind_at <= $1 OR pushed_at > $1) AND due_at IS NULL
                ORDER BY remind_at LIMIT $2",
            $ending,
            ") UPDATE devices SET remind_at = NULL, reminders = reminders + n.behind,
                due_at = CASE WHEN n.behind = 1 THEN $1 ELSE due_at END,
                scheduled_at = CASE WHEN n.behind = 1 THEN $1 ELSE scheduled_at END
            FROM n WHERE devices.workspace_id = n.workspace_id AND devices.pass_type_id = n.pass_type_id AND devices.id = n.id
            RETURNING CASE WHEN due_at IS NULL THEN 0 ELSE 1 END"
        )
    };
}

statements! {
    PUT = "INSERT INTO devices (workspace_id, pass_type_id, id, push_token, kind, registered_at, marks, attempts, pushed, asked)
        VALUES ($1, $2, $3, $4, $5, $6, 0, 0, 0, 0)
        ON CONFLICT (workspace_id, pass_type_id, id) DO UPDATE SET push_token = excluded.push_token, kind = excluded.kind,
            registered_at = excluded.registered_at, dead_since = NULL, problem = NULL, attempts = 0, waits = NULL,
            due_at = CASE WHEN excluded.kind <> 'apns' THEN NULL WHEN devices.dead_since IS NOT NULL
                    OR (devices.due_at IS NOT NULL AND devices.push_token <> excluded.push_token)
                THEN excluded.registered_at ELSE devices.due_at END,
            scheduled_at = CASE WHEN excluded.kind <> 'apns' THEN NULL WHEN devices.dead_since IS NOT NULL
                    OR (devices.due_at IS NOT NULL AND devices.push_token <> excluded.push_token)
                THEN excluded.registered_at ELSE devices.scheduled_at END,
            lease = CASE WHEN devices.push_token = excluded.push_token THEN devices.lease END,
            leased_at = CASE WHEN devices.push_token = excluded.push_token THEN devices.leased_at END,
            leased_until = CASE WHEN devices.push_token = excluded.push_token THEN devices.leased_until END,
            remind_at = CASE WHEN excluded.kind = 'apns' THEN devices.remind_at END";
    // The pass type may have been moved to another workspace while this waited.
    REGISTER = "INSERT INTO registrations (workspace_id, pass_type_id, device_id, card_id, position, created_at)
        SELECT p.workspace_id, p.id, CAST($3 AS TEXT), CAST($4 AS TEXT), CAST($5 AS BIGINT), CAST($6 AS BIGINT)
        FROM pass_types p WHERE p.id = $2 AND p.workspace_id = $1
        ON CONFLICT (workspace_id, pass_type_id, device_id, card_id) DO NOTHING";
    IS_REGISTERED = "SELECT COUNT(*) FROM registrations
        WHERE workspace_id = $1 AND pass_type_id = $2 AND device_id = $3 AND card_id = $4";
    // A repeated registration that changes nothing is found by this, so that nothing is written for it.
    IS_REGISTERED_AS_GIVEN = "SELECT COUNT(*) FROM registrations r
        JOIN devices d ON d.workspace_id = r.workspace_id AND d.pass_type_id = r.pass_type_id AND d.id = r.device_id
        WHERE r.workspace_id = $1 AND r.pass_type_id = $2 AND r.device_id = $3 AND r.card_id = $4
            AND d.push_token = $5 AND d.kind = $6 AND d.dead_since IS NULL AND d.problem IS NULL
            AND d.registered_at > $7 AND d.registered_at <= $8";
    GIVES_WAY = "SELECT d.id FROM registrations r
        JOIN devices d ON d.workspace_id = r.workspace_id AND d.pass_type_id = r.pass_type_id AND d.id = r.device_id
        WHERE r.workspace_id = $1 AND r.card_id = $2 AND (d.dead_since IS NOT NULL OR d.asked = 0)
        ORDER BY CASE WHEN d.dead_since IS NULL THEN 1 ELSE 0 END, r.created_at, d.id LIMIT 1";
    UNREGISTER = "DELETE FROM registrations WHERE workspace_id = $1 AND pass_type_id = $2 AND device_id = $3 AND card_id = $4";
    LOCK = "SELECT asked FROM devices WHERE workspace_id = $1 AND pass_type_id = $2 AND id = $3" + " FOR NO KEY UPDATE";
    LEAVE_REGISTRATIONS = "DELETE FROM registrations WHERE workspace_id = $1 AND pass_type_id = $2";
    LEAVE_DEVICES = "DELETE FROM devices WHERE workspace_id = $1 AND pass_type_id = $2";
    FORGET = "DELETE FROM devices WHERE workspace_id = $1 AND pass_type_id = $2 AND id = $3 AND NOT EXISTS (
        SELECT 1 FROM registrations r WHERE r.workspace_id = devices.workspace_id
            AND r.pass_type_id = devices.pass_type_id AND r.device_id = devices.id)";
    HELD = { sqlite: held!(), postgres: held!() };
    NOTE_ASKED = {
        sqlite: record_polls!("SELECT value ->> 'workspace' AS workspace, value ->> 'pass_type' AS pass_type,
            value ->> 'device' AS device, value ->> 'position' AS position, value ->> 'listed' AS listed FROM json_each($1)"),
        postgres: record_polls!("SELECT * FROM json_to_recordset(CAST($1 AS json))
            AS r(workspace text, pass_type text, device text, position bigint, listed bigint)"),
    };
    NEWS = {
        sqlite: news!(
            "SELECT value ->> 'workspace' AS workspace, value ->> 'pass_type' AS pass_type, value ->> 'device' AS device,
                value ->> 'asked' AS asked FROM json_each($1)",
            "CROSS JOIN registrations r
                ON r.workspace_id = o.workspace AND r.pass_type_id = o.pass_type AND r.device_id = o.device
            CROSS JOIN cards c ON c.workspace_id = r.workspace_id AND c.id = r.card_id
            CROSS JOIN templates t ON t.workspace_id = c.workspace_id AND t.id = c.template_id"
        ),
        postgres: news!(
            "SELECT * FROM json_to_recordset(CAST($1 AS json)) AS r(workspace text, pass_type text, device text, asked bigint)",
            "CROSS JOIN LATERAL (SELECT * FROM registrations WHERE workspace_id = o.workspace
                AND pass_type_id = o.pass_type AND device_id = o.device OFFSET 0) r
            CROSS JOIN LATERAL (SELECT * FROM cards WHERE workspace_id = r.workspace_id AND id = r.card_id OFFSET 0) c
            CROSS JOIN LATERAL (SELECT * FROM templates WHERE workspace_id = c.workspace_id AND id = c.template_id OFFSET 0) t"
        ),
    };
    HOLDERS = {
        sqlite: holders!("SELECT value ->> 'workspace' AS workspace, value ->> 'pass_type' AS pass_type,
            value ->> 'device' AS device, value ->> 'lease' AS lease FROM json_each($1)"),
        postgres: holders!("SELECT * FROM json_to_recordset(CAST($1 AS json))
            AS r(workspace text, pass_type text, device text, lease text)"),
    };
    OF_CARD = "SELECT COUNT(*), COALESCE(SUM(CASE WHEN d.asked >= $3 THEN 1 ELSE 0 END), 0) FROM registrations r
        JOIN devices d ON d.workspace_id = r.workspace_id AND d.pass_type_id = r.pass_type_id AND d.id = r.device_id
        WHERE r.workspace_id = $1 AND r.card_id = $2";
    OF_CARDS = {
        sqlite: "SELECT r.card_id, COUNT(*), COALESCE(SUM(CASE WHEN d.asked >= e.value ->> 'face' THEN 1 ELSE 0 END), 0)
            FROM json_each($2) e CROSS JOIN registrations r ON r.workspace_id = $1 AND r.card_id = e.value ->> 'card'
            CROSS JOIN devices d ON d.workspace_id = r.workspace_id AND d.pass_type_id = r.pass_type_id AND d.id = r.device_id
            GROUP BY r.card_id",
        postgres: "SELECT r.card_id, COUNT(*), COALESCE(SUM(CASE WHEN d.asked >= e.face THEN 1 ELSE 0 END), 0)
            FROM json_to_recordset(CAST($2 AS json)) AS e(card text, face bigint)
            CROSS JOIN LATERAL (SELECT * FROM registrations WHERE workspace_id = $1 AND card_id = e.card OFFSET 0) r
            JOIN devices d ON d.workspace_id = r.workspace_id AND d.pass_type_id = r.pass_type_id AND d.id = r.device_id
            GROUP BY r.card_id",
    };
    TARGETS = "SELECT d.id, d.kind, d.dead_since, d.problem, d.due_at, d.remind_at, d.pushed, d.pushed_at, d.asked, d.asked_at
        FROM registrations r
        JOIN devices d ON d.workspace_id = r.workspace_id AND d.pass_type_id = r.pass_type_id AND d.id = r.device_id
        WHERE r.workspace_id = $1 AND r.card_id = $2 ORDER BY r.created_at, d.id LIMIT 1000";
    HOLD_OF_CARDS = {
        sqlite: "SELECT COUNT(*) FROM registrations
            WHERE workspace_id = $1 AND card_id IN (SELECT value FROM json_each($2))",
        postgres: "SELECT COUNT(*) FROM (SELECT d.id FROM devices d WHERE (d.workspace_id, d.pass_type_id, d.id) IN (
                SELECT r.workspace_id, r.pass_type_id, r.device_id FROM registrations r
                WHERE r.workspace_id = $1 AND r.card_id = ANY (ARRAY(SELECT json_array_elements_text(CAST($2 AS json)))))
            ORDER BY d.workspace_id, d.pass_type_id, d.id FOR NO KEY UPDATE OF d) held",
    };
    MARK = {
        sqlite: "UPDATE devices SET marks = marks + 1, reminders = 0, remind_at = NULL,
            scheduled_at = CASE WHEN due_at IS NULL THEN $3 ELSE scheduled_at END,
            due_at = COALESCE(due_at, CASE WHEN pushed_at <= $3 AND pushed_at + $4 > $3 THEN pushed_at + $4 ELSE $3 END)
        WHERE workspace_id = $1 AND kind = 'apns' AND dead_since IS NULL AND (pass_type_id, id) IN (
            SELECT pass_type_id, device_id FROM registrations WHERE workspace_id = $1 AND card_id IN (SELECT value FROM json_each($2)))",
        postgres: "UPDATE devices SET marks = marks + 1, reminders = 0, remind_at = NULL,
            scheduled_at = CASE WHEN due_at IS NULL THEN $3 ELSE scheduled_at END,
            due_at = COALESCE(due_at, CASE WHEN pushed_at <= $3 AND pushed_at + $4 > $3 THEN pushed_at + $4 ELSE $3 END)
        WHERE workspace_id = $1 AND kind = 'apns' AND dead_since IS NULL AND (pass_type_id, id) IN (
            SELECT pass_type_id, device_id FROM registrations WHERE workspace_id = $1 AND card_id = ANY (ARRAY(SELECT json_array_elements_text(CAST($2 AS json)))))",
    };
    // Takes one step through the index for each pass type, however many of its devices wait.
    DUE_PASS_TYPES = "WITH RECURSIVE waiting (id) AS (
            SELECT MIN(pass_type_id) FROM devices WHERE due_at IS NOT NULL
            UNION ALL
            SELECT (SELECT MIN(d.pass_type_id) FROM devices d WHERE d.due_at IS NOT NULL AND d.pass_type_id > waiting.id)
            FROM waiting WHERE waiting.id IS NOT NULL)
        SELECT p.workspace_id, p.id FROM waiting JOIN pass_types p ON p.id = waiting.id ORDER BY p.id";
    OUTLOOK = "SELECT EXISTS (SELECT 1 FROM devices WHERE pass_type_id = $1 AND due_at IS NOT NULL
                AND (due_at <= $2 OR scheduled_at > $2) AND (lease IS NULL OR leased_until <= $2 OR leased_at > $2 + 5000000)),
            (SELECT MIN(due_at) FROM devices WHERE pass_type_id = $1 AND due_at > $2)";
    CLAIM = {
        sqlite: "UPDATE devices SET lease = $1, leased_at = $2, leased_until = $3
            WHERE (workspace_id, pass_type_id, id) IN (SELECT workspace_id, pass_type_id, id FROM devices
                WHERE pass_type_id = $5 AND due_at IS NOT NULL AND (due_at <= $2 OR scheduled_at > $2)
                    AND (lease IS NULL OR leased_until <= $2 OR leased_at > $2 + 5000000)
                ORDER BY due_at LIMIT $4)
            RETURNING workspace_id, pass_type_id, id, push_token, registered_at, marks, attempts, due_at, asked",
        postgres: "UPDATE devices SET lease = $1, leased_at = $2, leased_until = $3
            WHERE (workspace_id, pass_type_id, id) IN (SELECT workspace_id, pass_type_id, id FROM devices
                WHERE pass_type_id = $5 AND due_at IS NOT NULL AND (due_at <= $2 OR scheduled_at > $2)
                    AND (lease IS NULL OR leased_until <= $2 OR leased_at > $2 + 5000000)
                ORDER BY due_at LIMIT $4 FOR NO KEY UPDATE SKIP LOCKED)
            RETURNING workspace_id, pass_type_id, id, push_token, registered_at, marks, attempts, due_at, asked",
    };
    // A device that waits only because the service failed may serve as the probe, too.
    CLAIM_PROBE = {
        sqlite: "UPDATE devices SET lease = $1, leased_at = $2, leased_until = $3
            WHERE (workspace_id, pass_type_id, id) IN (SELECT workspace_id, pass_type_id, id FROM devices
                WHERE pass_type_id = $4 AND due_at IS NOT NULL
                    AND (due_at <= $2 OR scheduled_at > $2 OR waits = 'service')
                    AND (lease IS NULL OR leased_until <= $2 OR leased_at > $2 + 5000000)
                ORDER BY due_at LIMIT 1)
            RETURNING workspace_id, pass_type_id, id, push_token, registered_at, marks, attempts, due_at, asked",
        postgres: "UPDATE devices SET lease = $1, leased_at = $2, leased_until = $3
            WHERE (workspace_id, pass_type_id, id) IN (SELECT workspace_id, pass_type_id, id FROM devices
                WHERE pass_type_id = $4 AND due_at IS NOT NULL
                    AND (due_at <= $2 OR scheduled_at > $2 OR waits = 'service')
                    AND (lease IS NULL OR leased_until <= $2 OR leased_at > $2 + 5000000)
                ORDER BY due_at LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED)
            RETURNING workspace_id, pass_type_id, id, push_token, registered_at, marks, attempts, due_at, asked",
    };
    HOLD_OF_BATCH = {
        sqlite: "SELECT COUNT(*) FROM json_each($1)",
        postgres: "SELECT COUNT(*) FROM (SELECT d.id FROM devices d
            JOIN json_to_recordset(CAST($1 AS JSON)) AS o (workspace TEXT, pass_type TEXT, device TEXT)
                ON d.workspace_id = o.workspace AND d.pass_type_id = o.pass_type AND d.id = o.device
            ORDER BY d.workspace_id, d.pass_type_id, d.id FOR NO KEY UPDATE OF d) held",
    };
    SETTLE = {
        sqlite: record_outcomes!("(SELECT value ->> '$.workspace' AS workspace, value ->> '$.pass_type' AS pass_type,
            value ->> '$.device' AS device, value ->> '$.lease' AS lease, value ->> '$.marks' AS marks,
            value ->> '$.registered' AS registered, value ->> '$.kind' AS kind, value ->> '$.position' AS position,
            value ->> '$.attempts' AS attempts, value ->> '$.due' AS due, value ->> '$.problem' AS problem,
            value ->> '$.waits' AS waits, value ->> '$.at' AS at, value ->> '$.remind_0' AS remind_0,
            value ->> '$.remind_1' AS remind_1, value ->> '$.remind_2' AS remind_2 FROM json_each($1))"),
        postgres: record_outcomes!("(SELECT * FROM json_to_recordset(CAST($1 AS JSON)) AS r (workspace TEXT, pass_type TEXT,
            device TEXT, lease TEXT, marks BIGINT, registered BIGINT, kind TEXT, position BIGINT, attempts BIGINT,
            due BIGINT, problem TEXT, waits TEXT, at BIGINT, remind_0 BIGINT, remind_1 BIGINT, remind_2 BIGINT))"),
    };
    SERVICE_IS_BACK = {
        sqlite: "UPDATE devices SET due_at = $2, scheduled_at = $2, attempts = 0, waits = NULL
            WHERE (workspace_id, pass_type_id, id) IN (SELECT workspace_id, pass_type_id, id FROM devices
                WHERE pass_type_id = $1 AND due_at > $2 AND waits = 'service' LIMIT 1000)",
        postgres: "UPDATE devices SET due_at = $2, scheduled_at = $2, attempts = 0, waits = NULL
            WHERE (workspace_id, pass_type_id, id) IN (SELECT workspace_id, pass_type_id, id FROM devices
                WHERE pass_type_id = $1 AND due_at > $2 AND waits = 'service'
                LIMIT 1000 FOR NO KEY UPDATE SKIP LOCKED)",
    };
    TO_REMIND = "SELECT COUNT(*) FROM devices WHERE remind_at IS NOT NULL AND (remind_at <= $1 OR pushed_at > $1)";
    REMIND = { sqlite: remind!(""), postgres: remind!(" FOR NO KEY UPDATE SKIP LOCKED") };
    RELEASE = "UPDATE devices SET lease = NULL, leased_at = NULL, leased_until = NULL WHERE lease = $1";
    RELEASE_ALL = "UPDATE devices SET lease = NULL, leased_at = NULL, leased_until = NULL WHERE lease IS NOT NULL";
    // Takes one step through the index for each pass type, as above.
    OLDEST_DUE = "WITH RECURSIVE waiting (id) AS (
            SELECT MIN(pass_type_id) FROM devices WHERE due_at IS NOT NULL
            UNION ALL
            SELECT (SELECT MIN(d.pass_type_id) FROM devices d WHERE d.due_at IS NOT NULL AND d.pass_type_id > waiting.id)
            FROM waiting WHERE waiting.id IS NOT NULL)
        SELECT MIN(oldest) FROM (SELECT (SELECT MIN(d.due_at) FROM devices d
            WHERE d.due_at IS NOT NULL AND d.pass_type_id = waiting.id) AS oldest FROM waiting WHERE waiting.id IS NOT NULL) each";
    CARDS_BEHIND = {
        sqlite: cards_behind!(
            "CROSS JOIN registrations r
                ON r.workspace_id = o.workspace AND r.pass_type_id = o.pass_type AND r.device_id = o.device
            CROSS JOIN cards c ON c.workspace_id = r.workspace_id AND c.id = r.card_id
            CROSS JOIN templates t ON t.workspace_id = c.workspace_id AND t.id = c.template_id"
        ),
        postgres: cards_behind!(
            "CROSS JOIN LATERAL (SELECT * FROM registrations WHERE workspace_id = o.workspace
                AND pass_type_id = o.pass_type AND device_id = o.device OFFSET 0) r
            CROSS JOIN LATERAL (SELECT * FROM cards WHERE workspace_id = r.workspace_id AND id = r.card_id OFFSET 0) c
            CROSS JOIN LATERAL (SELECT * FROM templates WHERE workspace_id = c.workspace_id AND id = c.template_id OFFSET 0) t"
        ),
    };
    UNFINISHED = "SELECT COUNT(*) FROM devices WHERE due_at IS NOT NULL";
}

/// How a device is notified of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// By Apple's push service.
    Apns,
    /// Not at all: a reader of another maker that registers as phones do and polls by itself.
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

/// The key of a device.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub struct DeviceKey {
    pub workspace: WorkspaceId,
    pub pass_type: PassTypeId,
    pub id: DeviceLibraryId,
}

/// Adds a device or replaces its push token. A dead device is alive again and due at once, since it wasn't marked while
/// it was dead. A new token ends the lease of a push under way: whatever its outcome, that push went to the old token.
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

/// Whether the device is alive and registered for the card with that token, which was registered after `since`.
///
/// # Errors
/// When the database fails.
pub async fn is_registered_as_given(
    session: &mut impl Session,
    key: &DeviceKey,
    card: &CardId,
    (token, kind): (&PushToken, DeviceKind),
    (since, now): (Timestamp, Timestamp),
) -> Result<bool, StoreError> {
    on_db!(session, IS_REGISTERED_AS_GIVEN, |sql, c| {
        let query = sqlx::query_scalar(sql).bind(&key.workspace).bind(&key.pass_type).bind(&key.id).bind(card);
        let count: i64 = query.bind(token).bind(kind.as_str()).bind(since).bind(now).fetch_one(c).await?;
        Ok(count > 0)
    })
}

/// Returns the device to replace when a card has as many as it may have: one whose token is dead, otherwise one that
/// has never polled, as phones do right after they registered; of those the first to register. `None` when all are in
/// use.
///
/// # Errors
/// When the database fails.
pub async fn gives_way(session: &mut impl Session, card: &Card) -> Result<Option<DeviceKey>, StoreError> {
    let id: Option<DeviceLibraryId> = on_db!(session, GIVES_WAY, |sql, c| {
        sqlx::query_scalar(sql).bind(&card.workspace).bind(&card.id).fetch_optional(c).await?
    });
    Ok(id.map(|id| DeviceKey { workspace: card.workspace.clone(), pass_type: card.pass_type.clone(), id }))
}

/// Locks devices, in key order.
///
/// # Errors
/// When the database fails.
pub async fn hold(tx: &mut Tx, keys: &[&DeviceKey]) -> Result<(), StoreError> {
    let rows = keys.iter().map(|k| json!({"workspace": k.workspace, "pass_type": k.pass_type, "device": k.id}));
    hold_of_batch(tx, &Value::from_iter(rows).to_string()).await
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

/// Ends a registration; false when there was none. A device without registrations is deleted.
///
/// # Errors
/// When the database fails.
pub async fn unregister(tx: &mut Tx, key: &DeviceKey, card: &CardId) -> Result<bool, StoreError> {
    // The device is locked first: a registration under way for another card must not be orphaned.
    on_db!(tx, LOCK, |sql, c| {
        let query = sqlx::query(sql).bind(&key.workspace).bind(&key.pass_type).bind(&key.id);
        query.fetch_optional(c).await?;
    });
    let removed = on_db!(tx, UNREGISTER, |sql, c| {
        let query = sqlx::query(sql).bind(&key.workspace).bind(&key.pass_type).bind(&key.id).bind(card);
        query.execute(c).await?.rows_affected()
    });
    forget_unregistered(tx, key).await?;
    Ok(removed > 0)
}

/// Deletes a device that has no registrations.
///
/// # Errors
/// When the database fails.
pub async fn forget_unregistered(tx: &mut Tx, key: &DeviceKey) -> Result<(), StoreError> {
    on_db!(tx, FORGET, |sql, c| {
        sqlx::query(sql).bind(&key.workspace).bind(&key.pass_type).bind(&key.id).execute(c).await?;
        Ok(())
    })
}

/// Deletes a workspace's devices of a pass type that it no longer owns.
///
/// # Errors
/// When the database fails.
pub async fn leave_pass_type(tx: &mut Tx, workspace: &WorkspaceId, pass_type: &PassTypeId) -> Result<(), StoreError> {
    for statement in [LEAVE_REGISTRATIONS, LEAVE_DEVICES] {
        on_db!(tx, statement, |sql, c| {
            sqlx::query(sql).bind(workspace).bind(pass_type).execute(c).await?;
        });
    }
    Ok(())
}

/// The passes that a device holds of a pass type, from one snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The workspace that owns the pass type.
    pub workspace: WorkspaceId,
    /// The workspace's newest position: every change up to it is included.
    pub newest: i64,
    /// The position up to which the device has polled.
    pub asked: i64,
    /// Its passes, ordered by serial number.
    pub passes: Vec<HeldPass>,
}

/// A pass that a device holds.
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
    asked: i64,
    card_id: CardId,
    serial_number: SerialNumber,
    position: i64,
    registered: i64,
    published: i64,
    last_published: i64,
}

/// Returns what the device holds of the pass type; `None` when it is not registered there.
///
/// # Errors
/// When the database fails.
pub async fn held(
    session: &mut impl Session,
    pass_type: &PassTypeId,
    device: &DeviceLibraryId,
) -> Result<Option<Held>, StoreError> {
    let rows: Vec<HeldRow> =
        on_db!(session, HELD, |sql, c| sqlx::query_as(sql).bind(pass_type).bind(device).fetch_all(c).await?);
    let Some(HeldRow { workspace_id, newest, asked, .. }) = rows.first() else { return Ok(None) };
    let (workspace, newest, asked) = (workspace_id.clone(), *newest, *asked);
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
    Ok(Some(Held { workspace, newest, asked, passes: passes.collect() }))
}

/// A device's poll for changes, as it was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    /// The position up to which it was answered.
    pub position: i64,
    /// Whether the answer named passes, which the device must still fetch.
    pub listed: bool,
}

/// Records polls; one older than the stored one changes nothing.
///
/// # Errors
/// When the database fails.
pub async fn record_polls(
    tx: &mut Tx,
    asked: &BTreeMap<DeviceKey, Question>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let rows = asked.iter().map(|(key, Question { position, listed })| {
        let listed = i64::from(*listed);
        json!({"workspace": key.workspace, "pass_type": key.pass_type, "device": key.id, "position": position, "listed": listed})
    });
    let rows = Value::from_iter(rows).to_string();
    hold_of_batch(tx, &rows).await?;
    on_db!(tx, NOTE_ASKED, |sql, c| {
        sqlx::query(sql).bind(&rows).bind(now).execute(c).await?;
        Ok(())
    })
}

/// Locks the devices of a batch in key order: every transaction that locks several does so in the same order.
async fn hold_of_batch(tx: &mut Tx, rows: &str) -> Result<(), StoreError> {
    let _: i64 = on_db!(tx, HOLD_OF_BATCH, |sql, c| sqlx::query_scalar(sql).bind(rows).fetch_one(c).await?);
    Ok(())
}

/// Returns how many devices hold the card, and how many of them have polled since it reached `face`.
///
/// # Errors
/// When the database fails.
pub async fn of_card(session: &mut impl Session, card: &Card, face: i64) -> Result<(i64, i64), StoreError> {
    on_db!(session, OF_CARD, |sql, c| {
        Ok(sqlx::query_as(sql).bind(&card.workspace).bind(&card.id).bind(face).fetch_one(c).await?)
    })
}

/// A device that holds a card, with what decides whether its pass is current.
#[derive(Debug, sqlx::FromRow)]
#[allow(missing_docs)]
pub struct Target {
    pub id: DeviceLibraryId,
    pub kind: String,
    pub dead_since: Option<Timestamp>,
    pub problem: Option<String>,
    pub due_at: Option<Timestamp>,
    pub remind_at: Option<Timestamp>,
    /// The position up to which it was notified.
    pub pushed: i64,
    pub pushed_at: Option<Timestamp>,
    /// The position up to which it has polled.
    pub asked: i64,
    pub asked_at: Option<Timestamp>,
}

/// Returns the devices that hold the card, in the order of their registration; at most a thousand.
///
/// # Errors
/// When the database fails.
pub async fn targets(session: &mut impl Session, card: &Card) -> Result<Vec<Target>, StoreError> {
    on_db!(session, TARGETS, |sql, c| {
        Ok(sqlx::query_as(sql).bind(&card.workspace).bind(&card.id).fetch_all(c).await?)
    })
}

/// Returns the same as [`of_card`] for many cards at once; those that no device holds are left out.
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
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Claimed {
    workspace_id: WorkspaceId,
    pass_type_id: PassTypeId,
    id: DeviceLibraryId,
    /// The token that the push goes to.
    pub push_token: PushToken,
    /// When the token was registered.
    pub registered_at: Timestamp,
    /// The number of changes that a push now covers.
    pub marks: i64,
    /// The number of failures in a row so far.
    pub attempts: i64,
    /// Since when the device has been due.
    pub due_at: Timestamp,
    /// The position up to which the device had polled.
    asked: i64,
}

impl Claimed {
    /// Returns the device's key.
    pub fn key(&self) -> DeviceKey {
        DeviceKey { workspace: self.workspace_id.clone(), pass_type: self.pass_type_id.clone(), id: self.id.clone() }
    }

    /// Returns the pass type, which is the push's topic.
    pub fn pass_type(&self) -> &PassTypeId {
        &self.pass_type_id
    }

    /// Returns the workspace of the device.
    pub fn workspace(&self) -> &WorkspaceId {
        &self.workspace_id
    }
}

/// Returns the pass types with a device that must still be notified, now or later, each with its workspace.
///
/// # Errors
/// When the database fails.
pub async fn due_pass_types(session: &mut impl Session) -> Result<Vec<(WorkspaceId, PassTypeId)>, StoreError> {
    on_db!(session, DUE_PASS_TYPES, |sql, c| Ok(sqlx::query_as(sql).fetch_all(c).await?))
}

/// Returns whether a device of the pass type can be claimed now, and when the next one is due after that.
///
/// # Errors
/// When the database fails.
pub async fn outlook(
    session: &mut impl Session,
    pass_type: &PassTypeId,
    now: Timestamp,
) -> Result<(bool, Option<Timestamp>), StoreError> {
    on_db!(session, OUTLOOK, |sql, c| Ok(sqlx::query_as(sql).bind(pass_type).bind(now).fetch_one(c).await?))
}

/// Claims up to `limit` due devices of a pass type under the lease named `lease`. Due times and leases also end when
/// the clock went back to before they were set. Leases need more than five seconds of that: the clocks of two nodes
/// always differ a little, and the slower node must not claim what the other has just claimed. Commit at once: the
/// network comes after.
///
/// # Errors
/// When the database fails.
pub async fn claim(
    tx: &mut Tx,
    pass_type: &PassTypeId,
    lease: &str,
    now: Timestamp,
    until: Timestamp,
    limit: i64,
) -> Result<Vec<Claimed>, StoreError> {
    on_db!(tx, CLAIM, |sql, c| {
        Ok(sqlx::query_as(sql).bind(lease).bind(now).bind(until).bind(limit).bind(pass_type).fetch_all(c).await?)
    })
}

/// Claims one device of a pass type to find out whether its pushes are accepted again: one that is due, or that waits
/// only because the service failed.
///
/// # Errors
/// When the database fails.
pub async fn claim_probe(
    tx: &mut Tx,
    pass_type: &PassTypeId,
    lease: &str,
    now: Timestamp,
    until: Timestamp,
) -> Result<Option<Claimed>, StoreError> {
    on_db!(tx, CLAIM_PROBE, |sql, c| {
        Ok(sqlx::query_as(sql).bind(lease).bind(now).bind(until).bind(pass_type).fetch_optional(c).await?)
    })
}

/// The outcome of a push.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// The service accepted it; it covers everything up to the position at which it was claimed.
    Pushed {
        /// How soon the next push may follow.
        window: Duration,
        /// How long after it the push is repeated when the device doesn't poll: after the first push of a change, and
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
    /// Trying again won't help. The device stays, and the next change, including one made since the claim, tries anew.
    GaveUp {
        /// The reason, in plain words.
        problem: String,
    },
    /// There is no outcome for this device (nothing was sent, or the service or the certificate is at fault): it stays
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
    /// This device alone.
    Device,
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
    /// When the outcome was known.
    pub at: Timestamp,
}

impl DeliveryResult {
    fn to_json(&self) -> Value {
        let (claimed, at) = (&self.claimed, self.at);
        let mut row = json!({
            "workspace": claimed.workspace_id, "pass_type": claimed.pass_type_id, "device": claimed.id, "lease": self.lease,
            "marks": claimed.marks, "position": self.position, "registered": claimed.registered_at.micros(), "at": at.micros(), "kind": "released",
        });
        let mut set = |name: &str, value: Value| row[name] = value;
        match &self.outcome {
            Outcome::Pushed { window, remind_after: [first, second, third] } => {
                set("kind", "pushed".into());
                set("due", at.plus(*window).micros().into());
                set("remind_0", at.plus(*first).micros().into());
                set("remind_1", at.plus(*second).micros().into());
                set("remind_2", at.plus(*third).micros().into());
            }
            Outcome::Retry { attempts, due_at, fault, problem } => {
                set("kind", "retry".into());
                set("attempts", (*attempts).into());
                set("due", due_at.micros().into());
                set("waits", if *fault == Fault::Service { "service" } else { "device" }.into());
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

/// Returns the cards that pushes to these devices are about: those that changed since each device last polled. Call it
/// after the claim has been committed.
///
/// # Errors
/// When the database fails.
pub async fn news(
    session: &mut impl Session,
    claimed: &[Claimed],
) -> Result<HashMap<DeviceKey, Vec<(CardId, SerialNumber)>>, StoreError> {
    let rows = claimed
        .iter()
        .map(|c| json!({"workspace": c.workspace_id, "pass_type": c.pass_type_id, "device": c.id, "asked": c.asked}));
    let rows = Value::from_iter(rows).to_string();
    let found: Vec<(WorkspaceId, PassTypeId, DeviceLibraryId, CardId, SerialNumber)> =
        on_db!(session, NEWS, |sql, c| sqlx::query_as(sql).bind(&rows).fetch_all(c).await?);
    let mut changed: HashMap<DeviceKey, Vec<(CardId, SerialNumber)>> = HashMap::new();
    for (workspace, pass_type, id, card, serial) in found {
        changed.entry(DeviceKey { workspace, pass_type, id }).or_default().push((card, serial));
    }
    Ok(changed)
}

/// Records the outcomes of many pushes in one statement, except those whose lease was lost to another worker meanwhile.
/// Returns the devices whose outcome was recorded, each with its lease.
///
/// # Errors
/// When the database fails.
pub async fn record_outcomes(
    tx: &mut Tx,
    batch: &[DeliveryResult],
) -> Result<HashSet<(DeviceKey, String)>, StoreError> {
    let rows = Value::from_iter(batch.iter().map(DeliveryResult::to_json)).to_string();
    hold_of_batch(tx, &rows).await?;
    let holders: Vec<(WorkspaceId, PassTypeId, DeviceLibraryId, String)> =
        on_db!(tx, HOLDERS, |sql, c| sqlx::query_as(sql).bind(&rows).fetch_all(c).await?);
    on_db!(tx, SETTLE, |sql, c| {
        sqlx::query(sql).bind(&rows).execute(c).await?;
    });
    let holders = holders.into_iter();
    Ok(holders.map(|(workspace, pass_type, id, lease)| (DeviceKey { workspace, pass_type, id }, lease)).collect())
}

/// Makes up to a thousand devices of the pass type due that wait only because the push service had failed, and returns
/// how many those were. To be called when the service answers again.
///
/// # Errors
/// When the database fails.
pub async fn service_is_back(tx: &mut Tx, pass_type: &PassTypeId, now: Timestamp) -> Result<u64, StoreError> {
    on_db!(tx, SERVICE_IS_BACK, |sql, c| Ok(sqlx::query(sql)
        .bind(pass_type)
        .bind(now)
        .execute(c)
        .await?
        .rows_affected()))
}

/// Returns how many devices were pushed to, haven't polled since, and should be reminded now.
///
/// # Errors
/// When the database fails.
pub async fn to_remind(session: &mut impl Session, now: Timestamp) -> Result<i64, StoreError> {
    on_db!(session, TO_REMIND, |sql, c| Ok(sqlx::query_scalar(sql).bind(now).fetch_one(c).await?))
}

/// Examines up to `limit` of the devices to be reminded and makes those due that are still behind. Returns how many are
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

/// Returns what a lease still holds; the devices stay due.
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

/// Returns how many devices must still be notified of a change.
///
/// # Errors
/// When the database fails.
pub async fn unfinished(session: &mut impl Session) -> Result<i64, StoreError> {
    on_db!(session, UNFINISHED, |sql, c| Ok(sqlx::query_scalar(sql).fetch_one(c).await?))
}

/// Returns the earliest due time of all devices; it lies in the future when none is due yet.
///
/// # Errors
/// When the database fails.
pub async fn oldest_due(session: &mut impl Session) -> Result<Option<Timestamp>, StoreError> {
    on_db!(session, OLDEST_DUE, |sql, c| Ok(sqlx::query_scalar(sql).fetch_one(c).await?))
}

/// Returns how many cards a phone holds in an older state, among up to `limit` devices that are due and as many that
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
