//! The style of offers.

use crate::domain::templates::styles::Style;

pub(super) const STYLE: Style = Style { name: "coupon", strip: Some((375, 144)) };
