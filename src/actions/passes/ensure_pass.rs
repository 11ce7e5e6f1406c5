//! Issues an existing card in a wallet that its workspace has had only since.

use std::sync::Arc;

use crate::actions::error::ActionError;
use crate::app::App;
use crate::domain::wallet::WalletKind;
use crate::store::cards;
use crate::store::cards::Issued;
use crate::store::passes::{self, PassRecord};
use crate::wallets::Issuer;

/// Returns the issuer under which a card is, or would be, in a wallet; `None` when its workspace has none there.
///
/// # Errors
/// When the database fails.
pub async fn issuer_in(app: &App, issued: &Issued, wallet: WalletKind) -> Result<Option<Arc<dyn Issuer>>, ActionError> {
    let workspace = &issued.card.workspace;
    if let Some(pass) = issued.pass(wallet) {
        return app.find_issuer(workspace, &pass.issuer).await;
    }
    let current = app.current_issuers(workspace).await?;
    // What is left of an erased card is shown only where it was.
    Ok(current.into_iter().find(|issuer| issuer.wallet() == wallet && !issued.card.id.is_erased()))
}

/// Gives a card a pass in a wallet, under its workspace's current issuer, unless it has one.
///
/// # Errors
/// When the workspace has no issuer there, or the database fails.
pub async fn ensure_pass(app: &App, issued: &mut Issued, wallet: WalletKind) -> Result<(), ActionError> {
    if issued.pass(wallet).is_some() {
        return Ok(());
    }
    let issuer = issuer_in(app, issued, wallet).await?.ok_or(ActionError::IssuerMissing)?;
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
