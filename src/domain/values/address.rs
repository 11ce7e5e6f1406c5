//! Addresses (URLs) that a template's texts produce, and which of their characters are percent-encoded (RFC 3986).

use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};

/// Characters that no address contains as they are. Letters beyond ASCII are always encoded; `%` stays, because it
/// begins an encoded character.
const ILLEGAL: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'\\').add(b'^').add(b'`').add(b'{').add(b'|').add(b'}');
/// Characters that a value may not bring into an address: all but the unreserved ones.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The same for a telephone number or an e-mail address, which may contain `+` and `@`.
const RESERVED_IN_CONTACT: &AsciiSet = &RESERVED.remove(b'+').remove(b'@');

/// Appends what the template wrote.
pub fn push_literal(out: &mut String, text: &str) {
    out.extend(utf8_percent_encode(text, ILLEGAL));
}

/// Appends a card's value. A value at the beginning is an address itself (an attribute of type `url`).
pub fn push_value(out: &mut String, value: &str) {
    let set = match out.as_str() {
        "" => ILLEGAL,
        begun if is_contact(begun) => RESERVED_IN_CONTACT,
        _ => RESERVED,
    };
    out.extend(utf8_percent_encode(value, set));
}

/// Whether the next value belongs to a telephone number or e-mail address rather than to its query (`?subject=`).
fn is_contact(begun: &str) -> bool {
    (begun.starts_with("tel:") || begun.starts_with("mailto:")) && !begun.contains('?')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(parts: &[(&str, &str)]) -> String {
        let mut out = String::new();
        for (literal, value) in parts {
            push_literal(&mut out, literal);
            push_value(&mut out, value);
        }
        out
    }

    #[test]
    fn values_within_an_address_are_encoded_and_those_that_begin_one_are_not() {
        for (parts, expected) in [
            (&[("https://a.example/?n=", "Anna & Co #1")][..], "https://a.example/?n=Anna%20%26%20Co%20%231"),
            (&[("https://a.example/", "a/b?c"), ("/x", "")], "https://a.example/a%2Fb%3Fc/x"),
            (&[("https://a.example/?n=", "Jānis+1%")], "https://a.example/?n=J%C4%81nis%2B1%25"),
            (&[("https://a.example/ēst?x=%20", "1")], "https://a.example/%C4%93st?x=%201"),
            (&[("", "https://b.example/a?x=1&y=ü"), ("#top", "")], "https://b.example/a?x=1&y=%C3%BC#top"),
            (&[("tel:", "+371 20000000")], "tel:+371%2020000000"),
            (&[("mailto:", "anna+x@a.example"), ("?subject=", "a@b+c")], "mailto:anna+x@a.example?subject=a%40b%2Bc"),
        ] {
            assert_eq!(address(parts), expected);
        }
    }
}
