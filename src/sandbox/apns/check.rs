//! The rules by which APNs accepts or refuses a request, as a pure function.
//!
//! Sources: Apple, "Sending notification requests to APNs" and "Handling notification responses from APNs", read
//! 2026-11. Where Apple leaves the order of checks open, ours goes from the address to the body.

use http::{HeaderMap, Method};

use crate::domain::ids::PushToken;

/// The largest payload, in bytes.
pub const PAYLOAD_LIMIT: usize = 4096;

/// The fewest hexadecimal digits of a token.
const TOKEN_MIN: usize = 64;
/// The most hexadecimal digits of a token.
const TOKEN_MAX: usize = 512;
/// The longest collapse id, in bytes.
const COLLAPSE_ID_MAX: usize = 64;
/// The longest topic that seems possible, in bytes.
const TOPIC_MAX: usize = 255;

const PUSH_TYPES: [&str; 11] = [
    "alert",
    "background",
    "complication",
    "controls",
    "fileprovider",
    "liveactivity",
    "location",
    "mdm",
    "pushtotalk",
    "voip",
    "widgets",
];

/// A request that passed every check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The push token, in lower case, so that two spellings are one device.
    pub token: PushToken,
    /// The pass type identifier.
    pub topic: String,
    /// The expiry in seconds since 1970; 0 means a single attempt, `None` that the header was absent.
    pub expiration: Option<u64>,
    /// The priority: 1, 5 or 10; 10 when the header was absent.
    pub priority: u8,
    /// The push type as sent, if it was.
    pub push_type: Option<String>,
}

/// APNs' answer to a request that it refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// Apple's reason.
    pub reason: &'static str,
}

const fn bad(reason: &'static str) -> Refusal {
    Refusal { status: 400, reason }
}

/// Checks one request as APNs does.
///
/// `body` may be cut after [`PAYLOAD_LIMIT`] + 1 bytes; `certificate_topic` is the UID in the subject of the client's
/// certificate: the only topic that it may push to, and the default when a request names none.
///
/// # Errors
/// The first rule that is broken.
pub fn check(
    method: &Method,
    path: &str,
    headers: &HeaderMap,
    body: &[u8],
    certificate_topic: Option<&str>,
) -> Result<Accepted, Refusal> {
    if method != Method::POST {
        return Err(Refusal { status: 405, reason: "MethodNotAllowed" });
    }
    let token = path.strip_prefix("/3/device/").ok_or(Refusal { status: 404, reason: "BadPath" })?;
    let token = check_token(token)?;
    if headers.keys().any(|name| name.as_str().starts_with("apns-") && headers.get_all(name).iter().count() > 1) {
        return Err(bad("DuplicateHeaders"));
    }
    if let Some(id) = text(headers, "apns-id", "BadMessageId")?
        && (id.len() != 36 || uuid::Uuid::try_parse(id).is_err())
    {
        return Err(bad("BadMessageId"));
    }
    if text(headers, "apns-collapse-id", "BadCollapseId")?.is_some_and(|id| id.len() > COLLAPSE_ID_MAX) {
        return Err(bad("BadCollapseId"));
    }
    let topic = check_topic(text(headers, "apns-topic", "BadTopic")?, certificate_topic)?;
    let push_type = text(headers, "apns-push-type", "InvalidPushType")?;
    if push_type.is_some_and(|kind| !PUSH_TYPES.contains(&kind)) {
        return Err(bad("InvalidPushType"));
    }
    let priority = match text(headers, "apns-priority", "BadPriority")? {
        None | Some("10") => 10,
        Some("5") => 5,
        Some("1") => 1,
        Some(_) => return Err(bad("BadPriority")),
    };
    // "Always use priority 5. Using priority 10 is an error." A background push without the header has 10 by default.
    if push_type == Some("background") && priority == 10 {
        return Err(bad("BadPriority"));
    }
    let expiration = match text(headers, "apns-expiration", "BadExpirationDate")? {
        None => None,
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
            Some(digits.parse().map_err(|_| bad("BadExpirationDate"))?)
        }
        Some(_) => return Err(bad("BadExpirationDate")),
    };
    check_payload(body)?;
    Ok(Accepted { token, topic, expiration, priority, push_type: push_type.map(str::to_owned) })
}

fn text<'a>(headers: &'a HeaderMap, name: &str, reason: &'static str) -> Result<Option<&'a str>, Refusal> {
    headers.get(name).map(|value| value.to_str().map_err(|_| bad(reason))).transpose()
}

fn check_token(token: &str) -> Result<PushToken, Refusal> {
    if token.is_empty() {
        return Err(bad("MissingDeviceToken"));
    }
    let token = PushToken::parse(&token.to_ascii_lowercase()).map_err(|_| bad("BadDeviceToken"))?;
    let length = token.as_str().len();
    if token.is_hexadecimal() && (TOKEN_MIN..=TOKEN_MAX).contains(&length) {
        Ok(token)
    } else {
        Err(bad("BadDeviceToken"))
    }
}

fn check_topic(asked: Option<&str>, certificate: Option<&str>) -> Result<String, Refusal> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    match (asked, certificate) {
        (None, None) => Err(bad("MissingTopic")),
        (None, Some(default)) => Ok(default.to_owned()),
        (Some(topic), _) if topic.is_empty() || topic.len() > TOPIC_MAX || !topic.chars().all(plain) => {
            Err(bad("BadTopic"))
        }
        (Some(topic), Some(own)) if topic == own => Ok(topic.to_owned()),
        (Some(_), _) => Err(bad("TopicDisallowed")),
    }
}

