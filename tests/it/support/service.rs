//! The whole service in this process, on a port of its own, with a clock that the test moves and deliveries that the
//! test drives.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actix_web::web::Data;
use openssl::x509::X509;
use passloom::actions::fan_out::fan_out_step;
use passloom::app::App;
use passloom::config::Config;
use passloom::delivery::claim::deliver_due;
use passloom::domain::time::Timestamp;
use passloom::platform::clock::{Clock, ManualClock, SystemClock};
use passloom::platform::random::SystemRandom;
use passloom::sandbox::apns::{SimulatedApns, SimulatedApnsOptions};
use passloom::sandbox::phone::{Phone, PhoneOptions, Refreshed};
use passloom::startup::{Contents, JobMode, Outside, Running, prepare};
use passloom::store::deliveries;
use passloom::wallets::apple::certificates::development_chain::DevelopmentChain;
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::TestDatabase;
use super::described::assert_announced;

/// An answer, read whole.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none: a value in its stead would let an assertion about what is absent pass.
    pub fn json(&self) -> Value {
        let text = || String::from_utf8_lossy(&self.body).chars().take(2000).collect::<String>();
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{}: no JSON ({e}): {}", self.status, text()))
    }

    /// The body as JSON of an answer with one of these statuses.
    ///
    /// # Panics
    /// When it has another one.
    pub fn expect(&self, statuses: &[u16]) -> Value {
        let text = String::from_utf8_lossy(&self.body);
        assert!(statuses.contains(&self.status), "{} instead of {statuses:?}: {text}", self.status);
        self.json()
    }

    /// A header, empty when it is absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|v| v.to_str().unwrap()).unwrap_or_default()
    }

    /// The pointers of a problem's errors.
    pub fn pointers(&self) -> Vec<String> {
        let errors = self.json()["errors"].as_array().cloned().unwrap_or_default();
        errors.iter().map(|e| e["pointer"].as_str().unwrap().to_owned()).collect()
    }
}

/// A running service.
pub struct Service {
    pub app: Data<App>,
    pub clock: Arc<ManualClock>,
    pub base: String,
    pub key: String,
    pub root: PathBuf,
    /// The inner address, when it is another than the public one.
    pub internal: Option<SocketAddr>,
    http: reqwest::Client,
    running: Option<Running>,
    _directory: TempDir,
}

/// A development chain made once for all tests: three RSA keys take a while.
fn certificates() -> &'static Path {
    static MADE: OnceLock<TempDir> = OnceLock::new();
    MADE.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        passloom::sandbox::certificates::load_or_make(directory.path(), SystemClock.now()).unwrap();
        directory
    })
    .path()
}

impl Service {
    /// Starts with the template [`bakery`] published; the test drives deliveries.
    pub async fn shop(database: &TestDatabase) -> Self {
        let service = Self::start(database).await;
        service.publish("bakery", &bakery()).await;
        service
    }

    /// A [`Self::shop`] with the card M-1 of so many points; the card.
    pub async fn shop_with_card(database: &TestDatabase, points: i64) -> (Self, Value) {
        let service = Self::shop(database).await;
        let card = service.put_card("M-1", &anna(points)).await;
        (service, card)
    }

    /// Starts without templates; the test drives deliveries.
    pub async fn start(database: &TestDatabase) -> Self {
        Self::start_with(database, Contents::Nothing, JobMode::ByHand).await
    }

    /// Like [`Self::start`], with other settings.
    pub async fn start_configured(database: &TestDatabase, settings: impl FnOnce(&mut Config)) -> Self {
        Self::start_as(database, Contents::Nothing, JobMode::ByHand, settings).await
    }

    /// Like [`Self::start`], with another clock, made of the one that the test moves, or other randomness.
    pub async fn start_outside(database: &TestDatabase, outside: impl FnOnce(Arc<ManualClock>) -> Outside) -> Self {
        Self::start_in(database, Contents::Nothing, JobMode::ByHand, |_| {}, outside).await
    }

    pub async fn start_with(database: &TestDatabase, contents: Contents, jobs: JobMode) -> Self {
        Self::start_as(database, contents, jobs, |_| {}).await
    }

    async fn start_as(
        database: &TestDatabase,
        contents: Contents,
        jobs: JobMode,
        settings: impl FnOnce(&mut Config),
    ) -> Self {
        let outside = |clock: Arc<ManualClock>| Outside { clock, random: Arc::new(SystemRandom), wallets: Vec::new() };
        Self::start_in(database, contents, jobs, settings, outside).await
    }

