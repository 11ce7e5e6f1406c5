//! A wallet in memory: its targets are sent the card as a document, at a rate plan of its own. It stands where a second
//! wallet will, and shows what one has to bring.

use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use passloom::domain::ids::{IssuerId, TargetAddress, WorkspaceId};
use passloom::domain::input::Problems;
use passloom::domain::render::RenderedCard;
use passloom::domain::templates::Template;
use passloom::domain::time::Timestamp;
use passloom::domain::wallet::WalletKind;
use passloom::wallets::images::VersionFile;
use passloom::wallets::{
    CardIdentity, Issuer, Payload, PayloadKind, PrepareError, Prepared, PushOutcome, RatePlan, Wallet, WalletDocument,
    Words,
};
use serde_json::{Value, json};

const WORDS: Words = Words { service: "the fake service", credentials: "key", issuer: "issuer" };

/// What the wallet's service has been sent, and how it answers.
#[derive(Debug, Default)]
pub struct FakeService {
    objects: Mutex<BTreeMap<String, Value>>,
    calls: Mutex<Vec<Instant>>,
    answer: Mutex<Option<PushOutcome>>,
    latency: Mutex<Duration>,
    under_way: AtomicUsize,
    most_under_way: AtomicUsize,
}

impl FakeService {
    /// The newest document that it was sent for an object.
    pub fn object(&self, id: &str) -> Option<Value> {
        self.objects.lock().unwrap().get(id).cloned()
    }

    /// When it was called, in order.
    pub fn calls(&self) -> Vec<Instant> {
        self.calls.lock().unwrap().clone()
    }

    /// The most calls that were under way at once.
    pub fn most_under_way(&self) -> usize {
        self.most_under_way.load(Ordering::SeqCst)
    }

    /// Answers so from now on; `None` takes everything.
    pub fn answer(&self, answer: Option<PushOutcome>) {
        *self.answer.lock().unwrap() = answer;
    }

    pub fn set_latency(&self, latency: Duration) {
        *self.latency.lock().unwrap() = latency;
    }

    async fn take(&self, id: &str, document: Value) -> PushOutcome {
        self.calls.lock().unwrap().push(Instant::now());
        let under_way = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_under_way.fetch_max(under_way, Ordering::SeqCst);
        let latency = *self.latency.lock().unwrap();
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        self.under_way.fetch_sub(1, Ordering::SeqCst);
        if let Some(answer) = self.answer.lock().unwrap().clone() {
            return answer;
        }
        self.objects.lock().unwrap().insert(id.to_owned(), document);
        PushOutcome::Delivered
    }
}

/// The driver.
#[derive(Debug, Default)]
pub struct FakeWallet {
    pub service: Arc<FakeService>,
    issuers: Mutex<HashMap<WorkspaceId, Arc<FakeIssuer>>>,
}

#[derive(Debug)]
struct FakeIssuer {
    id: IssuerId,
    workspace: WorkspaceId,
    service: Arc<FakeService>,
    plan: RatePlan,
}

impl FakeWallet {
    /// Gives a workspace an issuer, which must also be in the database.
    pub fn add_issuer(&self, workspace: &WorkspaceId, id: &IssuerId, plan: RatePlan) {
        let issuer =
            FakeIssuer { id: id.clone(), workspace: workspace.clone(), service: Arc::clone(&self.service), plan };
        self.issuers.lock().unwrap().insert(workspace.clone(), Arc::new(issuer));
    }
}

impl Wallet for FakeWallet {
    fn kind(&self) -> WalletKind {
        WalletKind::Google
    }

    fn words(&self) -> Words {
        WORDS
    }

    fn current(&self, workspace: &WorkspaceId, _now: Timestamp) -> Option<Arc<dyn Issuer>> {
        Some(self.issuers.lock().unwrap().get(workspace)?.clone())
    }

    fn issuer(&self, workspace: &WorkspaceId, id: &IssuerId, now: Timestamp) -> Option<Arc<dyn Issuer>> {
        self.current(workspace, now).filter(|issuer| issuer.id() == id)
    }

    fn prepare(&self, _template: &Template, files: &[VersionFile]) -> Result<Arc<dyn Prepared>, PrepareError> {
        Ok(Arc::new(FakePrepared { pictures: files.iter().map(|file| file.path.clone()).collect() }))
    }
}

impl Issuer for FakeIssuer {
    fn id(&self) -> &IssuerId {
        &self.id
    }

    fn workspace(&self) -> &WorkspaceId {
        &self.workspace
    }

    fn wallet(&self) -> WalletKind {
        WalletKind::Google
    }

    fn account(&self) -> &str {
        "fake"
    }

    fn credentials(&self) -> String {
        format!("key of {}", self.id)
    }

    fn words(&self) -> Words {
        WORDS
    }

    fn rate_plan(&self) -> RatePlan {
        self.plan
    }

    fn payload_kind(&self) -> PayloadKind {
        PayloadKind::Document
    }

    fn deliver<'a>(
        &'a self,
        target: &'a TargetAddress,
        payload: &'a Payload,
        _now: Timestamp,
    ) -> BoxFuture<'a, PushOutcome> {
        let Payload::Document(document) = payload else { panic!("a fake object is sent its card, not {payload:?}") };
        self.service.take(target.as_str(), document.clone()).boxed()
    }
}

#[derive(Debug)]
struct FakePrepared {
    pictures: Vec<String>,
}

impl Prepared for FakePrepared {
    fn memory(&self) -> usize {
        self.pictures.iter().map(String::len).sum()
    }

    fn files_hashed(&self) -> u64 {
        0
    }

    fn document(&self, card: &RenderedCard<'_>, identity: Option<&CardIdentity<'_>>) -> WalletDocument {
        let values: BTreeMap<String, String> = card
            .fields
            .iter()
            .flat_map(|(_, fields)| fields)
            .map(|field| (field.key.to_string(), format!("{:?}", field.value)))
            .collect();
        let id = identity.map(|identity| format!("{}.{}", identity.issuer.id(), identity.serial));
        let json = json!({"id": id, "state": card.state, "values": values});
        WalletDocument { json, texts: Vec::new() }
    }

    fn problems_of_values(&self, _card: &RenderedCard<'_>, _document: &WalletDocument, _now: Timestamp) -> Problems {
        Problems::new()
    }

    fn digest(&self, card: &RenderedCard<'_>, identity: &CardIdentity<'_>) -> Option<Vec<u8>> {
        Some(format!("{} {:?}", self.document(card, Some(identity)).json, self.pictures).into_bytes())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
