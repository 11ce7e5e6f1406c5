//! Marks the devices that hold cards of a template after it was published, some at a time, except for cards whose pass
//! looks the same.
//!
//! A notified phone polls and fetches its pass, so a publishing that notified a million phones at once would cause two
//! million requests. The pace is that of all nodes together: each step stores in the database when the next one may be
//! made.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::actions::error::ActionError;
use crate::actions::passes::renders::Reader;
use crate::actions::templates::unchanged::Since;
use crate::app::App;
use crate::domain::cards::Card;
use crate::domain::delivery::backoff::WINDOW;
use crate::domain::ids::{CardId, PassTypeId};
use crate::domain::time::Timestamp;
use crate::store::cards::{self, Unchanged};
use crate::store::refreshes::{self, Refresh};
use crate::store::{devices, templates};

/// How many steps a second are made.
const STEPS_PER_SECOND: u32 = 4;
/// The most cards of one step, whatever the rate.
const LARGEST_STEP: u32 = 500;
/// The longest pause between two steps. A later time for the next step was stored before the clock went back.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How soon to check again while another node makes the step.
const HELD: Duration = Duration::from_millis(100);

/// Makes one step if one is due. Returns the time until the next one; `None` when no refresh is under way.
///
/// # Errors
/// When the database fails; the step is then repeated.
pub async fn refresh_step(app: &App) -> Result<Option<Duration>, ActionError> {
    let now = app.now();
    // Read without a transaction first: usually there is nothing to do, and writers on SQLite wait for each other.
    let too_late = now.plus(LONGEST_PAUSE);
    let unfinished = refreshes::unfinished(&mut app.store.read().await?, too_late).await?;
    if unfinished.count == 0 {
        return Ok(None);
    }
    let wait = unfinished.next_at.since(now);
    if !wait.is_zero() {
        return Ok(Some(wait));
    }
    let step = i64::from((app.refresh_rate / STEPS_PER_SECOND).clamp(1, LARGEST_STEP));
    let Some(looked_at) = look(app, now, too_late, step).await? else { return Ok(Some(HELD)) };
    let mut tx = app.store.begin().await?;
    let Some(refresh) = refreshes::claim(&mut tx, now, too_late).await? else {
        return Ok(Some(HELD));
    };
    // Another node may have made the step, or a publishing restarted the refresh.
    let version = templates::publication(&mut tx, &refresh.workspace_id, &refresh.template_id).await?;
    if refresh != looked_at.refresh || version.map(|publication| publication.version) != looked_at.version {
        return Ok(Some(Duration::ZERO));
    }
    let changed: Vec<&CardId> = looked_at.told.iter().collect();
    let devices = devices::mark(&mut tx, &refresh.workspace_id, &changed, now, WINDOW).await?;
    cards::keep_faces(&mut tx, &refresh.workspace_id, &looked_at.kept).await?;
    // All refreshes under way share the rate.
    let shares = f64::from(app.refresh_rate) / unfinished.count as f64;
    let pause = Duration::from_secs_f64(devices as f64 / shares).min(LONGEST_PAUSE);
    match &looked_at.last {
        Some(last) => refreshes::advance(&mut tx, &refresh, last, now.plus(pause)).await?,
        None => refreshes::finish(&mut tx, &refresh).await?,
    }
    tx.commit().await?;
    app.delivery_signal.notify_one();
    Ok(Some(Duration::ZERO))
}

/// The result of comparing a step's cards, computed with no transaction open.
struct LookedAt {
    refresh: Refresh,
    /// The version under which passes were compared.
    version: Option<i64>,
    /// The last card of the step; `None` when there are no more.
    last: Option<CardId>,
    /// The cards that show something new, so their devices are notified.
    told: Vec<CardId>,
    /// The cards that look as before the newest publishing, and the face since which they do.
    kept: Vec<(Card, Unchanged)>,
}

/// Renders the next cards as they are shown and as they were; see [`crate::actions::templates::unchanged`].
async fn look(app: &App, now: Timestamp, too_late: Timestamp, step: i64) -> Result<Option<LookedAt>, ActionError> {
    let mut reader = app.store.read().await?;
    let Some(refresh) = refreshes::next(&mut reader, now, too_late).await? else { return Ok(None) };
    let (workspace, template) = (&refresh.workspace_id, &refresh.template_id);
    let ids = refreshes::next_cards(&mut reader, &refresh, step).await?;
    let last = ids.last().filter(|_| ids.len() as i64 == step).cloned();
    let mut issued = cards::find_many(&mut reader, workspace, &ids.iter().collect::<Vec<_>>()).await?;
    let newest = templates::publication(&mut reader, workspace, template).await?;
    drop(reader);
    // A card that moved to another template meanwhile was announced by that change.
    issued.retain(|issued| issued.card.content.template == *template);
    let version = newest.as_ref().map(|newest| newest.version);
    let Some(newest) = newest.filter(|_| !issued.is_empty()) else {
        return Ok(Some(LookedAt { refresh, version, last, told: Vec::new(), kept: Vec::new() }));
    };
    let pass_types: BTreeSet<PassTypeId> = issued.iter().map(|issued| issued.card.pass_type.clone()).collect();
    let comparison = app.comparison(workspace, template, newest.version, pass_types).await?;
    let first = refresh.first_position.unwrap_or(0);
    let (changed, kept) = app
        .render(Reader::Comparison, move || {
            let (mut changed, mut kept) = (Vec::new(), Vec::new());
            for issued in issued {
                let since = comparison.since(&issued);
                let (Since::New(face) | Since::Same(face)) = since;
                if matches!(since, Since::New(_)) && face.face >= first {
                    changed.push(issued.card.id.clone());
                }
                if face.face < issued.publication.position {
                    kept.push((issued.card, face));
                }
            }
            (changed, kept)
        })
        .await?;
    Ok(Some(LookedAt { refresh, version, last, told: changed, kept }))
}
