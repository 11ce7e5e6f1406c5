//! Erases a card: its personal data is gone with the commit, and phones that hold its pass get a void one.

use std::sync::atomic::Ordering;

use serde_json::{Map, json};

use crate::actions::cards::card_change::put_in_place;
use crate::actions::cards::command::IfMatch;
use crate::actions::error::ActionError;
use crate::actions::retention::count_before_erasing;
use crate::actions::retry::retry;
use crate::app::App;
use crate::domain::actor::Actor;
use crate::domain::cards::{Card, Content, State};
use crate::domain::delivery::backoff::WINDOW;
use crate::domain::event::EventKind;
use crate::domain::ids::{CardId, WorkspaceId};
use crate::platform::secrets::fingerprint;
use crate::store::{cards, deliveries, events, templates, workspaces};

/// Erases a card. What remains holds none of its values: the serial number and its passes, with which wallets still prove
/// that they hold them, the registrations, and the template from which the void pass is rendered. The id may be
/// issued again.
///
/// # Errors
/// When the card is unknown or at another revision.
pub async fn erase_card(
    app: &App,
    workspace: &WorkspaceId,
    actor: &Actor,
    id: &CardId,
    if_match: &IfMatch,
) -> Result<(), ActionError> {
    retry(app, async || erase(app, workspace, actor, id, if_match).await).await?;
    app.erased.store(true, Ordering::Release);
    app.delivery_signal.notify_one();
    Ok(())
}

async fn erase(
    app: &App,
    workspace: &WorkspaceId,
    actor: &Actor,
    id: &CardId,
    if_match: &IfMatch,
) -> Result<(), ActionError> {
    let (secret, zone) = (app.secret(workspace).await?, app.zone_of(workspace).await?);
    let day = |at| zone.civil(at).date().to_string();
    let now = app.now();
    let mut tx = app.store.begin().await?;
    let issued = cards::lock(&mut tx, workspace, id).await?.ok_or(ActionError::NotFound("card"))?;
    let card = issued.card;
    if_match.check(Some(&card))?;
    let hash = fingerprint(secret.page_token(&card.serial, card.page_generation).as_str());
    let mut remains = Card {
        id: CardId::erased(&card.serial),
        content: Content {
            template: card.content.template.clone(),
            locale: None,
            attributes: Map::new(),
            state: State::Voided,
            expires_at: None,
        },
        expired_at: None,
        sequence: None,
        revision: card.revision + 1,
        live_message: None,
        message: None,
        ..card
    };
    deliveries::mark(&mut tx, workspace, &[id], now, WINDOW).await?;
    let (position, at) = workspaces::reserve_sequence(&mut tx, workspace, now).await?;
    let publication = templates::publication(&mut tx, workspace, &remains.content.template).await?;
    put_in_place(&mut remains, (position, at), &publication);
    remains.updated_at = at;
    // Counted while the card still names its template.
    count_before_erasing(&mut tx, workspace, id, day).await?;
    cards::erase(&mut tx, id, &remains, &hash, now).await?;
    events::forget(&mut tx, workspace, id).await?;
    // The event no longer belongs to the card: its timeline is gone, and another card may get the id soon. The
    // backend's id for the card may itself be personal (a customer's number or a telephone number), so the event names
    // a stand-in; whoever kept something of the card knows it by its serial number, which is ours and random.
    let named = json!({"card": secret.stand_in(&remains.serial), "serial_number": remains.serial});
    let event = app.event(EventKind::CardErased, None, named)?;
    events::record(&mut tx, workspace, actor, position, remains.updated_at, &[event]).await?;
    Ok(tx.commit().await?)
}

/// Clears erased data out of the embedded database's write-ahead log. One run serves all erasures up to then.
///
/// # Errors
/// When the database fails; it is tried again later.
pub async fn clear_erased(app: &App) -> Result<(), ActionError> {
    if !app.erased.swap(false, Ordering::AcqRel) {
        return Ok(());
    }
    let cleared = app.store.clear_log().await;
    if !matches!(cleared, Ok(true)) {
        app.erased.store(true, Ordering::Release);
    }
    Ok(cleared.map(drop)?)
}
