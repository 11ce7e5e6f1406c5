//! The APNs client of one pass type certificate: notifies iPhones that a card changed.
//!
//! A push for a pass carries nothing; it makes the phone ask our web service what changed. One [`Apns`] keeps one
//! HTTP/2 connection open for hours, as Apple asks (many short connections look like an attack). For a renewed
//! certificate build a new client and drop the old one, which closes its connection. A connection that broke during a
//! push, or whose end Apple announces, is replaced and the push sent once more, since a repeat does no harm; one that
//! stopped answering is replaced without a repeat. The client does no other retries, waits or counting: those belong
//! to the delivery engine.
//!
//! Sources: Apple, "Sending notification requests to APNs" and "Adding a Web Service to Update Passes", read 2026-11.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use openssl::pkey::PKey;
use openssl::x509::X509;

use crate::domain::ids::{PassTypeId, PushToken};
use crate::domain::time::Timestamp;
use crate::platform::http_cause::{cause, refuses_our_certificate};
use crate::wallets::PushOutcome;
use crate::wallets::apple::push::apns_reason;

/// The type under which a push is announced to APNs. Apple's documentation names no type for passes; operators report
/// that each of these works, so the choice is theirs (Apple, "Sending notification requests to APNs", read 2026-11).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PushType {
    /// No type: APNs treats the push as those sent before types existed.
    #[default]
    None,
    /// `background`: an update for an app in the background, which phones may delay.
    Background,
    /// `alert`: a visible notification.
    Alert,
}

impl PushType {
    /// Returns the type of that name.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "none" => Some(Self::None),
            "background" => Some(Self::Background),
            "alert" => Some(Self::Alert),
            _ => None,
        }
    }

    /// Returns the value of the `apns-push-type` header.
    fn header(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Background => Some("background"),
            Self::Alert => Some("alert"),
        }
    }

    /// Returns the value of the `apns-priority` header. 10 means immediately, which APNs refuses for `background`.
    fn priority(self) -> &'static str {
        match self {
            Self::Background => "5",
            Self::None | Self::Alert => "10",
        }
    }
}

/// The body of every push. APNs requires one; the phone ignores it and learns from our web service what changed.
pub const BODY: &str = "{}";

/// The interval at which an idle connection is probed, so that one dropped by a firewall is replaced before a push
/// needs it.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(60);

/// The time to wait for the answer to a probe before the connection counts as lost.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// The longest wait accepted from a Retry-After header: a misread number must not silence a phone for a year.
const RETRY_AFTER_LIMIT: Duration = Duration::from_secs(24 * 60 * 60);

/// The address of APNs and the timeouts towards it.
#[derive(Debug, Clone)]
pub struct ApnsEndpoint {
    /// `https`, host and port, without a path.
    pub url: String,
    /// Certificates (PEM) trusted in place of the system's roots; for tests, the sandbox and proxies.
    pub ca_pem: Option<Vec<u8>>,
    /// The timeout for TCP and TLS together.
    pub connect_timeout: Duration,
    /// The timeout for one push from start to end, waiting for a free stream included. Keep the number of concurrent
    /// pushes near the server's stream limit (Apple's is about 1,000 a connection); otherwise the queue counts as
    /// slowness.
    pub timeout: Duration,
    /// The type under which pushes are announced.
    pub push_type: PushType,
}

impl ApnsEndpoint {
    /// Returns Apple's production service. Passes have no other: the development environment doesn't serve them.
    pub fn apple() -> Self {
        Self {
            url: "https://api.push.apple.com".to_owned(),
            ca_pem: None,
            connect_timeout: Duration::from_secs(10),
            timeout: Duration::from_secs(30),
            push_type: PushType::default(),
        }
    }
}

