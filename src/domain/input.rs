//! Reads JSON from outside: every problem is found at once, each with its JSON pointer, and nothing is guessed.
//!
//! Deserialising with serde would stop at the first fault; a reader here walks the value, adds what is wrong to
//! [`Problems`] and goes on. A reader method that returns `None` has always added the reason.

use std::borrow::Cow;

use serde_json::{Map, Value};

/// One thing that is wrong with an input.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// The JSON pointer (RFC 6901) into the input.
    pub pointer: String,
    /// What was found and what is expected.
    pub detail: String,
}

/// Everything that is wrong with an input, within bounds: a small request must not cause a large response. Problems
/// beyond the bounds are only counted.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Problems {
    kept: Vec<Problem>,
    bytes: usize,
    left_out: usize,
}

impl Problems {
    /// The most problems that are kept; more would help nobody.
    pub const MAX: usize = 100;
    /// The most bytes of all kept problems together; when it is reached, no other is kept.
    const MAX_BYTES: usize = 32 * 1024;
    /// The most characters of a detail; the rest is cut off.
    pub const MAX_DETAIL: usize = 500;
    /// The most bytes of a pointer; a longer one is cut to point at an enclosing value.
    const MAX_POINTER: usize = 2048;

    /// Returns an empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns a list of just this problem.
    pub fn one(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        let mut problems = Self::new();
        problems.add(pointer, detail);
        problems
    }

    /// Adds a problem.
    pub fn add(&mut self, pointer: impl Into<String>, detail: impl Into<String>) {
        if self.kept.len() >= Self::MAX || self.bytes >= Self::MAX_BYTES {
            self.left_out += 1;
            return;
        }
        let (mut pointer, mut detail) = (pointer.into(), detail.into());
        while pointer.len() > Self::MAX_POINTER {
            pointer.truncate(pointer.rfind('/').unwrap_or(0));
        }
        cut(&mut detail, Self::MAX_DETAIL);
        self.bytes += pointer.len() + detail.len();
        self.kept.push(Problem { pointer, detail });
    }

