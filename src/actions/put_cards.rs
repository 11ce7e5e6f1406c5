//! Carries out what backends wish for their cards: one order of a PUT or a PATCH, or some hundred lines of a bulk, in one
//! transaction.
//!
//! The number of statements doesn't depend on how many cards there are. Locks are taken in the order of the store's rules
//! (cards, devices, the workspace's counter), each by key; orders are carried out in the order in which they were made, so
//! a card may be named more than once.
//!
//! Orders are judged before their cards are held ([`foresee`]) and off the threads that serve: a template may have much to
//! compute, and meanwhile others have the database. They are judged anew only if one of their cards has changed until then.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::card_change::{Desk, put_in_place};
use super::card_order::{Order, Wish};
use super::error::ActionError;
use super::judge_orders::{Design, Designs, Done, Judge, Verdicts, Working};
use super::renders::Reader;
use crate::app::App;
use crate::domain::card::Publication;
use crate::domain::ids::{CardId, TemplateId, WorkspaceId};
use crate::domain::retry::WINDOW;
use crate::domain::time::Timestamp;
use crate::outside::crash;
use crate::outside::secrets::fingerprint;
use crate::store::cards::{self, Issued};
use crate::store::{StoreError, Tx, devices, events, templates, workspaces};

/// How often a batch is judged anew because a template was published meanwhile, or because the database asked for it.
const ATTEMPTS: usize = 10;
/// For how long what was foreseen is believed: of cards it is known when they are held, of who signs and of what was
/// refused it isn't.
const BELIEVED: Duration = Duration::from_secs(5);

/// What came of a batch; committed.
#[derive(Debug)]
pub struct Fulfilled {
    /// For each order in turn, what came of it and the card's revision then.
    pub each: Vec<Result<(Done, i64), ActionError>>,
    /// The cards as they are now.
    pub cards: HashMap<CardId, Issued>,
}

/// Orders of one workspace, and what will come of them if their cards stay as they were when they were looked at.
#[derive(Debug)]
pub struct Batch {
    orders: Arc<[Order]>,
    foreseen: Option<Foreseen>,
}

#[derive(Debug)]
struct Foreseen {
    judge: Arc<Judge>,
    verdicts: Verdicts,
    at: Timestamp,
}

/// Carries out a single order.
///
/// # Errors
/// Why it can't be carried out.
pub async fn put_card(app: &App, workspace: &WorkspaceId, order: Order) -> Result<(Issued, Done), ActionError> {
    let id = order.id.clone();
    let batch = foresee(app, workspace, vec![order]).await;
    let mut fulfilled = put_cards(app, workspace, batch).await?;
    let missing = || ActionError::Fault("an order has no outcome".to_owned());
    let (done, _) = fulfilled.each.pop().ok_or_else(missing)??;
    Ok((fulfilled.cards.remove(&id).ok_or_else(missing)?, done))
}

/// Judges orders against their cards as they are, holding nothing. Should that fail, they are judged when they are stored.
pub async fn foresee(app: &App, workspace: &WorkspaceId, orders: Vec<Order>) -> Batch {
    let orders: Arc<[Order]> = orders.into();
    let foreseen = look_ahead(app, workspace, &orders).await.unwrap_or_else(|error| {
        tracing::debug!(%error, "a batch could not be judged ahead");
        None
    });
    Batch { orders, foreseen }
}

async fn look_ahead(
    app: &App,
    workspace: &WorkspaceId,
    orders: &Arc<[Order]>,
) -> Result<Option<Foreseen>, ActionError> {
    let at = app.now();
    let seen = cards::find_many(&mut app.store.read().await?, workspace, &named(orders)).await?;
    let judge = Arc::new(prepare(app, workspace, orders, &seen).await?);
    let verdicts = judge_all(&judge, orders, seen, at).await?;
    Ok(verdicts.map(|verdicts| Foreseen { judge, verdicts, at }))
}

