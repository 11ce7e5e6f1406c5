-- Times are microseconds since 1970 in UTC; `modified` is in whole seconds. JSON is text and never queried inside.

CREATE TABLE workspaces (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    -- The order of commits: taken once by every change that a wallet must learn of.
    position BIGINT NOT NULL,
    -- The newest `updated_at` given to a card of the workspace: like the position it only grows, whatever the clock does,
    -- so a list of what changed since a moment never misses what commits later.
    changed_at BIGINT NOT NULL,
    -- The secret that authentication and page tokens are derived from; encrypted under the master key, never rotated.
    secret BYTEA NOT NULL,
    -- The time zone in which the workspace writes moments; NULL is the service's.
    time_zone TEXT,
    created_at BIGINT NOT NULL
);

CREATE TABLE api_keys (
    id TEXT NOT NULL PRIMARY KEY,
    workspace_id TEXT NOT NULL REFERENCES workspaces (id),
    name TEXT NOT NULL,
    hash BYTEA NOT NULL UNIQUE,
    scopes TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    revoked_at BIGINT
);
CREATE INDEX api_keys_by_name ON api_keys (workspace_id, name);

-- The identities under which workspaces issue passes: at Apple a pass type. An identity belongs to one workspace.
CREATE TABLE issuers (
    id TEXT NOT NULL PRIMARY KEY,
    workspace_id TEXT NOT NULL REFERENCES workspaces (id),
    wallet TEXT NOT NULL CHECK (wallet IN ('apple', 'google')),
    -- The account that the wallet's maker knows the identity by: at Apple the team.
    account TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

-- The certificates of Apple issuers that were set by API. An issuer may have several that overlap; the newest valid one
-- signs.
CREATE TABLE apple_certificates (
    workspace_id TEXT NOT NULL REFERENCES workspaces (id),
    pass_type_id TEXT NOT NULL REFERENCES issuers (id),
    -- The certificate's SHA-256 in hexadecimal digits.
    fingerprint TEXT NOT NULL,
    -- Certificate, intermediate and private key; encrypted under the master key.
    sealed BYTEA NOT NULL,
    -- New cards get the pass type whose certificate was set last.
    set_at BIGINT NOT NULL,
    PRIMARY KEY (workspace_id, pass_type_id, fingerprint)
);

-- Issuers whose credentials the wallet's service refuses: nothing is sent for them but a probe every five minutes, by any
-- node, until one succeeds or the credentials are replaced.
CREATE TABLE issuer_pauses (
    issuer_id TEXT NOT NULL PRIMARY KEY REFERENCES issuers (id),
    workspace_id TEXT NOT NULL REFERENCES workspaces (id),
    -- The fingerprint of the refused credentials.
    credentials TEXT NOT NULL,
    reason TEXT NOT NULL,
    since BIGINT NOT NULL,
    probe_at BIGINT NOT NULL,
    scheduled_at BIGINT NOT NULL
);

CREATE TABLE templates (
    workspace_id TEXT NOT NULL REFERENCES workspaces (id),
    id TEXT NOT NULL,
    draft TEXT NOT NULL,
    version BIGINT,
    position BIGINT NOT NULL,
    modified BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (workspace_id, id)
);

-- Numbers of a template's versions are never given twice, also not after it was deleted and made anew: other nodes
-- hold versions in memory by their number.
CREATE TABLE deleted_templates (
    workspace_id TEXT NOT NULL REFERENCES workspaces (id),
    id TEXT NOT NULL,
    version BIGINT NOT NULL,
    PRIMARY KEY (workspace_id, id)
);

CREATE TABLE template_versions (
    workspace_id TEXT NOT NULL,
    template_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    document TEXT NOT NULL,
    -- Its place in the order of commits and its Last-Modified; NULL for versions from before a restore.
    position BIGINT,
    modified BIGINT,
    published_at BIGINT NOT NULL,
    PRIMARY KEY (workspace_id, template_id, version),
    FOREIGN KEY (workspace_id, template_id) REFERENCES templates (workspace_id, id)
);

-- Contents by their SHA-256, so that versions share what they have in common.
CREATE TABLE blobs (
    workspace_id TEXT NOT NULL REFERENCES workspaces (id),
    digest BYTEA NOT NULL,
    content BYTEA NOT NULL,
    PRIMARY KEY (workspace_id, digest)
);

-- Pictures as uploaded; version 0 is the draft. An empty locale or tier means all of them.
CREATE TABLE template_images (
    workspace_id TEXT NOT NULL,
    template_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    role TEXT NOT NULL,
    locale TEXT NOT NULL,
    tier TEXT NOT NULL,
    digest BYTEA NOT NULL,
    PRIMARY KEY (workspace_id, template_id, version, role, locale, tier),
    FOREIGN KEY (workspace_id, template_id) REFERENCES templates (workspace_id, id),
    FOREIGN KEY (workspace_id, digest) REFERENCES blobs (workspace_id, digest)
);
-- Finds contents that nothing shows any more.
CREATE INDEX template_images_by_digest ON template_images (workspace_id, digest);

-- The ready files of a published version. A role may have several pictures, of which a card's values choose a variant;
-- an empty tier or variant means all of them.
CREATE TABLE template_files (
    workspace_id TEXT NOT NULL,
    template_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    tier TEXT NOT NULL,
    variant TEXT NOT NULL,
    path TEXT NOT NULL,
    digest BYTEA NOT NULL,
    PRIMARY KEY (workspace_id, template_id, version, tier, variant, path),
    FOREIGN KEY (workspace_id, template_id, version) REFERENCES template_versions (workspace_id, template_id, version),
    FOREIGN KEY (workspace_id, digest) REFERENCES blobs (workspace_id, digest)
);
CREATE INDEX template_files_by_digest ON template_files (workspace_id, digest);

CREATE TABLE cards (
    workspace_id TEXT NOT NULL,
    id TEXT NOT NULL,
    serial_number TEXT NOT NULL,
    template_id TEXT NOT NULL,
    locale TEXT,
    attributes TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('active', 'voided', 'expired')),
    expires_at BIGINT,
    expired_at BIGINT,
    sequence BIGINT,
    revision BIGINT NOT NULL,
    position BIGINT NOT NULL,
    modified BIGINT NOT NULL,
    page_generation BIGINT NOT NULL,
    page_token_hash BYTEA NOT NULL UNIQUE,
    live_message TEXT,
    -- The backend's last message that the card shows, as JSON: the text, in one language or several, and whether it must
    -- differ from the same text before it. Personal, so it is erased with the card.
    message TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    -- Set on what is left of an erased card: enough for the wallets that hold its passes, without any value of it.
    erased_at BIGINT,
    PRIMARY KEY (workspace_id, id),
    FOREIGN KEY (workspace_id, template_id) REFERENCES templates (workspace_id, id)
);
CREATE INDEX cards_by_template ON cards (workspace_id, template_id, modified);
CREATE INDEX cards_by_update ON cards (workspace_id, updated_at, id) WHERE erased_at IS NULL;
CREATE INDEX cards_of_template_by_update ON cards (workspace_id, template_id, updated_at, id) WHERE erased_at IS NULL;
-- Nearly all cards are active; the others must not be searched for among them.
CREATE INDEX cards_set_aside_by_update ON cards (workspace_id, state, updated_at, id)
    WHERE erased_at IS NULL AND state <> 'active';
