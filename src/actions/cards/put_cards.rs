//! Carries out backends' commands for cards: a single PUT or PATCH, or some hundred lines of a bulk, in one
//! transaction.
//!
//! The number of statements doesn't depend on the number of cards. Locks are taken in the order of the store's rules
//! (cards, targets, the workspace's counter, passes), each by key; commands are carried out in the order in which they
//! were made, so a card may be named more than once.
//!
//! Changes are planned before their cards are locked ([`precompute`]) and off the threads that serve: a template may
//! need much computing, and meanwhile others can use the database. Nothing is ever rendered while a transaction is
//! open: if a locked card has changed since it was read, the transaction is abandoned and that card's commands are
//! planned again. The second attempt holds this node's locks of the cards ([`CardLocks`]), as a single command does
//! from the start, so that requests of one node don't keep overtaking each other; a few more attempts cover changes by
//! other nodes and phones. A card that changes all the time fails alone.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::actions::cards::card_change::{RenderContext, put_in_place};
use crate::actions::cards::card_locks::CardLock;
use crate::actions::cards::command::CardCommand;
use crate::actions::cards::plan_changes::{ChangePlan, Design, Designs, Planner, Working, WriteOutcome};
use crate::actions::error::ActionError;
use crate::actions::passes::renders::Reader;
use crate::actions::retry::pause;
use crate::app::App;
use crate::domain::actor::Actor;
use crate::domain::cards::Publication;
use crate::domain::delivery::backoff::WINDOW;
use crate::domain::ids::{CardId, TemplateId, WorkspaceId};
use crate::domain::time::Timestamp;
use crate::platform::crash;
use crate::platform::secrets::fingerprint;
use crate::store::cards::{self, Issued};
use crate::store::{Tx, deliveries, events, passes, templates, workspaces};

/// How often a batch is attempted when others change its cards and templates, or the database asks to retry.
const ATTEMPTS: u32 = 24;
/// The number of attempts after which cards that keep changing are given up, so that the others of their batch can be
/// stored.
const ATTEMPTS_FOR_ALL: u32 = 8;
/// How long a precomputed plan may be used. Cards are read again under lock; issuers and refusals are not, hence the
/// limit.
const PRECOMPUTED_TTL: Duration = Duration::from_secs(5);

/// The committed result of a batch.
#[derive(Debug)]
pub struct BatchResult {
    /// For each command in turn, its outcome and the card's revision then.
    pub each: Vec<Result<(WriteOutcome, i64), ActionError>>,
    /// The cards as they are now.
    pub cards: HashMap<CardId, Issued>,
}

/// Commands of one workspace, and the plan that holds if their cards stay as they were read.
#[derive(Debug)]
pub struct Batch {
    commands: Arc<[CardCommand]>,
    precomputed: Option<Precomputed>,
}

#[derive(Debug)]
struct Precomputed {
    planner: Arc<Planner>,
    plan: ChangePlan,
    at: Timestamp,
    /// Cards that changed too often; they are left as they are.
    given_up: BTreeSet<CardId>,
}

/// The outcome of an attempt to store a batch.
enum Attempt {
    /// It is stored.
    BatchResult(BatchResult),
    /// Nothing is stored: these cards changed after they were read.
    Overtaken(Precomputed, BTreeSet<CardId>),
    /// Nothing is stored: templates or cards differ from those that the plan was made with.
    Outdated,
}

/// Carries out a single command.
///
/// # Errors
/// The reason why it can't be carried out.
pub async fn put_card(
    app: &App,
    workspace: &WorkspaceId,
    actor: &Actor,
    command: CardCommand,
) -> Result<(Issued, WriteOutcome), ActionError> {
    let id = command.id.clone();
    // Commands for one card run one after the other anyway; waiting here avoids planning one twice.
    let locks = app.card_locks.lock(workspace, [&id]).await;
    let batch = precompute(app, workspace, vec![command]).await;
    let mut batch_result = carry_out(app, workspace, actor, batch, Some(locks)).await?;
    let missing = || ActionError::Fault("an order has no outcome".to_owned());
    let (done, _) = batch_result.each.pop().ok_or_else(missing)??;
    Ok((batch_result.cards.remove(&id).ok_or_else(missing)?, done))
}

/// Plans commands against their cards as they are, without locking anything. If that fails, they are planned when they
/// are stored.
pub async fn precompute(app: &App, workspace: &WorkspaceId, commands: Vec<CardCommand>) -> Batch {
    let commands: Arc<[CardCommand]> = commands.into();
    let precomputed = look_ahead(app, workspace, &commands).await.unwrap_or_else(|error| {
        tracing::debug!(%error, "a batch could not be judged ahead");
        None
    });
    Batch { commands, precomputed }
}

/// Plans all commands; `None` when a card's template changed after the designs were loaded.
async fn look_ahead(
    app: &App,
    workspace: &WorkspaceId,
    commands: &Arc<[CardCommand]>,
) -> Result<Option<Precomputed>, ActionError> {
    let at = app.now();
    let seen = cards::find_many(&mut app.store.read().await?, workspace, &named(commands)).await?;
    let planner = Arc::new(prepare(app, workspace, commands, &seen).await?);
    let plan = plan_all(&planner, commands, None, seen, at).await?;
    Ok(plan.map(|plan| Precomputed { planner, plan, at, given_up: BTreeSet::new() }))
}

