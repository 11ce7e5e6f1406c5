-- Kinds of events that whoever holds a pass can bring about as often as he likes: of each, a card has so many a day, and
-- what exceeds them is counted on the last one.
CREATE INDEX events_repeatable ON events (workspace_id, card_id, type, position, n)
    WHERE type = 'card.installed' OR type = 'card.removed' OR type = 'delivery.failed';

-- What of a card's face publishings left as it was: no publishing up to the position `through` changed anything that the
-- card has shown since `face`. Void when the card changed after `face`.
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

-- A version's place in the order of commits and its Last-Modified; unknown for those that are older than this column, and
-- for those before a restore.
ALTER TABLE template_versions ADD COLUMN position BIGINT;
ALTER TABLE template_versions ADD COLUMN modified BIGINT;
UPDATE template_versions SET
    position = (SELECT t.position FROM templates t WHERE t.workspace_id = template_versions.workspace_id
        AND t.id = template_versions.template_id AND t.version = template_versions.version),
    modified = (SELECT t.modified FROM templates t WHERE t.workspace_id = template_versions.workspace_id
        AND t.id = template_versions.template_id AND t.version = template_versions.version);

-- The first publishing that a refresh is for: what an earlier one changed was told by an earlier refresh.
ALTER TABLE refreshes ADD COLUMN first_position BIGINT;
