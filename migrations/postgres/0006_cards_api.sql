-- The newest `updated_at` given to a card of the workspace: like the position it only grows, whatever the clock does,
-- so a list of what changed since a moment never misses what commits later.
ALTER TABLE workspaces ADD COLUMN changed_at BIGINT NOT NULL DEFAULT 0;
UPDATE workspaces SET changed_at =
    COALESCE((SELECT MAX(c.updated_at) FROM cards c WHERE c.workspace_id = workspaces.id), 0);

-- Set on what is left of an erased card: enough for the phones that hold its pass, without any value of it.
ALTER TABLE cards ADD COLUMN erased_at BIGINT;

CREATE INDEX cards_by_update ON cards (workspace_id, updated_at, id) WHERE erased_at IS NULL;
CREATE INDEX cards_of_template_by_update ON cards (workspace_id, template_id, updated_at, id) WHERE erased_at IS NULL;
-- Nearly all cards are active; the others must not be searched for among them.
CREATE INDEX cards_set_aside_by_update ON cards (workspace_id, state, updated_at, id)
    WHERE erased_at IS NULL AND state <> 'active';
CREATE INDEX cards_ending ON cards (expires_at) WHERE state = 'active' AND expires_at IS NOT NULL;
