//! Sets the state of cards whose end has passed to `expired`, some at a time.
//!
//! The backend set the end, so expiring counts as its change: the revision moves, and with it the ETag, so that a
//! backend that still holds the active card can't overwrite the state unseen. Phones are notified only of cards whose
//! pass looks different: a pass names its end from the beginning.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::json;

use crate::actions::cards::card_change::put_in_place;
use crate::actions::error::ActionError;
use crate::actions::passes::renders::Reader;
use crate::actions::templates::unchanged::pin;
use crate::app::App;
use crate::domain::actor::Actor;
use crate::domain::cards::{Card, State};
use crate::domain::delivery::backoff::WINDOW;
use crate::domain::event::EventKind;
use crate::domain::ids::{CardId, IssuerId, TemplateId, WorkspaceId};
use crate::domain::time::Timestamp;
use crate::store::cards::{self, Issued};
use crate::store::{deliveries, events, templates, workspaces};

/// How many cards expire in one transaction.
const STEP: i64 = 200;

/// How many workspaces whose cards can't expire now are skipped in one step.
const PASSED_OVER: usize = 50;

/// Expires up to 200 cards of one workspace; returns how many. Safe to repeat and to run on many nodes: cards that
/// another node holds are left to it, and expired ones aren't found again. A workspace whose cards can't expire doesn't
/// hold up the others.
///
/// # Errors
/// When no card could expire because the database fails, or holds something unreadable.
pub async fn expire_step(app: &App) -> Result<usize, ActionError> {
    let now = app.now();
    let (mut passed_over, mut failure) = (Vec::new(), None);
    while passed_over.len() < PASSED_OVER {
        // Read without a transaction first: usually there is nothing to do, and writers on SQLite wait for each other.
        let Some(workspace) = cards::ended(&mut app.store.read().await?, now, &passed_over).await? else { break };
        match expire_some(app, &workspace, now).await {
            Ok(0) => {}
            Ok(count) => {
                if let Some(error) = failure {
                    tracing::error!(%error, "cards of a workspace can't expire");
                }
                return Ok(count);
            }
            Err(error) => failure = failure.or(Some(error)),
        }
        passed_over.push(workspace);
    }
    failure.map_or(Ok(0), Err)
}

async fn expire_some(app: &App, workspace: &WorkspaceId, now: Timestamp) -> Result<usize, ActionError> {
    let same = same_passes(app, workspace, now).await?;
    let mut tx = app.store.begin().await?;
    let mut ended = cards::lock_ended(&mut tx, workspace, now, STEP).await?;
    if ended.is_empty() {
        return Ok(0);
    }
    // The comparison holds only for a card that hasn't changed since.
    let is_same = |issued: &Issued| {
        let card = &issued.card;
        same.get(&card.id) == Some(&(card.revision, card.position, issued.publication.version))
    };
    let ids: Vec<CardId> = ended.iter().map(|issued| issued.card.id.clone()).collect();
    let shown: Vec<&CardId> = ended.iter().zip(&ids).filter(|(issued, _)| !is_same(issued)).map(|(_, id)| id).collect();
    if !shown.is_empty() {
        deliveries::mark(&mut tx, workspace, &shown, now, WINDOW).await?;
    }
    let (position, at) = workspaces::reserve_sequence(&mut tx, workspace, now).await?;
    // Read after the counter was taken, so that no publishing can commit in between.
    let used: Vec<&TemplateId> = ended.iter().map(|issued| &issued.card.content.template).collect();
    let publications = templates::publications(&mut tx, workspace, &used).await?;
    let mut recorded = Vec::with_capacity(ids.len());
    for (issued, id) in ended.iter_mut().zip(&ids) {
        let (same, is_looked_at) = (is_same(issued), issued.is_looked_at());
        let card = &mut issued.card;
        let publication = publications.iter().find(|(template, _)| *template == card.content.template);
        let publication = publication.map(|(_, publication)| publication);
        if same && publication.is_none_or(|newest| newest.version != issued.publication.version) {
            // A version was published during the wait for the counter: the next step compares again.
            return Ok(0);
        }
        card.content.state = State::Expired;
        card.expired_at = Some(now);
        card.revision += 1;
        card.updated_at = at;
        match same {
            true => pin(card, &issued.publication, is_looked_at),
            false => put_in_place(card, (position, at), publication),
        }
        let data = json!({"revision": card.revision, "expires_at": card.content.expires_at});
        recorded.push(app.event(EventKind::CardExpired, Some(id), data)?);
    }
    let changed: Vec<&Card> = ended.iter().map(|issued| &issued.card).collect();
    cards::update_many(&mut tx, workspace, &changed).await?;
    events::record(&mut tx, workspace, &Actor::System, position, at, &recorded).await?;
    tx.commit().await?;
    app.delivery_signal.notify_one();
    Ok(ids.len())
}

/// Returns the ending cards whose pass stays the same when they are expired, since a pass names its end: the revision,
/// position and version for which that was found. No lock is held.
async fn same_passes(
    app: &App,
    workspace: &WorkspaceId,
    now: Timestamp,
) -> Result<HashMap<CardId, (i64, i64, i64)>, ActionError> {
    let mut by_template: BTreeMap<(TemplateId, i64), Vec<Issued>> = BTreeMap::new();
    for issued in cards::all_ended(&mut app.store.read().await?, workspace, now, STEP).await? {
        let template = issued.card.content.template.clone();
        by_template.entry((template, issued.publication.version)).or_default().push(issued);
    }
    let mut same = HashMap::new();
    for ((template, version), ending) in by_template {
        let issuers: BTreeSet<IssuerId> =
            ending.iter().flat_map(|issued| &issued.passes).map(|pass| pass.issuer.clone()).collect();
        let comparison = app.comparison(workspace, &template, version, issuers).await?;
        let found = app.render(Reader::Comparison, move || {
            let mut found = Vec::new();
            for issued in ending {
                let mut expired = issued.card.clone();
                expired.content.state = State::Expired;
                expired.expired_at = Some(now);
                if comparison.is_same(&issued, &expired) {
                    let card = issued.card;
                    found.push((card.id, (card.revision, card.position, version)));
                }
            }
            found
        });
        same.extend(found.await?);
    }
    Ok(same)
}
