//! Settings: read from the environment (`PASSLOOM_…`) and a TOML file; the environment wins.
//!
//! [`SETTINGS`] lists all of them once: name, expected value, default. A wrong setting stops the start with one line
//! that names it, what was found and what is expected.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use zeroize::Zeroizing;

use crate::domain::values::zone::Zone;
use crate::platform::proxies::TrustedProxies;
use crate::platform::secrets::MasterKey;
use crate::telemetry::LogFormat;
use crate::wallets::apple::push::apns::PushType;

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// Its name in the TOML file; in the environment, upper case with the prefix `PASSLOOM_`.
    pub name: &'static str,
    /// The values that it may have.
    pub expected: &'static str,
    /// Whether its value must not be repeated in messages.
    pub secret: bool,
}

macro_rules! settings {
    ($($constant:ident $name:literal $expected:literal $($secret:ident)?;)*) => {
        $( const $constant: Setting = Setting { name: $name, expected: $expected, secret: settings!(@secret $($secret)?) }; )*
        /// Every setting.
        pub const SETTINGS: &[&Setting] = &[$(&$constant),*];
    };
    (@secret secret) => { true };
    (@secret) => { false };
}

settings! {
    LISTEN "listen" "an address and port such as 127.0.0.1:8080";
    INTERNAL_LISTEN "internal_listen" "an address and port such as 127.0.0.1:9090, or off";
    PUBLIC_URL "public_url" "an https address such as https://cards.example.com (http only for a loopback address), without credentials, query and fragment; a path may follow, of letters, digits and ._~- and beginning with no name of ours such as /c or /api";
    TRUSTED_PROXIES "trusted_proxies" "addresses and networks such as 10.0.0.1, 192.168.0.0/16, or loopback, with commas between them";
    DATA_DIR "data_dir" "a directory";
    DATABASE_URL "database_url" "sqlite://PATH or postgres://…";
    MASTER_KEY "master_key" "32 bytes as 64 hexadecimal digits or base64" secret;
    MASTER_KEY_PREVIOUS "master_key_previous" "32 bytes as 64 hexadecimal digits or base64" secret;
    ADMIN_KEY "admin_key" "at least 32 characters" secret;
    APPLE_CERTIFICATE "apple_certificate" "a PEM, DER or PKCS#12 file";
    APPLE_KEY "apple_key" "a PEM or DER file";
    APPLE_KEY_PASSWORD "apple_key_password" "the password of the key" secret;
    APPLE_WWDR "apple_wwdr" "a PEM or DER file with the intermediate that issued the certificate";
    APPLE_ROOT "apple_root" "a PEM or DER file with a root certificate";
    APNS_URL "apns_url" "an https address such as https://api.push.apple.com";
    APNS_CA "apns_ca" "a PEM file";
    APNS_IN_FLIGHT "apns_in_flight" "how many pushes may be under way on one connection, 1 to 10000";
    APNS_TIMEOUT "apns_timeout" "how many seconds APNs may take to answer, 1 to 40";
    APNS_PUSH_TYPE "apns_push_type" "none, background or alert";
    REFRESH_RATE "refresh_rate" "how many devices are told in a second that a template was published, 1 to 10000";
    EVENT_RETENTION "event_retention" "how many days events are kept, 30 to 36500";
    RATE_LIMIT "rate_limit" "requests per minute and address on public pages, 0 to 1000000 (0 for no limit)";
    TIME_ZONE "time_zone" "a name of the IANA database such as Europe/Riga, or an offset such as +05:30";
    SANDBOX "sandbox" "on or off";
    LOG "log" "a filter such as info or passloom=debug";
    LOG_FORMAT "log_format" "text or json";
}

