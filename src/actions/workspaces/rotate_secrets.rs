//! Re-encrypts all secrets under another master key, while nodes that know both keys serve.

use serde_json::json;

use crate::actions::error::ActionError;
use crate::actions::{idempotency, issuers};
use crate::app::secret_purpose;
use crate::domain::actor::Actor;
use crate::domain::audit::AuditAction;
use crate::domain::time::Timestamp;
use crate::platform::crash;
use crate::platform::random::{Random, uuid};
use crate::platform::secrets::MasterKey;
use crate::store::audit::{self, NewEntry};
use crate::store::sealed::{self, Kind, Place};
use crate::store::{Store, workspaces};

fn purpose(place: &Place) -> String {
    match place {
        Place::Workspace(id) => secret_purpose(id),
        Place::Certificate { workspace, pass_type, fingerprint } => issuers::purpose(workspace, pass_type, fingerprint),
        Place::Answer { workspace, key } => idempotency::purpose(workspace, key),
    }
}

/// Encrypts with `new` every value encrypted with `old`, some at a time, until none is left; returns how many there
/// were. After an interruption some values are under either key, and it can be run again.
///
/// # Errors
/// When a value is damaged, or the database fails.
pub async fn rotate_secrets(
    store: &Store,
    random: &dyn Random,
    old: &MasterKey,
    new: &MasterKey,
    now: Timestamp,
) -> Result<u64, ActionError> {
    let mut done = 0;
    for kind in Kind::ALL {
        loop {
            let mut tx = store.begin().await?;
            let some = sealed::some_under(&mut tx, kind, old.mark()).await?;
            if some.is_empty() {
                break;
            }
            for (place, read) in &some {
                let purpose = purpose(place);
                let opened = old
                    .open(&purpose, read)
                    .map_err(|error| ActionError::Fault(format!("the secret of {purpose} can't be opened: {error}")))?;
                // A value that was set meanwhile is found again, if it is under the old key.
                let replaced = sealed::replace(&mut tx, place, read, &new.seal(random, &purpose, &opened)?).await?;
                done += u64::from(replaced);
                if let (true, Place::Workspace(id)) = (replaced, place) {
                    let (action, data) = (AuditAction::SecretRotated, json!({}));
                    let entry = NewEntry { id: uuid(random, now)?, action, subject: id.as_str(), data };
                    let position = workspaces::next_position(&mut tx, id).await?;
                    audit::record(&mut tx, id, &Actor::System, position, now, &[entry]).await?;
                }
            }
            tx.commit().await?;
            crash::point("after-rotated-batch");
        }
    }
    Ok(done)
}
