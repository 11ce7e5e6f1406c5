//! Encrypts everything anew under another master key, while nodes that know both serve.

use super::error::ActionError;
use super::{idempotency, issuers};
use crate::app::secret_purpose;
use crate::outside::crash;
use crate::outside::random::Random;
use crate::outside::secrets::MasterKey;
use crate::store::Store;
use crate::store::sealed::{self, Kind, Place};

fn purpose(place: &Place) -> String {
    match place {
        Place::Workspace(id) => secret_purpose(id),
        Place::Certificate { workspace, pass_type, fingerprint } => issuers::purpose(workspace, pass_type, fingerprint),
        Place::Answer { workspace, key } => idempotency::purpose(workspace, key),
    }
}

/// Seals by `new` whatever is sealed by `old`, some at a time, until nothing is left; how much it was. Broken off, it leaves
/// some values under either key and can be run again.
///
/// # Errors
/// When a value is damaged, or the database fails.
pub async fn rotate_secrets(
    store: &Store,
    random: &dyn Random,
    old: &MasterKey,
    new: &MasterKey,
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
                // One that was set anew meanwhile comes again, if it is under the old key.
                done += u64::from(sealed::replace(&mut tx, place, read, &new.seal(random, &purpose, &opened)?).await?);
            }
            tx.commit().await?;
            crash::point("after-rotated-batch");
        }
    }
    Ok(done)
}
