//! The log messages of phones: stored in groups, listed and deleted.

use std::collections::{HashMap, HashSet};

use crate::actions::error::ActionError;
use crate::app::App;
use crate::domain::device_log_entry::{self, DeviceLogEntry};
use crate::domain::ids::{PassTypeId, WorkspaceId};
use crate::platform::secrets::{digest, short_form};
use crate::store::device_logs::{self, Group};
use crate::store::{issuers, passes};
use crate::telemetry::from_outside;

/// The most groups of a workspace at any time.
const MOST: i64 = 200;
/// How many groups are kept when old ones are deleted, which leaves space for new ones.
const KEPT: i64 = 150;
/// How long a group is kept without a new message.
const KEPT_FOR: std::time::Duration = std::time::Duration::from_secs(30 * 24 * 3600);

/// Stores the messages of one request. A message belongs to the pass type that it names, or else to that of the card it
/// is about. One that names neither belongs to the pass type that all others of the request name, or to the only one
/// there is; when that isn't certain it isn't kept, since it might be shown to the wrong workspace.
///
/// # Errors
/// When the database fails.
pub async fn record_device_log(app: &App, messages: &[&str]) -> Result<(), ActionError> {
    let entries: Vec<_> = messages.iter().map(|message| device_log_entry::read(message)).collect();
    let mut reader = app.store.read().await?;
    let unnamed = entries.iter().filter(|entry| entry.pass_type.is_none());
    let serials: HashSet<&str> = unnamed.filter_map(|entry| entry.serial.as_deref()).collect();
    let of_cards = passes::issuers_of(&mut reader, &serials).await?;
    let named_type = |entry: &DeviceLogEntry| {
        let of_card = || entry.serial.as_ref().and_then(|serial| of_cards.get(serial));
        entry.pass_type.clone().or_else(|| PassTypeId::parse(of_card()?.as_str()).ok())
    };
    let all: HashSet<PassTypeId> = entries.iter().filter_map(named_type).collect();
    let others = match all.len() {
        0 => device_logs::only_pass_type(&mut reader).await?,
        1 => all.iter().next().cloned(),
        _ => None,
    };
    let now = app.now();
    let mut groups: HashMap<(WorkspaceId, String), Group> = HashMap::new();
    let mut owners: HashMap<PassTypeId, Option<WorkspaceId>> = HashMap::new();
    for entry in entries {
        let Some(pass_type_id) = named_type(&entry).or_else(|| others.clone()) else { continue };
        // A card's message belongs to the card's workspace, even after its pass type went to another one.
        let of_card = match &entry.serial {
            Some(serial) => passes::owner_of(&mut reader, &(&pass_type_id).into(), serial).await?,
            None => None,
        };
        let owner = match owners.get(&pass_type_id) {
            _ if of_card.is_some() => of_card,
            Some(owner) => owner.clone(),
            None => {
                let owner = issuers::owner(&mut reader, &(&pass_type_id).into()).await?;
                owners.insert(pass_type_id.clone(), owner.clone());
                owner
            }
        };
        let Some(workspace) = owner else { continue };
        let message = from_outside(&entry.form);
        let form = hex::encode(digest(format!("{pass_type_id} {message}").as_bytes()));
        let (serial_number, device) = (entry.serial, entry.device.as_deref().map(short_form));
        let group = groups.entry((workspace, form.clone())).or_insert_with(|| Group {
            form,
            pass_type_id,
            message,
            count: 0,
            first_at: now,
            last_at: now,
            serial_number: None,
            device: None,
        });
        group.count += 1;
        group.serial_number = serial_number.or(group.serial_number.take());
        group.device = device.or(group.device.take());
    }
    drop(reader);
    if groups.is_empty() {
        return Ok(());
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    // In a fixed order, so that two requests can't deadlock.
    groups.sort_by(|(a, _), (b, _)| (a.0.as_str(), &a.1).cmp(&(b.0.as_str(), &b.1)));
    let mut tx = app.store.begin().await?;
    for ((workspace, _), group) in &groups {
        device_logs::note(&mut tx, workspace, group, MOST).await?;
    }
    Ok(tx.commit().await?)
}

/// Returns a workspace's groups after a position, newest first.
///
/// # Errors
/// When the database fails.
pub async fn list_device_log(
    app: &App,
    workspace: &WorkspaceId,
    after: Option<(i64, String)>,
    limit: i64,
) -> Result<Vec<Group>, ActionError> {
    let after = after.as_ref().map_or((i64::MAX, ""), |(last_at, form)| (*last_at, form.as_str()));
    Ok(device_logs::newest(&mut app.store.read().await?, workspace, after, limit).await?)
}

/// Deletes old groups, and those beyond the limit.
///
/// # Errors
/// When the database fails.
pub async fn prune_device_log(app: &App) -> Result<u64, ActionError> {
    let mut tx = app.store.begin().await?;
    let forgotten = device_logs::forget(&mut tx, app.now().minus(KEPT_FOR), KEPT).await?;
    tx.commit().await?;
    Ok(forgotten)
}
