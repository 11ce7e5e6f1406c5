//! A simulated iPhone: adds a pass from its address, checks it as Wallet does, registers, listens for pushes, asks what
//! changed and fetches it (Apple, "Adding a Web Service to Update Passes", read 2026-11).
//!
//! It is as strict as the real one: registering must be answered with 200 or 201, a list with 200 or 204; tags must be
//! strings that change; and a pass that breaks a rule is refused and reported to the service's log. It doesn't retry by
//! itself and doesn't show pictures.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use openssl::x509::X509;
use reqwest::header::{AUTHORIZATION, IF_MODIFIED_SINCE, LAST_MODIFIED};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

use crate::domain::checks::Severity;
use crate::domain::time::Timestamp;
use crate::platform::random::{self, Random};
use crate::wallets::apple::certificates::trust::Trust;
use crate::wallets::apple::inspect::inspect;

/// Why a phone couldn't do what was requested.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum PhoneError {
    #[error("can't reach the server: {0}")]
    Network(#[from] reqwest::Error),
    #[error("{what} was answered {status}")]
    Status { what: &'static str, status: u16 },
    #[error("the pass is refused: {0}")]
    Refused(String),
    #[error("the answer to {0} is malformed")]
    Malformed(&'static str),
    #[error("{0}")]
    Setup(String),
}

/// The settings of a simulated phone.
#[derive(Debug)]
pub struct PhoneOptions {
    /// The owner's language, e.g. `lv`.
    pub language: String,
    /// The root that signatures must chain to; Apple's when absent.
    pub root: Option<X509>,
}

/// A pass in the phone's wallet.
#[derive(Debug, Clone)]
pub struct InstalledPass {
    /// Its pass.json.
    pub pass: Value,
    strings: HashMap<String, String>,
    last_modified: Option<String>,
}

/// A field as the phone shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownField {
    /// Its key.
    pub key: String,
    /// Its label in the owner's language.
    pub label: String,
    /// Its value, as far as a terminal can show it.
    pub value: String,
}

/// The result of an update.
#[derive(Debug, Clone)]
pub struct Refreshed {
    /// The serial number of the pass.
    pub serial: String,
    /// The notification, when a field with a change message changed.
    pub notice: Option<String>,
}

/// A simulated phone.
#[derive(Debug)]
pub struct Phone {
    http: reqwest::Client,
    device: String,
    push_token: String,
    language: String,
    trust: Trust,
    passes: BTreeMap<String, InstalledPass>,
    tags: HashMap<String, String>,
    complaints: Vec<String>,
}

/// The longest time that a server may send nothing.
const SILENCE: Duration = Duration::from_secs(30);

const STYLES: [&str; 5] = ["storeCard", "coupon", "generic", "eventTicket", "boardingPass"];
const FRONT: [&str; 4] = ["headerFields", "primaryFields", "secondaryFields", "auxiliaryFields"];

impl Phone {
    /// Creates a phone with a device id and a push token of its own.
    ///
    /// # Errors
    /// When the HTTP client can't be made.
    pub fn new(random: &dyn Random, options: PhoneOptions) -> Result<Self, PhoneError> {
        let setup = |e: openssl::error::ErrorStack| PhoneError::Setup(e.to_string());
        // A connection without data is given up, as a real phone does; the channel for pushes sends a sign of life
        // every 15 seconds.
        let http = reqwest::Client::builder().no_proxy().connect_timeout(Duration::from_secs(10));
        let http = http.read_timeout(SILENCE).build()?;
        Ok(Self {
            http,
            device: hex::encode(random::bytes::<16>(random).map_err(setup)?),
            push_token: hex::encode(random::bytes::<32>(random).map_err(setup)?),
            language: options.language,
            trust: options.root.map_or_else(Trust::apple, Trust::only),
            passes: BTreeMap::new(),
            tags: HashMap::new(),
            complaints: Vec::new(),
        })
    }

    /// Returns the token under which APNs knows the phone.
    pub fn push_token(&self) -> &str {
        &self.push_token
    }

    /// Returns the passes in the phone's wallet, by serial number.
    pub fn passes(&self) -> &BTreeMap<String, InstalledPass> {
        &self.passes
    }

    /// Returns the entries that the phone would have written to the service's log.
    pub fn complaints(&self) -> &[String] {
        &self.complaints
    }

    /// Adds the card at that address (its page, or the file itself), registers, and asks what changed. Returns the
    /// serial number.
    ///
    /// # Errors
    /// When the pass can't be fetched or is refused, or registering fails.
    pub async fn add(&mut self, address: &str, now: Timestamp) -> Result<String, PhoneError> {
        let address = address.trim_end_matches('/');
        let address = if address.ends_with(".pkpass") { address.to_owned() } else { format!("{address}/card.pkpass") };
        let response = self.http.get(&address).send().await?;
        let (serial, pass) = self.read_pass(response, now).await?;
        self.passes.insert(serial.clone(), pass);
        self.register(&serial).await?;
        self.update(&self.topic(&serial)?, now).await?;
        Ok(serial)
    }

    async fn read_pass(&self, response: Response, now: Timestamp) -> Result<(String, InstalledPass), PhoneError> {
        if response.status() != StatusCode::OK {
            return Err(PhoneError::Status { what: "the pass", status: response.status().as_u16() });
        }
        let header = |name: &str| response.headers().get(name).and_then(|v| v.to_str().ok()).map(ToOwned::to_owned);
        if header("content-type").as_deref() != Some("application/vnd.apple.pkpass") {
            return Err(PhoneError::Refused(format!("its type is {:?}", header("content-type"))));
        }
        let last_modified = header(LAST_MODIFIED.as_str());
        let bytes = response.bytes().await?;
        let inspection = inspect(&bytes, &self.trust, now);
        if let Some(issue) = inspection.issues.iter().find(|i| i.severity == Severity::Error) {
            return Err(PhoneError::Refused(format!("{} {}: {}", issue.rule, issue.pointer, issue.detail)));
        }
        let pass = inspection.pass.ok_or(PhoneError::Malformed("the pass"))?;
        let serial = text(&pass, "serialNumber").ok_or(PhoneError::Malformed("the pass"))?.to_owned();
        let strings = self.read_strings(&bytes);
        Ok((serial, InstalledPass { pass, strings, last_modified }))
    }

    /// Reads the string table of the owner's language, else English.
    fn read_strings(&self, archive: &[u8]) -> HashMap<String, String> {
        let base = self.language.split('-').next().unwrap_or_default();
        let mut report = crate::wallets::apple::rules::report::Report::default();
        let files = crate::wallets::apple::inspect::unpack::unpack(archive, &mut report).files;
        let table = [self.language.as_str(), base, "en"]
            .iter()
            .find_map(|language| files.get(&format!("{language}.lproj/pass.strings")));
        table.map(|table| parse_strings(&String::from_utf8_lossy(table))).unwrap_or_default()
    }

    fn installed(&self, serial: &str) -> Result<&InstalledPass, PhoneError> {
        self.passes.get(serial).ok_or_else(|| PhoneError::Setup(format!("the pass {serial} is not installed")))
    }

    fn topic(&self, serial: &str) -> Result<String, PhoneError> {
        let pass = &self.installed(serial)?.pass;
        Ok(text(pass, "passTypeIdentifier").ok_or(PhoneError::Malformed("the pass"))?.to_owned())
    }

    /// Returns the web service's base, the pass type and the authentication of a pass.
    fn service(&self, serial: &str) -> Result<(String, String, String), PhoneError> {
        let pass = &self.installed(serial)?.pass;
        let part = |key| text(pass, key).map(ToOwned::to_owned).ok_or(PhoneError::Malformed("the pass"));
        let authorization = format!("ApplePass {}", part("authenticationToken")?);
        Ok((part("webServiceURL")?, part("passTypeIdentifier")?, authorization))
    }

    /// Registers for a pass, as after adding it or when the push token changed.
    ///
    /// # Errors
    /// When the answer is anything but 200 or 201.
    pub async fn register(&mut self, serial: &str) -> Result<(), PhoneError> {
        let (base, pass_type, authorization) = self.service(serial)?;
        let url = format!("{base}/v1/devices/{}/registrations/{pass_type}/{serial}", self.device);
        let request = self.http.post(url).header(AUTHORIZATION, authorization);
        let status = request.json(&json!({"pushToken": self.push_token})).send().await?.status();
        match status {
            StatusCode::OK | StatusCode::CREATED => Ok(()),
            status => {
                self.complain(&base, format!("Register task encountered error: {status}")).await;
                Err(PhoneError::Status { what: "the registration", status: status.as_u16() })
            }
        }
    }

    /// Removes a pass from the wallet.
    ///
    /// # Errors
    /// When the answer is anything but 200.
    pub async fn remove(&mut self, serial: &str) -> Result<(), PhoneError> {
        let (base, pass_type, authorization) = self.service(serial)?;
        let url = format!("{base}/v1/devices/{}/registrations/{pass_type}/{serial}", self.device);
        let status = self.http.delete(url).header(AUTHORIZATION, authorization).send().await?.status();
        self.passes.remove(serial);
        match status {
            StatusCode::OK => Ok(()),
            status => Err(PhoneError::Status { what: "the end of the registration", status: status.as_u16() }),
        }
    }

    /// Asks what changed for a pass type and fetches it, as after a push.
    ///
    /// # Errors
    /// When the service gives an answer that a phone doesn't understand.
    pub async fn update(&mut self, topic: &str, now: Timestamp) -> Result<Vec<Refreshed>, PhoneError> {
        let serial = self.passes.iter().find(|(_, p)| text(&p.pass, "passTypeIdentifier") == Some(topic));
        let Some(serial) = serial.map(|(serial, _)| serial.clone()) else { return Ok(Vec::new()) };
        let (base, ..) = self.service(&serial)?;
        let scope = format!("{base} {topic}");
        let mut url = format!("{base}/v1/devices/{}/registrations/{topic}", self.device);
        let old_tag = self.tags.get(&scope).cloned();
        if let Some(tag) = &old_tag {
            url.push_str(&format!("?passesUpdatedSince={tag}"));
        }
        let response = self.http.get(url).send().await?;
        match response.status() {
            StatusCode::NO_CONTENT => return Ok(Vec::new()),
            StatusCode::OK => {}
            status => {
                self.complain(
                    &base,
                    format!("Get serial #s task encountered error: Unexpected response code {}", status.as_u16()),
                )
                .await;
                return Err(PhoneError::Status { what: "the list of changed passes", status: status.as_u16() });
            }
        }
        let body: Value = response.json().await?;
        let serials = body.get("serialNumbers").and_then(Value::as_array);
        let (Some(serials), Some(tag)) = (serials, text(&body, "lastUpdated")) else {
            return Err(PhoneError::Malformed("the list of changed passes"));
        };
        if old_tag.as_deref() == Some(tag) {
            self.complain(&base, format!("Response to 'What changed?' request included {} serial numbers but the lastUpdated tag ({tag}) remained the same.", serials.len())).await;
        }
        let serials: Vec<String> = serials.iter().filter_map(Value::as_str).map(ToOwned::to_owned).collect();
        let tag = tag.to_owned();
        let mut refreshed = Vec::new();
        for serial in serials {
            if self.passes.contains_key(&serial) {
                refreshed.extend(self.fetch(&serial, now).await?);
            } else {
                self.complain(&base, format!("Update requested for unregistered serial number {serial}")).await;
            }
        }
        // Stored only when everything was fetched, so that what failed is listed again.
        self.tags.insert(scope, tag);
        Ok(refreshed)
    }

    /// Fetches one pass, as pulling down on its back does. Returns the update, if there was one.
    ///
    /// # Errors
    /// When the service answers anything but 200 and 304, or a pass that is refused.
    pub async fn fetch(&mut self, serial: &str, now: Timestamp) -> Result<Option<Refreshed>, PhoneError> {
        let (base, pass_type, authorization) = self.service(serial)?;
        let mut request =
            self.http.get(format!("{base}/v1/passes/{pass_type}/{serial}")).header(AUTHORIZATION, authorization);
        if let Some(since) = &self.installed(serial)?.last_modified {
            request = request.header(IF_MODIFIED_SINCE, since);
        }
        let response = request.send().await?;
        if response.status() == StatusCode::NOT_MODIFIED {
            return Ok(None);
        }
        let (found, new) = match self.read_pass(response, now).await {
            Ok(read) => read,
            Err(error) => {
                self.complain(&base, format!("Get pass task encountered error: {error}")).await;
                return Err(error);
            }
        };
        if found != serial || new.last_modified.is_none() {
            self.complain(&base, format!("Get pass task for {serial}: another pass, or no Last-Modified")).await;
            return Err(PhoneError::Malformed("the pass"));
        }
        let old = self.installed(serial)?.clone();
        if old.pass == new.pass && old.strings == new.strings {
            self.complain(&base, format!("Server ignored the 'if-modified-since' header and returned the full unchanged pass data for {serial}")).await;
        }
        let notice = notice(&old, &new);
        self.passes.insert(serial.to_owned(), new);
        Ok(Some(Refreshed { serial: serial.to_owned(), notice }))
    }

    async fn complain(&mut self, base: &str, message: String) {
        let log = self.http.post(format!("{base}/v1/log")).json(&json!({"logs": [message]})).send();
        self.complaints.push(message);
        // An error is ignored: a phone that can't reach the log has no other place to report to.
        drop(log.await);
    }

    /// Returns the front of a pass in the owner's language.
    pub fn front(&self, serial: &str) -> Vec<ShownField> {
        self.passes.get(serial).map(|installed| installed.fields(&FRONT)).unwrap_or_default()
    }

    /// Returns the back of a pass in the owner's language.
    pub fn back(&self, serial: &str) -> Vec<ShownField> {
        self.passes.get(serial).map(|installed| installed.fields(&["backFields"])).unwrap_or_default()
    }

    /// Returns the value of one field, front or back.
    pub fn field(&self, serial: &str, key: &str) -> Option<String> {
        let groups = [FRONT[0], FRONT[1], FRONT[2], FRONT[3], "backFields"];
        self.passes.get(serial)?.fields(&groups).into_iter().find(|f| f.key == key).map(|f| f.value)
    }

    /// Opens the channel on which the sandbox's APNs reaches this phone.
    ///
    /// # Errors
    /// When the server has no sandbox.
    pub async fn listen(&self, serial: &str) -> Result<PushLine, PhoneError> {
        let (base, ..) = self.service(serial)?;
        let root = base.strip_suffix("/apple").unwrap_or(&base);
        let url = format!("{root}/sandbox/devices/{}/pushes", self.push_token);
        let response = self.http.get(url).send().await?;
        if response.status() != StatusCode::OK {
            return Err(PhoneError::Status { what: "the line for pushes", status: response.status().as_u16() });
        }
        Ok(PushLine { response, unread: String::new() })
    }
}

/// The channel on which pushes arrive.
#[derive(Debug)]
pub struct PushLine {
    response: Response,
    unread: String,
}

impl PushLine {
    /// Returns the topic of the next push; `None` when the server closed the channel.
    ///
    /// # Errors
    /// When the connection broke.
    pub async fn next(&mut self) -> Result<Option<String>, PhoneError> {
        loop {
            while let Some((line, rest)) = self.unread.split_once('\n') {
                let topic = line.strip_prefix("data: ").map(|t| t.trim().to_owned());
                self.unread = rest.to_owned();
                if topic.is_some() {
                    return Ok(topic);
                }
            }
            match self.response.chunk().await? {
                Some(chunk) => self.unread.push_str(&String::from_utf8_lossy(&chunk)),
                None => return Ok(None),
            }
        }
    }
}

impl InstalledPass {
    /// Returns the text that the owner reads: translated when it is a key of the string table.
    fn shown<'a>(&'a self, text: &'a str) -> &'a str {
        self.strings.get(text).map_or(text, String::as_str)
    }

    /// Returns the organization's name.
    pub fn organization(&self) -> &str {
        self.shown(text(&self.pass, "organizationName").unwrap_or_default())
    }

    /// Returns the description, which VoiceOver reads.
    pub fn description(&self) -> &str {
        self.shown(text(&self.pass, "description").unwrap_or_default())
    }

    fn raw_fields(&self, groups: &[&str]) -> Vec<&Value> {
        let style = STYLES.iter().find_map(|style| self.pass.get(style));
        let lists = groups.iter().filter_map(|group| style?.get(group)?.as_array());
        lists.flatten().collect()
    }

    fn fields(&self, groups: &[&str]) -> Vec<ShownField> {
        self.raw_fields(groups)
            .into_iter()
            .map(|field| ShownField {
                key: text(field, "key").unwrap_or_default().to_owned(),
                label: self.shown(text(field, "label").unwrap_or_default()).to_owned(),
                value: self.value(field),
            })
            .collect()
    }

    fn value(&self, field: &Value) -> String {
        let value = match field.get("value") {
            Some(Value::String(text)) => self.shown(text).to_owned(),
            Some(other) => other.to_string(),
            None => String::new(),
        };
        match (text(field, "currencyCode"), field.get("dateStyle")) {
            (Some(currency), _) => {
                let amount = field.get("value").and_then(Value::as_f64).unwrap_or_default();
                format!("{amount:.2} {currency}")
            }
            (None, Some(Value::String(style))) if style == "PKDateStyleNone" => {
                value.get(11..16).unwrap_or(&value).to_owned()
            }
            (None, Some(_)) => value.get(..10).unwrap_or(&value).to_owned(),
            _ => value,
        }
    }
}

/// Returns the notification of an update: the change message of the only changed field that has one. When several such
/// fields changed, the generic text that iOS shows then.
fn notice(old: &InstalledPass, new: &InstalledPass) -> Option<String> {
    let groups = [FRONT[0], FRONT[1], FRONT[2], FRONT[3], "backFields"];
    let before = old.raw_fields(&groups);
    let mut changed = new.raw_fields(&groups).into_iter().filter(|field| {
        let old = before.iter().find(|b| b.get("key") == field.get("key"));
        field.get("changeMessage").is_some() && old.is_some_and(|old| old.get("value") != field.get("value"))
    });
    let field = changed.next()?;
    if changed.next().is_some() {
        return Some("Pass changed".to_owned());
    }
    let message = new.shown(text(field, "changeMessage")?);
    Some(message.replace("%@", &new.value(field)).replace("%%", "%"))
}

fn text<'v>(value: &'v Value, key: &str) -> Option<&'v str> {
    value.get(key)?.as_str()
}

/// Reads `"key" = "value";` lines; the inspection has already checked their form.
fn parse_strings(table: &str) -> HashMap<String, String> {
    let mut texts = Vec::new();
    let mut letters = table.chars();
    while let Some(c) = letters.next() {
        if c != '"' {
            continue;
        }
        let mut text = String::new();
        while let Some(c) = letters.next() {
            match c {
                '"' => break,
                '\\' => match letters.next() {
                    Some('n') => text.push('\n'),
                    Some('t') => text.push('\t'),
                    Some(other) => text.push(other),
                    None => {}
                },
                c => text.push(c),
            }
        }
        texts.push(text);
    }
    texts.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
}
