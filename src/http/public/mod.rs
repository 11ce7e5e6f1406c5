//! What customers meet: the page of a card, and what is said when there is none.
//!
//! [`pages`] holds one typed context for each page, [`texts`] everything that our pages say in every language. The
//! handlers fill the contexts; nothing here knows a store or a request.

pub mod card_page;
pub mod download;
pub mod pages;
pub mod texts;
