//! What becomes of cards when orders are carried out one after the other. Everything that is needed lies in memory, so that
//! many cards can be judged side by side, off the threads that serve, and before anybody holds them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use rayon::prelude::*;
use serde_json::{Value, json};

use crate::actions::cards::card_change::{Planned, RenderContext, plan_card, what_changed};
use crate::actions::cards::command::{CardCommand, Request};
use crate::actions::error::ActionError;
use crate::actions::templates::published::Published;
use crate::actions::templates::unchanged::pin;
use crate::domain::cards::message::Message;
use crate::domain::cards::{Card, Content, Publication, State};
use crate::domain::event::EventKind;
use crate::domain::ids::{CardId, TemplateId, WorkspaceId};
use crate::domain::time::Timestamp;
use crate::platform::random::{self, Random};
use crate::platform::workers::Workers;
use crate::store::cards::{Fetch, Held, Issued, Unchanged};

/// What there is to draw cards of a template with.
#[derive(Debug)]
pub enum Design {
    /// There is no such template.
    Unknown,
    /// It was never published.
    Unpublished,
    /// Its newest version, and who signs.
    Published(RenderContext),
    /// Nobody signs, whether it was ever published or not.
    NoIssuer(Option<Arc<Published>>),
}

/// Designs by template.
pub type Designs = HashMap<TemplateId, Design>;

/// What came of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteOutcome {
    /// The card was issued.
    Created,
    /// It has a new revision.
    Updated,
    /// Nothing differed.
    Unchanged,
}

/// A card as the orders so far left it.
#[derive(Debug)]
pub struct Working {
    /// As it is to be.
    pub card: Card,
    /// Its template's newest publication.
    pub publication: Publication,
    /// What phones have of it.
    pub fetched: Option<Fetch>,
    /// What was found when a publishing was looked at.
    pub unchanged: Option<Unchanged>,
    /// Whether it is known what the newest publishing changed of it.
    pub is_looked_at: bool,
    /// As it is stored; `None` for a new one.
    pub stored: Option<Arc<Card>>,
    /// Whether its row differs.
    pub written: bool,
    /// Whether it has a new revision.
    pub changed: bool,
    /// Whether it shows something new.
    pub new_face: bool,
}

impl Working {
    /// As it is before the first order.
    fn before(issued: Issued) -> Self {
        let stored = Some(Arc::new(issued.card.clone()));
        let is_looked_at = issued.is_looked_at();
        let Issued { card, publication, fetched, unchanged } = issued;
        Self {
            card,
            publication,
            fetched,
            unchanged,
            is_looked_at,
            stored,
            written: false,
            changed: false,
            new_face: false,
        }
    }

    /// Whether no phone has fetched its live message yet.
    fn is_waiting(&self) -> bool {
        self.new_face || self.fetched.is_none_or(|fetch| fetch.face < self.card.position)
    }
}

/// What is to be told of an order.
#[derive(Debug)]
pub struct Told {
    /// The order's place among the others.
    pub command: usize,
    /// What happened.
    pub kind: EventKind,
    /// The rest of what there is to say.
    pub data: Value,
}

/// What becomes of the cards.
#[derive(Debug)]
pub struct ChangePlan {
    /// All that are named and are there, or are to be.
    pub cards: BTreeMap<CardId, Working>,
    /// For each order in turn, what came of it and the card's revision then.
    pub each: Vec<Result<(WriteOutcome, i64), ActionError>>,
    /// In the order in which it happened.
    pub told: Vec<Told>,
}

impl ChangePlan {
    /// The cards that are no longer as they were when this was found. `held` are all that are there now of those that were
    /// named.
    pub fn changed_since(&self, held: &[Held]) -> BTreeSet<CardId> {
        let stored = |id: &CardId| self.cards.get(id).and_then(|then| then.stored.as_deref().map(|card| (card, then)));
        let same = |now: &Held| stored(&now.id).is_some_and(|(card, then)| now.is(card, then.fetched));
        let there: HashSet<&CardId> = held.iter().map(|now| &now.id).collect();
        let differ = held.iter().filter(|now| !same(now)).map(|now| &now.id);
        let gone = self.cards.keys().filter(|id| stored(id).is_some() && !there.contains(id));
        differ.chain(gone).cloned().collect()
    }

