//! Attributes: what a template declares about its cards, and the values that a card holds.

use serde_json::{Map, Value};

use crate::domain::ids::AttributeName;
use crate::domain::input::{Lines, Node, Object, Problems, pointer, some_of};
use crate::domain::render::budget::Extent;
use crate::domain::templates::picture::PictureName;
use crate::domain::time::Timestamp;
use crate::domain::values::money::{Currency, Decimal};
use crate::domain::values::phone::e164;

/// A declared attribute.
#[derive(Debug, Clone)]
pub struct Attribute {
    /// The name in expressions and the API.
    pub name: AttributeName,
    /// The type of its values.
    pub kind: AttributeType,
    /// The value of a card that was given none; already checked against `kind`.
    pub default: Option<Value>,
    /// Whether it says something about a person: such values are erased with the card and left out of webhooks.
    pub personal: bool,
}

impl Attribute {
    /// Returns the size of the largest value that it can have.
    pub fn largest(&self) -> Extent {
        crate::domain::render::budget::largest(&self.kind)
    }
}

/// The type of an attribute's values.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)] // the members say what they are
pub enum AttributeType {
    /// A text of at most `max_length` characters.
    Text { max_length: usize },
    /// A whole number within ±2^53.
    Integer,
    /// An exact decimal number of at most 15 digits.
    Decimal,
    /// An amount in one currency, a decimal string or number in whole units (10.50, not 1050).
    Money { currency: Currency },
    /// True or false.
    Boolean,
    /// A calendar day, `2026-12-31`.
    Date,
    /// A moment, RFC 3339.
    DateTime,
    /// One of these texts.
    Choice { choices: Vec<String> },
    /// An http or https address.
    Url,
    /// A picture of the template by its name, `strip@6`: which of the pictures prepared for a role the card shows. Or
    /// an https address, for wallets that fetch pictures themselves; an Apple pass doesn't show that.
    Image,
    /// A telephone number, stored in the form of E.164.
    Phone,
    /// An e-mail address.
    Email,
}

/// A checked value.
#[derive(Debug, Clone, PartialEq)]
pub enum AttributeValue {
    /// A text, a choice or an address.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// A decimal number.
    Decimal(Decimal),
    /// An amount.
    Money(Decimal, Currency),
    /// True or false.
    Boolean(bool),
    /// A calendar day.
    Date(jiff::civil::Date),
    /// A moment.
    DateTime(Timestamp),
}

/// The longest text an attribute may be declared to hold, in characters.
pub const MAX_TEXT: usize = 4096;

/// The names of the types in a template document.
pub const TYPE_NAMES: [&str; 12] =
    ["text", "integer", "decimal", "money", "boolean", "date", "datetime", "choice", "url", "image", "phone", "email"];

