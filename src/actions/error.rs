//! The reasons why an action fails, in the words of the product. `http::problem` turns each into an answer.

use crate::domain::checks::Issue;
use crate::domain::input::Problems;
use crate::platform::secrets::SecretError;
use crate::platform::workers::WorkError;
use crate::store::StoreError;
use crate::wallets::apple::package::pass::BuildError;

/// The failure of an action.
#[derive(Debug, thiserror::Error)]
pub enum ActionError {
    /// The input breaks rules; nothing was stored.
    #[error("the input breaks rules")]
    Invalid(Problems),
    /// The workspace has no such thing.
    #[error("no such {0}")]
    NotFound(&'static str),
    /// The thing to be created exists already.
    #[error("the {0} is there already")]
    Exists(&'static str),
    /// The template was never published, so it can't have cards.
    #[error("the template was never published")]
    NotPublished,
    /// A template of that id exists.
    #[error("there is a template of that id")]
    TemplateExists,
    /// The template has cards, which are shown by it, so it can't be deleted.
    #[error("the template has cards")]
    TemplateInUse,
    /// The workspace has no certificate to sign with.
    #[error("the workspace has no issuer")]
    IssuerMissing,
    /// The certificate comes from the configuration, so it can't be removed by API.
    #[error("the certificate comes from the configuration")]
    CertificateConfigured,
    /// The template's draft breaks rules that a phone enforces.
    #[error("the template breaks rules: {}", .0.iter().map(|i| format!("{} at {:?} ({})", i.rule, i.pointer, i.detail)).collect::<Vec<_>>().join("; "))]
    Unpublishable(Vec<Issue>),
    /// The draft changed in every attempt to publish it.
    #[error("the draft kept changing while it was being published")]
    DraftChanging,
    /// The event to read from is older than events are kept.
    #[error("the events from there on are gone")]
    EventsGone {
        /// The oldest event that is left.
        oldest: Option<String>,
    },
    /// The card is at another revision than the caller expects.
    #[error("the card is at revision {found}")]
    WrongRevision {
        /// The card's revision.
        found: i64,
    },
    /// The change is older than one that is stored.
    #[error("a change with sequence {stored} was stored already")]
    Stale {
        /// The last stored sequence.
        stored: i64,
    },
    /// The database is unavailable, as another caller found out.
    #[error("the database is unavailable")]
    Busy,
    /// The service is stopping.
    #[error("the service is stopping")]
    ShuttingDown,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A secret can't be decrypted.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A bug of the service.
    #[error("{0}")]
    Fault(String),
}

impl From<openssl::error::ErrorStack> for ActionError {
    fn from(error: openssl::error::ErrorStack) -> Self {
        Self::Fault(format!("OpenSSL failed: {error}"))
    }
}

impl From<WorkError> for ActionError {
    fn from(error: WorkError) -> Self {
        match error {
            WorkError::Panicked(_) => Self::Fault(error.to_string()),
            WorkError::Stopping => Self::ShuttingDown,
        }
    }
}

impl From<BuildError> for ActionError {
    fn from(error: BuildError) -> Self {
        Self::Fault(error.to_string())
    }
}

impl From<Problems> for ActionError {
    fn from(problems: Problems) -> Self {
        Self::Invalid(problems)
    }
}
