//! Translations (`pass.strings`) and the sign-up form (`personalization.json`).

use std::collections::HashSet;

use serde_json::Value;

use super::report::{Report, quoted};
use super::{Files, Pass, images, is_empty, json};

const SIGN_UP_FIELDS: [&str; 4] = [
    "PKPassPersonalizationFieldName",
    "PKPassPersonalizationFieldPostalCode",
    "PKPassPersonalizationFieldEmailAddress",
    "PKPassPersonalizationFieldPhoneNumber",
];

/// Checks `strings-encoding`, `strings-parse`, `strings-duplicate-key`.
pub fn check(files: &Files, report: &mut Report) {
    for (path, content) in files {
        if path.rsplit('/').next() != Some("pass.strings") {
            continue;
        }
        let Some(text) = decode(content) else {
            report.error("strings-encoding", path, "is neither UTF-8 nor UTF-16 with a byte order mark");
            continue;
        };
        match parse(&text) {
            Ok(entries) => {
                let mut seen = HashSet::new();
                for (key, _) in &entries {
                    if !seen.insert(key) {
                        let detail = format!("has the key {} twice; which text is shown is undefined", quoted(key));
                        report.warning("strings-duplicate-key", path, detail);
                    }
                }
            }
            Err((line, fault)) => {
                let detail = format!("line {line}: {fault}; one mistake makes the whole file useless");
                report.error("strings-parse", path, detail);
            }
        }
    }
}

/// Returns the text of a `pass.strings` file: UTF-8, or UTF-16 with a byte order mark.
pub fn decode(content: &[u8]) -> Option<String> {
    let units = |rest: &[u8], read: fn([u8; 2]) -> u16| {
        let (pairs, []) = rest.as_chunks::<2>() else { return None };
        String::from_utf16(&pairs.iter().map(|&pair| read(pair)).collect::<Vec<u16>>()).ok()
    };
    let text = match content {
        [0xff, 0xfe, rest @ ..] => units(rest, u16::from_le_bytes)?,
        [0xfe, 0xff, rest @ ..] => units(rest, u16::from_be_bytes)?,
        [0xef, 0xbb, 0xbf, rest @ ..] | rest => std::str::from_utf8(rest).ok()?.to_owned(),
    };
    // UTF-16 without a mark is valid UTF-8 as long as it is ASCII, but with a NUL in every second position.
    (!text.contains('\0')).then_some(text)
}

type Fault = (usize, &'static str);

/// Reads `"key" = "value";` entries with `/* */` and `//` comments, as in old-style property lists.
///
/// # Errors
/// The line and what is wrong there.
pub fn parse(text: &str) -> Result<Vec<(String, String)>, Fault> {
    let mut parser = Parser { rest: text, line: 1 };
    let mut entries = Vec::new();
    loop {
        parser.skip_blank()?;
        if parser.rest.is_empty() {
            return Ok(entries);
        }
        let key = parser.word()?;
        parser.skip_blank()?;
        // `"key";` means that the text is its own translation.
        let value = if parser.take('=') {
            parser.skip_blank()?;
            let value = parser.word()?;
            parser.skip_blank()?;
            value
        } else {
            key.clone()
        };
        if !parser.take(';') {
            return Err((parser.line, "a semicolon is missing after the entry"));
        }
        entries.push((key, value));
    }
}

struct Parser<'a> {
    rest: &'a str,
    line: usize,
}

