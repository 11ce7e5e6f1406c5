//! Identifiers, each a type of its own, so that a serial number can't be passed where a card id is meant.
//!
//! `parse` is the only way to get one from text that comes from outside: holding the type is the proof that the text
//! was checked. Secrets ([`AuthToken`], [`PageToken`], [`PushToken`], [`TargetAddress`]) print as `***` and have no `Display`.

use std::fmt;

/// Why a text is not a valid identifier; the sentence is fit for an API response.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidId(pub String);

fn check(text: &str, expected: &str, max: usize, allowed: fn(char) -> bool) -> Result<(), InvalidId> {
    let length = text.chars().count();
    if length == 0 || length > max {
        return Err(InvalidId(format!("has {length} characters; expected {expected}")));
    }
    match text.chars().find(|&c| !allowed(c)) {
        Some(c) => Err(InvalidId(format!("contains {:?}; expected {expected}", c.to_string()))),
        None => Ok(()),
    }
}

fn word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $expected:literal, $max:literal, $allowed:expr $(, $also:expr)?) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            /// What a valid text looks like, for messages and documentation.
            pub const EXPECTED: &'static str = $expected;

            /// Checks the text.
            ///
            /// # Errors
            /// A sentence that says what was found and what is expected.
            pub fn parse(text: &str) -> Result<Self, InvalidId> {
                check(text, $expected, $max, $allowed)?;
                $( let also: fn(&str) -> bool = $also;
                if !also(text) {
                    return Err(InvalidId(format!("is {text:?}; expected {}", $expected)));
                } )?
                Ok(Self(text.to_owned()))
            }

            /// Returns the text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Wraps a text without a check; for texts that were checked when they were stored.
            #[allow(dead_code)] // not every name is stored
            pub(crate) fn trusted(text: String) -> Self {
                Self(text)
            }
        }
    };
}

macro_rules! shown {
    ($($name:ident),*) => { $(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0)
            }
        }
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&self.0)
            }
        }
    )* };
}

macro_rules! hidden {
    ($($name:ident),*) => { $(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("***")
            }
        }
    )* };
}

text_id!(
    /// The id of a workspace, one business; no key, session or address ever reaches beyond its workspace.
    WorkspaceId, "1 to 64 of A-Z a-z 0-9 _ -", 64, word
);
text_id!(
    /// The id of a card design within a workspace.
    TemplateId, "1 to 64 of A-Z a-z 0-9 _ -", 64, word
);
text_id!(
    /// The key of a field, unique within a template; it identifies the field across content versions of a card.
    FieldKey, "1 to 64 of A-Z a-z 0-9 _ -", 64, word
);
/// Names that no attribute can have: in an expression they mean something else.
const TAKEN_NAMES: [&str; 12] =
    ["card", "template", "true", "false", "none", "and", "or", "not", "if", "else", "in", "is"];

