//! Admission to events.

use crate::domain::templates::styles::Style;

pub(super) const STYLE: Style = Style { name: "eventTicket", strip: Some((375, 98)) };