fn check_payload(body: &[u8]) -> Result<(), Refusal> {
    if body.len() > PAYLOAD_LIMIT {
        return Err(Refusal { status: 413, reason: "PayloadTooLarge" });
    }
    match serde_json::from_slice(body) {
        Ok(serde_json::Value::Object(_)) => Ok(()),
        // Apple names no reason for a payload that isn't a JSON object.
        _ => Err(bad("PayloadEmpty")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: &str = "pass.com.example.loyalty";

    fn path() -> String {
        format!("/3/device/{}", "0aF9".repeat(16))
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, http::HeaderValue::from_bytes(value.as_bytes()).expect("valid value"));
        }
        map
    }

    fn verdict(pairs: &[(&'static str, &str)], body: &[u8]) -> Result<Accepted, Refusal> {
        check(&Method::POST, &path(), &headers(pairs), body, Some(TOPIC))
    }

    #[test]
    fn a_request_in_order_is_taken_with_what_it_says() {
        let pairs = [
            ("apns-topic", TOPIC),
            ("apns-push-type", "background"),
            ("apns-priority", "5"),
            ("apns-expiration", "1797894939"),
            ("apns-id", "0191f1a4-8a6b-7d10-9f1e-2f6a1c9d3b5e"),
        ];
        let accepted = verdict(&pairs, b"{}").expect("taken");
        assert_eq!(accepted.token.as_str(), "0af9".repeat(16));
        assert_eq!((accepted.topic.as_str(), accepted.priority), (TOPIC, 5));
        assert_eq!((accepted.expiration, accepted.push_type.as_deref()), (Some(1_797_894_939), Some("background")));
    }

    #[test]
    fn the_certificates_topic_stands_in_for_an_absent_one() {
        assert_eq!(verdict(&[], b"{}").map(|accepted| accepted.topic), Ok(TOPIC.to_owned()));
        let none = check(&Method::POST, &path(), &HeaderMap::new(), b"{}", None);
        assert_eq!(none, Err(bad("MissingTopic")));
    }

    #[test]
    fn each_broken_header_has_apples_word() {
        let long = "x".repeat(65);
        let table: [(&[(&'static str, &str)], &str); 18] = [
            (&[("apns-topic", "pass.com.example.other")], "TopicDisallowed"),
            (&[("apns-topic", "")], "BadTopic"),
            (&[("apns-topic", "pass com")], "BadTopic"),
            (&[("apns-topic", "pass.ä")], "BadTopic"),
            (&[("apns-priority", "7")], "BadPriority"),
            (&[("apns-priority", "")], "BadPriority"),
            (&[("apns-push-type", "background"), ("apns-priority", "10")], "BadPriority"),
            (&[("apns-push-type", "background")], "BadPriority"),
            (&[("apns-push-type", "pass")], "InvalidPushType"),
            (&[("apns-expiration", "tomorrow")], "BadExpirationDate"),
            (&[("apns-expiration", "-1")], "BadExpirationDate"),
            (&[("apns-expiration", "+1")], "BadExpirationDate"),
            (&[("apns-expiration", "")], "BadExpirationDate"),
            (&[("apns-expiration", "99999999999999999999")], "BadExpirationDate"),
            (&[("apns-topic", TOPIC), ("apns-topic", TOPIC)], "DuplicateHeaders"),
            (&[("apns-priority", "5"), ("apns-priority", "5")], "DuplicateHeaders"),
            (&[("apns-id", "42")], "BadMessageId"),
            (&[("apns-collapse-id", &long)], "BadCollapseId"),
        ];
        for (pairs, reason) in table {
            assert_eq!(verdict(pairs, b"{}"), Err(bad(reason)), "{pairs:?}");
        }
    }

    #[test]
    fn a_token_is_64_to_512_hexadecimal_digits() {
        let ask =
            |token: &str| check(&Method::POST, &format!("/3/device/{token}"), &HeaderMap::new(), b"{}", Some(TOPIC));
        assert!(ask(&"ab".repeat(32)).is_ok());
        assert!(ask(&"ab".repeat(256)).is_ok());
        assert_eq!(ask(""), Err(bad("MissingDeviceToken")));
        for token in
            ["ab".repeat(31), "ab".repeat(257), "a".repeat(65), "xy".repeat(32), format!("{}/", "ab".repeat(32))]
        {
            assert_eq!(ask(&token), Err(bad("BadDeviceToken")), "{token}");
        }
    }

    #[test]
    fn another_path_or_method_is_refused() {
        let ask = |method: Method, path: &str| check(&method, path, &HeaderMap::new(), b"{}", Some(TOPIC));
        assert_eq!(ask(Method::GET, &path()), Err(Refusal { status: 405, reason: "MethodNotAllowed" }));
        for path in ["/", "/3/device", "/2/device/00", "/4/broadcasts/apps/x"] {
            assert_eq!(ask(Method::POST, path), Err(Refusal { status: 404, reason: "BadPath" }), "{path}");
        }
    }

    #[test]
    fn a_payload_is_a_json_object_of_at_most_4096_bytes() {
        let sized = |bytes: usize| format!("{{{}}}", " ".repeat(bytes - 2)).into_bytes();
        assert!(verdict(&[], &sized(PAYLOAD_LIMIT)).is_ok());
        let large = Err(Refusal { status: 413, reason: "PayloadTooLarge" });
        assert_eq!(verdict(&[], &sized(PAYLOAD_LIMIT + 1)), large);
        for body in ["", "null", "[]", "{", "\"x\""] {
            assert_eq!(verdict(&[], body.as_bytes()), Err(bad("PayloadEmpty")), "{body}");
        }
    }
}
