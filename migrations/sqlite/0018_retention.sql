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