/// A setting that is wrong; displayed as one line.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// One setting.
    #[error("{place}: found {found}; expected {expected}")]
    Setting {
        /// The variable, or the name in the file.
        place: String,
        /// What was found; never a secret.
        found: String,
        /// What is expected.
        expected: String,
    },
    /// The file as a whole.
    #[error("{path}: {problem}")]
    File {
        /// Its path.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// Strangers' malformed requests are not errors of the service, but actix logs them as such.
const DEFAULT_LOG: &str = "info,actix_http=off,actix_server=warn";

/// The files of the Apple certificate: certificate, key and what belongs to them.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct AppleFiles {
    pub certificate: PathBuf,
    pub key: Option<PathBuf>,
    pub password: Option<Zeroizing<String>>,
    pub wwdr: Option<PathBuf>,
}

/// Limits on the requests of one address to a node within a minute. Those of phones and backends are not settings: they
/// lie far above what phones and backends send, so that a stranger can't take a node from everybody else. This
/// machine's own programs are not counted there.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For customers' pages, from this machine as well; 0 for no limit (`PASSLOOM_RATE_LIMIT`).
    pub pages: u32,
    /// For Apple's web service: all phones of a mobile operator may come from one address, and a publishing makes them
    /// poll and fetch.
    pub phones: u32,
    /// With the token of one pass, from all addresses together. Twenty phones that are notified of a change every two
    /// seconds, and poll as often, stay below it.
    pub holders: u32,
    /// For the API.
    pub backends: u32,
    /// How long a client may read nothing of its answer before its connection is closed.
    pub unread: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { pages: 120, phones: 60_000, holders: 1_200, backends: 300_000, unread: Duration::from_secs(60) }
    }
}

/// All settings, each checked by itself.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct Config {
    pub listen: SocketAddr,
    /// The address of `/readyz` and `/metrics`; `None` when they are not served.
    pub internal_listen: Option<SocketAddr>,
    pub public_url: String,
    /// Whether no public address was given; it is then localhost at the port that the service listens on.
    pub public_url_default: bool,
    pub trusted_proxies: TrustedProxies,
    pub data_dir: PathBuf,
    /// Whether the data directory was given; the development certificates are then inside it.
    pub data_dir_given: bool,
    pub database_url: String,
    pub master_key: Option<MasterKey>,
    /// A key that only opens what it has encrypted.
    pub master_key_previous: Option<MasterKey>,
    pub admin_key: Option<String>,
    pub apple: Option<AppleFiles>,
    /// A file with further roots that certificates may lead to.
    pub apple_root: Option<PathBuf>,
    pub apns_url: Option<String>,
    pub apns_ca: Option<PathBuf>,
    pub apns_in_flight: usize,
    pub apns_timeout: Duration,
    pub apns_push_type: PushType,
    pub refresh_rate: u32,
    /// How long events and entries of the audit list are kept.
    pub event_retention: Duration,
    pub limits: Limits,
    /// The time zone of workspaces that have none of their own.
    pub time_zone: Zone,
    /// Whether the sandbox was switched on or off; `None` when the setting is absent.
    pub sandbox: Option<bool>,
    pub log: String,
    pub log_format: LogFormat,
}

struct Values {
    found: BTreeMap<&'static str, (String, String)>,
}

impl Values {
    /// Reads a setting's value with `parse`.
    fn read<T>(&self, setting: &Setting, parse: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>, ConfigError> {
        let Some((place, text)) = self.found.get(setting.name) else { return Ok(None) };
        parse(text).map(Some).ok_or_else(|| ConfigError::Setting {
            place: place.clone(),
            // An address may hold a password.
            found: match setting.secret || text.contains('@') {
                true => format!("a secret of {} characters", text.chars().count()),
                false => format!("{text:?}"),
            },
            expected: setting.expected.to_owned(),
        })
    }
}

impl Config {
    /// Reads the settings.
    ///
    /// # Errors
    /// The first setting that is wrong.
    pub fn load(file: Option<&Path>, environment: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let mut found = match file {
            Some(path) => read_file(path)?,
            None => BTreeMap::new(),
        };
        for setting in SETTINGS {
            let variable = format!("PASSLOOM_{}", setting.name.to_uppercase());
            // A variable that is set to nothing counts as not set, as compose files write them.
            if let Some(value) = environment(&variable).filter(|value| !value.is_empty()) {
                found.insert(setting.name, (variable, value));
            }
        }
        Self::from_values(&Values { found })
    }

