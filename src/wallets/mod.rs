//! The wallets that show our cards. Each module knows one wallet's formats and servers; none uses the store.
//!
//! A wallet is a driver ([`Wallet`]) with its issuers ([`Issuer`]) and what it prepares of each published version
//! ([`Prepared`]). Everything above uses these three. To add a wallet, add its word to [`WalletKind`], a folder beside
//! `apple`, and its driver to those that `cli` hands to `startup`.

pub mod apple;
pub mod drawings;
pub mod images;

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::Value;

use crate::domain::ids::{AuthToken, IssuerId, SerialNumber, TargetAddress, WorkspaceId};
use crate::domain::input::Problems;
use crate::domain::render::RenderedCard;
use crate::domain::templates::Template;
use crate::domain::time::Timestamp;
use crate::domain::wallet::WalletKind;
use crate::wallets::images::VersionFile;

/// The driver of a wallet.
pub trait Wallet: Debug + Send + Sync {
    /// Returns which wallet it is.
    fn kind(&self) -> WalletKind;

    /// Returns the words for it in messages.
    fn words(&self) -> Words;

    /// Returns the issuer for a workspace's new passes, as far as this node knows.
    fn current(&self, workspace: &WorkspaceId, now: Timestamp) -> Option<Arc<dyn Issuer>>;

    /// Returns the issuer of that id, as far as this node knows.
    fn issuer(&self, workspace: &WorkspaceId, id: &IssuerId, now: Timestamp) -> Option<Arc<dyn Issuer>>;

    /// Prepares what all passes of a published version share.
    ///
    /// # Errors
    /// When the wallet can't take the version at all.
    fn prepare(&self, template: &Template, files: &[VersionFile]) -> Result<Arc<dyn Prepared>, PrepareError>;
}

/// Why a version can't be prepared for a wallet.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct PrepareError(pub String);

/// An identity, with credentials, under which a workspace issues passes in one wallet.
pub trait Issuer: Debug + Send + Sync {
    /// Returns its id.
    fn id(&self) -> &IssuerId;

    /// Returns the workspace that it belongs to.
    fn workspace(&self) -> &WorkspaceId;

    /// Returns its wallet.
    fn wallet(&self) -> WalletKind;

    /// Returns the account that the wallet's maker knows it by.
    fn account(&self) -> &str;

    /// Returns the fingerprint of its credentials: with others, what was refused may be accepted.
    fn credentials(&self) -> String;

    /// Returns the words for it in messages.
    fn words(&self) -> Words;

    /// Returns how many of its deliveries may be under way at once, and how many may begin in a second.
    fn rate_plan(&self) -> RatePlan;

    /// Returns what its targets are sent.
    fn payload_kind(&self) -> PayloadKind;

    /// Sends a payload to a target.
    fn deliver<'a>(
        &'a self,
        target: &'a TargetAddress,
        payload: &'a Payload,
        now: Timestamp,
    ) -> BoxFuture<'a, PushOutcome>;
}

/// The words of a wallet in messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Words {
    /// The name of the service that is notified.
    pub service: &'static str,
    /// What an issuer proves itself with.
    pub credentials: &'static str,
    /// What an issuer is called.
    pub issuer: &'static str,
}

/// The limits of an issuer's deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RatePlan {
    /// The most under way at once, unless the service's settings allow fewer; `None` for no limit of its own.
    pub in_flight: Option<usize>,
    /// The most begun in a second; `None` for no limit.
    pub per_second: Option<u32>,
}

/// What a wallet's targets are sent when a card changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayloadKind {
    /// Nothing but the fact: the target polls and fetches.
    Nudge,
    /// The card itself: a target that accepted it is current.
    Document,
}

/// A payload.
#[derive(Debug, Clone, PartialEq)]
pub enum Payload {
    /// Nothing but the fact that something changed.
    Nudge,
    /// The card as the wallet shows it.
    Document(Value),
}

/// A published version, prepared for one wallet.
pub trait Prepared: Any + Debug + Send + Sync {
    /// Returns about how many bytes it takes in memory.
    fn memory(&self) -> usize;

    /// Returns how many files were hashed to prepare it.
    fn files_hashed(&self) -> u64;

