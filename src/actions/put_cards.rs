//! What backends wish for their cards: one wish of a PUT or a PATCH, or some hundred lines of a bulk, in one transaction.
//!
//! The number of statements doesn't depend on how many cards there are. Locks are taken in the order of the store's rules
//! (cards, devices, the workspace's counter), each by key; wishes are fulfilled in the order in which they were made, so
//! a card may be named more than once.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use rayon::prelude::*;
use serde_json::{Value, json};

use super::card_change::{Desk, Judged, judge, put_in_place, what_changed};
use super::card_document::{CardDocument, CardPatch};
use super::error::ActionError;
use super::published::Published;
use crate::app::App;
use crate::domain::card::{Card, Content, Publication, State};
use crate::domain::event::EventKind;
use crate::domain::ids::{CardId, TemplateId, WorkspaceId};
use crate::domain::input::Problems;
use crate::domain::retry::WINDOW;
use crate::domain::time::Timestamp;
use crate::outside::secrets::fingerprint;
use crate::outside::{crash, random};
use crate::store::cards::{self, Fetch, Issued};
use crate::store::events::NewEvent;
use crate::store::{StoreError, Tx, devices, events, templates, workspaces};

/// How often a batch is judged anew because a template was published meanwhile, or because the database asked for it.
const ATTEMPTS: usize = 10;

/// At which revision a caller expects the card to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IfMatch {
    /// At any, or not at all.
    Anything,
    /// It must exist.
    Exists,
    /// One of these.
    Revisions(Vec<i64>),
}

impl IfMatch {
    /// Checks what there is.
    ///
    /// # Errors
    /// [`ActionError::WrongRevision`] when it is something else.
    pub fn check(&self, card: Option<&Card>) -> Result<(), ActionError> {
        let found = card.map(|card| card.revision);
        let fine = match self {
            Self::Anything => true,
            Self::Exists => found.is_some(),
            Self::Revisions(expected) => found.is_some_and(|found| expected.contains(&found)),
        };
        if fine { Ok(()) } else { Err(ActionError::WrongRevision { found: found.unwrap_or(0) }) }
    }
}

/// What is wished for a card.
#[derive(Debug)]
pub enum Wish<'v> {
    /// That it be so, whether it is there or not.
    Put(CardDocument<'v>),
    /// That it change so.
    Patch(CardPatch<'v>),
}

/// A wish whose shape was read.
#[derive(Debug)]
pub struct Order<'v> {
    /// For which card.
    pub id: CardId,
    /// What.
    pub wish: Wish<'v>,
    /// On which condition.
    pub if_match: IfMatch,
    /// What is wrong with it so far; told together with what its values break.
    pub problems: Problems,
}

impl<'v> Order<'v> {
    /// Reads the document of a PUT.
    ///
    /// # Errors
    /// Its problems, when it can't even be told which template it names.
    pub fn put(id: CardId, body: &'v Value, if_match: IfMatch) -> Result<Self, ActionError> {
        let mut problems = Problems::new();
        match CardDocument::read(body, &mut problems) {
            Some(document) => Ok(Self { id, wish: Wish::Put(document), if_match, problems }),
            None => Err(ActionError::Invalid(problems)),
        }
    }

    /// Reads the body of a PATCH.
    ///
    /// # Errors
    /// Its problems, when it is no patch at all.
    pub fn patch(id: CardId, body: &'v Value, if_match: IfMatch) -> Result<Self, ActionError> {
        let mut problems = Problems::new();
        match CardPatch::read(body, &mut problems) {
            Some(patch) => Ok(Self { id, wish: Wish::Patch(patch), if_match, problems }),
            None => Err(ActionError::Invalid(problems)),
        }
    }
}

/// What came of a wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// The card was issued.
    Created,
    /// It has a new revision.
    Updated,
    /// Nothing differed.
    Unchanged,
}

