//! Issuing, changing, listing, expiring and erasing cards.

pub mod card_change;
pub mod card_locks;
pub mod card_request;
pub mod card_view;
pub mod command;
pub mod erase_card;
pub mod expire_cards;
pub mod list_cards;
pub mod plan_changes;
pub mod put_cards;
pub mod record_page_view;