    /// Like [`Self::start_outside`], with all that can be chosen.
    pub async fn start_in(
        database: &TestDatabase,
        contents: Contents,
        jobs: JobMode,
        settings: impl FnOnce(&mut Config),
        outside: impl FnOnce(Arc<ManualClock>) -> Outside,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("certs/dev");
        std::fs::create_dir_all(&folder).unwrap();
        for file in std::fs::read_dir(certificates()).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), folder.join(file.file_name())).unwrap();
        }
        let mut config = Config::load(None, |_| None).unwrap();
        config.listen = "127.0.0.1:0".parse().unwrap();
        // Everything on one address, unless a test is about the inner one.
        config.internal_listen = Some(config.listen);
        config.data_dir = directory.path().to_owned();
        config.data_dir_given = true;
        config.database_url = database.url().to_owned();
        config.sandbox = Some(true);
        config.admin_key = Some(ADMIN_KEY.to_owned());
        // All of a test's customers come from one address.
        config.limits.pages = 0;
        config.master_key = passloom::platform::secrets::MasterKey::parse(&"5e".repeat(32));
        settings(&mut config);
        let start = Timestamp::from_seconds(SystemClock.now().seconds());
        let clock = Arc::new(ManualClock::at(start));
        let prepared = prepare(config, outside(clock.clone()), contents).await.unwrap();
        let facts = prepared.sandbox.clone().unwrap();
        let running = prepared.run(jobs).unwrap();
        Self {
            app: running.app.clone(),
            clock,
            base: running.app.public_url.clone(),
            key: facts.api_key,
            root: facts.root,
            internal: running.internal,
            http: reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(60)).build().unwrap(),
            running: Some(running),
            _directory: directory,
        }
    }

    /// Stops in order and checks that no device was left untold.
    pub async fn stop(self) {
        let left = deliveries::unfinished(&mut self.app.store.read().await.unwrap()).await.unwrap();
        assert_eq!(left, 0, "devices that were never told of a change");
        self.stop_with_work_left().await;
    }

    /// Stops in order, whatever is under way.
    pub async fn stop_with_work_left(mut self) {
        self.running.take().unwrap().stop().await.unwrap();
    }

    pub fn apns(&self) -> &SimulatedApns {
        self.app.sandbox.as_ref().unwrap()
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Any request; `path` begins with a slash. An answer of the API must be one that its description announces.
    pub async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
        let mut request = self.http.request(method.clone(), format!("{}{path}", self.base)).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        // The client has taken dots out of the path.
        let path = response.url().path().to_owned();
        let answer = Answer { status, headers, body: response.bytes().await.unwrap().to_vec() };
        assert_announced(method.as_str(), &path, &answer);
        answer
    }

    /// A request of the loyalty backend.
    pub async fn api(&self, method: Method, path: &str, body: &Value) -> Answer {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        self.send(method, path, &[("authorization", &format!("Bearer {}", self.key))], body).await
    }

    /// A request with another key than the sandbox's.
    pub async fn api_as(&self, key: &str, method: Method, path: &str, body: &Value) -> Answer {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        self.send(method, path, &[("authorization", &format!("Bearer {key}"))], body).await
    }

    /// Adds a workspace; its first key.
    pub async fn workspace(&self, id: &str) -> String {
        let body = json!({"id": id, "name": format!("The {id}")});
        let answer = self.api_as(ADMIN_KEY, Method::POST, "/api/v1/workspaces", &body).await;
        answer.expect(&[201])["key"]["secret"].as_str().unwrap().to_owned()
    }

    /// Makes a key; its secret.
    pub async fn new_key(&self, by: &str, scopes: &[&str]) -> String {
        let answer = self.api_as(by, Method::POST, "/api/v1/keys", &json!({"name": "test", "scopes": scopes})).await;
        answer.expect(&[201])["secret"].as_str().unwrap().to_owned()
    }

    pub async fn put_card(&self, id: &str, document: &Value) -> Value {
        let answer = self.api(Method::PUT, &format!("/api/v1/cards/{id}"), document).await;
        answer.expect(&[200, 201])
    }

    pub async fn patch_card(&self, id: &str, patch: &Value) -> Value {
        let answer = self.api(Method::PATCH, &format!("/api/v1/cards/{id}"), patch).await;
        answer.expect(&[200])
    }

    pub async fn card(&self, id: &str) -> Value {
        let answer = self.api(Method::GET, &format!("/api/v1/cards/{id}"), &Value::Null).await;
        answer.expect(&[200])
    }

    /// Puts a template with an icon and publishes it; the version.
    pub async fn publish(&self, id: &str, document: &Value) -> i64 {
        let put = self.api(Method::PUT, &format!("/api/v1/templates/{id}"), document).await;
        put.expect(&[200, 201]);
        self.put_image(id, "icon", &png(114, 114)).await;
        let published = self.api(Method::POST, &format!("/api/v1/templates/{id}/publish"), &Value::Null).await;
        published.expect(&[200])["version"].as_i64().unwrap()
    }

    pub async fn put_image(&self, template: &str, role: &str, bytes: &[u8]) {
        let path = format!("/api/v1/templates/{template}/images/{role}");
        let bearer = format!("Bearer {}", self.key);
        let answer = self.send(Method::PUT, &path, &[("authorization", &bearer)], bytes.to_vec()).await;
        assert_eq!(answer.status, 204, "{}", answer.json());
    }

    /// A new phone that trusts this service's root.
    pub fn phone(&self, language: &str) -> Phone {
        let root = X509::from_pem(&std::fs::read(&self.root).unwrap()).unwrap();
        Phone::new(&SystemRandom, PhoneOptions { language: language.to_owned(), root: Some(root) }).unwrap()
    }

    /// A new phone with the card on it; the phone and the serial number.
    pub async fn phone_with(&self, card: &Value) -> (Phone, String) {
        let mut phone = self.phone("en");
        let serial = phone.add(card["urls"]["page"].as_str().unwrap(), self.now()).await.unwrap();
        (phone, serial)
    }

    /// Pushes everything that is due now; how many pushes were tried.
    pub async fn deliver(&self) -> usize {
        let mut count = 0;
        loop {
            match deliver_due(&self.app.clone().into_inner()).await.unwrap() {
                0 => return count,
                n => count += n,
            }
        }
    }

    /// Runs the refresh of published templates to its end; the clock goes on where the pace asks for it.
    pub async fn refresh(&self) {
        while let Some(until_next) = fan_out_step(&self.app).await.unwrap() {
            self.clock.advance(until_next);
        }
    }

    /// What a phone does when a push arrives.
    pub async fn wake(&self, phone: &mut Phone) -> Vec<Refreshed> {
        phone.update(PASS_TYPE, self.now()).await.unwrap()
    }
}