    fn from_values(values: &Values) -> Result<Self, ConfigError> {
        let text = |setting: &Setting| values.read(setting, |t| Some(t.to_owned()));
        let path = |setting: &Setting| values.read(setting, |t| Some(PathBuf::from(t)));
        let listen: SocketAddr =
            values.read(&LISTEN, |t| t.parse().ok())?.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8080)));
        let internal_listen = values
            .read(&INTERNAL_LISTEN, |t| if t == "off" { Some(None) } else { t.parse().ok().map(Some) })?
            .unwrap_or_else(|| Some(SocketAddr::from(([127, 0, 0, 1], 9090))));
        let given_url = values.read(&PUBLIC_URL, read_public_url)?;
        let public_url_default = given_url.is_none();
        let public_url = given_url.unwrap_or_else(|| "http://localhost:8080".to_owned());
        let given = path(&DATA_DIR)?;
        let data_dir = given.clone().unwrap_or_else(|| PathBuf::from("data"));
        let database_url = values
            .read(&DATABASE_URL, |t| {
                ["sqlite://", "postgres://", "postgresql://"]
                    .iter()
                    .any(|s| t.len() > s.len() && t.starts_with(s))
                    .then(|| t.to_owned())
            })?
            .unwrap_or_else(|| format!("sqlite://{}", data_dir.join("passloom.db").display()));
        let on_off = |t: &str| match t {
            "on" => Some(true),
            "off" => Some(false),
            _ => None,
        };
        let apple = match path(&APPLE_CERTIFICATE)? {
            Some(certificate) => Some(AppleFiles {
                certificate,
                key: path(&APPLE_KEY)?,
                password: text(&APPLE_KEY_PASSWORD)?.map(Zeroizing::new),
                wwdr: path(&APPLE_WWDR)?,
            }),
            None => {
                for setting in [&APPLE_KEY, &APPLE_KEY_PASSWORD, &APPLE_WWDR] {
                    if let Some((place, _)) = values.found.get(setting.name) {
                        return Err(ConfigError::Setting {
                            place: place.clone(),
                            found: "it without a certificate".to_owned(),
                            expected: "apple_certificate (PASSLOOM_APPLE_CERTIFICATE) beside it".to_owned(),
                        });
                    }
                }
                None
            }
        };
        Ok(Self {
            listen,
            internal_listen,
            public_url,
            public_url_default,
            trusted_proxies: values
                .read(&TRUSTED_PROXIES, TrustedProxies::parse)?
                .unwrap_or_else(TrustedProxies::loopback),
            data_dir_given: given.is_some(),
            data_dir,
            database_url,
            master_key: values.read(&MASTER_KEY, MasterKey::parse)?,
            master_key_previous: values.read(&MASTER_KEY_PREVIOUS, MasterKey::parse)?,
            admin_key: values.read(&ADMIN_KEY, |t| (t.chars().count() >= 32).then(|| t.to_owned()))?,
            apple,
            apple_root: path(&APPLE_ROOT)?,
            apns_url: values
                .read(&APNS_URL, |t| t.starts_with("https://").then(|| t.trim_end_matches('/').to_owned()))?,
            apns_ca: path(&APNS_CA)?,
            apns_in_flight: values
                .read(&APNS_IN_FLIGHT, |t| t.parse().ok().filter(|n| (1..=10_000).contains(n)))?
                .unwrap_or(1000),
            apns_timeout: values
                .read(&APNS_TIMEOUT, |t| t.parse().ok().filter(|n| (1..=40).contains(n)))?
                .map_or(Duration::from_secs(30), Duration::from_secs),
            apns_push_type: values.read(&APNS_PUSH_TYPE, PushType::parse)?.unwrap_or_default(),
            refresh_rate: values
                .read(&REFRESH_RATE, |t| t.parse().ok().filter(|n| (1..=10_000).contains(n)))?
                .unwrap_or(200),
            event_retention: days(
                values
                    .read(&EVENT_RETENTION, |t| t.parse().ok().filter(|n| (30..=36_500).contains(n)))?
                    .unwrap_or(EVENT_RETENTION_DAYS),
            ),
            limits: Limits {
                pages: values
                    .read(&RATE_LIMIT, |t| t.parse().ok().filter(|n| (0..=1_000_000).contains(n)))?
                    .unwrap_or(Limits::default().pages),
                ..Limits::default()
            },
            time_zone: values.read(&TIME_ZONE, |t| Zone::parse(t).ok())?.unwrap_or_else(|| Zone::utc().clone()),
            sandbox: values.read(&SANDBOX, on_off)?,
            log: values.read(&LOG, |t| is_filter(t).then(|| t.to_owned()))?.unwrap_or_else(|| DEFAULT_LOG.to_owned()),
            log_format: values
                .read(&LOG_FORMAT, |t| match t {
                    "text" => Some(LogFormat::Text),
                    "json" => Some(LogFormat::Json),
                    _ => None,
                })?
                .unwrap_or(LogFormat::Text),
        })
    }
}

