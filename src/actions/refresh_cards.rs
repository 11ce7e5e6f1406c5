//! After a template was published: marks the devices that hold its cards, some at a time.

use super::error::ActionError;
use crate::app::App;
use crate::domain::retry::WINDOW;
use crate::store::{devices, refreshes};

/// How many cards' devices are marked in one step. The job waits between steps, so that a million phones don't come back in one moment.
const STEP: i64 = 200;

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing is waiting.
    Idle,
    /// Some devices were marked; more may follow.
    Marked,
}

/// One step of the oldest refresh under way.
///
/// # Errors
/// When the database fails; the step is then repeated.
pub async fn refresh_step(app: &App) -> Result<Step, ActionError> {
    // Looked at without a transaction first: usually there is nothing, and writers on SQLite wait for each other.
    if refreshes::unfinished(&mut app.store.read().await?).await? == 0 {
        return Ok(Step::Idle);
    }
    let mut tx = app.store.begin().await?;
    let Some(refresh) = refreshes::claim(&mut tx).await? else {
        return Ok(Step::Idle);
    };
    let cards = refreshes::next_cards(&mut tx, &refresh, STEP).await?;
    let now = app.now();
    devices::mark(&mut tx, &refresh.workspace_id, &cards.iter().collect::<Vec<_>>(), now, WINDOW).await?;
    match cards.last() {
        Some(last) => refreshes::advance(&mut tx, &refresh, last).await?,
        None => refreshes::finish(&mut tx, &refresh).await?,
    }
    tx.commit().await?;
    app.wake.notify_one();
    Ok(Step::Marked)
}
