//! Interprets an answer of APNs: what it means for the push, its device and its certificate. Pure: no connection, no
//! clock.
//!
//! Source of the table: Apple, "Handling notification responses from APNs", read 2026-11.
//! To add a new reason of Apple's, add one line in [`meaning`]; until then its status decides.

use std::time::Duration;

use crate::domain::time::Timestamp;
use crate::wallets::PushOutcome;

/// The most bytes of an answer that are read. Apple's own are under 100.
pub const ANSWER_LIMIT: usize = 4096;

/// The longest reason taken over from an answer, in characters; Apple's longest has 26.
const REASON_LIMIT: usize = 64;

/// What a reason means, and for whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// The token is no longer valid, or never was.
    Gone,
    /// This push can't succeed: token and pass type don't match, or our request is wrong.
    Refused,
    /// The certificate or the topic is refused, and with it every other push of this issuer.
    IssuerRefused,
    /// The push is fine, but this device is notified too often.
    Later,
    /// The push is fine, but the service has trouble.
    Unwell,
}

/// Returns the outcome that an answer of APNs stands for.
///
/// `retry_after` is the header of that name, `body` at most [`ANSWER_LIMIT`] bytes of the answer. Any input gives an
/// outcome. Its text is Apple's reason, or a sentence about the status when there is none: nothing else of the body is
/// ever repeated, since a proxy in between could put the request's address there.
pub fn outcome(status: u16, retry_after: Option<Duration>, body: &[u8]) -> PushOutcome {
    if status == 200 {
        return PushOutcome::Delivered;
    }
    let (word, since) = read_body(body);
    let meaning = meaning(status, word.as_deref());
    let reason = word.unwrap_or_else(|| format!("status {status} without a reason"));
    match meaning {
        Meaning::Gone => PushOutcome::TargetGone { since, reason },
        Meaning::Refused => PushOutcome::Refused { reason },
        Meaning::IssuerRefused => PushOutcome::IssuerRefused { reason },
        Meaning::Later => PushOutcome::TryLater { after: retry_after, reason },
        Meaning::Unwell => PushOutcome::ServiceUnwell { reason },
    }
}

/// Whether APNs only announces the end of this connection: the same push has a better chance on a new one.
pub fn is_about_the_connection(outcome: &PushOutcome) -> bool {
    matches!(outcome, PushOutcome::ServiceUnwell { reason } if reason == "IdleTimeout" || reason == "Shutdown")
}

fn meaning(status: u16, word: Option<&str>) -> Meaning {
    match (status, word) {
        // The token never belonged to this environment: handled as one that is gone.
        (400, Some("BadDeviceToken")) => Meaning::Gone,
        // Apple closed an idle connection during the request.
        (400, Some("IdleTimeout")) => Meaning::Unwell,
        // These three concern the topic, which is the certificate's and so the same in every push.
        (400, Some("TopicDisallowed" | "BadTopic" | "MissingTopic")) => Meaning::IssuerRefused,
        // DeviceTokenNotForTopic concerns this pair alone; the rest (BadPriority, PayloadEmpty, BadPath, …) are our own
        // mistakes, which a retry won't fix.
        (400 | 404 | 405 | 413, Some(_)) => Meaning::Refused,
        // BadCertificate, BadCertificateEnvironment, Forbidden and the reasons about provider tokens.
        (403, _) => Meaning::IssuerRefused,
        // Unregistered and ExpiredToken. The status alone is enough.
        (410, _) => Meaning::Gone,
        // TooManyRequests concerns this device; TooManyProviderTokenUpdates can't happen with certificates.
        (429, _) => Meaning::Later,
        // 5xx (Shutdown, ServiceUnavailable, InternalServerError) are temporary. An answer that hasn't Apple's form
        // didn't come from APNs but from something in between, which is no reason to give up a device.
        _ => Meaning::Unwell,
    }
}

#[derive(serde::Deserialize)]
struct Answer {
    reason: Option<serde_json::Value>,
    timestamp: Option<serde_json::Value>,
}

/// Reads Apple's reason and the moment since which a token is invalid (milliseconds since 1970), as far as they are
/// readable.
fn read_body(body: &[u8]) -> (Option<String>, Option<Timestamp>) {
    let Ok(answer) = serde_json::from_slice::<Answer>(body.get(..ANSWER_LIMIT).unwrap_or(body)) else {
        return (None, None);
    };
    let word = answer.reason.as_ref().and_then(serde_json::Value::as_str).filter(|word| is_word(word));
    let since = answer
        .timestamp
        .as_ref()
        .and_then(serde_json::Value::as_i64)
        .filter(|&millis| millis > 0)
        .map(|millis| Timestamp::from_micros(millis.saturating_mul(1000)));
    (word.map(str::to_owned), since)
}