/// What came of a batch; committed.
#[derive(Debug)]
pub struct Fulfilled {
    /// For each order in turn, what came of it and the card's revision then.
    pub each: Vec<Result<(Done, i64), ActionError>>,
    /// The cards as they are now.
    pub cards: HashMap<CardId, Issued>,
}

/// Fulfils a single order.
///
/// # Errors
/// Why it can't be fulfilled.
pub async fn put_card(app: &App, workspace: &WorkspaceId, order: Order<'_>) -> Result<(Issued, Done), ActionError> {
    let mut fulfilled = put_cards(app, workspace, std::slice::from_ref(&order)).await?;
    let missing = || ActionError::Fault("an order has no outcome".to_owned());
    let (done, _) = fulfilled.each.pop().ok_or_else(missing)??;
    Ok((fulfilled.cards.remove(&order.id).ok_or_else(missing)?, done))
}

/// Fulfils orders in one transaction; those that can't be fulfilled fail alone.
///
/// # Errors
/// When nothing could be stored: the database fails or is too busy.
pub async fn put_cards(app: &App, workspace: &WorkspaceId, orders: &[Order<'_>]) -> Result<Fulfilled, ActionError> {
    for attempt in 1.. {
        match fulfil(app, workspace, orders).await {
            Ok(Some(fulfilled)) => return Ok(fulfilled),
            Ok(None) if attempt < ATTEMPTS => {}
            Ok(None) => return Err(ActionError::Busy),
            Err(ActionError::Store(StoreError::Conflict(_))) if attempt < ATTEMPTS => {}
            Err(error) => return Err(error),
        }
    }
    Err(ActionError::Busy)
}

/// What there is to draw cards of a template with.
enum Design {
    Unknown,
    Unpublished,
    Published(Desk),
    /// Nobody signs, whether it was ever published or not.
    NoIssuer(Option<Arc<Published>>),
}

type Designs = HashMap<TemplateId, Design>;

/// Gathers what the orders need to be judged; `current` are the templates of the cards that patches are for.
async fn designs(app: &App, workspace: &WorkspaceId, wanted: BTreeSet<&TemplateId>) -> Result<Designs, ActionError> {
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
                        Design::Published(Desk { published, issuer, secret })
                    }
                }
            }
        };
        designs.insert(id.clone(), design);
    }
    Ok(designs)
}

/// A card as the orders so far left it.
struct Working {
    card: Card,
    publication: Publication,
    fetched: Option<Fetch>,
    /// As it is stored; `None` for a new one.
    stored: Option<Card>,
    written: bool,
    changed: bool,
    new_face: bool,
}

impl Working {
    /// Whether no phone has fetched its live message yet.
    fn is_waiting(&self) -> bool {
        self.new_face || self.fetched.is_none_or(|fetch| fetch.face < self.card.position)
    }
}