/// Why a client can't be made.
#[derive(Debug, thiserror::Error)]
pub enum ApnsError {
    /// The address isn't a valid one for APNs.
    #[error(
        "the address of APNs is {found:?}; expected https, a host and perhaps a port, e.g. https://api.push.apple.com"
    )]
    Url {
        /// The given address.
        found: String,
    },
    /// The trusted certificates can't be read.
    #[error("the certificates to trust APNs by can't be read; expected at least one certificate as PEM")]
    Roots,
    /// Certificate and key can't be read, or don't belong together.
    #[error("the pass type certificate and its key (PEM, PKCS#8) can't be used for APNs: {0}")]
    Identity(String),
    /// The HTTP client can't be made.
    #[error("can't prepare the connection to APNs: {0}")]
    Client(String),
}

/// The client of APNs for one certificate; clones share the connection.
#[derive(Clone)]
pub struct Apns {
    line: Arc<Line>,
    /// The base URL of pushes: `https://host:port/3/device/`.
    devices: String,
}

/// The client in use, and what a new one is built from.
struct Line {
    endpoint: ApnsEndpoint,
    identity: reqwest::Identity,
    roots: Vec<reqwest::Certificate>,
    /// The client with its number, so that when many pushes time out together only the first one builds a new client.
    client: RwLock<(u64, reqwest::Client)>,
    /// How many answers have arrived: a connection that answers other pushes isn't silent, only slow.
    answers: AtomicU64,
}

impl Line {
    fn build(&self) -> Result<reqwest::Client, reqwest::Error> {
        build(&self.endpoint, self.identity.clone(), self.roots.clone())
    }

    fn client(&self) -> (u64, reqwest::Client) {
        self.client.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the client with that number, so that the next push opens a new connection.
    fn renew(&self, number: u64) {
        let mut client = self.client.write().unwrap_or_else(PoisonError::into_inner);
        if client.0 == number
            && let Ok(new) = self.build()
        {
            *client = (number + 1, new);
        }
    }
}

fn build(
    endpoint: &ApnsEndpoint,
    identity: reqwest::Identity,
    roots: Vec<reqwest::Certificate>,
) -> Result<reqwest::Client, reqwest::Error> {
    let mut builder = reqwest::Client::builder()
        .identity(identity)
        .tls_version_min(reqwest::tls::Version::TLS_1_2)
        .https_only(true)
        // No proxy: Apple documents direct trust, and a proxy from the environment would see device tokens in
        // addresses.
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        // Without this every push that waits for the first connection opens one of its own (hyper#1485).
        .http2_prior_knowledge()
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .http2_keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .http2_keep_alive_while_idle(true)
        .pool_idle_timeout(None)
        .connect_timeout(endpoint.connect_timeout);
    // The default of `.retry(…)` is what we want: it resends exactly what the server reports as unprocessed.
    if !roots.is_empty() {
        builder = builder.tls_certs_only(roots);
    }
    builder.build()
}

impl std::fmt::Debug for Apns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Apns").field("devices", &self.devices).finish_non_exhaustive()
    }
}

impl Apns {
    /// Prepares a client; the first push connects.
    ///
    /// `certificate_chain_pem` begins with the pass type certificate; `key_pkcs8_pem` is its key, unencrypted.
    ///
    /// # Errors
    /// When address, certificates or key can't be read or used; the text never holds key material.
    pub fn new(endpoint: &ApnsEndpoint, certificate_chain_pem: &[u8], key_pkcs8_pem: &[u8]) -> Result<Self, ApnsError> {
        let devices = devices_url(&endpoint.url)?;
        let identity = reqwest::Identity::from_pkcs8_pem(certificate_chain_pem, key_pkcs8_pem)
            .map_err(|error| ApnsError::Identity(cause(&error)))?;
        check_pair(certificate_chain_pem, key_pkcs8_pem)?;
        let roots = match &endpoint.ca_pem {
            Some(pem) => {
                let roots = reqwest::Certificate::from_pem_bundle(pem).map_err(|_| ApnsError::Roots)?;
                if roots.is_empty() {
                    return Err(ApnsError::Roots);
                }
                roots
            }
            None => Vec::new(),
        };
        let client =
            build(endpoint, identity.clone(), roots.clone()).map_err(|error| ApnsError::Client(cause(&error)))?;
        let line = Line {
            endpoint: endpoint.clone(),
            identity,
            roots,
            client: RwLock::new((1, client)),
            answers: AtomicU64::new(0),
        };
        Ok(Self { line: Arc::new(line), devices })
    }

