//! Idempotency: a request sent twice is done once. Its answer is kept for a day under the key that the sender chose.

use std::time::Duration;

use super::error::ActionError;
use crate::app::App;
use crate::domain::ids::WorkspaceId;
use crate::platform::random;
use crate::store::idempotency::{self, Attempt};

/// How long an answer is kept.
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// How long a request may stay unanswered before a repeat counts as a first request. Longer than any request takes, so
/// only one whose node died reaches it.
const GIVEN_UP: Duration = Duration::from_secs(120);

/// The way to handle a request.
#[derive(Debug)]
pub enum Turn {
    /// It is the first with its key: answer it, then call [`keep`] or [`abandon`].
    First(Attempt),
    /// It was answered already, with this.
    Answered(Vec<u8>),
    /// The first request with this key is still being answered.
    UnderWay,
    /// The key belongs to a different request.
    Other,
}

/// Returns the purpose under which an answer is encrypted.
pub(super) fn purpose(workspace: &WorkspaceId, key: &str) -> String {
    format!("answer {workspace} {key}")
}

/// Reserves a key for this request; `attempt.token` is filled in.
///
/// # Errors
/// When the database fails.
pub async fn take_turn(app: &App, mut attempt: Attempt) -> Result<Turn, ActionError> {
    attempt.token = random::token(&*app.random)?;
    let now = app.now();
    let mut tx = app.store.begin().await?;
    if idempotency::claim(&mut tx, &attempt, now, now.minus(KEPT), now.minus(GIVEN_UP)).await? {
        tx.commit().await?;
        return Ok(Turn::First(attempt));
    }
    drop(tx);
    let found = idempotency::find(&mut app.store.read().await?, &attempt.workspace, &attempt.key).await?;
    Ok(match found {
        Some((fingerprint, _)) if fingerprint != attempt.fingerprint => Turn::Other,
        Some((_, Some(sealed))) => {
            Turn::Answered(app.open(&purpose(&attempt.workspace, &attempt.key), &sealed)?.to_vec())
        }
        // Or the key was just released: the client's next repeat will see that.
        Some((_, None)) | None => Turn::UnderWay,
    })
}

/// Stores the answer to the request.
///
/// # Errors
/// When the database fails.
pub async fn keep(app: &App, attempt: &Attempt, answer: &[u8]) -> Result<(), ActionError> {
    let sealed = app.seal(&purpose(&attempt.workspace, &attempt.key), answer)?;
    let mut tx = app.store.begin().await?;
    idempotency::finish(&mut tx, attempt, &sealed).await?;
    Ok(tx.commit().await?)
}

/// Releases the key, because nothing was done.
///
/// # Errors
/// When the database fails.
pub async fn abandon(app: &App, attempt: &Attempt) -> Result<(), ActionError> {
    let mut tx = app.store.begin().await?;
    idempotency::abandon(&mut tx, attempt).await?;
    Ok(tx.commit().await?)
}

/// Deletes answers older than a day; returns how many.
///
/// # Errors
/// When the database fails.
pub async fn prune(app: &App) -> Result<u64, ActionError> {
    let mut tx = app.store.begin().await?;
    let count = idempotency::prune(&mut tx, app.now().minus(KEPT)).await?;
    tx.commit().await?;
    Ok(count)
}
