//! The style of tickets to events.

use crate::domain::templates::styles::Style;

pub(super) const STYLE: Style = Style { name: "eventTicket", strip: Some((375, 98)) };