    /// Adds the problems of a part after those that were found before.
    pub fn extend(&mut self, others: Self) {
        for problem in others.kept {
            self.add(problem.pointer, problem.detail);
        }
        self.left_out += others.left_out;
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Returns how many problems there are, including those that were not kept.
    pub fn count(&self) -> usize {
        self.kept.len() + self.left_out
    }

    /// Returns the problems in the order in which they were found. When some were not kept, the last entry says how
    /// many.
    pub fn into_vec(mut self) -> Vec<Problem> {
        if self.left_out > 0 {
            self.kept.push(Problem { pointer: String::new(), detail: more(self.left_out) });
        }
        self.kept
    }

    /// Returns `value` when nothing was wrong.
    ///
    /// # Errors
    /// The problems, when there are any; otherwise, when `value` is missing, one that says the input is incomplete.
    pub fn or<T>(self, value: Option<T>) -> Result<T, Self> {
        match value {
            Some(value) if self.is_empty() => Ok(value),
            _ if self.is_empty() => Err(Self::one("", "is incomplete")),
            _ => Err(self),
        }
    }
}

/// Returns the text that stands for problems that are not listed.
pub fn more(left_out: usize) -> String {
    let noun = if left_out == 1 { "problem is" } else { "problems are" };
    format!("{left_out} more {noun} not listed")
}

/// Cuts a text to at most `most` characters; if something is cut off, the last one is an ellipsis.
pub fn cut(text: &mut String, most: usize) {
    if text.len() > most
        && let Some((end, _)) = text.char_indices().nth(most)
    {
        let last = text[..end].char_indices().next_back().map_or(0, |(at, _)| at);
        text.truncate(last);
        text.push('…');
    }
}

/// Lists the first words for a message and counts the others: lists that tenants write may be long.
pub fn some_of(words: &[String]) -> String {
    const SHOWN: usize = 20;
    let shown: Vec<&str> = words.iter().take(SHOWN).map(String::as_str).collect();
    match words.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Returns a member's pointer below `parent`, escaped as RFC 6901 requires.
pub fn pointer(parent: &str, member: &str) -> String {
    format!("{parent}/{}", member.replace('~', "~0").replace('/', "~1"))
}

/// Returns the JSON type of a value, for messages. Values themselves are not repeated: they may be personal.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// Returns the first character that no text may contain: control characters, except line feed and tab in texts of
/// several lines, and invisible characters, above all those that change the direction of what follows.
pub fn forbidden_character(text: &str, lines: Lines) -> Option<char> {
    text.chars().find(|&c| match c {
        '\n' | '\t' => lines == Lines::One,
        '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{FEFF}' | '\u{FFFE}' | '\u{FFFF}' => true,
        c => c.is_control(),
    })
}

/// Returns the text with `\n` for every line end: Windows writes `\r\n`, and old files a lone `\r`.
pub fn with_line_feeds(text: &str) -> Cow<'_, str> {
    match text.contains('\r') {
        true => Cow::Owned(text.replace("\r\n", "\n").replace('\r', "\n")),
        false => Cow::Borrowed(text),
    }
}

/// Rewrites every line end of a JSON document as `\n`, in its texts and in the names of its members, because a
/// translation is found by a name that is a text. If two names become equal, the last one stays, as for any repeated
/// name.
pub fn normalise_line_ends(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Cow::Owned(text_with_line_feeds) = with_line_feeds(text) {
                *text = text_with_line_feeds;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(normalise_line_ends),
        Value::Object(members) => {
            if members.keys().any(|name| name.contains('\r')) {
                let renamed = std::mem::take(members).into_iter();
                members.extend(renamed.map(|(name, value)| (with_line_feeds(&name).into_owned(), value)));
            }
            members.values_mut().for_each(normalise_line_ends);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Whether a text may have line breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lines {
    /// A single line.
    One,
    /// Several lines.
    Many,
}

/// The longest name of a member, in characters. The texts in `strings` are names, too.
const MAX_NAME: usize = 4096;

/// A value in the input, with its place.
#[derive(Debug, Clone)]
pub struct Node<'v> {
    /// The value.
    pub value: &'v Value,
    /// Its JSON pointer.
    pub pointer: String,
}

impl<'v> Node<'v> {
    /// Returns the whole input as a node.
    pub fn root(value: &'v Value) -> Self {
        Self { value, pointer: String::new() }
    }

    fn wrong<T>(&self, problems: &mut Problems, expected: &str) -> Option<T> {
        problems.add(&self.pointer, format!("is {}; expected {expected}", kind(self.value)));
        None
    }

    /// Reads a text of at most `max` characters, without forbidden characters; may be empty.
    pub fn text(&self, problems: &mut Problems, max: usize, lines: Lines) -> Option<&'v str> {
        let Value::String(text) = self.value else { return self.wrong(problems, "a string") };
        let length = text.chars().count();
        if length > max {
            problems.add(&self.pointer, format!("has {length} characters; expected at most {max}"));
            return None;
        }
        if let Some(c) = forbidden_character(text, lines) {
            problems
                .add(&self.pointer, format!("contains the character U+{:04X}, which no text may hold", u32::from(c)));
            return None;
        }
        Some(text)
    }

    /// Reads a text as [`Self::text`] does, but refuses a blank one.
    pub fn filled(&self, problems: &mut Problems, max: usize, lines: Lines) -> Option<&'v str> {
        let text = self.text(problems, max, lines)?;
        if text.trim().is_empty() {
            problems.add(&self.pointer, format!("is empty; expected 1 to {max} characters"));
            return None;
        }
        Some(text)
    }

    /// Reads a text that `parse` accepts.
    pub fn parsed<T, E: std::fmt::Display>(
        &self,
        problems: &mut Problems,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let Value::String(text) = self.value else { return self.wrong(problems, "a string") };
        match parse(text) {
            Ok(parsed) => Some(parsed),
            Err(e) => {
                problems.add(&self.pointer, e.to_string());
                None
            }
        }
    }

    /// Reads a whole number of 64 bits, written without fraction and exponent.
    pub fn long(&self, problems: &mut Problems) -> Option<i64> {
        match self.value {
            Value::Number(n) if n.is_i64() => n.as_i64(),
            Value::Number(n) if n.is_u64() => {
                problems.add(&self.pointer, format!("is greater than {}", i64::MAX));
                None
            }
            Value::Number(_) => {
                problems.add(&self.pointer, format!("is not a whole number within {} to {}", i64::MIN, i64::MAX));
                None
            }
            _ => self.integer(problems),
        }
    }

    /// Reads a whole number within ±2^53, the range in which JSON numbers are exact everywhere.
    pub fn integer(&self, problems: &mut Problems) -> Option<i64> {
        const EDGE: i64 = 1 << 53;
        let whole = match self.value {
            Value::Number(n) => {
                n.as_i64().or_else(|| n.as_f64().filter(|f| f.fract() == 0.0 && f.abs() < 9.1e15).map(|f| f as i64))
            }
            _ => return self.wrong(problems, "a whole number"),
        };
        match whole {
            Some(n) if (-EDGE..=EDGE).contains(&n) => Some(n),
            _ => {
                problems.add(&self.pointer, "is not a whole number within ±9007199254740992");
                None
            }
        }
    }

    /// Reads a number from `min` to `max`.
    pub fn number(&self, problems: &mut Problems, min: f64, max: f64) -> Option<f64> {
        match self.value.as_f64() {
            Some(n) if (min..=max).contains(&n) => Some(n),
            Some(_) => {
                problems.add(&self.pointer, format!("is out of range; expected {min} to {max}"));
                None
            }
            None => self.wrong(problems, "a number"),
        }
    }

    /// Reads a boolean.
    pub fn boolean(&self, problems: &mut Problems) -> Option<bool> {
        match self.value {
            Value::Bool(b) => Some(*b),
            _ => self.wrong(problems, "a boolean"),
        }
    }

    /// Reads the items of an array of at most `max`.
    pub fn array(&self, problems: &mut Problems, max: usize) -> Option<Vec<Node<'v>>> {
        let Value::Array(items) = self.value else { return self.wrong(problems, "an array") };
        if items.len() > max {
            problems.add(&self.pointer, format!("has {} items; expected at most {max}", items.len()));
            return None;
        }
        Some(
            items
                .iter()
                .enumerate()
                .map(|(i, value)| Node { value, pointer: format!("{}/{i}", self.pointer) })
                .collect(),
        )
    }