/// Thirteen months, so that a month can be compared with the same month of the year before.
const EVENT_RETENTION_DAYS: u64 = 396;

fn days(count: u64) -> Duration {
    Duration::from_secs(count * 24 * 3600)
}

/// Whether a text is a log filter. A word that is no level is the name of a library, and then nothing else is logged.
fn is_filter(text: &str) -> bool {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let is_level = |word: &str| LEVELS.iter().any(|level| word.eq_ignore_ascii_case(level));
    let mut parts = text.split(',').map(str::trim);
    let shows = parts.any(|part| {
        part.contains(['=', '[']) || part.starts_with("passloom") || is_level(part) || part.parse::<u8>().is_ok()
    });
    shows && tracing_subscriber::EnvFilter::try_new(text).is_ok()
}

/// Returns the variables that look like settings but are none: a typing error, or a setting of another version.
pub fn unknown_variables(names: impl Iterator<Item = String>) -> Vec<String> {
    const OTHERS: [&str; 3] = ["PASSLOOM_URL", "PASSLOOM_API_KEY", "PASSLOOM_CRASH_POINT"];
    let known = |name: &str| SETTINGS.iter().any(|setting| name == format!("PASSLOOM_{}", setting.name.to_uppercase()));
    names.filter(|name| name.starts_with("PASSLOOM_") && !known(name) && !OTHERS.contains(&name.as_str())).collect()
}

/// Returns the address as it is written everywhere: host in punycode, no default port, no slash at the end.
fn read_public_url(text: &str) -> Option<String> {
    let url = reqwest::Url::parse(text).ok()?;
    let plain =
        url.query().is_none() && url.fragment().is_none() && url.username().is_empty() && url.password().is_none();
    let allowed = match url.scheme() {
        "https" => true,
        "http" => crate::wallets::apple::rules::values::is_loopback(text),
        _ => false,
    };
    let path = url.path().trim_end_matches('/');
    let mut parts = path.split('/').skip(1);
    // A path that begins like one of our own would be ambiguous once a proxy removes it.
    let first = parts.clone().next().unwrap_or_default();
    let clear = !crate::http::routes::areas().any(|area| area == first);
    let legible =
        |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._~-".contains(&b));
    let fits = plain && allowed && url.has_host() && clear && parts.all(legible);
    fits.then(|| url.as_str().trim_end_matches('/').to_owned())
}

