//! Admission to events.

use super::Style;

pub(super) const STYLE: Style = Style { name: "eventTicket", strip: Some((375, 98)) };
