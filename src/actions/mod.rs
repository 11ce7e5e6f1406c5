//! What the product does, one file for each thing. An action owns its transaction; it knows no HTTP.

pub mod after_restore;
pub mod delivery_ledger;
pub mod device_logs;
pub mod push_lines;
pub mod wake;

pub mod api_keys;
pub mod card_answer;
pub mod card_change;
pub mod card_document;
pub mod check_template;
pub mod create_workspace;
pub mod deliver;
pub mod draft;
pub mod erase_card;
pub mod error;
pub mod expire_cards;
pub mod fetch_pass;
pub mod idempotency;
pub mod images;
pub mod issuers;
pub mod list_cards;
pub mod list_changed;
pub mod list_events;
pub mod note_fetches;
pub mod note_page;
pub mod preview_template;
pub mod publish_template;
pub mod published;
pub mod put_cards;
pub mod put_template;
pub mod refresh_cards;
pub mod register_device;
pub mod starters;
pub mod template_versions;
pub mod together;