fn read_file(path: &Path) -> Result<BTreeMap<&'static str, (String, String)>, ConfigError> {
    let shown = path.display().to_string();
    let wrong = |problem: String| ConfigError::File { path: shown.clone(), problem };
    let text = std::fs::read_to_string(path).map_err(|e| wrong(format!("can't be read: {e}")))?;
    let table: toml::Table = text.parse().map_err(|e: toml::de::Error| {
        // The parser's own message quotes the line, which may hold a secret.
        let line = e.span().map_or(0, |span| text[..span.start.min(text.len())].lines().count().max(1));
        wrong(format!("is not TOML: {} at line {line}", e.message()))
    })?;
    let mut found = BTreeMap::new();
    for (name, value) in table {
        let Some(setting) = SETTINGS.iter().find(|setting| setting.name == name) else {
            let known: Vec<_> = SETTINGS.iter().map(|s| s.name).collect();
            return Err(wrong(format!("{name} is unknown; known are {}", known.join(", "))));
        };
        let value = match value {
            toml::Value::String(text) => text,
            toml::Value::Boolean(true) => "on".to_owned(),
            toml::Value::Boolean(false) => "off".to_owned(),
            toml::Value::Integer(n) => n.to_string(),
            other => return Err(wrong(format!("{name}: found {}; expected {}", other.type_str(), setting.expected))),
        };
        found.insert(setting.name, (format!("{shown}: {name}"), value));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(variables: &[(&str, &str)]) -> Result<Config, String> {
        let get = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        Config::load(None, get).map_err(|e| e.to_string())
    }

    #[test]
    fn the_reference_has_every_setting_and_no_other() {
        let reference = include_str!("../docs/configuration.md");
        let described: Vec<&str> = reference.lines().filter_map(|line| line.strip_prefix("### PASSLOOM_")).collect();
        let known: Vec<String> = SETTINGS.iter().map(|setting| setting.name.to_uppercase()).collect();
        for name in &known {
            assert!(described.contains(&name.as_str()), "docs/configuration.md doesn't describe PASSLOOM_{name}");
        }
        assert_eq!(described.len(), known.len(), "docs/configuration.md describes {described:?}");
    }

    #[test]
    fn without_settings_it_is_the_sandbox_of_the_contract() {
        let config = load(&[]).expect("valid");
        assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
        assert_eq!(config.internal_listen.map(|address| address.to_string()).as_deref(), Some("127.0.0.1:9090"));
        assert_eq!(config.public_url, "http://localhost:8080");
        assert_eq!(config.database_url, "sqlite://data/passloom.db");
        assert!(config.sandbox.is_none() && !config.data_dir_given);
        assert_eq!(config.time_zone.as_str(), "UTC");
        assert_eq!(config.event_retention, days(396));
    }

    #[test]
    fn a_wrong_setting_is_named_with_what_was_found_and_what_is_expected() {
        assert_eq!(
            load(&[("PASSLOOM_LISTEN", "8080")]).unwrap_err(),
            "PASSLOOM_LISTEN: found \"8080\"; expected an address and port such as 127.0.0.1:8080"
        );
        for (name, value) in [
            ("PASSLOOM_INTERNAL_LISTEN", "on"),
            ("PASSLOOM_INTERNAL_LISTEN", "9090"),
            ("PASSLOOM_PUBLIC_URL", "http://cards.example.com"),
            ("PASSLOOM_PUBLIC_URL", "cards.example.com"),
            ("PASSLOOM_TRUSTED_PROXIES", "proxy.example.com"),
            ("PASSLOOM_DATABASE_URL", "mysql://x"),
            ("PASSLOOM_SANDBOX", "yes"),
            ("PASSLOOM_APNS_IN_FLIGHT", "0"),
            ("PASSLOOM_APNS_TIMEOUT", "41"),
            ("PASSLOOM_APNS_PUSH_TYPE", "voip"),
            ("PASSLOOM_REFRESH_RATE", "0"),
            ("PASSLOOM_EVENT_RETENTION", "29"),
            ("PASSLOOM_EVENT_RETENTION", "P13M"),
            ("PASSLOOM_RATE_LIMIT", "-1"),
            ("PASSLOOM_RATE_LIMIT", "many"),
            ("PASSLOOM_TIME_ZONE", "Europe/Rigaa"),
            ("PASSLOOM_LOG_FORMAT", "xml"),
            ("PASSLOOM_LOG", "inof"),
            ("PASSLOOM_LOG", "nonsense,sqlx"),
            ("PASSLOOM_ADMIN_KEY", "short"),
            ("PASSLOOM_APPLE_KEY", "/nope"),
        ] {
            assert!(load(&[(name, value)]).unwrap_err().starts_with(name), "{name}");
        }
    }

    #[test]
    fn the_inner_address_can_be_off() {
        assert_eq!(load(&[("PASSLOOM_INTERNAL_LISTEN", "off")]).map(|config| config.internal_listen), Ok(None));
    }

    #[test]
    fn a_public_address_may_have_a_path_and_a_name_in_any_script() {
        let url = |text| load(&[("PASSLOOM_PUBLIC_URL", text)]).map(|config| config.public_url);
        for (given, written) in [
            ("https://cards.example.com", "https://cards.example.com"),
            ("https://Cards.Example.com:443/", "https://cards.example.com"),
            ("https://example.com:8443/wallet/v2/", "https://example.com:8443/wallet/v2"),
            ("http://localhost:8080/wallet", "http://localhost:8080/wallet"),
            ("https://b\u{fc}cher.example/karten", "https://xn--bcher-kva.example/karten"),
            ("https://\u{43a}\u{430}\u{444}\u{435}.example", "https://xn--80akn5b.example"),
        ] {
            assert_eq!(url(given).as_deref(), Ok(written), "{given}");
        }
        for wrong in [
            "https://user@example.com",
            "https://user:password@example.com",
            "https://example.com/?a=1",
            "https://example.com/#top",
            "https://example.com/a b",
            "https://example.com/caf\u{e9}",
            "https://example.com/a//b",
            "https://example.com/c",
            "https://example.com/api/wallet",
            "https://example.com/apple",
            "ftp://example.com",
            "https://",
        ] {
            let message = url(wrong).unwrap_err();
            assert!(message.starts_with("PASSLOOM_PUBLIC_URL: found ") && !message.contains('\n'), "{message}");
            assert!(!message.contains("password@"), "{message}");
        }
    }

    #[test]
    fn logs_are_filtered_by_level_and_target() {
        for filter in
            ["info", "WARN", "passloom=debug,sqlx=warn", "info,passloom::jobs=trace", "passloom", "info,sqlx", "3"]
        {
            assert_eq!(load(&[("PASSLOOM_LOG", filter)]).map(|config| config.log).as_deref(), Ok(filter));
        }
    }

    #[test]
    fn variables_that_are_no_settings_are_found() {
        let names = ["PATH", "PASSLOOM_LISTEN", "PASSLOOM_LISTNE", "PASSLOOM_API_KEY"].map(str::to_owned);
        assert_eq!(unknown_variables(names.into_iter()), ["PASSLOOM_LISTNE"]);
    }

    #[test]
    fn a_wrong_secret_is_not_repeated() {
        let message = load(&[("PASSLOOM_MASTER_KEY", "hunter2")]).unwrap_err();
        assert!(!message.contains("hunter2") && message.contains("7 characters"), "{message}");
    }

    #[test]
    fn a_file_is_read_and_the_environment_wins() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("passloom.toml");
        std::fs::write(&path, "listen = \"127.0.0.1:1\"\nsandbox = false\n").expect("written");
        let get = |name: &str| (name == "PASSLOOM_LISTEN").then(|| "127.0.0.1:2".to_owned());
        let config = Config::load(Some(&path), get).expect("valid");
        assert_eq!((config.listen.port(), config.sandbox), (2, Some(false)));
        std::fs::write(&path, "lsiten = 1\n").expect("written");
        let message = Config::load(Some(&path), |_| None).expect_err("unknown").to_string();
        assert!(message.contains("lsiten is unknown"), "{message}");
        std::fs::write(&path, "admin_key = \"hunter2\nx").expect("written");
        let message = Config::load(Some(&path), |_| None).expect_err("no TOML").to_string();
        assert!(!message.contains("hunter2"), "{message}");
    }
}