/// One attempt; `None` when it must be made anew.
async fn fulfil(app: &App, workspace: &WorkspaceId, orders: &[Order<'_>]) -> Result<Option<Fulfilled>, ActionError> {
    let ids: Vec<&CardId> = orders.iter().map(|order| &order.id).collect::<BTreeSet<_>>().into_iter().collect();
    // Designs are made ready before the transaction; should a card have another template by then, they are anew.
    let seen: Vec<Issued> = if orders.iter().any(|order| matches!(order.wish, Wish::Patch(_))) {
        cards::find_many(&mut app.store.read().await?, workspace, &ids).await?
    } else {
        Vec::new()
    };
    let named = orders.iter().filter_map(|order| match &order.wish {
        Wish::Put(document) => Some(&document.template),
        Wish::Patch(patch) => patch.template.as_ref(),
    });
    let wanted = named.chain(seen.iter().map(|issued| &issued.card.content.template)).collect();
    let designs = designs(app, workspace, wanted).await?;

    let mut tx = if orders.len() > 1 { app.store.begin_batch().await? } else { app.store.begin().await? };
    let mut working = hold(&mut tx, workspace, &ids).await?;
    let now = app.now();
    let mut told: Vec<NewEvent<'_>> = Vec::new();
    let mut each = Vec::with_capacity(orders.len());
    let mut rest = orders;
    while !rest.is_empty() {
        let (round, later) = rest.split_at(length_of_round(rest));
        rest = later;
        let strays = |order: &Order<'_>| match (working.get(&order.id), &order.wish) {
            (Some(card), Wish::Patch(patch)) => {
                patch.template.is_none() && !designs.contains_key(&card.card.content.template)
            }
            _ => false,
        };
        if round.iter().any(strays) {
            return Ok(None);
        }
        let judge = |order| one(app, workspace, order, &designs, working.get(&order.id), now);
        let outcomes: Vec<_> = match round {
            [order] => vec![judge(order)],
            _ => round.par_iter().map(judge).collect(),
        };
        for (order, outcome) in round.iter().zip(outcomes) {
            each.push(match outcome {
                Ok((next, done)) => {
                    let revision = next.card.revision;
                    let before = working.get(&order.id).map(|before| &before.card.content);
                    told.extend(event_of(app, &order.id, before, &next.card, done)?);
                    working.insert(order.id.clone(), next);
                    Ok((done, revision))
                }
                Err(error) => Err(error),
            });
        }
        // Others want to be served, too.
        tokio::task::yield_now().await;
    }
    if !store(tx, app, workspace, &designs, &mut working, told, now).await? {
        return Ok(None);
    }
    let cards = working
        .into_iter()
        .map(|(id, working)| {
            (id, Issued { card: working.card, publication: working.publication, fetched: working.fetched })
        })
        .collect();
    Ok(Some(Fulfilled { each, cards }))
}

/// How many of the orders may be judged side by side: as many as hold up the others on this thread for a millisecond or
/// two, and none of a card that another of them changes.
fn length_of_round(orders: &[Order<'_>]) -> usize {
    let most = 16 * rayon::current_num_threads();
    let mut ids = HashSet::new();
    orders.iter().take(most).take_while(|order| ids.insert(&order.id)).count()
}

/// What is to be told of an order that was fulfilled.
fn event_of<'o>(
    app: &App,
    id: &'o CardId,
    before: Option<&Content>,
    card: &Card,
    done: Done,
) -> Result<Option<NewEvent<'o>>, ActionError> {
    let (kind, data) = match (done, before) {
        (Done::Unchanged, _) => return Ok(None),
        (Done::Updated, Some(before)) => (EventKind::CardUpdated, what_changed(before, card)),
        (Done::Created | Done::Updated, _) => {
            let (state, template) = (card.content.state, &card.content.template);
            (EventKind::CardCreated, json!({"revision": card.revision, "state": state, "template": template}))
        }
    };
    app.event(kind, Some(id), data).map(Some)
}

/// The cards that are there, held by key.
async fn hold(tx: &mut Tx, workspace: &WorkspaceId, ids: &[&CardId]) -> Result<BTreeMap<CardId, Working>, ActionError> {
    let held = cards::lock_many(tx, workspace, ids).await?;
    Ok(held
        .into_iter()
        .map(|Issued { card, publication, fetched }| {
            let stored = Some(card.clone());
            let working =
                Working { card, publication, fetched, stored, written: false, changed: false, new_face: false };
            (working.card.id.clone(), working)
        })
        .collect())
}

