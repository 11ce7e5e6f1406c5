//! After a template was published: marks the devices that hold its cards, some at a time.
//!
//! A phone that is told asks for the list and fetches its pass, so a publishing that told a million phones at once would
//! bring two million requests with it. The pace is that of all nodes together: each step leaves in the database when the
//! next one may be made.

use std::time::Duration;

use super::error::ActionError;
use crate::app::App;
use crate::domain::retry::WINDOW;
use crate::store::{devices, refreshes};

/// In how many steps a second's worth of cards is walked.
const STEPS_PER_SECOND: u32 = 4;
/// The most cards of one step, however fast it goes.
const LARGEST_STEP: u32 = 500;
/// The longest a refresh waits between two steps. What lies further ahead was set before the clock went back.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How soon to look again while another node makes the step.
const HELD: Duration = Duration::from_millis(100);

/// Makes one step, when one is due. How long until the next one is; `None` when no refresh is under way.
///
/// # Errors
/// When the database fails; the step is then repeated.
pub async fn refresh_step(app: &App) -> Result<Option<Duration>, ActionError> {
    let now = app.now();
    // Looked at without a transaction first: usually there is nothing, and writers on SQLite wait for each other.
    let too_late = now.plus(LONGEST_PAUSE);
    let unfinished = refreshes::unfinished(&mut app.store.read().await?, too_late).await?;
    if unfinished.count == 0 {
        return Ok(None);
    }
    let wait = unfinished.next_at.since(now);
    if !wait.is_zero() {
        return Ok(Some(wait));
    }
    let mut tx = app.store.begin().await?;
    let Some(refresh) = refreshes::claim(&mut tx, now, too_late).await? else {
        return Ok(Some(HELD));
    };
    let step = i64::from((app.refresh_rate / STEPS_PER_SECOND).clamp(1, LARGEST_STEP));
    let cards = refreshes::next_cards(&mut tx, &refresh, step).await?;
    let devices = devices::mark(&mut tx, &refresh.workspace_id, &cards.iter().collect::<Vec<_>>(), now, WINDOW).await?;
    // All that are under way share the rate.
    let shares = f64::from(app.refresh_rate) / unfinished.count as f64;
    let pause = Duration::from_secs_f64(devices as f64 / shares).min(LONGEST_PAUSE);
    match cards.last() {
        Some(last) if cards.len() as i64 == step => {
            refreshes::advance(&mut tx, &refresh, last, now.plus(pause)).await?
        }
        _ => refreshes::finish(&mut tx, &refresh).await?,
    }
    tx.commit().await?;
    app.wake.notify_one();
    Ok(Some(Duration::ZERO))
}