/// Carries out a batch in one transaction; orders that can't be carried out fail alone.
///
/// # Errors
/// When nothing could be stored: the database fails or is too busy.
pub async fn put_cards(app: &App, workspace: &WorkspaceId, mut batch: Batch) -> Result<Fulfilled, ActionError> {
    for attempt in 1.. {
        match fulfil(app, workspace, &batch.orders, batch.foreseen.take()).await {
            Ok(Some(fulfilled)) => return Ok(fulfilled),
            Ok(None) if attempt < ATTEMPTS => {}
            Ok(None) => return Err(ActionError::Busy),
            Err(ActionError::Store(StoreError::Conflict(_))) if attempt < ATTEMPTS => {}
            Err(error) => return Err(error),
        }
    }
    Err(ActionError::Busy)
}

/// The cards' ids, each once and in order.
fn named(orders: &[Order]) -> Vec<&CardId> {
    orders.iter().map(|order| &order.id).collect::<BTreeSet<_>>().into_iter().collect()
}

/// Gathers what the orders need to be judged, when their cards are those.
async fn prepare(app: &App, workspace: &WorkspaceId, orders: &[Order], seen: &[Issued]) -> Result<Judge, ActionError> {
    let templates = orders.iter().filter_map(Order::template);
    let wanted: BTreeSet<&TemplateId> =
        templates.chain(seen.iter().map(|issued| &issued.card.content.template)).collect();
    let mut designs = Designs::new();
    let issuer = app.find_apple_issuer(workspace).await?;
    for id in wanted {
        let row = templates::find(&mut app.store.read().await?, workspace, id).await?;
        let design = match row.map(|row| row.publication()) {
            None => Design::Unknown,
            // Who can't sign can't publish either: that is what has to be mended first.
            Some(None) if issuer.is_none() => Design::NoIssuer(None),
            Some(None) => Design::Unpublished,
            Some(Some(publication)) => {
                let published = app.published(workspace, id, publication.version).await?;
                match &issuer {
                    None => Design::NoIssuer(Some(published)),
                    Some(issuer) => {
                        let (issuer, secret) = (Arc::clone(issuer), app.secret(workspace).await?);
                        Design::Published(Desk { published, issuer, secret, public_url: app.public_url.clone() })
                    }
                }
            }
        };
        designs.insert(id.clone(), design);
    }
    Ok(Judge {
        workspace: workspace.clone(),
        designs,
        random: Arc::clone(&app.random),
        permits: app.renders.of(Reader::Backend),
    })
}

/// Judges orders off the threads that serve.
async fn judge_all(
    judge: &Arc<Judge>,
    orders: &Arc<[Order]>,
    cards: Vec<Issued>,
    now: Timestamp,
) -> Result<Option<Verdicts>, ActionError> {
    let (judge, orders) = (Arc::clone(judge), Arc::clone(orders));
    let permit = Arc::clone(&judge.permits).acquire_owned().await.map_err(|_| ActionError::ShuttingDown)?;
    let work = tokio::task::spawn_blocking(move || {
        let verdicts = judge.all(&orders, cards, now);
        drop(permit);
        verdicts
    });
    work.await.map_err(|_| ActionError::Fault("judging panicked".to_owned()))
}

/// One attempt; `None` when it must be made anew.
async fn fulfil(
    app: &App,
    workspace: &WorkspaceId,
    orders: &Arc<[Order]>,
    foreseen: Option<Foreseen>,
) -> Result<Option<Fulfilled>, ActionError> {
    let ids = named(orders);
    let now = app.now();
    let (judge, foreseen) = match foreseen.filter(|foreseen| foreseen.at <= now && now <= foreseen.at.plus(BELIEVED)) {
        Some(foreseen) => (foreseen.judge, Some(foreseen.verdicts)),
        None => {
            // Designs are made ready before the transaction; should a card have another template by then, they are anew.
            let seen: Vec<Issued> = if orders.iter().any(|order| matches!(order.wish, Wish::Patch(_))) {
                cards::find_many(&mut app.store.read().await?, workspace, &ids).await?
            } else {
                Vec::new()
            };
            (Arc::new(prepare(app, workspace, orders, &seen).await?), None)
        }
    };
    let mut tx = if orders.len() > 1 { app.store.begin_batch().await? } else { app.store.begin().await? };
    let held = cards::hold_many(&mut tx, workspace, &ids).await?;
    let now = app.now();
    let verdicts = match foreseen.filter(|foreseen| foreseen.are_of(&held)) {
        Some(foreseen) => Some(foreseen),
        None => {
            let held: Vec<&CardId> = held.iter().map(|held| &held.id).collect();
            judge_all(&judge, orders, cards::find_many(&mut tx, workspace, &held).await?, now).await?
        }
    };
    let Some(mut verdicts) = verdicts else { return Ok(None) };
    if !store(tx, app, &judge, orders, &mut verdicts, now).await? {
        return Ok(None);
    }
    let cards = verdicts
        .cards
        .into_iter()
        .map(|(id, card)| {
            let Working { card, publication, fetched, unchanged, .. } = card;
            (id, Issued { card, publication, fetched, unchanged })
        })
        .collect();
    Ok(Some(Fulfilled { each: verdicts.each, cards }))
}

