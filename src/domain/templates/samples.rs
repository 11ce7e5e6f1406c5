//! Plausible values of a template's attributes, with which its cards are checked and previewed before the first one exists.

use serde_json::{Map, Value, json};

use crate::domain::templates::Template;
use crate::domain::time::Timestamp;
use crate::domain::values::attribute::{Attribute, AttributeType, AttributeValue};
use crate::domain::values::money::Decimal;

/// Returns a plausible value for every attribute.
pub fn sample_values(template: &Template, now: Timestamp) -> Map<String, Value> {
    let value = |a: &Attribute| {
        // An attribute used as a link must be an address.
        let mut links = template.all_fields().filter_map(|(_, field)| field.link.as_ref()?.single_attribute());
        let is_link = links.any(|name| name == a.name.as_str());
        let sample = || if is_link { json!("https://example.com/") } else { sample_value(&a.kind, now) };
        let value = a.default.clone().unwrap_or_else(sample);
        (a.name.as_str().to_owned(), value)
    };
    template.attributes.iter().map(value).collect()
}

/// Returns a plausible value of a type.
fn sample_value(kind: &AttributeType, now: Timestamp) -> Value {
    match kind {
        AttributeType::Text { max_length } => json!("Sample".chars().take(*max_length).collect::<String>()),
        AttributeType::Integer => json!(120),
        AttributeType::Decimal => json!(7.5),
        AttributeType::Money { currency } => {
            let amount = Decimal::parse("12").unwrap_or_else(|| unreachable!("a number"));
            AttributeValue::Money(amount, *currency).to_json()
        }
        AttributeType::Boolean => json!(true),
        AttributeType::Date => json!("2030-12-31"),
        AttributeType::DateTime => json!(now),
        AttributeType::Choice { choices } => json!(choices.first()),
        AttributeType::Url | AttributeType::Image => json!("https://example.com/"),
        AttributeType::Phone => json!("+37120000000"),
        AttributeType::Email => json!("anna@example.com"),
    }
}
