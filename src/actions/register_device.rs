//! A phone registers for a pass, or ends its registration.

use serde_json::json;

use super::error::ActionError;
use crate::app::App;
use crate::domain::event::EventKind;
use crate::domain::ids::{DeviceLibraryId, PassTypeId, PushToken, SerialNumber};
use crate::outside::secrets::same;
use crate::store::cards::Issued;
use crate::store::devices::{self, DeviceKey, DeviceKind};
use crate::store::{Tx, cards, events, workspaces};

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registered {
    /// A new registration.
    Created,
    /// It was registered; the push token is the given one now.
    Known,
    /// Not the holder of this pass; also when there is none, so that nobody can probe.
    Unauthorized,
    /// The holder, but without a push token.
    NoPushToken,
    /// More devices hold the card than any card's.
    TooMany,
}

/// The most devices that a card is told to: all of them are pushed to when it changes, and whoever holds a pass may register
/// any number of made-up ones.
const MOST_DEVICES: i64 = 2_000;

/// Registers. A new registration counts as a change for the device's list, so that an old file that registers late is
/// brought up to date.
///
/// # Errors
/// When the database fails.
pub async fn register_device(
    app: &App,
    pass_type: &PassTypeId,
    serial: &SerialNumber,
    device: &DeviceLibraryId,
    token: &str,
    push_token: Option<&PushToken>,
    kind: DeviceKind,
) -> Result<Registered, ActionError> {
    let Some(workspace) = authorized(app, pass_type, serial, token).await? else {
        return Ok(Registered::Unauthorized);
    };
    let Some(push_token) = push_token else {
        return Ok(Registered::NoPushToken);
    };
    let now = app.now();
    let mut tx = app.store.begin().await?;
    // The card is held so that a change of it either sees this registration or is seen by the list that follows it.
    let Some(issued) = cards::lock_by_serial(&mut tx, pass_type, serial).await? else {
        return Ok(Registered::Unauthorized);
    };
    let key = DeviceKey { workspace, pass_type: pass_type.clone(), id: device.clone() };
    devices::put(&mut tx, &key, push_token, kind, now).await?;
    let known = devices::is_registered(&mut tx, &key, &issued.card.id).await?;
    if !known && devices::of_card(&mut tx, &issued.card, 0).await?.0 >= MOST_DEVICES {
        // Its other cards go by the new token all the same.
        devices::forget_unregistered(&mut tx, &key).await?;
        tx.commit().await?;
        return Ok(Registered::TooMany);
    }
    if !known {
        let position = workspaces::take_position(&mut tx, &key.workspace).await?;
        devices::register(&mut tx, &key, &issued.card.id, position, now).await?;
        record(app, &mut tx, EventKind::CardInstalled, &issued, position).await?;
    }
    tx.commit().await?;
    Ok(if known { Registered::Known } else { Registered::Created })
}

/// Ends a registration; false when the token is wrong. A registration that isn't there is as good as ended.
///
/// # Errors
/// When the database fails.
pub async fn unregister_device(
    app: &App,
    pass_type: &PassTypeId,
    serial: &SerialNumber,
    device: &DeviceLibraryId,
    token: &str,
) -> Result<bool, ActionError> {
    let Some(workspace) = authorized(app, pass_type, serial, token).await? else {
        return Ok(false);
    };
    let mut tx = app.store.begin().await?;
    if let Some(issued) = cards::lock_by_serial(&mut tx, pass_type, serial).await? {
        let key = DeviceKey { workspace, pass_type: pass_type.clone(), id: device.clone() };
        if devices::unregister(&mut tx, &key, &issued.card.id).await? {
            let position = workspaces::take_position(&mut tx, &key.workspace).await?;
            record(app, &mut tx, EventKind::CardRemoved, &issued, position).await?;
        }
    }
    tx.commit().await?;
    Ok(true)
}

/// Notes on how many devices the card is now.
async fn record(app: &App, tx: &mut Tx, kind: EventKind, issued: &Issued, position: i64) -> Result<(), ActionError> {
    let card = &issued.card;
    let (devices, _) = devices::of_card(tx, card, position).await?;
    let event = app.event(kind, Some(&card.id), json!({"wallet": "apple", "devices": devices}))?;
    Ok(events::record(tx, &card.workspace, position, app.now(), &[event]).await?)
}

/// The workspace of the pass, when the token is its own.
async fn authorized(
    app: &App,
    pass_type: &PassTypeId,
    serial: &SerialNumber,
    token: &str,
) -> Result<Option<crate::domain::ids::WorkspaceId>, ActionError> {
    let Some(issued) = cards::by_serial(&mut app.store.read().await?, pass_type, serial).await? else {
        return Ok(None);
    };
    let workspace = issued.card.workspace;
    let expected = app.secret(&workspace).await?.auth_token(serial);
    Ok(same(expected.as_str(), token).then_some(workspace))
}
