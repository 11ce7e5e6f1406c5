//! Causes of failed requests to other servers, in words.

use std::error::Error as _;

/// The longest text, in characters.
const CAUSE_LIMIT: usize = 300;

/// Returns the underlying cause for a reader who doesn't know our libraries: the name, the connection, the certificate.
/// It may hold the server's name, never the rest of the address.
pub fn cause(error: &reqwest::Error) -> String {
    // The outermost text only says that something failed; the following ones may repeat each other from layer to layer.
    let mut text = String::new();
    let mut next = error.source();
    while let Some(inner) = next {
        let words = inner.to_string();
        if !text.contains(&words) && !words.starts_with("client error (") {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&words);
        }
        next = inner.source();
    }
    if let Some(plain) = tls_alert(&text) {
        return plain.to_owned();
    }
    if let Some((_, why)) = text.split_once("certificate verify failed") {
        let why = why.rsplit_once('(').and_then(|(_, why)| why.split_once(')')).map_or("", |(why, _)| why);
        return format!("the server's certificate is not trusted ({why})");
    }
    if text.is_empty() {
        text = error.to_string();
    }
    text.chars().take(CAUSE_LIMIT).collect()
}

/// Whether a cause says that the server refuses our certificate.
pub fn refuses_our_certificate(cause: &str) -> bool {
    ALERTS.iter().any(|(_, words)| *words == cause)
}

/// The server's refusals of our certificate, which TLS sends as a number (RFC 8446, section 6.2).
const ALERTS: [(&[u8], &str); 4] = [
    (&[42, 43, 46, 48, 49], "the server does not accept our certificate"),
    (&[44], "the server says that our certificate is revoked"),
    (&[45], "the server says that our certificate has expired"),
    (&[116], "the server asks for a certificate and got none"),
];

fn tls_alert(text: &str) -> Option<&'static str> {
    let (_, number) = text.split_once("alert number ")?;
    let number: String = number.chars().take_while(char::is_ascii_digit).collect();
    let number: u8 = number.parse().ok()?;
    ALERTS.iter().find(|(numbers, _)| numbers.contains(&number)).map(|(_, words)| *words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_of_our_certificate_are_told_in_plain_words() {
        let required =
            "error:0A00045C:SSL routines:ssl3_read_bytes:tlsv13 alert certificate required:SSL alert number 116";
        assert_eq!(tls_alert(required), Some("the server asks for a certificate and got none"));
        assert_eq!(tls_alert("SSL alert number 80"), None);
        assert_eq!(tls_alert("Connection refused"), None);
    }
}