    /// Sends one empty push, which makes the device with this token ask for changes of the topic's passes.
    ///
    /// APNs keeps it until `expires` (at most about 30 days) for a device that is offline. A repeat does no harm. The
    /// text of an outcome never holds the token, and nothing is logged here.
    pub async fn push(&self, topic: &PassTypeId, token: &PushToken, expires: Timestamp) -> PushOutcome {
        // Other systems' readers register tokens of any shape; only a hexadecimal one may become part of the path.
        if !token.is_hexadecimal() {
            return PushOutcome::Refused {
                reason: "the push token is not one of APNs: it is not hexadecimal".to_owned(),
            };
        }
        without(token, self.ask(topic, token, expires).await)
    }

    async fn ask(&self, topic: &PassTypeId, token: &PushToken, expires: Timestamp) -> PushOutcome {
        let started = Instant::now();
        let ApnsEndpoint { timeout, push_type, .. } = self.line.endpoint;
        let mut again = true;
        loop {
            let (number, client) = self.line.client();
            let tried = Instant::now();
            let before = self.line.answers.load(Ordering::Relaxed);
            let mut request = client
                .post(format!("{}{}", self.devices, token.as_str()))
                .header("apns-topic", topic.as_str())
                .header("apns-priority", push_type.priority())
                .header("apns-expiration", expires.seconds().max(0))
                .timeout(timeout.saturating_sub(started.elapsed()))
                .body(BODY);
            if let Some(push_type) = push_type.header() {
                request = request.header("apns-push-type", push_type);
            }
            let error = match request.send().await {
                Ok(response) => {
                    self.line.answers.fetch_add(1, Ordering::Relaxed);
                    let outcome = read(response).await;
                    if apns_reason::is_about_the_connection(&outcome) {
                        self.line.renew(number);
                        if std::mem::take(&mut again) {
                            continue;
                        }
                    }
                    return outcome;
                }
                Err(error) => error.without_url(),
            };
            let what = cause(&error);
            return match (error.is_connect(), error.is_timeout()) {
                // This TLS alert means what a 403 would: the certificate is at fault, not the connection.
                _ if refuses_our_certificate(&what) => PushOutcome::IssuerRefused { reason: what },
                (true, true) => PushOutcome::Unreachable { reason: "can't connect: no answer in time".to_owned() },
                (true, false) => PushOutcome::Unreachable { reason: format!("can't connect: {what}") },
                (false, true) => {
                    // A second attempt may have had too little time for its timeout to mean anything.
                    let had_time = tried.elapsed() * 2 >= timeout;
                    if had_time && self.line.answers.load(Ordering::Relaxed) == before {
                        self.line.renew(number);
                    }
                    PushOutcome::NoAnswer { reason: format!("no answer within {} s", timeout.as_secs_f32()) }
                }
                // It is unknown whether the push was accepted; a repeat does no harm.
                (false, false) if std::mem::take(&mut again) => continue,
                (false, false) => PushOutcome::NoAnswer { reason: format!("the connection broke: {what}") },
            };
        }
    }
}

/// Checks that certificate and key are readable and match, before the TLS library does, for clearer messages.
fn check_pair(certificate_chain_pem: &[u8], key_pem: &[u8]) -> Result<(), ApnsError> {
    let unreadable = |error: openssl::error::ErrorStack| ApnsError::Identity(error.to_string());
    let certified = X509::from_pem(certificate_chain_pem).and_then(|own| own.public_key()).map_err(unreadable)?;
    let key = PKey::private_key_from_pem(key_pem).map_err(unreadable)?;
    if certified.public_eq(&key) {
        Ok(())
    } else {
        Err(ApnsError::Identity("the key does not belong to the certificate".to_owned()))
    }
}

