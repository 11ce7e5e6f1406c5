//! Issues an existing card in a wallet that its workspace has had only since.

use crate::actions::error::ActionError;
use crate::app::App;
use crate::domain::wallet::WalletKind;
use crate::store::cards::{self, Issued};
use crate::store::passes::{self, PassRecord};

/// Whether a card can be had in a wallet, as far as this node knows: pages ask it for every visitor.
pub fn is_offered(app: &App, issued: &Issued, wallet: WalletKind) -> bool {
    let (workspace, now) = (&issued.card.workspace, app.now());
    match issued.pass(wallet) {
        Some(pass) => app.wallets.issuer(workspace, &pass.issuer, now).is_some(),
        None => app.wallets.current(workspace, now).iter().any(|issuer| issuer.wallet() == wallet),
    }
}

/// Gives a card a pass in a wallet, under its workspace's current issuer, unless it has one.
///
/// # Errors
/// When the workspace has no issuer there, or the database fails.
pub async fn ensure_pass(app: &App, issued: &mut Issued, wallet: WalletKind) -> Result<(), ActionError> {
    // What is left of an erased card is shown only where it was.
    if issued.pass(wallet).is_some() || issued.card.id.is_erased() {
        return Ok(());
    }
    let current = app.current_issuers(&issued.card.workspace).await?;
    let issuer = current.into_iter().find(|issuer| issuer.wallet() == wallet).ok_or(ActionError::IssuerMissing)?;
    let object_id = issued.card.serial.as_str().to_owned();
    let pass = PassRecord { wallet, issuer: issuer.id().clone(), object_id, fetched: None };
    let mut tx = app.store.begin().await?;
    let locked = cards::lock(&mut tx, &issued.card.workspace, &issued.card.id).await?;
    // The card may have been erased, and its id given to another, since it was read.
    let locked = locked.filter(|locked| locked.card.serial == issued.card.serial);
    let locked = locked.ok_or(ActionError::NotFound("card"))?;
    if locked.pass(wallet).is_none() {
        passes::insert_many(&mut tx, &locked.card.workspace, &[(&locked.card.id, &pass)]).await?;
    }
    tx.commit().await?;
    issued.passes = if locked.pass(wallet).is_some() { locked.passes } else { [locked.passes, vec![pass]].concat() };
    Ok(())
}