    /// Puts what was found anew for some cards in the place of what was found before. `places` are those of all orders for
    /// these cards, in ascending order.
    pub fn replace(&mut self, cards: &BTreeSet<CardId>, places: &[usize], newer: Self) {
        self.cards.retain(|id, _| !cards.contains(id));
        self.cards.extend(newer.cards);
        self.told.retain(|told| places.binary_search(&told.command).is_err());
        let place = |told: Told| Some(Told { command: *places.get(told.command)?, ..told });
        self.told.extend(newer.told.into_iter().filter_map(place));
        self.told.sort_by_key(|told| told.command);
        for (place, outcome) in places.iter().zip(newer.each) {
            if let Some(each) = self.each.get_mut(*place) {
                *each = outcome;
            }
        }
    }

    /// Leaves some cards as they are, whose orders stand at `places`: each of these fails, and may be sent again.
    pub fn give_up(&mut self, cards: &BTreeSet<CardId>, places: &[usize]) {
        let each = places.iter().map(|_| Err(ActionError::Busy)).collect();
        self.replace(cards, places, Self { cards: BTreeMap::new(), each, told: Vec::new() });
    }

    fn take(&mut self, command: &CardCommand, outcome: Result<(Working, WriteOutcome), ActionError>) {
        let place = self.each.len();
        self.each.push(outcome.map(|(next, done)| {
            let revision = next.card.revision;
            let before = self.cards.get(&command.id).map(|before| &before.card);
            if let Some((kind, data)) = event_of(before, &next.card, done) {
                self.told.push(Told { command: place, kind, data });
            }
            self.cards.insert(command.id.clone(), next);
            (done, revision)
        }));
    }
}

/// Judges the orders of one workspace.
#[derive(Debug)]
pub struct Planner {
    /// Whose cards they are.
    pub workspace: WorkspaceId,
    /// Those of all templates that the orders and their cards name.
    pub designs: Designs,
    /// For new cards' serial numbers.
    pub random: Arc<dyn Random>,
    /// Who judges.
    pub workers: Workers,
}

impl Planner {
    /// Lays the orders over the cards as they are. `None` when a patch is for a card whose design isn't at hand.
    pub fn all(&self, commands: &[&CardCommand], cards: Vec<Issued>, now: Timestamp) -> Option<ChangePlan> {
        let cards = cards.into_iter().map(|issued| (issued.card.id.clone(), Working::before(issued))).collect();
        let mut plan = ChangePlan { cards, each: Vec::with_capacity(commands.len()), told: Vec::new() };
        let mut rest = commands;
        while !rest.is_empty() {
            let (round, later) = rest.split_at(length_of_round(rest));
            rest = later;
            if round.iter().any(|command| self.lacks_design(command, plan.cards.get(&command.id))) {
                return None;
            }
            let one = |command: &&CardCommand| self.one(command, plan.cards.get(&command.id), now);
            let outcomes: Vec<_> = match round {
                [command] => vec![one(command)],
                _ => round.par_iter().map(one).collect(),
            };
            for (command, outcome) in round.iter().zip(outcomes) {
                plan.take(command, outcome);
            }
        }
        Some(plan)
    }

    fn lacks_design(&self, command: &CardCommand, known: Option<&Working>) -> bool {
        let needed = known.filter(|_| command.template().is_none()).map(|known| &known.card.content.template);
        needed.is_some_and(|template| !self.designs.contains_key(template))
    }

