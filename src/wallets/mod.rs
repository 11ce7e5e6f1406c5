//! The wallets that show our cards. Each knows its own formats and its own servers, and none knows the store.

pub mod apple;
pub mod drawings;
pub mod images;
pub mod issuers;

use std::time::Duration;

use crate::domain::time::Timestamp;

/// What came of telling a wallet that a card changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PushOutcome {
    /// The wallet's service took it (it doesn't say that the phone got it).
    Delivered,
    /// The target doesn't exist any more. A target that registered after `since` lives again.
    TargetGone {
        /// Since when, as the wallet's service says; `None` when it doesn't say.
        since: Option<Timestamp>,
        /// The service's own word.
        reason: String,
    },
    /// This target is refused for a reason that asking again won't change.
    Refused {
        /// The service's own word.
        reason: String,
    },
    /// The issuer as a whole is refused (certificate, topic): every other push would be, too.
    IssuerRefused {
        /// The service's own word.
        reason: String,
    },
    /// Not this target now: it is told too often.
    TryLater {
        /// How long the service asks to wait, when it does.
        after: Option<Duration>,
        /// What went wrong, in plain words.
        reason: String,
    },
    /// The service answers that it is unwell; other targets would fare no better.
    ServiceUnwell {
        /// What went wrong, in plain words.
        reason: String,
    },
    /// A connection stood, and no answer came on it.
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