CREATE INDEX cards_ending ON cards (expires_at) WHERE state = 'active' AND expires_at IS NOT NULL;

-- A card in one wallet. It keeps the issuer under which it was made.
CREATE TABLE passes (
    workspace_id TEXT NOT NULL,
    card_id TEXT NOT NULL,
    wallet TEXT NOT NULL CHECK (wallet IN ('apple', 'google')),
    issuer_id TEXT NOT NULL REFERENCES issuers (id),
    -- Its number at the issuer: at Apple the serial number.
    object_id TEXT NOT NULL,
    -- The newest content version that the wallet has fetched or acknowledged.
    acknowledged BIGINT,
    acknowledged_at BIGINT,
    PRIMARY KEY (workspace_id, card_id, wallet),
    UNIQUE (issuer_id, object_id),
    FOREIGN KEY (workspace_id, card_id) REFERENCES cards (workspace_id, id)
);

-- Cards that publishings left as they were: no publishing up to the position `through` changed anything that the card
-- has shown since `face`. Void when the card changed after `face`.
CREATE TABLE unchanged_faces (
    workspace_id TEXT NOT NULL,
    card_id TEXT NOT NULL,
    face BIGINT NOT NULL,
    -- The face's Last-Modified, in whole seconds.
    modified BIGINT NOT NULL,
    through BIGINT NOT NULL,
    PRIMARY KEY (workspace_id, card_id),
    FOREIGN KEY (workspace_id, card_id) REFERENCES cards (workspace_id, id)
);