    /// Reads the members of an object whose member names are data; at most `max`.
    pub fn members(&self, problems: &mut Problems, max: usize) -> Option<Vec<(&'v str, Node<'v>)>> {
        let Value::Object(map) = self.value else { return self.wrong(problems, "an object") };
        if map.len() > max {
            problems.add(&self.pointer, format!("has {} members; expected at most {max}", map.len()));
            return None;
        }
        if let Some(long) = map.keys().map(|name| name.chars().count()).find(|length| *length > MAX_NAME) {
            // Names become part of pointers: one long name over many members would turn a small input into a large
            // response.
            problems.add(
                &self.pointer,
                format!("has a member with a name of {long} characters; expected at most {MAX_NAME}"),
            );
            return None;
        }
        Some(
            map.iter()
                .map(|(name, value)| (name.as_str(), Node { value, pointer: pointer(&self.pointer, name) }))
                .collect(),
        )
    }

    /// Reads an object whose member names are defined by the service; see [`Object`].
    pub fn object(&self, problems: &mut Problems) -> Option<Object<'v>> {
        let Value::Object(map) = self.value else { return self.wrong(problems, "an object") };
        Some(Object { map, pointer: self.pointer.clone(), known: Vec::new() })
    }
}

/// An object being read: every known member must be requested before [`Object::finish`], which reports the rest.
#[derive(Debug)]
pub struct Object<'v> {
    map: &'v Map<String, Value>,
    pointer: String,
    known: Vec<&'static str>,
}

