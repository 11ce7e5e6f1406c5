//! The wallets that show our cards. Each module knows one wallet's formats and servers; none uses the store.

pub mod apple;
pub mod drawings;
pub mod images;
pub mod issuers;

use std::time::Duration;

use crate::domain::time::Timestamp;

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
