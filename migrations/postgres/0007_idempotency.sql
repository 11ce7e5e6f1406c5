-- What a repeat of a request is answered with (Idempotency-Key).
CREATE TABLE idempotent_requests (
    workspace_id TEXT NOT NULL REFERENCES workspaces (id),
    idempotency_key TEXT NOT NULL,
    -- The SHA-256 of what was asked.
    fingerprint BYTEA NOT NULL,
    -- Who answers it.
    token TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    -- Encrypted under the master key; absent while the first request is being answered.
    answer BYTEA,
    PRIMARY KEY (workspace_id, idempotency_key)
);
CREATE INDEX idempotent_requests_by_age ON idempotent_requests (started_at);