-- What is notified of changes: at Apple a device, once for each issuer.
CREATE TABLE targets (
    workspace_id TEXT NOT NULL REFERENCES workspaces (id),
    issuer_id TEXT NOT NULL REFERENCES issuers (id),
    id TEXT NOT NULL,
    -- Where notifications go: at Apple the push token.
    address TEXT NOT NULL,
    -- 'other' is never notified: it polls by itself.
    kind TEXT NOT NULL CHECK (kind IN ('apns', 'google', 'other')),
    registered_at BIGINT NOT NULL,
    dead_since BIGINT,
    problem TEXT,
    -- Counts the changes that it must be notified of; an outcome covers those that were counted when it was claimed.
    marks BIGINT NOT NULL,
    due_at BIGINT,
    scheduled_at BIGINT,
    -- Why it waits although it was due before: 'service' ends as soon as the service answers again, 'target' does not.
    waits TEXT CHECK (waits IN ('service', 'target')),
    attempts BIGINT NOT NULL,
    lease TEXT,
    leased_at BIGINT,
    leased_until BIGINT,
    notified_position BIGINT NOT NULL,
    notified_at BIGINT,
    polled_position BIGINT NOT NULL,
    polled_at BIGINT,
    -- When a notification that was accepted but not followed by a poll is repeated, and how often it was so far.
    remind_at BIGINT,
    reminders BIGINT NOT NULL,
    PRIMARY KEY (workspace_id, issuer_id, id)
);
-- Claims are made per issuer, so that one that is refused or backlogged delays no other.
CREATE INDEX targets_due ON targets (issuer_id, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX targets_to_remind ON targets (remind_at) WHERE remind_at IS NOT NULL;
CREATE INDEX targets_leased ON targets (lease) WHERE lease IS NOT NULL;

-- The cards that a target shows.
CREATE TABLE registrations (
    workspace_id TEXT NOT NULL,
    issuer_id TEXT NOT NULL,
    target_id TEXT NOT NULL,
    card_id TEXT NOT NULL,
    position BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (workspace_id, issuer_id, target_id, card_id),
    FOREIGN KEY (workspace_id, issuer_id, target_id) REFERENCES targets (workspace_id, issuer_id, id),
    FOREIGN KEY (workspace_id, card_id) REFERENCES cards (workspace_id, id)
);
CREATE INDEX registrations_by_card ON registrations (workspace_id, card_id);

-- Work that goes through many cards at a paced rate, such as marking the targets of a published template's cards.
CREATE TABLE fan_outs (
    workspace_id TEXT NOT NULL REFERENCES workspaces (id),
    kind TEXT NOT NULL,
    -- The cards that it goes through: for 'publishing' those of that template.
    selection TEXT NOT NULL,
    -- The last card that was gone through.
    last_card_id TEXT NOT NULL,
    -- The first publishing that it is for: what an earlier one changed, an earlier fan-out has marked.
    first_position BIGINT,
    started_at BIGINT NOT NULL,
    -- When it may go on: written by whichever node made its last step, so that more nodes aren't a faster pace.
    next_at BIGINT NOT NULL,
    PRIMARY KEY (workspace_id, kind, selection)
);
CREATE INDEX fan_outs_next ON fan_outs (next_at);

-- What happened, in the workspace's order of commits: `n` counts within the position that one transaction took. An event
-- of an erased card keeps its place with an empty type, so that a reader who stopped at it can go on. An event is
-- recorded by a transaction that holds its workspace's counter, so the workspace is there: looking it up again for each
-- event was a third of what recording one costs on PostgreSQL.
CREATE TABLE events (
    workspace_id TEXT NOT NULL,
    position BIGINT NOT NULL,
    n BIGINT NOT NULL,
    id TEXT NOT NULL UNIQUE,
    type TEXT NOT NULL,
    card_id TEXT,
    at BIGINT NOT NULL,
    data TEXT NOT NULL,
    -- Who or what it comes from: 'system' for phones, customers and jobs.
    actor_kind TEXT,
    actor_id TEXT,
    PRIMARY KEY (workspace_id, position, n)
);
CREATE INDEX events_by_card ON events (workspace_id, card_id, position, n);
CREATE INDEX events_page_opened ON events (workspace_id, card_id, position) WHERE type = 'card.page_opened';
-- Kinds of events that a pass's holder can cause at will: a card has a limited number of each a day, and further ones are
-- counted on the last one.
CREATE INDEX events_repeatable ON events (workspace_id, card_id, type, position, n)
    WHERE type = 'card.installed' OR type = 'card.removed' OR type = 'delivery.failed';

-- How far a workspace's events were counted into daily_counts, and the newest of the ids that retention removed: by it, a
-- reader who stopped at an event that is gone is told apart from one that names no event.
CREATE TABLE event_marks (
    workspace_id TEXT NOT NULL PRIMARY KEY REFERENCES workspaces (id),
    counted_position BIGINT NOT NULL,
    counted_n BIGINT NOT NULL,
    pruned_id TEXT
);

-- What happened to the cards of a template on a day, counted before the events are removed. The day is the workspace's own
-- (2026-12-24, in its time zone). `wallet` is empty for what concerns none, `link` for cards that came by no link.
CREATE TABLE daily_counts (
    workspace_id TEXT NOT NULL,
    day TEXT NOT NULL,
    template_id TEXT NOT NULL,
    wallet TEXT NOT NULL,
    link TEXT NOT NULL,
    issued BIGINT NOT NULL,
    updated BIGINT NOT NULL,
    installed BIGINT NOT NULL,
    removed BIGINT NOT NULL,
    pushed BIGINT NOT NULL,
    fetched BIGINT NOT NULL,
    PRIMARY KEY (workspace_id, day, template_id, wallet, link)
);

-- Changes to a workspace that no event reports, in the workspace's order of commits. Append-only; retention alone removes
-- old entries. An entry is written by a transaction that holds the workspace's counter.
CREATE TABLE audit (
    workspace_id TEXT NOT NULL,
    position BIGINT NOT NULL,
    n BIGINT NOT NULL,
    id TEXT NOT NULL UNIQUE,
    at BIGINT NOT NULL,
    actor_kind TEXT NOT NULL,
    actor_id TEXT,
    action TEXT NOT NULL,
    subject_kind TEXT NOT NULL,
    subject_id TEXT NOT NULL,
    data TEXT NOT NULL,
    PRIMARY KEY (workspace_id, position, n)
);

-- The answers to requests with an Idempotency-Key, for their repeats.
CREATE TABLE idempotent_requests (
    workspace_id TEXT NOT NULL REFERENCES workspaces (id),
    idempotency_key TEXT NOT NULL,
    -- The SHA-256 of the request.
    fingerprint BYTEA NOT NULL,
    -- Identifies the request that answers.
    token TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    -- Encrypted under the master key; NULL while the first request is being answered.
    answer BYTEA,
    PRIMARY KEY (workspace_id, idempotency_key)
);
CREATE INDEX idempotent_requests_by_age ON idempotent_requests (started_at);

-- What phones report about Apple passes, grouped: one row for each form of message of a pass type. No token, address or
-- personal value is kept.
CREATE TABLE device_logs (
    workspace_id TEXT NOT NULL REFERENCES workspaces (id),
    form TEXT NOT NULL,
    pass_type_id TEXT NOT NULL,
    message TEXT NOT NULL,
    count BIGINT NOT NULL,
    first_at BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    serial_number TEXT,
    device TEXT,
    PRIMARY KEY (workspace_id, form)
);

-- One row, written again and again to find out whether the database can be written.
CREATE TABLE write_probes (
    id BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
    content TEXT NOT NULL
);