impl Parser<'_> {
    fn next(&mut self) -> Option<char> {
        let mut characters = self.rest.chars();
        let next = characters.next()?;
        self.rest = characters.as_str();
        if next == '\n' {
            self.line += 1;
        }
        Some(next)
    }

    fn take(&mut self, expected: char) -> bool {
        let found = self.rest.starts_with(expected);
        if found {
            self.next();
        }
        found
    }

    fn skip_blank(&mut self) -> Result<(), Fault> {
        loop {
            if self.rest.starts_with("//") {
                while self.next().is_some_and(|c| c != '\n') {}
            } else if self.rest.starts_with("/*") {
                let begin = self.line;
                let Some(end) = self.rest.find("*/") else { return Err((begin, "a comment is never closed")) };
                let (comment, rest) = self.rest.split_at(end + 2);
                self.line += comment.matches('\n').count();
                self.rest = rest;
            } else if self.rest.starts_with(char::is_whitespace) {
                self.next();
            } else {
                return Ok(());
            }
        }
    }

    fn word(&mut self) -> Result<String, Fault> {
        let begin = self.line;
        if !self.take('"') {
            let bare: String =
                self.rest.chars().take_while(|c| c.is_ascii_alphanumeric() || "_.$:-/".contains(*c)).collect();
            self.rest = self.rest.get(bare.len()..).unwrap_or_default();
            return if bare.is_empty() { Err((begin, "a text in quotation marks is expected")) } else { Ok(bare) };
        }
        let mut word = String::new();
        loop {
            match self.next() {
                None => return Err((begin, "a quotation mark is never closed")),
                Some('"') => return Ok(word),
                Some('\\') => match self.next() {
                    None => return Err((begin, "a quotation mark is never closed")),
                    Some('n') => word.push('\n'),
                    Some('t') => word.push('\t'),
                    Some('r') => word.push('\r'),
                    // \U and \u with four digits, and octal codes: no rule needs the characters that they mean.
                    Some(other) => word.push(other),
                },
                Some(other) => word.push(other),
            }
        }
    }
}

/// Checks `personalization-json`, `personalization-incomplete`.
pub(super) fn check_personalization(pass: &Pass<'_>, files: &Files, report: &mut Report) {
    const FILE: &str = "personalization.json";
    let Some(content) = files.get(FILE) else { return };
    match json::parse(content) {
        Err(error) => report.error("personalization-json", FILE, format!("is not strict JSON: {error}")),
        Ok(parsed) => {
            if is_empty(parsed.value.get("description"))
                || !parsed.value.get("description").is_some_and(Value::is_string)
            {
                report.error("personalization-json", FILE, "has no description, which says why to sign up");
            }
            let fields = parsed.value.get("requiredPersonalizationFields").and_then(Value::as_array);
            let known = |field: &Value| field.as_str().is_some_and(|field| SIGN_UP_FIELDS.contains(&field));
            if !fields.is_some_and(|fields| !fields.is_empty() && fields.iter().all(known)) {
                let detail = format!("requiredPersonalizationFields must list some of {}", SIGN_UP_FIELDS.join(", "));
                report.error("personalization-json", FILE, detail);
            }
        }
    }
    let missing: Vec<&str> = [
        (is_empty(pass.root.get("nfc")), "nfc in pass.json"),
        (!images::has_role(files, "personalizationLogo"), "the image personalizationLogo"),
    ]
    .into_iter()
    .filter_map(|(missing, what)| missing.then_some(what))
    .collect();
    if !missing.is_empty() {
        report.warning(
            "personalization-incomplete",
            FILE,
            format!("the sign-up form also needs {}", missing.join(" and ")),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn entries_are_read_with_comments_escapes_and_bare_keys() {
        let text = "/* a\n b */ \"k\\\"1\" = \"v\\n\";\n// c\nbare.key = \"x\" ; \"same\";";
        let entries = parse(text).expect("valid");
        let expected = [("k\"1", "v\n"), ("bare.key", "x"), ("same", "same")];
        assert_eq!(entries, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }

    #[test]
    fn a_missing_semicolon_is_found_with_its_line() {
        assert_eq!(parse("\"a\" = \"b\";\n\"c\" = \"d\"\n\"e\" = \"f\";").map_err(|(line, _)| line), Err(3));
        assert_eq!(parse("\n\"a\" = \"b").map_err(|(line, _)| line), Err(2));
        assert_eq!(parse("/* x").map_err(|(line, _)| line), Err(1));
    }

    #[test]
    fn all_documented_encodings_are_read_and_others_are_not() {
        let text = "\"ā\" = \"b\";";
        let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(decode(text.as_bytes()).as_deref(), Some(text));
        assert_eq!(decode(&[&[0xff, 0xfe], &wide[..]].concat()).as_deref(), Some(text));
        assert_eq!(decode(&wide), None);
        assert_eq!(decode(&[0x22, 0xe4, 0x22]), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic_or_hang(text in "[\"=;/*a\\\\\n ā]{0,40}") {
            let _ = parse(&text);
        }
    }
}
