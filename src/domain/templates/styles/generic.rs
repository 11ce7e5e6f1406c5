//! The style of memberships and everything without a style of its own.

use crate::domain::templates::styles::Style;

pub(super) const STYLE: Style = Style { name: "generic", strip: None };
