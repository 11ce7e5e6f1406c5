//! Delivers changes of cards to the wallets that show them: one engine for all wallets.
//!
//! A target is [claimed](claim), [notified](attempt), and its outcome [recorded](record); no transaction is open during a
//! network request.

pub mod attempt;
pub mod channels;
pub mod claim;
pub mod ledger;
pub mod record;
pub mod reminders;
pub mod signal;