text_id!(
    /// The name of an attribute that a template declares.
    AttributeName, "a lower-case letter, then lower-case letters, digits and _ (at most 64), but not card, template or a word of \
        expressions such as true and not", 64,
    |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_',
    |text| text.starts_with(|c: char| c.is_ascii_lowercase()) && !TAKEN_NAMES.contains(&text)
);
text_id!(
    /// The backend's own number for a card.
    CardId, "1 to 128 of A-Z a-z 0-9 . _ ~ : @ -, but not . or ..", 128,
    |c| c.is_ascii_alphanumeric() || "._~:@-".contains(c),
    |text| text != "." && text != ".."
);
text_id!(
    /// The number of a pass within its pass type; ours are UUIDs, other texts simply match nothing.
    SerialNumber, "1 to 64 of A-Z a-z 0-9 -", 64, |c| c.is_ascii_alphanumeric() || c == '-'
);
text_id!(
    /// Apple's pass type identifier, the UID of its certificate, e.g. `pass.com.example.loyalty`.
    PassTypeId, "pass. followed by letters, digits, dots and hyphens (at most 128)", 128,
    |c| c.is_ascii_alphanumeric() || c == '.' || c == '-',
    |text| text.len() > 5 && text.starts_with("pass.")
);
text_id!(
    /// The identity under which a workspace issues passes in one wallet: at Apple a pass type.
    IssuerId, "1 to 128 printable ASCII characters without spaces", 128, |c| c.is_ascii_graphic()
);
text_id!(
    /// The name of a target of notifications within its issuer: at Apple a device.
    TargetId, "1 to 128 printable ASCII characters without / and spaces", 128, |c| c.is_ascii_graphic() && c != '/'
);
text_id!(
    /// Where a target's notifications are sent: at Apple a push token.
    TargetAddress, "1 to 512 printable ASCII characters without spaces", 512, |c| c.is_ascii_graphic()
);
text_id!(
    /// The opaque name by which a phone identifies itself to one web service. One phone may use several and change them
    /// at any time: it never identifies a person.
    DeviceLibraryId, "1 to 128 printable ASCII characters without / and spaces", 128,
    |c| c.is_ascii_graphic() && c != '/'
);
text_id!(
    /// The token that pushes to a device are addressed to. Hexadecimal for APNs (at most 512 characters); other pass
    /// readers use other shapes.
    PushToken, "1 to 512 printable ASCII characters without spaces", 512, |c| c.is_ascii_graphic()
);
text_id!(
    /// The secret in a pass with which a phone proves that it holds the pass.
    AuthToken, "16 to 128 printable ASCII characters", 128, |c| c.is_ascii_graphic(), |text| text.len() >= 16
);
text_id!(
    /// The unguessable part of a card's public address.
    PageToken, "16 to 128 of A-Z a-z 0-9 _ -", 128, word, |text| text.len() >= 16
);

shown!(
    WorkspaceId,
    TemplateId,
    FieldKey,
    AttributeName,
    CardId,
    SerialNumber,
    IssuerId,
    TargetId,
    PassTypeId,
    DeviceLibraryId
);
hidden!(TargetAddress, PushToken, AuthToken, PageToken);

/// Every Apple name is valid as the neutral one, which allows more.
macro_rules! neutral {
    ($($apple:ident => $neutral:ident),*) => { $(
        impl From<&$apple> for $neutral {
            fn from(id: &$apple) -> Self {
                Self(id.0.clone())
            }
        }
    )* };
}

neutral!(PassTypeId => IssuerId, DeviceLibraryId => TargetId, PushToken => TargetAddress);

/// The prefix of an erased card's id; no backend can name one, because `/` is not allowed in a card id.
const ERASED: &str = "erased/";

impl CardId {
    /// Returns the id under which the remains of an erased card are stored.
    pub fn erased(serial: &SerialNumber) -> Self {
        Self(format!("{ERASED}{}", serial.as_str()))
    }

    /// Whether this is the id of an erased card's remains.
    pub fn is_erased(&self) -> bool {
        self.0.starts_with(ERASED)
    }
}

impl PushToken {
    /// Whether APNs could accept it: hexadecimal digits only (Apple, "Registering a pass for update notifications",
    /// read 2026-11), an even number of them.
    pub fn is_hexadecimal(&self) -> bool {
        self.0.chars().all(|c| c.is_ascii_hexdigit()) && self.0.len().is_multiple_of(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_id_refuses_dots_alone_control_characters_and_overlong_texts() {
        assert!(CardId::parse("M-1001").is_ok());
        assert!(CardId::parse("a@b.c:~d").is_ok());
        for bad in ["", ".", "..", "a/b", "a b", "a\u{7}", "ж", &"x".repeat(129)] {
            assert!(CardId::parse(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn an_attribute_can_not_hide_the_built_in_names() {
        assert!(AttributeName::parse("points").is_ok());
        for bad in ["card", "template", "true", "none", "not", "1st", "Points", "_x", "a-b"] {
            assert!(AttributeName::parse(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn secrets_never_print() {
        let token = AuthToken::parse("0123456789abcdef").expect("long enough");
        assert_eq!(format!("{token:?}"), "***");
    }
}
