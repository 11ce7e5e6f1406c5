//! Goes through many cards at a paced rate: after a publishing, to mark the targets that hold the template's cards.
//!
//! A notified phone polls and fetches its pass, so a publishing that notified a million phones at once would cause two
//! million requests. The pace is that of all nodes together: each step stores in the database when the next one may be
//! made.

use std::time::Duration;

use crate::actions::error::ActionError;
use crate::actions::templates::refresh_cards;
use crate::app::App;
use crate::domain::time::Timestamp;
use crate::store::fan_outs::{self, FanOutKind};

/// How many steps a second are made.
const STEPS_PER_SECOND: u32 = 4;
/// The most cards of one step, whatever the rate.
const LARGEST_STEP: u32 = 500;
/// The longest pause between two steps. A later time for the next step was stored before the clock went back.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How soon to check again while another node makes the step.
const HELD: Duration = Duration::from_millis(100);

/// Makes one step if one is due. Returns the time until the next one; `None` when no fan-out is under way.
///
/// # Errors
/// When the database fails; the step is then repeated.
pub async fn fan_out_step(app: &App) -> Result<Option<Duration>, ActionError> {
    let now = app.now();
    // Read without a transaction first: usually there is nothing to do, and writers on SQLite wait for each other.
    let too_late = now.plus(LONGEST_PAUSE);
    let unfinished = fan_outs::unfinished(&mut app.store.read().await?, too_late).await?;
    if unfinished.count == 0 {
        return Ok(None);
    }
    let wait = unfinished.next_at.since(now);
    if !wait.is_zero() {
        return Ok(Some(wait));
    }
    make_step(app, now, too_late, f64::from(app.refresh_rate) / unfinished.count as f64).await.map(Some)
}

/// Makes a step of the fan-out that is due. All fan-outs under way share the rate: `share` is how many targets a second
/// this one may mark. Returns how soon to check again.
async fn make_step(app: &App, now: Timestamp, too_late: Timestamp, share: f64) -> Result<Duration, ActionError> {
    let limit = i64::from((app.refresh_rate / STEPS_PER_SECOND).clamp(1, LARGEST_STEP));
    let mut reader = app.store.read().await?;
    let Some(fan_out) = fan_outs::next(&mut reader, now, too_late).await? else { return Ok(HELD) };
    let cards = fan_outs::next_cards(&mut reader, &fan_out, limit).await?;
    drop(reader);
    let last = cards.last().filter(|_| cards.len() as i64 == limit).cloned();
    // What needs computing is done with no transaction open.
    let examined = match fan_out.key.kind {
        FanOutKind::Publishing => refresh_cards::examine(app, &fan_out, &cards).await?,
    };
    let mut tx = app.store.begin().await?;
    let Some(claimed) = fan_outs::claim(&mut tx, now, too_late).await? else { return Ok(HELD) };
    // Another node may have made the step, or the fan-out was begun again.
    if claimed != fan_out || !examined.still_holds(&mut tx, &fan_out).await? {
        return Ok(Duration::ZERO);
    }
    let marked = examined.apply(&mut tx, &fan_out, now).await?;
    let pause = Duration::from_secs_f64(marked as f64 / share).min(LONGEST_PAUSE);
    match &last {
        Some(last) => fan_outs::advance(&mut tx, &fan_out.key, last, now.plus(pause)).await?,
        None => fan_outs::finish(&mut tx, &fan_out.key).await?,
    }
    tx.commit().await?;
    app.delivery_signal.notify_one();
    Ok(Duration::ZERO)
}
