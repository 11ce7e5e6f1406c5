-- What happened, in the workspace's order of commits: `n` counts within the position that one transaction took.
-- An event of an erased card keeps its place with an empty type, so that a reader who stopped at it can go on.
CREATE TABLE events (
    workspace_id TEXT NOT NULL REFERENCES workspaces (id),
    position BIGINT NOT NULL,
    n BIGINT NOT NULL,
    id TEXT NOT NULL UNIQUE,
    type TEXT NOT NULL,
    card_id TEXT,
    at BIGINT NOT NULL,
    data TEXT NOT NULL,
    PRIMARY KEY (workspace_id, position, n)
);
CREATE INDEX events_by_card ON events (workspace_id, card_id, position, n);
CREATE INDEX events_page_opened ON events (workspace_id, card_id, position) WHERE type = 'card.page_opened';
