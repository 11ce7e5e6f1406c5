-- The last text of the backend's own that a card shows on its back, as JSON: the text, in one language or several, and whether
-- it must differ from the same text before it. Personal, so it goes with the card.
ALTER TABLE cards ADD COLUMN message TEXT;