/// Carries out a batch in one transaction; a command that can't be carried out fails alone.
///
/// # Errors
/// When nothing could be stored: the database fails or is too busy.
pub async fn put_cards(
    app: &App,
    workspace: &WorkspaceId,
    actor: &Actor,
    batch: Batch,
) -> Result<BatchResult, ActionError> {
    carry_out(app, workspace, actor, batch, None).await
}

async fn carry_out<'a>(
    app: &'a App,
    workspace: &WorkspaceId,
    actor: &Actor,
    batch: Batch,
    mut locks: Option<Vec<CardLock<'a>>>,
) -> Result<BatchResult, ActionError> {
    let Batch { commands, mut precomputed } = batch;
    for attempt in 1..=ATTEMPTS {
        let now = app.now();
        let still_valid = precomputed
            .take()
            .filter(|precomputed| precomputed.at <= now && now <= precomputed.at.plus(PRECOMPUTED_TTL));
        let precomputed_now = match still_valid {
            Some(precomputed) => Some(precomputed),
            None => look_ahead(app, workspace, &commands).await?,
        };
        let attempted = match precomputed_now {
            Some(precomputed) => apply(app, workspace, actor, &commands, precomputed).await,
            None => Ok(Attempt::Outdated),
        };
        let overtaken = match attempted {
            Ok(Attempt::BatchResult(batch_result)) => return Ok(batch_result),
            Ok(Attempt::Overtaken(precomputed, changed)) => Some((precomputed, changed)),
            Ok(Attempt::Outdated) => None,
            Err(ActionError::Store(error)) if error.is_of_another_transaction() => None,
            Err(error) => return Err(error),
        };
        match &locks {
            None => locks = Some(app.card_locks.lock(workspace, named(&commands)).await),
            // The conflict came from another node.
            Some(_) => pause(app, attempt).await?,
        }
        precomputed = match overtaken {
            None => None,
            Some((mut precomputed, changed)) if attempt >= ATTEMPTS_FOR_ALL && commands.len() > 1 => {
                precomputed.plan.give_up(&changed, &places_of(&commands, &changed));
                precomputed.given_up.extend(changed);
                Some(precomputed)
            }
            Some((precomputed, changed)) => plan_again(app, workspace, &commands, precomputed, changed).await?,
        };
    }
    Err(ActionError::Busy)
}

/// Plans the commands for changed cards again; `None` when all must be planned again.
async fn plan_again(
    app: &App,
    workspace: &WorkspaceId,
    commands: &Arc<[CardCommand]>,
    mut precomputed: Precomputed,
    changed: BTreeSet<CardId>,
) -> Result<Option<Precomputed>, ActionError> {
    let ids: Vec<&CardId> = changed.iter().collect();
    let seen = cards::find_many(&mut app.store.read().await?, workspace, &ids).await?;
    let places = places_of(commands, &changed);
    let newer = plan_all(&precomputed.planner, commands, Some(places.clone()), seen, app.now()).await?;
    Ok(newer.map(|newer| {
        precomputed.plan.replace(&changed, &places, newer);
        precomputed
    }))
}

/// Returns the indexes of the commands for these cards, in ascending order.
fn places_of(commands: &[CardCommand], cards: &BTreeSet<CardId>) -> Vec<usize> {
    let named = |(place, command): (usize, &CardCommand)| cards.contains(&command.id).then_some(place);
    commands.iter().enumerate().filter_map(named).collect()
}

/// Returns the cards' ids, each once and in order.
fn named(commands: &[CardCommand]) -> Vec<&CardId> {
    commands.iter().map(|command| &command.id).collect::<BTreeSet<_>>().into_iter().collect()
}

/// Loads what is needed to plan the commands for these cards.
async fn prepare(
    app: &App,
    workspace: &WorkspaceId,
    commands: &[CardCommand],
    seen: &[Issued],
) -> Result<Planner, ActionError> {
    let templates = commands.iter().filter_map(CardCommand::template);
    let wanted: BTreeSet<&TemplateId> =
        templates.chain(seen.iter().map(|issued| &issued.card.content.template)).collect();
    let mut designs = Designs::new();
    let issuers = app.current_issuers(workspace).await?;
    for id in wanted {
        let row = templates::find(&mut app.store.read().await?, workspace, id).await?;
        let design = match row.map(|row| row.publication()) {
            None => Design::Unknown,
            // A missing issuer also prevents publishing, so it is reported first.
            Some(None) if issuers.is_empty() => Design::NoIssuer(None),
            Some(None) => Design::Unpublished,
            Some(Some(publication)) => {
                match (app.published(workspace, id, publication.version).await, issuers.is_empty()) {
                    // The template was just deleted.
                    (Err(ActionError::NotFound(_)), _) => Design::Unknown,
                    (Err(error), _) => return Err(error),
                    (Ok(published), true) => Design::NoIssuer(Some(published)),
                    (Ok(published), false) => Design::Published(RenderContext {
                        published,
                        issuers: issuers.clone(),
                        secret: app.secret(workspace).await?,
                        public_url: app.public_url.clone(),
                    }),
                }
            }
        };
        designs.insert(id.clone(), design);
    }
    Ok(Planner {
        workspace: workspace.clone(),
        designs,
        random: Arc::clone(&app.random),
        workers: app.renders.of(Reader::Backend).clone(),
    })
}

