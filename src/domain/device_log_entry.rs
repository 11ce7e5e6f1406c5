//! Reads what phones write to the service's log: which pass and device a message names, and its form, so that equal
//! messages from many phones become one entry (Apple, "Adding a Web Service to Update Passes", read 2026-11; the
//! wording of the messages is observed, not documented).
//!
//! Anybody can send such messages. Everything but plain words is replaced by a placeholder: addresses, tokens, numbers.
//! A form therefore holds nothing secret or personal that a phone could have put there.

use crate::domain::ids::PassTypeId;

/// The longest message that is read, in bytes; the rest is cut off.
const LONGEST: usize = 2048;
/// The longest word that is kept, in characters; longer ones hold more than a word.
const LONGEST_WORD: usize = 24;

/// A log message of a phone, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceLogEntry {
    /// The pass type that it names.
    pub pass_type: Option<PassTypeId>,
    /// The serial number that it names, if it has the form of one; otherwise it may be anything.
    pub serial: Option<String>,
    /// The device that it names, in full.
    pub device: Option<String>,
    /// The message with placeholders for what differs between phones.
    pub form: String,
}

/// Reads a message.
pub fn read(message: &str) -> DeviceLogEntry {
    let message = cut(message);
    let named = |name: &str| named(message, name);
    let serial = named("serial number").filter(|serial| {
        serial.len() <= 64 && serial.bytes().any(|b| b.is_ascii_digit()) && serial.chars().all(is_name_character)
    });
    let device =
        named("device").filter(|device| (8..=128).contains(&device.len()) && device.chars().all(is_name_character));
    let pass_type = named("pass type").and_then(|text| PassTypeId::parse(text).ok());
    let form = form(message, serial, device, pass_type.as_ref().map(PassTypeId::as_str));
    DeviceLogEntry { pass_type, serial: serial.map(ToOwned::to_owned), device: device.map(ToOwned::to_owned), form }
}

fn cut(message: &str) -> &str {
    let mut end = message.len().min(LONGEST);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    message.get(..end).unwrap_or_default()
}

fn is_name_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_')
}

/// Returns the word after a name such as `pass type`; it may be in quotes.
fn named<'m>(message: &'m str, name: &str) -> Option<&'m str> {
    let mut rest = message;
    while let Some((_, after)) = rest.split_once(name) {
        let value = after.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, '\'' | '"' | ':' | '‘' | '“'));
        let word = value.split(|c: char| !is_name_character(c)).next().unwrap_or_default().trim_end_matches('.');
        if value.len() < after.len() && !word.is_empty() && word != "identifier" {
            return Some(word);
        }
        rest = after;
    }
    None
}

fn form(message: &str, serial: Option<&str>, device: Option<&str>, pass_type: Option<&str>) -> String {
    let mut out = String::new();
    let mut before = String::new();
    let mut rest = message;
    while let Some(c) = rest.chars().next() {
        let is_part = |c: char| c.is_alphanumeric() || "-._+/=@:%?&#~".contains(c);
        let length = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        if length == 0 {
            let (space, next) = rest.split_at(c.len_utf8());
            out.push_str(space);
            rest = next;
            continue;
        }
        let (word, next) = rest.split_at(length);
        rest = next;
        let core = word.trim_end_matches(['.', ':', '?']);
        let tail = word.get(core.len()..).unwrap_or_default();
        let stand_in = match core {
            _ if Some(core) == serial => "<serial number>",
            _ if Some(core) == device => "<device>",
            _ if Some(core) == pass_type => "<pass type>",
            _ if core.contains("://") => "<address>",
            // The status is what the message is about.
            _ if core.len() == 3 && core.bytes().all(|b| b.is_ascii_digit()) && before == "code" => core,
            _ if core.contains('@') || core.chars().count() > LONGEST_WORD => "<…>",
            _ if core.chars().any(|c| c.is_numeric()) => "<n>",
            _ => core,
        };
        out.push_str(stand_in);
        out.push_str(tail);
        core.clone_into(&mut before);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_messages_of_phones_are_read() {
        let device = "0f1e2d3c4b5a69788796a5b4c3d2e1f0";
        let serial = "01a200ae-bc99-737f-a9aa-000000000000";
        let message = format!(
            "[2026-11-26 10:00:00 +0200] Register task (for device {device}, pass type pass.com.example.loyalty, serial number \
             {serial}; with web service url https://cards.example.com/apple) encountered error: Authentication failure"
        );
        let read = read(&message);
        assert_eq!(read.pass_type.map(|p| p.as_str().to_owned()).as_deref(), Some("pass.com.example.loyalty"));
        assert_eq!((read.serial.as_deref(), read.device.as_deref()), (Some(serial), Some(device)));
        assert_eq!(
            read.form,
            "[<n> <n> <n>] Register task (for device <device>, pass type <pass type>, serial number <serial number>; with web \
             service url <address>) encountered error: Authentication failure"
        );
        let quoted =
            super::read(&format!("Server requested update to serial number '{serial}', but the pass was unchanged."));
        assert_eq!(quoted.serial.as_deref(), Some(serial));
        assert_eq!(
            quoted.form,
            "Server requested update to serial number '<serial number>', but the pass was unchanged."
        );
    }

    #[test]
    fn the_status_of_an_answer_is_kept_and_other_numbers_are_not() {
        let form = |text: &str| read(text).form;
        assert_eq!(
            form("encountered error: Unexpected response code 500"),
            "encountered error: Unexpected response code 500"
        );
        assert_eq!(form("included 3 serial numbers but 7"), "included <n> serial numbers but <n>");
    }

    #[test]
    fn nothing_secret_or_personal_stays_in_a_form() {
        for secret in [
            "kCj-0FYmaZjKKhcXRDBF_UOJkzL85Ozc",
            "https://cards.example.com/c/kCj-0FYmaZjKKhcXRDBF_UOJkzL85Ozc",
            "anna@example.com",
            "+37120000000",
            "abcdefghijklmnopqrstuvwxyzabcdef",
            "0123456789abcdef",
        ] {
            let form = read(&format!("Get pass task ({secret}) token={secret} failed")).form;
            assert!(!form.contains(secret), "{form}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_message_can_be_read(message: String) {
            let read = read(&message);
            proptest::prop_assert!(read.serial.is_none_or(|serial| serial.len() <= 64));
        }
    }
}