fn devices_url(url: &str) -> Result<String, ApnsError> {
    let wrong = || ApnsError::Url { found: url.to_owned() };
    let parsed = reqwest::Url::parse(url).map_err(|_| wrong())?;
    let plain = parsed.scheme() == "https"
        && parsed.has_host()
        && parsed.path() == "/"
        && parsed.query().is_none()
        && parsed.fragment().is_none()
        && parsed.username().is_empty()
        && parsed.password().is_none();
    if plain { Ok(format!("{parsed}3/device/")) } else { Err(wrong()) }
}

async fn read(mut response: reqwest::Response) -> PushOutcome {
    let status = response.status().as_u16();
    let after = response.headers().get("retry-after").and_then(|value| value.to_str().ok()).and_then(retry_after);
    let mut body = Vec::new();
    if status != 200 {
        // A body that breaks off is used as far as it came: the status alone says most of it.
        while let Ok(Some(chunk)) = response.chunk().await {
            let room = apns_reason::ANSWER_LIMIT - body.len();
            body.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
            if chunk.len() >= room {
                break;
            }
        }
    }
    apns_reason::outcome(status, after, &body)
}

/// Returns the delay of a Retry-After header in seconds. Its other form, a date, would need a clock; the queue's own
/// schedule serves then.
fn retry_after(value: &str) -> Option<Duration> {
    let seconds: u64 = value.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_LIMIT))
}

/// Removes the token from an outcome's text, as a last safeguard, whatever the server sent back.
fn without(token: &PushToken, outcome: PushOutcome) -> PushOutcome {
    let clean = |reason: String| reason.replace(token.as_str(), "***");
    match outcome {
        PushOutcome::Delivered => PushOutcome::Delivered,
        PushOutcome::TargetGone { since, reason } => PushOutcome::TargetGone { since, reason: clean(reason) },
        PushOutcome::Refused { reason } => PushOutcome::Refused { reason: clean(reason) },
        PushOutcome::IssuerRefused { reason } => PushOutcome::IssuerRefused { reason: clean(reason) },
        PushOutcome::TryLater { after, reason } => PushOutcome::TryLater { after, reason: clean(reason) },
        PushOutcome::ServiceUnwell { reason } => PushOutcome::ServiceUnwell { reason: clean(reason) },
        PushOutcome::NoAnswer { reason } => PushOutcome::NoAnswer { reason: clean(reason) },
        PushOutcome::Unreachable { reason } => PushOutcome::Unreachable { reason: clean(reason) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_https_with_nothing_behind_the_host() {
        assert_eq!(devices_url("https://localhost:2197").ok().as_deref(), Some("https://localhost:2197/3/device/"));
        assert_eq!(devices_url("https://a.example/").ok().as_deref(), Some("https://a.example/3/device/"));
        for bad in [
            "",
            "api.push.apple.com",
            "http://a.example",
            "https://a.example/x",
            "https://u:p@a.example",
            "https://a.example?x",
        ] {
            assert!(devices_url(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn a_wait_is_read_in_seconds_and_never_lasts_more_than_a_day() {
        assert_eq!(retry_after(" 90 "), Some(Duration::from_secs(90)));
        assert_eq!(retry_after("18446744073709551615"), Some(RETRY_AFTER_LIMIT));
        for unreadable in ["", "-1", "1.5", "Sat, 21 Nov 2026 23:15:00 GMT", "99999999999999999999"] {
            assert_eq!(retry_after(unreadable), None, "{unreadable:?}");
        }
    }

    #[test]
    fn a_token_never_stays_in_an_outcome() {
        let token = PushToken::parse("0123abcd").expect("valid");
        let outcome = PushOutcome::TryLater { after: None, reason: "lost /3/device/0123abcd".to_owned() };
        let expected = PushOutcome::TryLater { after: None, reason: "lost /3/device/***".to_owned() };
        assert_eq!(without(&token, outcome), expected);
    }

    #[test]
    fn what_is_no_certificate_or_no_key_is_refused() {
        let refused = Apns::new(&ApnsEndpoint::apple(), b"no certificate", b"no key");
        assert!(matches!(refused, Err(ApnsError::Identity(_))), "{refused:?}");
    }
}
