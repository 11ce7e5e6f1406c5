//! Repeats notifications that no poll followed.

use crate::actions::error::ActionError;
use crate::app::App;
use crate::store::deliveries;

/// The most targets reminded in one step.
const REMINDERS: i64 = 500;

/// Makes targets due once more that were notified and haven't followed since: they didn't poll, or didn't fetch
/// everything the notification was about. Returns how many were examined.
///
/// # Errors
/// When the database fails.
pub async fn remind_due(app: &App) -> Result<u64, ActionError> {
    let now = app.now();
    if deliveries::to_remind(&mut app.store.read().await?, now).await? == 0 {
        return Ok(0);
    }
    let mut tx = app.store.begin().await?;
    let (reminded, examined) = deliveries::remind(&mut tx, now, REMINDERS).await?;
    tx.commit().await?;
    if reminded > 0 {
        app.delivery_signal.notify_one();
    }
    Ok(examined)
}