/// An APNs of its own for a development chain, which lets in the certificates of `client_roots`.
pub async fn simulated_apns(chain: &DevelopmentChain, client_roots: Vec<X509>) -> SimulatedApns {
    let (server_certificate, server_key) =
        chain.server_certificate(&["localhost"], &["127.0.0.1"], SystemClock.now()).unwrap();
    let listen = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let max_concurrent_streams = 1000;
    let options = SimulatedApnsOptions { server_certificate, server_key, client_roots, listen, max_concurrent_streams };
    SimulatedApns::start(options).await.unwrap()
}

/// The bootstrap key of every service here.
pub const ADMIN_KEY: &str = "bootstrap-key-of-the-tests-0123456789";

pub const PASS_TYPE: &str = passloom::sandbox::certificates::PASS_TYPE;

/// A plain picture.
pub fn png(width: u32, height: u32) -> Vec<u8> {
    let mut out = std::io::Cursor::new(Vec::new());
    image::DynamicImage::ImageRgb8(image::RgbImage::from_fn(width, height, |x, y| {
        image::Rgb([(x * 2 % 256) as u8, (y * 3 % 256) as u8, 120])
    }))
    .write_to(&mut out, image::ImageFormat::Png)
    .unwrap();
    out.into_inner()
}

/// The template document of the contract's example.
pub fn bakery() -> Value {
    json!({
        "name": "Bakery points", "organization": "Kuzina", "description": "Kuzina loyalty card", "kind": "points",
        "languages": ["en", "lv", "ru"],
        "colors": {"background": "#1B4D3E", "foreground": "#FFFFFF", "label": "#CFE8DC"},
        "logo_text": "Kuzina",
        "attributes": [
            {"name": "points", "type": "integer", "default": 0},
            {"name": "balance", "type": "money", "currency": "EUR"},
            {"name": "tier", "type": "choice", "choices": ["basic", "silver", "gold"], "default": "basic"},
            {"name": "name", "type": "text", "personal": true, "max_length": 64},
            {"name": "note", "type": "text"},
            {"name": "expires_on", "type": "date"}],
        "fields": {
            "header": [{"key": "points", "label": "Points", "value": "{{ points }}", "change_message": "You now have %@ points"}],
            "primary": [{"key": "balance", "label": "Balance", "value": "{{ balance }}"}],
            "secondary": [{"key": "tier", "label": "Status", "value": "{{ tier }}", "change_message": "Your status is now %@"}],
            "auxiliary": [{"key": "name", "label": "Member", "value": "{{ name }}"},
                          {"key": "until", "label": "Valid until", "value": "{{ expires_on }}"}],
            "back": [{"key": "site", "label": "Website", "value": "https://kuzina.example", "link": "https://kuzina.example"},
                     {"key": "hello", "label": "Hello", "value": "Hello {{ name }}, have a bun"}]},
        "barcode": {"format": "qr", "value": "{{ card.id }}", "text": "{{ card.id }}"},
        "tiers": {"attribute": "tier", "looks": {"gold": {"colors": {"background": "#8A6D1D"}}}},
        "strings": {
            "lv": {"Points": "Punkti", "Status": "Statuss", "Hello {{ name }}, have a bun": "Sveiki, {{ name }}, ņemiet bulciņu"},
            "ru": {"Points": "Баллы", "You now have %@ points": "Теперь у вас баллов: %@"}},
        "locations": [{"latitude": 56.9496, "longitude": 24.1052, "text": "Kuzina is near"}],
        "apple": {"style": "storeCard"}
    })
}

/// A card's document for [`bakery`].
pub fn anna(points: i64) -> Value {
    json!({"template": "bakery", "attributes": {"points": points, "name": "Anna"}})
}
