//! Templates: drafts, pictures, checks, previews, publishing and its consequences.

pub mod check_design;
pub mod check_template;
pub mod draft;
pub mod images;
pub mod load_starters;
pub mod preview_template;
pub mod publish_template;
pub mod published;
pub mod put_template;
pub mod refresh_cards;
pub mod starters;
pub mod template_versions;
pub mod transfer_template;
pub mod unchanged;