/// Whether a text may be one of Apple's reasons: letters only. A push token has digits, so it can't pass as a reason.
fn is_word(word: &str) -> bool {
    (1..=REASON_LIMIT).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, reason: &str) -> PushOutcome {
        outcome(status, None, format!(r#"{{"reason":"{reason}"}}"#).as_bytes())
    }

    #[test]
    fn every_documented_reason_has_its_meaning() {
        use Meaning::{Gone, IssuerRefused, Later, Refused, Unwell};
        let table = [
            (400, "BadCollapseId", Refused),
            (400, "BadDeviceToken", Gone),
            (400, "BadExpirationDate", Refused),
            (400, "BadMessageId", Refused),
            (400, "BadPriority", Refused),
            (400, "BadTopic", IssuerRefused),
            (400, "DeviceTokenNotForTopic", Refused),
            (400, "DuplicateHeaders", Refused),
            (400, "IdleTimeout", Unwell),
            (400, "InvalidPushType", Refused),
            (400, "MissingDeviceToken", Refused),
            (400, "MissingTopic", IssuerRefused),
            (400, "PayloadEmpty", Refused),
            (400, "TopicDisallowed", IssuerRefused),
            (403, "BadCertificate", IssuerRefused),
            (403, "BadCertificateEnvironment", IssuerRefused),
            (403, "ExpiredProviderToken", IssuerRefused),
            (403, "InvalidProviderToken", IssuerRefused),
            (403, "MissingProviderToken", IssuerRefused),
            (403, "UnrelatedKeyIdInToken", IssuerRefused),
            (403, "BadEnvironmentKeyIdInToken", IssuerRefused),
            (403, "Forbidden", IssuerRefused),
            (404, "BadPath", Refused),
            (405, "MethodNotAllowed", Refused),
            (410, "Unregistered", Gone),
            (410, "ExpiredToken", Gone),
            (413, "PayloadTooLarge", Refused),
            (429, "TooManyProviderTokenUpdates", Later),
            (429, "TooManyRequests", Later),
            (500, "InternalServerError", Unwell),
            (503, "ServiceUnavailable", Unwell),
            (503, "Shutdown", Unwell),
        ];
        for (status, word, expected) in table {
            let reason = word.to_owned();
            let expected = match expected {
                Gone => PushOutcome::TargetGone { since: None, reason },
                Refused => PushOutcome::Refused { reason },
                IssuerRefused => PushOutcome::IssuerRefused { reason },
                Later => PushOutcome::TryLater { after: None, reason },
                Unwell => PushOutcome::ServiceUnwell { reason },
            };
            assert_eq!(answer(status, word), expected, "{status} {word}");
        }
    }

    #[test]
    fn success_is_status_200_whatever_the_body() {
        assert_eq!(outcome(200, None, b""), PushOutcome::Delivered);
        assert_eq!(outcome(200, None, br#"{"reason":"Unregistered"}"#), PushOutcome::Delivered);
    }

    #[test]
    fn the_moment_a_token_died_is_read_in_milliseconds() {
        let gone = |body: &str| match outcome(410, None, body.as_bytes()) {
            PushOutcome::TargetGone { since, .. } => since,
            other => unreachable!("{other:?}"),
        };
        let read = gone(r#"{"reason":"Unregistered","timestamp":1795302939123}"#);
        assert_eq!(read, Some(Timestamp::from_micros(1_795_302_939_123_000)));
        assert_eq!(gone(r#"{"timestamp":9223372036854775807}"#), Some(Timestamp::from_micros(i64::MAX)));
        for unreadable in ["", "{}", r#"{"timestamp":"yesterday"}"#, r#"{"timestamp":-1}"#, r#"{"timestamp":1e400}"#] {
            assert_eq!(gone(unreadable), None, "{unreadable}");
        }
    }

    #[test]
    fn a_limit_says_how_long_to_wait_when_apple_does() {
        let wait = Some(Duration::from_secs(90));
        let limited = outcome(429, wait, br#"{"reason":"TooManyRequests"}"#);
        assert_eq!(limited, PushOutcome::TryLater { after: wait, reason: "TooManyRequests".to_owned() });
    }

    #[test]
    fn an_answer_that_is_not_of_apples_form_counts_by_its_status_and_is_not_repeated() {
        let long = format!(r#"{{"reason":"{}"}}"#, "x".repeat(5000));
        let bodies: [&[u8]; 8] = [
            b"",
            b"<html>/3/device/0123456789abcdef</html>",
            b"\xff\xfe\x00",
            b"[]",
            b"null",
            br#"{"reason":7}"#,
            br#"{"reason":"0123456789abcdef"}"#,
            long.as_bytes(),
        ];
        for body in bodies {
            for status in [400, 404, 500, 302, 204, 100, 0, 999] {
                let reason = format!("status {status} without a reason");
                assert_eq!(outcome(status, None, body), PushOutcome::ServiceUnwell { reason });
            }
            let reason = "status 403 without a reason".to_owned();
            assert_eq!(outcome(403, None, body), PushOutcome::IssuerRefused { reason });
            let reason = "status 410 without a reason".to_owned();
            assert_eq!(outcome(410, None, body), PushOutcome::TargetGone { since: None, reason });
        }
    }

    #[test]
    fn a_reason_apple_has_not_documented_yet_is_kept_and_counts_by_its_status() {
        assert_eq!(answer(400, "BadMoon"), PushOutcome::Refused { reason: "BadMoon".to_owned() });
        assert_eq!(answer(503, "BadMoon"), PushOutcome::ServiceUnwell { reason: "BadMoon".to_owned() });
    }

    proptest::proptest! {
        #[test]
        fn any_answer_has_an_outcome(status: u16, body: Vec<u8>) {
            let _ = outcome(status, None, &body);
        }
    }
}
