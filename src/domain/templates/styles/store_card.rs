//! The style of loyalty, gift and stored-value cards.

use crate::domain::templates::styles::Style;

pub(super) const STYLE: Style = Style { name: "storeCard", strip: Some((375, 144)) };
