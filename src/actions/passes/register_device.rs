//! Registers a phone for a pass, or ends its registration.

use std::time::Duration;

use serde_json::json;

use crate::actions::error::ActionError;
use crate::actions::passes::holder::held_card;
use crate::actions::retry::retry;
use crate::app::App;
use crate::domain::actor::Actor;
use crate::domain::event::EventKind;
use crate::domain::ids::{CardId, DeviceLibraryId, PassTypeId, PushToken, SerialNumber, TargetAddress, WorkspaceId};
use crate::store::cards::{self, Issued};
use crate::store::targets::{self, TargetKey, TargetKind};
use crate::store::{Tx, events, workspaces};

/// The outcome of a registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registered {
    /// A new registration.
    Created,
    /// The device was registered already; its push token is the given one now.
    Known,
    /// The caller isn't the holder of this pass, or there is no such pass: both are the same, so that nobody can probe.
    Unauthorized,
    /// The holder sent no push token.
    NoPushToken,
    /// The card has the most devices it may have, and all are in use.
    TooMany,
}

/// The most devices of a card: all are pushed to when it changes, and a holder of a pass can register any number of
/// made-up ones.
const MOST_DEVICES: i64 = 20;
/// How long a repeated registration that changes nothing isn't written. Later ones are: they confirm that the token was
/// still valid.
const REPEAT: Duration = Duration::from_secs(60);

/// Registers a device for a card's pass. If the card has the most devices it may have, one that never polled is
/// replaced.
///
/// A new registration counts as a change in the device's list, so that an old pass that registers late is brought up to
/// date.
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
    kind: TargetKind,
) -> Result<Registered, ActionError> {
    retry(app, async || register(app, pass_type, serial, device, token, push_token, kind).await).await
}

async fn register(
    app: &App,
    pass_type: &PassTypeId,
    serial: &SerialNumber,
    device: &DeviceLibraryId,
    token: &str,
    push_token: Option<&PushToken>,
    kind: TargetKind,
) -> Result<Registered, ActionError> {
    let Some((workspace, card)) = authorized(app, pass_type, serial, token).await? else {
        return Ok(Registered::Unauthorized);
    };
    let Some(push_token) = push_token else {
        return Ok(Registered::NoPushToken);
    };
    let now = app.now();
    let key = TargetKey { workspace, issuer: pass_type.into(), id: device.into() };
    let address = TargetAddress::from(push_token);
    let given = (&address, kind);
    let mut reader = app.store.read().await?;
    if targets::is_registered_as_given(&mut reader, &key, &card, given, (now.minus(REPEAT), now)).await? {
        return Ok(Registered::Known);
    }
    drop(reader);
    let mut tx = app.store.begin().await?;
    // The card is locked, so that a change of it either sees this registration or is in the list that the phone asks
    // for next.
    let Some(issued) = cards::lock_by_serial(&mut tx, &key.issuer, serial).await? else {
        return Ok(Registered::Unauthorized);
    };
    let known = targets::is_registered(&mut tx, &key, &issued.card.id).await?;
    let is_full = !known && targets::count_of_pass(&mut tx, &issued.card, &key.issuer).await? >= MOST_DEVICES;
    let leaves = if is_full { targets::gives_way(&mut tx, &issued.card, &key.issuer).await? } else { None };
    if let Some(leaves) = &leaves {
        targets::hold(&mut tx, &[leaves, &key]).await?;
        targets::unregister(&mut tx, leaves, &issued.card.id).await?;
    }
    targets::put(&mut tx, &key, &address, kind, now).await?;
    if is_full && leaves.is_none() {
        // Its other cards use the new token anyway.
        targets::forget_unregistered(&mut tx, &key).await?;
        tx.commit().await?;
        return Ok(Registered::TooMany);
    }
    if !known {
        let position = workspaces::next_position(&mut tx, &key.workspace).await?;
        if leaves.is_some() {
            record(app, &mut tx, EventKind::CardRemoved, &issued, position).await?;
        }
        targets::register(&mut tx, &key, &issued.card.id, position, now).await?;
        record(app, &mut tx, EventKind::CardInstalled, &issued, position).await?;
    }
    tx.commit().await?;
    Ok(if known { Registered::Known } else { Registered::Created })
}

/// Ends a registration; false when the token is wrong. A registration that doesn't exist counts as ended.
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
    retry(app, async || unregister(app, pass_type, serial, device, token).await).await
}

async fn unregister(
    app: &App,
    pass_type: &PassTypeId,
    serial: &SerialNumber,
    device: &DeviceLibraryId,
    token: &str,
) -> Result<bool, ActionError> {
    let Some((workspace, card)) = authorized(app, pass_type, serial, token).await? else {
        return Ok(false);
    };
    let key = TargetKey { workspace, issuer: pass_type.into(), id: device.into() };
    if !targets::is_registered(&mut app.store.read().await?, &key, &card).await? {
        return Ok(true);
    }
    let mut tx = app.store.begin().await?;
    if let Some(issued) = cards::lock_by_serial(&mut tx, &key.issuer, serial).await?
        && targets::unregister(&mut tx, &key, &issued.card.id).await?
    {
        let position = workspaces::next_position(&mut tx, &key.workspace).await?;
        record(app, &mut tx, EventKind::CardRemoved, &issued, position).await?;
    }
    tx.commit().await?;
    Ok(true)
}

/// Records the number of devices that the card is on now.
async fn record(app: &App, tx: &mut Tx, kind: EventKind, issued: &Issued, position: i64) -> Result<(), ActionError> {
    let card = &issued.card;
    let (devices, _) = targets::of_card(tx, card, position).await?;
    let event = app.event(kind, Some(&card.id), json!({"wallet": "apple", "devices": devices}))?;
    Ok(events::record(tx, &card.workspace, &Actor::System, position, app.now(), &[event]).await?)
}

/// Returns the pass's workspace and card when the token belongs to it.
async fn authorized(
    app: &App,
    pass_type: &PassTypeId,
    serial: &SerialNumber,
    token: &str,
) -> Result<Option<(WorkspaceId, CardId)>, ActionError> {
    let held = held_card(app, pass_type, serial, token).await?;
    Ok(held.map(|issued| (issued.card.workspace, issued.card.id)))
}