/// Plans commands off the threads that serve: those at the indexes `places`, or all.
async fn plan_all(
    planner: &Arc<Planner>,
    commands: &Arc<[CardCommand]>,
    places: Option<Vec<usize>>,
    cards: Vec<Issued>,
    now: Timestamp,
) -> Result<Option<ChangePlan>, ActionError> {
    let (planner, commands) = (Arc::clone(planner), Arc::clone(commands));
    let workers = planner.workers.clone();
    let work = workers.run(move || {
        let commands: Vec<&CardCommand> = match places {
            None => commands.iter().collect(),
            Some(places) => places.into_iter().filter_map(|place| commands.get(place)).collect(),
        };
        planner.all(&commands, cards, now)
    });
    Ok(work.await?)
}

/// Makes one attempt to store a precomputed plan. Nothing is rendered here: a transaction is open.
async fn apply(
    app: &App,
    workspace: &WorkspaceId,
    actor: &Actor,
    commands: &[CardCommand],
    mut precomputed: Precomputed,
) -> Result<Attempt, ActionError> {
    let ids: Vec<&CardId> = named(commands).into_iter().filter(|id| !precomputed.given_up.contains(id)).collect();
    let mut tx = if commands.len() > 1 { app.store.begin_batch().await? } else { app.store.begin().await? };
    let held = cards::hold_many(&mut tx, workspace, &ids).await?;
    let changed = precomputed.plan.changed_since(&held);
    if !changed.is_empty() {
        return Ok(Attempt::Overtaken(precomputed, changed));
    }
    let now = app.now();
    if !store(tx, app, actor, &precomputed.planner, commands, &mut precomputed.plan, now).await? {
        return Ok(Attempt::Outdated);
    }
    let plan = precomputed.plan;
    let cards = plan
        .cards
        .into_iter()
        .map(|(id, card)| {
            let Working { card, publication, passes, unchanged, .. } = card;
            (id, Issued { card, publication, passes, unchanged })
        })
        .collect();
    Ok(Attempt::BatchResult(BatchResult { each: plan.each, cards }))
}

/// Writes what differs and commits; false when the plan must be made again.
async fn store(
    mut tx: Tx,
    app: &App,
    actor: &Actor,
    planner: &Planner,
    commands: &[CardCommand],
    plan: &mut ChangePlan,
    now: Timestamp,
) -> Result<bool, ActionError> {
    let Planner { workspace, designs, .. } = planner;
    let working = &mut plan.cards;
    if working.values().all(|card| !card.written) {
        return Ok(true);
    }
    let mut new = Vec::new();
    for card in working.values().filter(|card| card.stored.is_none()) {
        let secret = app.secret(workspace).await?;
        let token = secret.page_token(&card.card.serial, card.card.page_generation);
        new.push((&card.card, fingerprint(token.as_str())));
    }
    // Another request may have issued one of them since it was read: then this is a replacement.
    if !new.is_empty() && !cards::insert_many(&mut tx, workspace, &new).await? {
        return Ok(false);
    }
    let unissued = working.values().filter(|card| card.stored.is_none());
    let passes: Vec<_> = unissued.flat_map(|card| card.passes.iter().map(move |pass| (&card.card.id, pass))).collect();
    passes::insert_many(&mut tx, workspace, &passes).await?;
    let shown: Vec<&CardId> =
        working.iter().filter(|(_, card)| card.new_face && card.stored.is_some()).map(|(id, _)| id).collect();
    if !shown.is_empty() {
        deliveries::mark(&mut tx, workspace, &shown, now, WINDOW).await?;
    }
    if working.values().any(|card| card.changed) {
        let (position, at) = workspaces::reserve_sequence(&mut tx, workspace, now).await?;
        // Publishing needs the counter, too: while this transaction holds it, the newest version can't change.
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
            let Some(publication) = newest.get(template) else { return Ok(false) };
            if !matches!(designs.get(template), Some(Design::Published(context)) if context.published.version == publication.version)
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
        let mut recorded = Vec::with_capacity(plan.told.len());
        for event in plan.told.drain(..) {
            recorded.push(app.event(event.kind, commands.get(event.command).map(|command| &command.id), event.data)?);
        }
        events::record(&mut tx, workspace, actor, position, at, &recorded).await?;
    }
    let written: Vec<_> = working.values().filter(|card| card.written).map(|card| &card.card).collect();
    cards::update_many(&mut tx, workspace, &written).await?;
    crash::point("before-change-commit");
    tx.commit().await?;
    crash::point("after-change-commit");
    app.delivery_signal.notify_one();
    Ok(true)
}
