//! The forms of single values in pass.json: dates, colours, URLs.

use std::net::IpAddr;

use crate::domain::time::Timestamp;

/// Reads `YYYY-MM-DDTHH:MM[:SS[.fff]]` with `Z` or `±HH:MM`, the form that Apple's own package accepts
/// (github.com/apple/pass-builder at 63efd0f).
pub fn date(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let minutes = bytes.get(..16)?;
    let shape = b"0000-00-00T00:00";
    if !minutes.iter().zip(shape).all(|(&found, &form)| matches(found, form)) {
        return None;
    }
    let mut rest = bytes.get(16..)?;
    let mut seconds = String::from(":00");
    if let [b':', a, b, after @ ..] = rest
        && a.is_ascii_digit()
        && b.is_ascii_digit()
    {
        seconds = format!(":{}{}", char::from(*a), char::from(*b));
        rest = after;
        if let [b'.', fraction @ ..] = rest {
            let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if digits == 0 {
                return None;
            }
            rest = fraction.get(digits..)?;
        }
    }
    let zone_is_right = match rest {
        b"Z" => true,
        [sign, zone @ ..] => {
            matches!(sign, b'+' | b'-')
                && zone.len() == 5
                && zone.iter().zip(b"00:00").all(|(&z, &form)| matches(z, form))
        }
        [] => false,
    };
    if !zone_is_right {
        return None;
    }
    let zone = std::str::from_utf8(rest).ok()?;
    let minutes = std::str::from_utf8(minutes).ok()?;
    Timestamp::parse_rfc3339(&format!("{minutes}{seconds}{zone}"))
}

fn matches(found: u8, form: u8) -> bool {
    if form == b'0' { found.is_ascii_digit() } else { found == form }
}

/// Whether a text is `rgb(r,g,b)` with 0 to 255 each, `#RGB` or `#RRGGBB`.
pub fn is_color(text: &str) -> bool {
    let text = text.trim();
    if let Some(digits) = text.strip_prefix('#') {
        return matches!(digits.len(), 3 | 6) && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    }
    let Some((head, rest)) = text.split_at_checked(3) else { return false };
    let inner = rest.trim_start().strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
    let Some(inner) = inner.filter(|_| head.eq_ignore_ascii_case("rgb")) else { return false };
    let mut channels = 0;
    for channel in inner.split(',') {
        channels += 1;
        let channel = channel.trim();
        let plain = !channel.is_empty() && channel.bytes().all(|digit| digit.is_ascii_digit());
        if !plain || channel.parse::<u8>().is_err() {
            return false;
        }
    }
    channels == 3
}

/// Whether a text has the form of a URL: a scheme, something after it, no white space or control characters.
pub fn is_url(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let scheme_is_right = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    scheme_is_right && !rest.trim_matches('/').is_empty() && !text.chars().any(|c| c.is_whitespace() || c.is_control())
}

/// Whether a URL leads to this machine.
pub fn is_loopback(url: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(url) else { return false };
    let Some(host) = url.host_str() else { return false };
    let host = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_need_minutes_and_a_zone() {
        for good in
            ["2026-11-21T10:00Z", "2026-11-21T10:00+01:00", "2026-11-21T10:00:59-08:30", "2026-11-21T10:00:59.125Z"]
        {
            assert!(date(good).is_some(), "{good} was refused");
        }
        for bad in [
            "",
            "2026-11-21",
            "2026-11-21T10:00",
            "2026-11-21T10:00z",
            "2026-11-21t10:00Z",
            "2026-11-21T10:00+0100",
            "2026-11-21T10:00+01",
            "2026-11-21T10:00:Z",
            "2026-11-21T10:00:00.Z",
            "2026-13-21T10:00Z",
            "2026-02-30T10:00Z",
            "2026-11-21T10:00Z ",
            "२०२६-11-21T10:00Z",
            "2026-11-21T10:0é",
        ] {
            assert!(date(bad).is_none(), "{bad} was taken");
        }
        assert_eq!(date("2026-11-21T10:00+01:00"), Timestamp::parse_rfc3339("2026-11-21T09:00:00Z"));
    }

    #[test]
    fn colours_are_rgb_or_hexadecimal() {
        for good in ["rgb(0,0,0)", " RGB( 255 , 10,0 ) ", "#fff", "#A0b1C2"] {
            assert!(is_color(good), "{good} was refused");
        }
        for bad in [
            "",
            "red",
            "rgb(0,0)",
            "rgb(0,0,256)",
            "rgb(0,0,-1)",
            "rgba(0,0,0,1)",
            "#ffff",
            "#ggg",
            "rgb(+1,0,0)",
            "é#",
        ] {
            assert!(!is_color(bad), "{bad} was taken");
        }
    }

    #[test]
    fn a_url_has_a_scheme_and_no_white_space() {
        for good in ["https://example.com", "tel:+37120000000", "my-app://open?x=1", "mailto:a@b.c"] {
            assert!(is_url(good), "{good} was refused");
        }
        for bad in ["", "example.com", "https://", "https:// a", "1a:b", "/x", "https://a\n"] {
            assert!(!is_url(bad), "{bad} was taken");
        }
    }

    #[test]
    fn loopback_addresses_are_recognised_in_every_spelling() {
        for own in
            ["http://localhost:8080/", "https://127.0.0.1", "http://[::1]:1/x", "http://a.localhost", "http://127.1/"]
        {
            assert!(is_loopback(own), "{own}");
        }
        for other in ["https://example.com", "https://localhost.example.com", "localhost", "http://10.0.0.1"] {
            assert!(!is_loopback(other), "{other}");
        }
    }
}
