//! The wallets that can show a card.

/// A maker's wallet. The only closed list of wallets: its names stand in the database, the API and the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum WalletKind {
    /// Apple Wallet.
    Apple,
    /// Google Wallet.
    Google,
}

impl WalletKind {
    /// Returns the wallet's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Apple => "apple",
            Self::Google => "google",
        }
    }

    /// Reads a wallet's name; `None` for any other.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Apple, Self::Google].into_iter().find(|kind| kind.as_str() == text)
    }
}
