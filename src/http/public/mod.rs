//! The public pages for customers: the page of a card, and messages when there is none.
//!
//! [`pages`] holds one typed context for each page, [`texts`] every text of our pages in every language. The handlers
//! fill the contexts; nothing in those two knows a store or a request.

pub mod card_page;
pub mod download;
pub mod pages;
pub mod texts;