impl AttributeType {
    /// Returns the type's name in a template document.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Text { .. } => "text",
            Self::Integer => "integer",
            Self::Decimal => "decimal",
            Self::Money { .. } => "money",
            Self::Boolean => "boolean",
            Self::Date => "date",
            Self::DateTime => "datetime",
            Self::Choice { .. } => "choice",
            Self::Url => "url",
            Self::Image => "image",
            Self::Phone => "phone",
            Self::Email => "email",
        }
    }

    /// Checks a value from outside. Values are not repeated in problems: they may be personal.
    pub fn check(&self, node: &Node<'_>, problems: &mut Problems) -> Option<AttributeValue> {
        let mut refuse = |detail: String| {
            problems.add(&node.pointer, detail);
            None
        };
        match self {
            Self::Text { max_length } => {
                node.text(problems, *max_length, Lines::Many).map(|t| AttributeValue::Text(t.to_owned()))
            }
            Self::Integer => node.integer(problems).map(AttributeValue::Integer),
            Self::Decimal => match decimal(node.value) {
                Some(d) => Some(AttributeValue::Decimal(d)),
                None => refuse("is not a decimal number of at most 15 digits, as a number or a string".to_owned()),
            },
            Self::Money { currency } => match decimal(node.value) {
                Some(d) if d.decimals() > currency.decimals() => refuse(format!(
                    "has {} decimal places; {} has {}",
                    d.decimals(),
                    currency.as_str(),
                    currency.decimals()
                )),
                Some(d) => Some(AttributeValue::Money(d, *currency)),
                None => refuse("is not an amount; expected for example \"12.50\"".to_owned()),
            },
            Self::Boolean => node.boolean(problems).map(AttributeValue::Boolean),
            Self::Date => node.parsed(problems, |text| {
                let strict = text.len() == 10 && text.as_bytes().get(4) == Some(&b'-');
                match text.parse() {
                    Ok(date) if strict => Ok(AttributeValue::Date(date)),
                    _ => Err("is not a date; expected for example 2026-12-31"),
                }
            }),
            Self::DateTime => node.parsed(problems, |text| {
                Timestamp::parse_rfc3339(text).map(AttributeValue::DateTime).ok_or(
                    "is not a time of RFC 3339 of the years 1 to 9999; expected for example 2026-12-31T18:00:00Z",
                )
            }),
            Self::Choice { choices } => node.parsed(problems, |text| {
                if choices.iter().any(|choice| choice == text) {
                    Ok(AttributeValue::Text(text.to_owned()))
                } else {
                    Err(format!("is none of the choices {}", some_of(choices)))
                }
            }),
            Self::Url => {
                let text = node.filled(problems, 2048, Lines::One)?;
                match is_web_address(text) {
                    true => Some(AttributeValue::Text(text.to_owned())),
                    false => {
                        problems.add(&node.pointer, "is not an http or https address");
                        None
                    }
                }
            }
            Self::Image => node.parsed(problems, |text| match PictureName::parse(text) {
                Ok(PictureName { variant: None, .. }) => Err("names a role only; expected for example strip@6"),
                Ok(name) => Ok(AttributeValue::Text(name.to_string())),
                Err(_) if text.starts_with("https://") && text.len() <= 2048 && is_web_address(text) => {
                    Ok(AttributeValue::Text(text.to_owned()))
                }
                Err(e) => Err(e),
            }),
            Self::Phone => {
                let node = node.filled(problems, 32, Lines::One).map(|_| node)?;
                node.parsed(problems, e164).map(AttributeValue::Text)
            }
            Self::Email => {
                let text = node.filled(problems, 254, Lines::One)?;
                let fine = text.split_once('@').is_some_and(|(local, host)| {
                    !local.is_empty()
                        && host.contains('.')
                        && !host.contains('@')
                        && !text.contains(char::is_whitespace)
                });
                if !fine {
                    problems.add(&node.pointer, "is not an e-mail address");
                    return None;
                }
                Some(AttributeValue::Text(text.to_owned()))
            }
        }
    }

    /// Returns a stored value as a typed one; `None` when it no longer fits because the template changed.
    pub fn stored(&self, value: &Value) -> Option<AttributeValue> {
        if let (Self::Choice { .. } | Self::Text { .. } | Self::Phone, Value::String(text)) = (self, value) {
            return Some(AttributeValue::Text(text.clone())); // a vanished choice renders as stored
        }
        self.check(&Node::root(value), &mut Problems::new())
    }
}

impl AttributeValue {
    /// Returns the value as it is stored and as the API shows it. Amounts are decimal strings with all places of their
    /// currency.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Text(text) => Value::from(text.as_str()),
            Self::Integer(n) => Value::from(*n),
            Self::Decimal(d) => Value::from(d.to_f64()),
            Self::Money(amount, currency) => Value::from(amount.to_fixed(currency.decimals())),
            Self::Boolean(b) => Value::from(*b),
            Self::Date(date) => Value::from(date.to_string()),
            Self::DateTime(t) => Value::from(t.to_rfc3339()),
        }
    }
}

fn decimal(value: &Value) -> Option<Decimal> {
    match value {
        Value::String(text) => Decimal::parse(text),
        Value::Number(n) => Decimal::parse(&n.to_string()).or_else(|| {
            // a whole number that arrived as 12.0 or 1e3
            n.as_f64().filter(|f| f.fract() == 0.0 && f.abs() < 1e15).and_then(|f| Decimal::parse(&format!("{f:.0}")))
        }),
        _ => None,
    }
}

/// Whether a text is an absolute http or https address without white space and credentials.
pub fn is_web_address(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|rest| {
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        !host.is_empty() && !host.contains('@') && !text.contains(|c: char| c.is_whitespace() || c.is_control())
    })
}