impl<'v> Object<'v> {
    /// Returns the member, unless it is absent or null.
    pub fn get(&mut self, name: &'static str) -> Option<Node<'v>> {
        self.given(name).filter(|node| !node.value.is_null())
    }

    /// Returns the member, even when it is null; for merge patches, in which null has a meaning.
    pub fn given(&mut self, name: &'static str) -> Option<Node<'v>> {
        self.known.push(name);
        self.map.get(name).map(|value| Node { value, pointer: pointer(&self.pointer, name) })
    }

    /// Returns the member, or adds a problem when it is absent or null.
    pub fn required(&mut self, name: &'static str, problems: &mut Problems) -> Option<Node<'v>> {
        let node = self.get(name);
        if node.is_none() {
            problems.add(pointer(&self.pointer, name), "is required");
        }
        node
    }

    /// Adds a problem for each member that was never requested.
    pub fn finish(self, problems: &mut Problems) {
        for name in self.map.keys().filter(|name| !self.known.contains(&name.as_str())) {
            let mut known = self.known.clone();
            known.sort_unstable();
            let shown: String = name.chars().take(64).collect();
            problems.add(pointer(&self.pointer, &shown), format!("is unknown; known are {}", known.join(", ")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn all_problems_are_found_at_once_with_their_pointers() {
        let value = json!({"name": 7, "a/b": 1, "list": [1, "x"]});
        let mut problems = Problems::new();
        let mut object = Node::root(&value).object(&mut problems).expect("an object");
        assert_eq!(object.required("name", &mut problems).and_then(|n| n.filled(&mut problems, 10, Lines::One)), None);
        assert!(object.required("colour", &mut problems).is_none());
        for item in object.get("list").and_then(|n| n.array(&mut problems, 5)).unwrap_or_default() {
            item.integer(&mut problems);
        }
        object.finish(&mut problems);
        let pointers: Vec<_> = problems.into_vec().into_iter().map(|p| p.pointer).collect();
        assert_eq!(pointers, ["/name", "/colour", "/list/1", "/a~1b"]);
    }

    #[test]
    fn every_line_end_becomes_a_line_feed_in_texts_and_names() {
        let mut value = json!({"a\r\nb": ["one\r\ntwo", "one\rtwo\r\r\nthree"], "c": {"d": "plain"}, "n": 1});
        normalise_line_ends(&mut value);
        assert_eq!(value, json!({"a\nb": ["one\ntwo", "one\ntwo\n\nthree"], "c": {"d": "plain"}, "n": 1}));
    }

    #[test]
    fn many_and_long_problems_are_cut_and_the_rest_is_counted() {
        let mut problems = Problems::new();
        for n in 0..250 {
            problems.add(format!("/{n}"), "is wrong");
        }
        assert_eq!(problems.count(), 250);
        let listed = problems.into_vec();
        assert_eq!(listed.len(), 101);
        assert_eq!(
            listed[100],
            Problem { pointer: String::new(), detail: "150 more problems are not listed".to_owned() }
        );

        let mut long = Problems::one("/a".repeat(2000), "ā".repeat(1000));
        for _ in 0..99 {
            long.add("/b".repeat(1000), "ā".repeat(1000));
        }
        let listed = long.into_vec();
        assert_eq!(listed[0].detail.chars().count(), 500);
        assert!(listed[0].detail.ends_with("ā…") && listed[0].pointer == "/a".repeat(1024));
        let bytes: usize = listed.iter().map(|problem| problem.pointer.len() + problem.detail.len()).sum();
        assert!(bytes < 40 * 1024, "{bytes}");

        let mut all = Problems::one("/x", "is wrong");
        let mut part = Problems::new();
        (0..120).for_each(|n| part.add(format!("/{n}"), "is wrong"));
        all.extend(part);
        assert_eq!(all.count(), 121);
        let words: Vec<String> = (0..25).map(|n| n.to_string()).collect();
        assert!(some_of(&words).ends_with("18, 19 and 5 more"));
        let mut exact = "ābc".to_owned();
        cut(&mut exact, 3);
        assert_eq!(exact, "ābc");
    }

    #[test]
    fn control_and_direction_characters_are_refused() {
        for bad in ["a\0", "a\u{1b}[0m", "a\u{202E}b", "a\nb"] {
            let value = json!(bad);
            let mut problems = Problems::new();
            assert_eq!(Node::root(&value).text(&mut problems, 10, Lines::One), None);
            assert!(!problems.is_empty());
        }
        let value = json!("a\nb");
        assert_eq!(Node::root(&value).text(&mut Problems::new(), 10, Lines::Many), Some("a\nb"));
    }
}
