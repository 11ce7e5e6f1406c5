-- Times are microseconds since 1970 in UTC; `modified` is in whole seconds. JSON is text and never queried inside.

CREATE TABLE workspaces (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    -- The order of commits: taken once by every change that a phone must learn of.
    position BIGINT NOT NULL,
    -- From which authentication and page tokens are derived; encrypted under the master key, never rotated.
    secret BYTEA NOT NULL,
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

CREATE TABLE pass_types (
    id TEXT NOT NULL PRIMARY KEY,
    workspace_id TEXT NOT NULL REFERENCES workspaces (id),
    team TEXT NOT NULL,
    created_at BIGINT NOT NULL
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

CREATE TABLE template_versions (
    workspace_id TEXT NOT NULL,
    template_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    document TEXT NOT NULL,
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

-- The ready files of a published version's passes.
CREATE TABLE template_files (
    workspace_id TEXT NOT NULL,
    template_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    tier TEXT NOT NULL,
    path TEXT NOT NULL,
    digest BYTEA NOT NULL,
    PRIMARY KEY (workspace_id, template_id, version, tier, path),
    FOREIGN KEY (workspace_id, template_id, version) REFERENCES template_versions (workspace_id, template_id, version),
    FOREIGN KEY (workspace_id, digest) REFERENCES blobs (workspace_id, digest)
);

CREATE TABLE cards (
    workspace_id TEXT NOT NULL,
    id TEXT NOT NULL,
    serial_number TEXT NOT NULL,
    pass_type_id TEXT NOT NULL REFERENCES pass_types (id),
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
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (workspace_id, id),
    UNIQUE (pass_type_id, serial_number),
    FOREIGN KEY (workspace_id, template_id) REFERENCES templates (workspace_id, id)
);
CREATE INDEX cards_by_template ON cards (workspace_id, template_id, modified);

-- The newest face of a card that some phone fetched.
CREATE TABLE fetches (
    workspace_id TEXT NOT NULL,
    card_id TEXT NOT NULL,
    face BIGINT NOT NULL,
    fetched_at BIGINT NOT NULL,
    PRIMARY KEY (workspace_id, card_id),
    FOREIGN KEY (workspace_id, card_id) REFERENCES cards (workspace_id, id)
);

CREATE TABLE devices (
    workspace_id TEXT NOT NULL REFERENCES workspaces (id),
    pass_type_id TEXT NOT NULL REFERENCES pass_types (id),
    id TEXT NOT NULL,
    push_token TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('apns', 'other')),
    registered_at BIGINT NOT NULL,
    dead_since BIGINT,
    problem TEXT,
    -- Counts the changes it must be told of; a delivery settles those it saw when it was claimed.
    marks BIGINT NOT NULL,
    due_at BIGINT,
    scheduled_at BIGINT,
    attempts BIGINT NOT NULL,
    lease TEXT,
    leased_at BIGINT,
    leased_until BIGINT,
    pushed BIGINT NOT NULL,
    pushed_at BIGINT,
    asked BIGINT NOT NULL,
    asked_at BIGINT,
    PRIMARY KEY (workspace_id, pass_type_id, id)
);
CREATE INDEX devices_due ON devices (due_at) WHERE due_at IS NOT NULL;

CREATE TABLE registrations (
    workspace_id TEXT NOT NULL,
    pass_type_id TEXT NOT NULL,
    device_id TEXT NOT NULL,
    card_id TEXT NOT NULL,
    position BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (workspace_id, pass_type_id, device_id, card_id),
    FOREIGN KEY (workspace_id, pass_type_id, device_id) REFERENCES devices (workspace_id, pass_type_id, id),
    FOREIGN KEY (workspace_id, card_id) REFERENCES cards (workspace_id, id)
);
CREATE INDEX registrations_by_card ON registrations (workspace_id, card_id);

-- Published templates whose cards' devices are still being marked, at a paced rate.
CREATE TABLE refreshes (
    workspace_id TEXT NOT NULL,
    template_id TEXT NOT NULL,
    last_card_id TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    PRIMARY KEY (workspace_id, template_id),
    FOREIGN KEY (workspace_id, template_id) REFERENCES templates (workspace_id, id)
);