/// Writes what differs and commits; false when it must be judged anew.
async fn store(
    mut tx: Tx,
    app: &App,
    judge: &Judge,
    orders: &[Order],
    verdicts: &mut Verdicts,
    now: Timestamp,
) -> Result<bool, ActionError> {
    let Judge { workspace, designs, .. } = judge;
    let working = &mut verdicts.cards;
    if working.values().all(|card| !card.written) {
        return Ok(true);
    }
    let mut new = Vec::new();
    for card in working.values().filter(|card| card.stored.is_none()) {
        let secret = app.secret(workspace).await?;
        let token = secret.page_token(&card.card.serial, card.card.page_generation);
        new.push((&card.card, fingerprint(token.as_str())));
    }
    // Another request may have issued one of them since we looked: then it is a replacement.
    if !new.is_empty() && !cards::insert_many(&mut tx, workspace, &new).await? {
        return Ok(false);
    }
    let shown: Vec<&CardId> =
        working.iter().filter(|(_, card)| card.new_face && card.stored.is_some()).map(|(id, _)| id).collect();
    if !shown.is_empty() {
        devices::mark(&mut tx, workspace, &shown, now, WINDOW).await?;
    }
    if working.values().any(|card| card.changed) {
        let (position, at) = workspaces::take_place(&mut tx, workspace, now).await?;
        // Publishing needs the counter, too: whoever has it knows which version is the newest until he commits.
        let used: BTreeSet<&TemplateId> = working
            .values()
            .flat_map(|card| card.stored.as_deref().into_iter().chain([&card.card]))
            .map(|card| &card.content.template)
            .collect();
        let used: Vec<&TemplateId> = used.into_iter().collect();
        let newest: HashMap<TemplateId, Publication> =
            templates::publications(&mut tx, workspace, &used).await?.into_iter().collect();
        for card in working.values_mut().filter(|card| card.changed) {
            let template = &card.card.content.template;
            let publication = newest.get(template).ok_or(ActionError::NotPublished)?;
            if !matches!(designs.get(template), Some(Design::Published(desk)) if desk.published.version == publication.version)
            {
                return Ok(false);
            }
            card.publication = publication.clone();
            card.card.updated_at = at;
            if card.stored.is_none() {
                card.card.created_at = at;
            }
            if card.new_face {
                let left = card.stored.as_ref().and_then(|stored| newest.get(&stored.content.template));
                put_in_place(&mut card.card, (position, at), [publication].into_iter().chain(left));
            }
        }
        let mut told = Vec::with_capacity(verdicts.told.len());
        for event in verdicts.told.drain(..) {
            told.push(app.event(event.kind, orders.get(event.order).map(|order| &order.id), event.data)?);
        }
        events::record(&mut tx, workspace, position, at, &told).await?;
    }
    let written: Vec<_> = working.values().filter(|card| card.written).map(|card| &card.card).collect();
    cards::update_many(&mut tx, workspace, &written).await?;
    crash::point("before-change-commit");
    tx.commit().await?;
    crash::point("after-change-commit");
    app.wake.notify_one();
    Ok(true)
}
