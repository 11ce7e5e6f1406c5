//! The driver of Apple Wallet.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::domain::ids::{AuthToken, IssuerId, PassTypeId, PushToken, SerialNumber, TargetAddress, WorkspaceId};
use crate::domain::input::Problems;
use crate::domain::render::RenderedCard;
use crate::domain::templates::Template;
use crate::domain::time::Timestamp;
use crate::domain::wallet::WalletKind;
use crate::platform::secrets::digest;
use crate::wallets::apple::check::problems_of_values;
use crate::wallets::apple::issuers::{AppleIssuer, AppleIssuers};
use crate::wallets::apple::package::pass;
use crate::wallets::apple::package::pass_json::{PassIdentity, pass_json};
use crate::wallets::apple::package::prepare::PreparedPasses;
use crate::wallets::images::VersionFile;
use crate::wallets::{
    CardIdentity, Issuer, Payload, PayloadKind, PrepareError, Prepared, PushOutcome, RatePlan, Wallet, WalletDocument,
    Words,
};

/// How long APNs keeps a push for a phone that is switched off.
const KEEP: Duration = Duration::from_secs(30 * 24 * 3600);

const WORDS: Words = Words { service: "APNs", credentials: "certificate", issuer: "pass type" };

/// Apple Wallet, with the certificates of all workspaces.
#[derive(Debug)]
pub struct AppleWallet(pub Arc<AppleIssuers>);

impl Wallet for AppleWallet {
    fn kind(&self) -> WalletKind {
        WalletKind::Apple
    }

    fn words(&self) -> Words {
        WORDS
    }

    fn current(&self, workspace: &WorkspaceId, now: Timestamp) -> Option<Arc<dyn Issuer>> {
        Some(self.0.current(workspace, now)?)
    }

    fn issuer(&self, workspace: &WorkspaceId, id: &IssuerId, now: Timestamp) -> Option<Arc<dyn Issuer>> {
        Some(self.0.of(workspace, id, now)?)
    }

    fn prepare(&self, template: &Template, files: &[VersionFile]) -> Result<Arc<dyn Prepared>, PrepareError> {
        let prepared = PreparedPasses::new(template, files.to_vec());
        Ok(Arc::new(prepared.map_err(|error| PrepareError(error.to_string()))?))
    }
}

impl Issuer for AppleIssuer {
    fn id(&self) -> &IssuerId {
        &self.id
    }

    fn workspace(&self) -> &WorkspaceId {
        &self.workspace
    }

    fn wallet(&self) -> WalletKind {
        WalletKind::Apple
    }

    fn account(&self) -> &str {
        &self.identity.team
    }

    fn credentials(&self) -> String {
        hex::encode(digest(&self.identity.chain_pem))
    }

    fn words(&self) -> Words {
        WORDS
    }

    fn rate_plan(&self) -> RatePlan {
        RatePlan { in_flight: None, per_second: None }
    }

    fn payload_kind(&self) -> PayloadKind {
        PayloadKind::Nudge
    }

    fn deliver<'a>(
        &'a self,
        target: &'a TargetAddress,
        _payload: &'a Payload,
        now: Timestamp,
    ) -> BoxFuture<'a, PushOutcome> {
        // A push for a pass carries nothing, whatever changed.
        let token = PushToken::trusted(target.as_str().to_owned());
        async move { self.apns.push(&self.identity.pass_type, &token, now.plus(KEEP)).await }.boxed()
    }
}

/// Calls `use_it` with the identity as Apple's passes have it. Without one it is a placeholder whose token opens nothing.
fn with_identity<T>(identity: Option<&CardIdentity<'_>>, use_it: impl FnOnce(&PassIdentity<'_>) -> T) -> T {
    match identity {
        Some(identity) => use_it(&PassIdentity {
            serial: identity.serial,
            pass_type: &PassTypeId::trusted(identity.issuer.id().as_str().to_owned()),
            team: identity.issuer.account(),
            auth_token: identity.auth_token,
            web_service_url: &format!("{}/apple", identity.public_url),
        }),
        None => use_it(&PassIdentity {
            serial: &SerialNumber::trusted("00000000-0000-7000-8000-000000000000".to_owned()),
            pass_type: &PassTypeId::trusted("pass.sample".to_owned()),
            team: "TEAMSAMPLE",
            auth_token: &AuthToken::trusted("sample-that-opens-nothing".to_owned()),
            web_service_url: "https://localhost/apple",
        }),
    }
}

impl Prepared for PreparedPasses {
    fn memory(&self) -> usize {
        self.memory()
    }

    fn files_hashed(&self) -> u64 {
        self.files_hashed()
    }

    fn document(&self, card: &RenderedCard<'_>, identity: Option<&CardIdentity<'_>>) -> WalletDocument {
        let written = with_identity(identity, |identity| pass_json(card, identity));
        WalletDocument { json: written.json, texts: written.own_entries }
    }

    fn problems_of_values(&self, card: &RenderedCard<'_>, document: &WalletDocument, now: Timestamp) -> Problems {
        problems_of_values(card, &document.json, &|name| self.has_picture(name), now)
    }

    fn digest(&self, card: &RenderedCard<'_>, identity: &CardIdentity<'_>) -> Option<Vec<u8>> {
        let unsigned = with_identity(Some(identity), |identity| pass::write(card, identity, self));
        Some(unsigned.ok()?.into_manifest())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
