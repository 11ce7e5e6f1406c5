-- When a refresh may go on: written by whichever node made its last step, so that more nodes aren't more pushes per second.
ALTER TABLE refreshes ADD COLUMN next_at BIGINT NOT NULL DEFAULT 0;
