//! Lists what changed since a phone's last poll.

use crate::actions::error::ActionError;
use crate::actions::passes::record_fetches::record_poll;
use crate::app::App;
use crate::domain::ids::{DeviceLibraryId, PassTypeId, SerialNumber, WorkspaceId};
use crate::store::cards;
use crate::store::targets::{self, HeldPass, Question, TargetKey};

/// How many passes of a phone are compared while cards are refreshed after a publishing. The limit is needed as this
/// request has no credentials.
const MOST_LOOKS: usize = 10;

/// The passes to fetch, and the tag for the next poll.
#[derive(Debug, PartialEq, Eq)]
pub struct ChangedPasses {
    /// Their serial numbers.
    pub serials: Vec<SerialNumber>,
    /// The tag.
    pub tag: i64,
}

/// Returns the serial numbers registered by the device that changed after `tag`; `None` when none did or the device is
/// unknown. A tag that can't be read, or that we never sent, counts as absent.
///
/// Tags are positions in the workspace's order of commits. A reader who sees a position sees every earlier one, so no
/// change can appear later with a number that was already passed.
///
/// # Errors
/// When the database fails.
pub async fn list_changed(
    app: &App,
    pass_type: &PassTypeId,
    device: &DeviceLibraryId,
    tag: Option<&str>,
) -> Result<Option<ChangedPasses>, ActionError> {
    let held = targets::held(&mut app.store.read().await?, &pass_type.into(), &device.into()).await?;
    let Some(held) = held else { return Ok(None) };
    let after = tag.and_then(read_tag).filter(|tag| *tag <= held.newest).unwrap_or(0);
    let mut changed = Vec::new();
    let mut looks = 0;
    for mut pass in held.passes {
        // The last publishing may have left what this phone has unchanged.
        if pass.position > after && pass.else_at.is_some_and(|else_at| else_at <= after) && looks < MOST_LOOKS {
            looks += 1;
            pass.position = newest_face(app, &held.workspace, &pass).await?;
        }
        if pass.position > after {
            changed.push((pass.serial, pass.position));
        }
    }
    if held.polled_position < held.newest {
        let key = TargetKey { workspace: held.workspace, issuer: pass_type.into(), id: device.into() };
        record_poll(app, key, Question { position: held.newest, listed: !changed.is_empty() }).await?;
    }
    let newest = changed.iter().map(|(_, position)| *position).max();
    Ok(newest.map(|tag| ChangedPasses { serials: changed.into_iter().map(|(serial, _)| serial).collect(), tag }))
}

/// Returns the position of a pass's newest face, after comparing what the last publishing changed of it.
async fn newest_face(app: &App, workspace: &WorkspaceId, pass: &HeldPass) -> Result<i64, ActionError> {
    let Some(mut issued) = cards::find(&mut app.store.read().await?, workspace, &pass.card).await? else {
        return Ok(pass.position);
    };
    app.look_at(&mut issued).await?;
    Ok(issued.face().max(pass.else_at.unwrap_or(0)))
}

fn read_tag(text: &str) -> Option<i64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_digits_only() {
        assert_eq!(read_tag("17"), Some(17));
        for bad in ["", "-1", "+1", "1.5", "2026-11-21T10:00:00Z", "99999999999999999999", "١"] {
            assert_eq!(read_tag(bad), None, "{bad:?}");
        }
    }
}
