-- By what workspaces sign, set by API. A pass type may have several certificates that overlap; the newest valid one signs.
CREATE TABLE apple_certificates (
    workspace_id TEXT NOT NULL REFERENCES workspaces (id),
    pass_type_id TEXT NOT NULL REFERENCES pass_types (id),
    -- The certificate's SHA-256 in hexadecimal digits.
    fingerprint TEXT NOT NULL,
    -- Certificate, intermediate and private key; encrypted under the master key.
    sealed BLOB NOT NULL,
    -- New cards get the pass type whose certificate was set last.
    set_at BIGINT NOT NULL,
    PRIMARY KEY (workspace_id, pass_type_id, fingerprint)
);
