-- What phones complain about, grouped: one row for each form of message of a pass type. No token, address or personal
-- value is kept.
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
