//! What changed since a phone last asked.

use super::error::ActionError;
use super::note_fetches::note_question;
use crate::app::App;
use crate::domain::ids::{DeviceLibraryId, PassTypeId, SerialNumber};
use crate::store::devices::{self, DeviceKey, Question};

/// The passes to fetch and the tag to ask with next time.
#[derive(Debug, PartialEq, Eq)]
pub struct ChangedPasses {
    /// Their serial numbers.
    pub serials: Vec<SerialNumber>,
    /// The tag.
    pub tag: i64,
}

/// The serial numbers registered by the device that changed after `tag`; `None` when nothing did or the device is
/// unknown. A tag that can't be read, or that no answer of ours ever carried, counts as absent.
///
/// Tags are positions in the workspace's order of commits. Whoever sees a position sees every earlier one, so no
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
    let held = devices::held(&mut app.store.read().await?, pass_type, device).await?;
    let Some(held) = held else { return Ok(None) };
    let after = tag.and_then(read_tag).filter(|tag| *tag <= held.newest).unwrap_or(0);
    let changed: Vec<_> = held.passes.into_iter().filter(|(_, position)| *position > after).collect();
    if held.asked < held.newest {
        let key = DeviceKey { workspace: held.workspace, pass_type: pass_type.clone(), id: device.clone() };
        note_question(app, key, Question { position: held.newest, listed: !changed.is_empty() }).await?;
    }
    let newest = changed.iter().map(|(_, position)| *position).max();
    Ok(newest.map(|tag| ChangedPasses { serials: changed.into_iter().map(|(serial, _)| serial).collect(), tag }))
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
