//! The style of journeys. What they need beyond fields, above all `transitType`, comes through a template's
//! `apple.pass`.

use crate::domain::templates::styles::Style;

pub(super) const STYLE: Style = Style { name: "boardingPass", strip: None };
