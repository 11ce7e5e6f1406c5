//! Offers.

use super::Style;

pub(super) const STYLE: Style = Style { name: "coupon", strip: Some((375, 144)) };
