-- Why a device waits although its time has not come: 'service' ends as soon as the push service answers again,
-- 'device' does not.
ALTER TABLE devices ADD COLUMN waits TEXT;
-- A push that was taken but never followed by a question is repeated at this moment, so many times so far.
ALTER TABLE devices ADD COLUMN remind_at BIGINT;
ALTER TABLE devices ADD COLUMN reminders BIGINT NOT NULL DEFAULT 0;

-- Claims go by pass type, so that one whose certificate is refused, or that is full, holds up no other.
DROP INDEX devices_due;
CREATE INDEX devices_due ON devices (pass_type_id, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX devices_to_remind ON devices (remind_at) WHERE remind_at IS NOT NULL;

-- Pass types whose certificate APNs refuses: nothing is pushed for them but a probe every five minutes, by any node,
-- until one succeeds or the certificate is another one.
CREATE TABLE push_pauses (
    pass_type_id TEXT NOT NULL PRIMARY KEY REFERENCES pass_types (id),
    workspace_id TEXT NOT NULL REFERENCES workspaces (id),
    certificate TEXT NOT NULL,
    reason TEXT NOT NULL,
    since BIGINT NOT NULL,
    probe_at BIGINT NOT NULL,
    scheduled_at BIGINT NOT NULL
);