    /// Returns what the wallet shows of a card. Without an identity the document has a placeholder for it.
    fn document(&self, card: &RenderedCard<'_>, identity: Option<&CardIdentity<'_>>) -> WalletDocument;

    /// Returns the rules of the wallet that a card's own values break, at its attributes.
    fn problems_of_values(&self, card: &RenderedCard<'_>, document: &WalletDocument, now: Timestamp) -> Problems;

    /// Returns a digest of everything that the wallet shows of a card, pictures included; `None` when it can't be
    /// shown. Equal digests show the same.
    fn digest(&self, card: &RenderedCard<'_>, identity: &CardIdentity<'_>) -> Option<Vec<u8>>;

    /// Returns itself, for code that knows its wallet.
    fn as_any(&self) -> &dyn Any;
}

/// The identity of a card in one wallet, and the address at which the service is reached.
#[derive(Debug)]
pub struct CardIdentity<'a> {
    /// The card's serial number.
    pub serial: &'a SerialNumber,
    /// The issuer of the pass.
    pub issuer: &'a dyn Issuer,
    /// The token by which a holder proves that it has the pass.
    pub auth_token: &'a AuthToken,
    /// The service's public address, without a slash at the end.
    pub public_url: &'a str,
}

/// What a wallet shows of a card.
#[derive(Debug, PartialEq)]
pub struct WalletDocument {
    /// The document in the wallet's own form.
    pub json: Value,
    /// The card's own texts beside it, one for each language; empty when the document has them all.
    pub texts: Vec<String>,
}

/// The drivers of this service's wallets.
#[derive(Debug, Clone, Default)]
pub struct Wallets(Vec<Arc<dyn Wallet>>);

impl Wallets {
    /// Makes the list.
    pub fn new(drivers: Vec<Arc<dyn Wallet>>) -> Self {
        Self(drivers)
    }

    /// Returns all drivers.
    pub fn all(&self) -> &[Arc<dyn Wallet>] {
        &self.0
    }

    /// Returns the words for a wallet; neutral ones when this service has no driver for it.
    pub fn words(&self, kind: WalletKind) -> Words {
        let neutral = Words { service: "the wallet's service", credentials: "credentials", issuer: "issuer" };
        self.0.iter().find(|wallet| wallet.kind() == kind).map_or(neutral, |wallet| wallet.words())
    }

    /// Returns the issuers for a workspace's new passes, one for each wallet that it can issue in.
    pub fn current(&self, workspace: &WorkspaceId, now: Timestamp) -> Vec<Arc<dyn Issuer>> {
        self.0.iter().filter_map(|wallet| wallet.current(workspace, now)).collect()
    }

    /// Returns the issuer of that id.
    pub fn issuer(&self, workspace: &WorkspaceId, id: &IssuerId, now: Timestamp) -> Option<Arc<dyn Issuer>> {
        self.0.iter().find_map(|wallet| wallet.issuer(workspace, id, now))
    }
}

/// The result of notifying a wallet's service that a card changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PushOutcome {
    /// The service accepted the push. This doesn't mean that the phone received it.
    Delivered,
    /// The target no longer exists. A target that registered after `since` is valid again.
    TargetGone {
        /// The moment from which the target is gone, as the service reports it; `None` when it reports none.
        since: Option<Timestamp>,
        /// The service's reason code.
        reason: String,
    },
    /// The service refuses this target for a reason that a retry won't change.
    Refused {
        /// The service's reason code.
        reason: String,
    },
    /// The service refuses the issuer as a whole (certificate, topic): every other push would be refused, too.
    IssuerRefused {
        /// The service's reason code.
        reason: String,
    },
    /// The service asks to send this target's push later, because it is notified too often.
    TryLater {
        /// The delay that the service asks for, when it names one.
        after: Option<Duration>,
        /// What went wrong, in plain words.
        reason: String,
    },
    /// The service reports trouble of its own; pushes to other targets would fail, too.
    ServiceUnwell {
        /// What went wrong, in plain words.
        reason: String,
    },
    /// A connection was open, but no answer came.
    NoAnswer {
        /// What went wrong, in plain words.
        reason: String,
    },
    /// No connection could be made.
    Unreachable {
        /// What went wrong, in plain words.
        reason: String,
    },
}
