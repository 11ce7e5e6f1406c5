//! What customers meet: the page of a card, and what is said when there is none.