/// Reads the declaration of one attribute.
pub fn read_attribute(node: &Node<'_>, problems: &mut Problems) -> Option<Attribute> {
    let mut object = node.object(problems)?;
    let name = object.required("name", problems).and_then(|n| n.parsed(problems, AttributeName::parse));
    let word = object.required("type", problems).and_then(|n| n.text(problems, 32, Lines::One).map(|t| (t, n.pointer)));
    let kind = word.and_then(|(word, at)| read_type(word, &at, &mut object, problems));
    let personal = object.get("personal").and_then(|n| n.boolean(problems)).unwrap_or(false);
    let default = object.get("default");
    object.finish(problems);
    let kind = kind?;
    let default = default.and_then(|n| kind.check(&n, problems)).map(|value| value.to_json());
    Some(Attribute { name: name?, kind, default, personal })
}

fn read_type(word: &str, at: &str, object: &mut Object<'_>, problems: &mut Problems) -> Option<AttributeType> {
    let max_length = object.get("max_length");
    let currency = object.get("currency");
    let choices = object.get("choices");
    let mut misplaced = |node: &Option<Node<'_>>, belongs: &str| {
        if let (Some(node), false) = (node, word == belongs) {
            problems.add(&node.pointer, format!("belongs to the type {belongs} only"));
        }
    };
    misplaced(&max_length, "text");
    misplaced(&currency, "money");
    misplaced(&choices, "choice");
    Some(match word {
        "text" => {
            let max = max_length.and_then(|n| {
                let max = n.integer(problems)?;
                let fits = usize::try_from(max).ok().filter(|m| (1..=MAX_TEXT).contains(m));
                if fits.is_none() {
                    problems.add(n.pointer, format!("is out of range; expected 1 to {MAX_TEXT}"));
                }
                fits
            });
            AttributeType::Text { max_length: max.unwrap_or(1024) }
        }
        "integer" => AttributeType::Integer,
        "decimal" => AttributeType::Decimal,
        "money" => match currency {
            Some(node) => AttributeType::Money { currency: node.parsed(problems, Currency::parse)? },
            None => {
                problems.add(at, "is money, which needs a member currency, for example EUR");
                return None;
            }
        },
        "boolean" => AttributeType::Boolean,
        "date" => AttributeType::Date,
        "datetime" => AttributeType::DateTime,
        "choice" => {
            let Some(node) = choices else {
                problems.add(at, "is a choice, which needs a member choices");
                return None;
            };
            let mut list: Vec<String> = Vec::new();
            for item in node.array(problems, 100)? {
                match item.filled(problems, 64, Lines::One) {
                    Some(text) if list.iter().any(|t| t == text) => problems.add(item.pointer, "stands twice"),
                    Some(text) => list.push(text.to_owned()),
                    None => {}
                }
            }
            if list.is_empty() {
                problems.add(node.pointer, "is empty; expected at least one choice");
                return None;
            }
            AttributeType::Choice { choices: list }
        }
        "url" => AttributeType::Url,
        "image" => AttributeType::Image,
        "phone" => AttributeType::Phone,
        "email" => AttributeType::Email,
        _ => {
            problems.add(at, format!("is not an attribute type; expected one of {}", TYPE_NAMES.join(", ")));
            return None;
        }
    })
}

/// Checks the values given for a card: each must be declared and of its type. Null stands for "no value".
pub fn check_values(node: &Node<'_>, declared: &[Attribute], problems: &mut Problems) -> Map<String, Value> {
    let mut values = Map::new();
    for (name, node) in node.members(problems, 200).unwrap_or_default() {
        match declared.iter().find(|a| a.name.as_str() == name) {
            None => problems.add(node.pointer, "is not an attribute of the template"),
            Some(_) if node.value.is_null() => {
                values.insert(name.to_owned(), Value::Null);
            }
            Some(attribute) => {
                if let Some(value) = attribute.kind.check(&node, problems) {
                    values.insert(name.to_owned(), value.to_json());
                }
            }
        }
    }
    values
}

