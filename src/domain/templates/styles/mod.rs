//! The styles of cards: one file for each, and one entry in the list here.

mod boarding_pass;
mod coupon;
mod event_ticket;
mod generic;
mod store_card;

/// A style of cards: its name and what it shows.
#[derive(Debug, PartialEq, Eq)]
pub struct Style {
    /// Its name in template documents; also the key of the style dictionary in pass.json.
    pub name: &'static str,
    /// The size of the strip picture in points, if the style shows one.
    pub strip: Option<(u32, u32)>,
}

/// Every style.
pub const STYLES: [&Style; 5] =
    [&store_card::STYLE, &coupon::STYLE, &generic::STYLE, &event_ticket::STYLE, &boarding_pass::STYLE];

/// Returns the style of that name.
pub fn style(name: &str) -> Option<&'static Style> {
    STYLES.into_iter().find(|style| style.name == name)
}

/// Returns the names of all styles, for messages.
pub fn names() -> String {
    STYLES.map(|style| style.name).join(", ")
}