    fn one(
        &self,
        command: &CardCommand,
        known: Option<&Working>,
        now: Timestamp,
    ) -> Result<(Working, WriteOutcome), ActionError> {
        let mut problems = command.problems.clone();
        let template = match (&command.request, known) {
            (Request::Put(document), _) => &document.template,
            (Request::Patch(_), None) => return Err(ActionError::NotFound("card")),
            (Request::Patch(patch), Some(known)) => patch.template.as_ref().unwrap_or(&known.card.content.template),
        };
        let design = self.designs.get(template).unwrap_or(&Design::Unknown);
        let published = match design {
            Design::Unknown => {
                problems.add("/template", "is not a template of this workspace");
                return Err(ActionError::Invalid(problems));
            }
            Design::Unpublished if problems.is_empty() => return Err(ActionError::NotPublished),
            Design::NoIssuer(None) if problems.is_empty() => return Err(ActionError::IssuerMissing),
            Design::Unpublished | Design::NoIssuer(None) => return Err(ActionError::Invalid(problems)),
            Design::NoIssuer(Some(published)) => published,
            Design::Published(context) => &context.published,
        };
        let declared = &published.template.attributes;
        let (mut content, sequence) = match (&command.request, known) {
            (Request::Put(document), _) => (document.content(declared, &mut problems), document.sequence),
            (Request::Patch(patch), Some(known)) => {
                (patch.apply(&known.card, declared, &mut problems, now), patch.sequence)
            }
            (Request::Patch(_), None) => return Err(ActionError::NotFound("card")),
        };
        if let Some(message) = command.message() {
            message.check(&published.template, &mut problems);
        }
        // What is wrong with an order is told before what the workspace lacks.
        if !problems.is_empty() {
            return Err(ActionError::Invalid(problems));
        }
        let Design::Published(context) = design else { return Err(ActionError::IssuerMissing) };
        command.if_match.check(known.map(|known| &known.card))?;
        // A card whose end has passed is expired, as the job that looks for them would say a moment later.
        if content.state == State::Active && content.expires_at.is_some_and(|end| end <= now) {
            content.state = State::Expired;
        }
        let Some(known) = known else {
            return Ok((self.issue(command, context, content, sequence, now)?, WriteOutcome::Created));
        };
        let judged = plan_card(context, &known.card, known.is_waiting(), (content, command.message()), sequence, now)?;
        let (mut card, changed, new_face) = match judged {
            Planned::Unchanged(card) => (card, false, false),
            Planned::SameFace(card) => (card, true, false),
            Planned::NewFace(card) => (card, true, true),
        };
        if card.content != known.card.content && !new_face {
            pin(&mut card, &known.publication, known.is_looked_at || known.new_face);
        }
        let said_aloud = card.content != known.card.content || card.sequence != known.card.sequence;
        let next = Working {
            card,
            publication: known.publication.clone(),
            stored: known.stored.clone(),
            fetched: known.fetched,
            unchanged: known.unchanged,
            is_looked_at: known.is_looked_at,
            written: known.written || changed || said_aloud,
            changed: known.changed || changed,
            new_face: known.new_face || new_face,
        };
        Ok((next, if changed { WriteOutcome::Updated } else { WriteOutcome::Unchanged }))
    }

    fn issue(
        &self,
        command: &CardCommand,
        context: &RenderContext,
        content: Content,
        sequence: Option<i64>,
        now: Timestamp,
    ) -> Result<Working, ActionError> {
        let card = Card {
            workspace: self.workspace.clone(),
            id: command.id.clone(),
            serial: random::serial_number(&*self.random, now)?,
            pass_type: context.issuer.identity.pass_type.clone(),
            expired_at: (content.state == State::Expired).then_some(now),
            content,
            sequence,
            revision: 1,
            position: 0,
            modified: 0,
            page_generation: 1,
            live_message: None,
            message: command.message().and_then(Message::text).cloned(),
            created_at: now,
            updated_at: now,
        };
        context.check(&card, now)?;
        // Replaced by the newest once the counter is held.
        let publication = Publication { version: context.published.version, position: 0, modified: 0 };
        Ok(Working {
            card,
            publication,
            fetched: None,
            unchanged: None,
            is_looked_at: true,
            stored: None,
            written: true,
            changed: true,
            new_face: true,
        })
    }
}

/// How many of the orders may be judged side by side: none is for a card that another of them changes.
fn length_of_round(commands: &[&CardCommand]) -> usize {
    let mut ids = HashSet::with_capacity(commands.len());
    commands.iter().take_while(|command| ids.insert(&command.id)).count()
}

/// What is to be told of an order that was carried out.
fn event_of(before: Option<&Card>, card: &Card, done: WriteOutcome) -> Option<(EventKind, Value)> {
    match (done, before) {
        (WriteOutcome::Unchanged, _) => None,
        (WriteOutcome::Updated, Some(before)) => Some((EventKind::CardUpdated, what_changed(before, card))),
        (WriteOutcome::Created | WriteOutcome::Updated, _) => {
            let (state, template) = (card.content.state, &card.content.template);
            let data = json!({"revision": card.revision, "state": state, "template": template});
            Some((EventKind::CardCreated, data))
        }
    }
}