/// Returns the pointer of an attribute's value in a card's document.
pub fn value_pointer(name: &AttributeName) -> String {
    pointer("/attributes", name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(document: Value) -> Result<Attribute, Vec<String>> {
        let mut problems = Problems::new();
        let attribute = read_attribute(&Node::root(&document), &mut problems);
        problems.or(attribute).map_err(|p| p.into_vec().into_iter().map(|p| p.pointer).collect())
    }

    fn taken(document: Value, value: Value) -> Option<Value> {
        let attribute = read(document).expect("a valid declaration");
        attribute.kind.check(&Node::root(&value), &mut Problems::new()).map(|v| v.to_json())
    }

    #[test]
    fn each_type_takes_its_values_and_refuses_others() {
        let money = json!({"name": "balance", "type": "money", "currency": "EUR"});
        assert_eq!(taken(money.clone(), json!(12.5)), Some(json!("12.50")));
        assert_eq!(taken(money.clone(), json!("7")), Some(json!("7.00")));
        assert_eq!(taken(money, json!("1.005")), None);
        let choice = json!({"name": "tier", "type": "choice", "choices": ["a", "b"]});
        assert_eq!(taken(choice.clone(), json!("b")), Some(json!("b")));
        assert_eq!(taken(choice, json!("c")), None);
        let date = json!({"name": "until", "type": "date"});
        assert_eq!(taken(date.clone(), json!("2026-02-28")), Some(json!("2026-02-28")));
        assert_eq!(taken(date.clone(), json!("2026-02-30")), None);
        assert_eq!(taken(date, json!("2026-02-28T10:00:00")), None);
        let integer = json!({"name": "points", "type": "integer"});
        assert_eq!(taken(integer.clone(), json!(9_007_199_254_740_993_i64)), None);
        assert_eq!(taken(integer.clone(), json!("7")), None);
        assert_eq!(taken(integer, json!(7.0)), Some(json!(7)));
        let text = json!({"name": "name", "type": "text", "max_length": 4});
        assert_eq!(taken(text.clone(), json!("Анна")), Some(json!("Анна")));
        assert_eq!(taken(text.clone(), json!("Anna!")), None);
        assert_eq!(taken(text, json!("a\u{0}")), None);
        let simple = |kind: &str| json!({"name": "x", "type": kind});
        for (kind, value, stored) in [
            ("decimal", json!("7.50"), json!(7.5)),
            ("boolean", json!(false), json!(false)),
            ("datetime", json!("2026-12-31T18:00:00+02:00"), json!("2026-12-31T16:00:00.000000Z")),
            ("url", json!("https://kuzina.example/a?b=c"), json!("https://kuzina.example/a?b=c")),
            ("image", json!("strip@6"), json!("strip@6")),
            ("image", json!("https://kuzina.example/a.png"), json!("https://kuzina.example/a.png")),
            ("phone", json!("0037120000000"), json!("+37120000000")),
            ("email", json!("anna@kuzina.example"), json!("anna@kuzina.example")),
        ] {
            assert_eq!(taken(simple(kind), value), Some(stored), "{kind}");
        }
        for (kind, value) in [
            ("decimal", json!("1,5")),
            ("decimal", json!(true)),
            ("boolean", json!("yes")),
            ("datetime", json!("2026-12-31T18:00")),
            ("url", json!("kuzina.example")),
            ("url", json!("javascript:alert(1)")),
            ("image", json!("strip")),
            ("image", json!("banner@6")),
            ("image", json!("http://kuzina.example/a.png")),
            ("phone", json!("20000000")),
            ("email", json!("anna@kuzina")),
            ("text", json!(7)),
        ] {
            assert_eq!(taken(simple(kind), value.clone()), None, "{kind} {value}");
        }
    }

    #[test]
    fn a_default_is_checked_by_the_type() {
        for (kind, default) in [
            ("integer", json!("7")),
            ("decimal", json!("x")),
            ("boolean", json!(1)),
            ("date", json!("tomorrow")),
            ("datetime", json!("2026-12-31")),
            ("url", json!("x")),
            ("image", json!("x")),
            ("phone", json!("1")),
            ("email", json!("x")),
            ("text", json!([])),
        ] {
            let declared = json!({"name": "x", "type": kind, "default": default});
            assert_eq!(read(declared).unwrap_err(), ["/default"], "{kind}");
        }
        let phone = read(json!({"name": "x", "type": "phone", "default": "00371 20000000"})).expect("valid");
        assert_eq!(phone.default, Some(json!("+37120000000")));
    }

    #[test]
    fn a_declaration_is_checked_as_a_whole() {
        assert_eq!(
            read(json!({"name": "Points", "type": "integer", "default": "x", "choices": ["a"], "colour": 1}))
                .unwrap_err(),
            ["/name", "/choices", "/colour", "/default"]
        );
        assert_eq!(read(json!({"name": "m", "type": "money"})).unwrap_err(), ["/type"]);
    }
}
