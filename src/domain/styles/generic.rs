//! Memberships and everything without a style of its own.

use super::Style;

pub(super) const STYLE: Style = Style { name: "generic", strip: None };
