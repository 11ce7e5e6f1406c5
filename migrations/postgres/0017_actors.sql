-- Who or what an event comes from: 'system' for phones, customers and jobs; unknown for events that are older than this.
ALTER TABLE events ADD COLUMN actor_kind TEXT;
ALTER TABLE events ADD COLUMN actor_id TEXT;

-- What somebody did to a workspace that no event tells, in the workspace's order of commits. Only ever added to; retention
-- alone removes what is old. An entry is written by a transaction that holds the workspace's counter.
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
