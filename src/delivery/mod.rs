//! Delivers changes of cards to the wallets that hold them.

pub mod channels;
pub mod engine;
pub mod ledger;
pub mod signal;
