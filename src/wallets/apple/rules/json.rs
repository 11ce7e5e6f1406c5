//! Reads JSON as strictly as a phone's strictest reader: duplicate keys are reported instead of silently dropped.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// The most bytes of JSON that are accepted: a value tree takes some seventy times its text at worst.
pub const MAX_BYTES: usize = 1024 * 1024;

/// A value, and the JSON pointers of keys that occur twice in their object (the last one is kept).
#[derive(Debug)]
pub struct Parsed {
    /// The value.
    pub value: Value,
    /// The JSON pointers of repeated keys.
    pub duplicates: Vec<String>,
}

/// Reads a JSON text of at most [`MAX_BYTES`] and at most 127 levels.
///
/// # Errors
/// A sentence with the position of the first mistake.
pub fn parse(bytes: &[u8]) -> Result<Parsed, String> {
    if bytes.len() > MAX_BYTES {
        return Err(format!("has {} bytes; at most {MAX_BYTES} are read", bytes.len()));
    }
    let walk = Walk::default();
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Node(&walk).deserialize(&mut deserializer).map_err(|error| error.to_string())?;
    deserializer.end().map_err(|error| error.to_string())?;
    Ok(Parsed { value, duplicates: walk.duplicates.into_inner() })
}

/// Returns a key as one step of a JSON pointer (RFC 6901).
pub fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

#[derive(Default)]
struct Walk {
    path: RefCell<Vec<String>>,
    duplicates: RefCell<Vec<String>>,
}

impl Walk {
    fn below<T>(&self, step: String, read: impl FnOnce() -> T) -> T {
        self.path.borrow_mut().push(step);
        let result = read();
        self.path.borrow_mut().pop();
        result
    }

    fn note_duplicate(&self, key: &str) {
        // The caller reports a few and counts the rest; more pointers wouldn't be worth their memory.
        if self.duplicates.borrow().len() < 100 {
            let pointer: String = self.path.borrow().iter().map(|step| format!("/{}", escape(step))).collect();
            self.duplicates.borrow_mut().push(format!("{pointer}/{}", escape(key)));
        }
    }
}

struct Node<'w>(&'w Walk);

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number is not finite"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = self.0.below(items.len().to_string(), || access.next_element_seed(Node(self.0)))? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        let mut seen = HashSet::new();
        while let Some(key) = access.next_key::<String>()? {
            if !seen.insert(key.clone()) {
                self.0.note_duplicate(&key);
            }
            let value = self.0.below(key.clone(), || access.next_value_seed(Node(self.0)))?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_repeated_key_is_found_wherever_it_stands() {
        let parsed = parse(br#"{"a":1,"b":[{"x/y":1,"x/y":2}],"a":3}"#).expect("valid JSON");
        assert_eq!(parsed.duplicates, ["/b/0/x~1y", "/a"]);
        assert_eq!(parsed.value, serde_json::json!({"a": 3, "b": [{"x/y": 2}]}));
    }

    #[test]
    fn what_is_not_strict_json_is_refused() {
        for bad in ["", "{", "{'a':1}", "{\"a\":1,}", "{} {}", "NaN", "// x\n{}", "{\"a\":01}", "\u{feff}{}"] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad:?} was taken");
        }
        assert!(parse("[".repeat(100_000).as_bytes()).is_err());
        assert!(parse(&vec![b' '; MAX_BYTES + 1]).is_err());
    }

    proptest! {
        #[test]
        fn whatever_serde_json_takes_is_read_the_same(text in "[\\[\\]{}:,\"a-c0-9.eE+ -]{0,40}") {
            let plain: Option<Value> = serde_json::from_str(&text).ok();
            prop_assert_eq!(parse(text.as_bytes()).ok().map(|parsed| parsed.value), plain);
        }
    }
}