/// Judges one order.
fn one(
    app: &App,
    workspace: &WorkspaceId,
    order: &Order<'_>,
    designs: &Designs,
    known: Option<&Working>,
    now: Timestamp,
) -> Result<(Working, Done), ActionError> {
    let mut problems = order.problems.clone();
    let template = match (&order.wish, known) {
        (Wish::Put(document), _) => &document.template,
        (Wish::Patch(_), None) => return Err(ActionError::NotFound("card")),
        (Wish::Patch(patch), Some(known)) => patch.template.as_ref().unwrap_or(&known.card.content.template),
    };
    let design = designs.get(template).unwrap_or(&Design::Unknown);
    let published = match design {
        Design::Unknown => {
            problems.add("/template", "is not a template of this workspace");
            return Err(ActionError::Invalid(problems));
        }
        Design::Unpublished if problems.is_empty() => return Err(ActionError::NotPublished),
        Design::NoIssuer(None) if problems.is_empty() => return Err(ActionError::IssuerMissing),
        Design::Unpublished | Design::NoIssuer(None) => return Err(ActionError::Invalid(problems)),
        Design::NoIssuer(Some(published)) => published,
        Design::Published(desk) => &desk.published,
    };
    let declared = &published.template.attributes;
    let (mut content, sequence) = match (&order.wish, known) {
        (Wish::Put(document), _) => (document.content(declared, &mut problems), document.sequence),
        (Wish::Patch(patch), Some(known)) => {
            (patch.apply(&known.card.content, declared, &mut problems, now), patch.sequence)
        }
        (Wish::Patch(_), None) => return Err(ActionError::NotFound("card")),
    };
    // What is wrong with an order is told before what the workspace lacks.
    if !problems.is_empty() {
        return Err(ActionError::Invalid(problems));
    }
    let Design::Published(desk) = design else { return Err(ActionError::IssuerMissing) };
    order.if_match.check(known.map(|known| &known.card))?;
    // A card whose end has passed is expired, as the job that looks for them would say a moment later.
    if content.state == State::Active && content.expires_at.is_some_and(|end| end <= now) {
        content.state = State::Expired;
    }
    let Some(known) = known else {
        return Ok((issue(app, workspace, &order.id, desk, content, sequence, now)?, Done::Created));
    };
    let judged = judge(app, desk, &known.card, known.is_waiting(), content, sequence)?;
    let (card, changed, new_face) = match judged {
        Judged::Unchanged(card) => (card, false, false),
        Judged::SameFace(card) => (card, true, false),
        Judged::NewFace(card) => (card, true, true),
    };
    let said_aloud = card.content != known.card.content;
    let next = Working {
        card,
        publication: known.publication.clone(),
        stored: known.stored.clone(),
        fetched: known.fetched,
        written: known.written || changed || said_aloud || sequence.is_some(),
        changed: known.changed || changed,
        new_face: known.new_face || new_face,
    };
    Ok((next, if changed { Done::Updated } else { Done::Unchanged }))
}

fn issue(
    app: &App,
    workspace: &WorkspaceId,
    id: &CardId,
    desk: &Desk,
    content: Content,
    sequence: Option<i64>,
    now: Timestamp,
) -> Result<Working, ActionError> {
    let card = Card {
        workspace: workspace.clone(),
        id: id.clone(),
        serial: random::serial_number(&*app.random, now)?,
        pass_type: desk.issuer.identity.pass_type.clone(),
        expired_at: (content.state == State::Expired).then_some(now),
        content,
        sequence,
        revision: 1,
        position: 0,
        modified: 0,
        page_generation: 1,
        live_message: None,
        created_at: now,
        updated_at: now,
    };
    desk.check(app, &card)?;
    // Replaced by the newest once the counter is held.
    let publication = Publication { version: desk.published.version, position: 0, modified: 0 };
    Ok(Working { card, publication, fetched: None, stored: None, written: true, changed: true, new_face: true })
}

/// Writes what differs and commits; false when it must be judged anew.
async fn store(
    mut tx: Tx,
    app: &App,
    workspace: &WorkspaceId,
    designs: &Designs,
    working: &mut BTreeMap<CardId, Working>,
    told: Vec<NewEvent<'_>>,
    now: Timestamp,
) -> Result<bool, ActionError> {
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
            .flat_map(|card| card.stored.iter().chain([&card.card]))
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
        events::record(&mut tx, workspace, position, at, &told).await?;
    }
    let written: Vec<&Card> = working.values().filter(|card| card.written).map(|card| &card.card).collect();
    cards::update_many(&mut tx, workspace, &written).await?;
    crash::point("before-change-commit");
    tx.commit().await?;
    crash::point("after-change-commit");
    app.wake.notify_one();
    Ok(true)
}
