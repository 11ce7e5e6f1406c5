//! Plans the changes to cards that commands make, carried out one after the other. All input is in memory, so that many
//! cards can be planned in parallel, off the threads that serve, and before any card is locked.

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
use crate::store::cards::{Held, Issued, Unchanged};
use crate::store::passes::{PassRecord, newest_fetch};

/// The design with which cards of a template are rendered.
#[derive(Debug)]
pub enum Design {
    /// There is no such template.
    Unknown,
    /// It was never published.
    Unpublished,
    /// Its newest version, and the issuers.
    Published(RenderContext),
    /// The workspace has no issuer, whether the template was ever published or not.
    NoIssuer(Option<Arc<Published>>),
}

/// Designs by template.
pub type Designs = HashMap<TemplateId, Design>;

/// The outcome of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteOutcome {
    /// The card was issued.
    Created,
    /// It has a new revision.
    Updated,
    /// Nothing differed.
    Unchanged,
}

/// A card after the commands so far.
#[derive(Debug)]
pub struct Working {
    /// The card as it will be.
    pub card: Card,
    /// Its template's newest publication.
    pub publication: Publication,
    /// Its passes.
    pub passes: Vec<PassRecord>,
    /// What an earlier comparison found that a publishing left unchanged.
    pub unchanged: Option<Unchanged>,
    /// Whether the newest publishing's effect on it is known.
    pub is_looked_at: bool,
    /// The card as stored; `None` for a new one.
    pub stored: Option<Arc<Card>>,
    /// Whether its row differs.
    pub written: bool,
    /// Whether it has a new revision.
    pub changed: bool,
    /// Whether it shows something new.
    pub new_face: bool,
}

impl Working {
    /// Returns the card as it is before the first command.
    fn before(issued: Issued) -> Self {
        let stored = Some(Arc::new(issued.card.clone()));
        let is_looked_at = issued.is_looked_at();
        let Issued { card, publication, passes, unchanged } = issued;
        Self {
            card,
            publication,
            passes,
            unchanged,
            is_looked_at,
            stored,
            written: false,
            changed: false,
            new_face: false,
        }
    }

    /// Whether a wallet that shows the card hasn't got its live message yet.
    fn is_waiting(&self) -> bool {
        let mut shown = self.passes.iter().filter_map(|pass| pass.fetched).peekable();
        self.new_face || shown.peek().is_none() || shown.any(|fetch| fetch.face < self.card.position)
    }
}

/// An event to record for a command.
#[derive(Debug)]
pub struct Told {
    /// The command's index in the batch.
    pub command: usize,
    /// The kind of event.
    pub kind: EventKind,
    /// Its further data.
    pub data: Value,
}

/// The planned changes to the cards of a batch.
#[derive(Debug)]
pub struct ChangePlan {
    /// All cards that are named and exist, or will.
    pub cards: BTreeMap<CardId, Working>,
    /// For each command in turn, its outcome and the card's revision then.
    pub each: Vec<Result<(WriteOutcome, i64), ActionError>>,
    /// The events, in the order of the commands.
    pub told: Vec<Told>,
}

impl ChangePlan {
    /// Returns the cards that changed since the plan was made. `held` are the named cards that exist now.
    pub fn changed_since(&self, held: &[Held]) -> BTreeSet<CardId> {
        let stored = |id: &CardId| self.cards.get(id).and_then(|then| then.stored.as_deref().map(|card| (card, then)));
        let same = |now: &Held| stored(&now.id).is_some_and(|(card, then)| now.is(card, newest_fetch(&then.passes)));
        let there: HashSet<&CardId> = held.iter().map(|now| &now.id).collect();
        let differ = held.iter().filter(|now| !same(now)).map(|now| &now.id);
        let gone = self.cards.keys().filter(|id| stored(id).is_some() && !there.contains(id));
        differ.chain(gone).cloned().collect()
    }

    /// Replaces the plan for some cards by a newer one. `places` are the indexes of all commands for these cards, in
    /// ascending order.
    pub fn replace(&mut self, cards: &BTreeSet<CardId>, places: &[usize], newer: Self) {
        self.cards.retain(|id, _| !cards.contains(id));
        self.cards.extend(newer.cards);
        self.told.retain(|event| places.binary_search(&event.command).is_err());
        let place = |event: Told| Some(Told { command: *places.get(event.command)?, ..event });
        self.told.extend(newer.told.into_iter().filter_map(place));
        self.told.sort_by_key(|event| event.command);
        for (place, outcome) in places.iter().zip(newer.each) {
            if let Some(each) = self.each.get_mut(*place) {
                *each = outcome;
            }
        }
    }

    /// Leaves some cards as they are; the commands for them, at the indexes `places`, fail and may be sent again.
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

/// Plans the commands of one workspace.
#[derive(Debug)]
pub struct Planner {
    /// The workspace of the cards.
    pub workspace: WorkspaceId,
    /// The designs of all templates that the commands and their cards name.
    pub designs: Designs,
    /// The source of new cards' serial numbers.
    pub random: Arc<dyn Random>,
    /// The workers that plan.
    pub workers: Workers,
}

impl Planner {
    /// Applies the commands to the cards as they are. `None` when a patch is for a card whose design wasn't loaded.
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
        // Problems of the command come before what the workspace lacks.
        if !problems.is_empty() {
            return Err(ActionError::Invalid(problems));
        }
        let Design::Published(context) = design else { return Err(ActionError::IssuerMissing) };
        command.if_match.check(known.map(|known| &known.card))?;
        // A card whose end has passed is expired at once, as the expiry job would do a moment later.
        if content.state == State::Active && content.expires_at.is_some_and(|end| end <= now) {
            content.state = State::Expired;
        }
        let Some(known) = known else {
            return Ok((self.issue(command, context, content, sequence, now)?, WriteOutcome::Created));
        };
        let planned = plan_card(context, &known.card, known.is_waiting(), (content, command.message()), sequence, now)?;
        let (mut card, changed, new_face) = match planned {
            Planned::Unchanged(card) => (card, false, false),
            Planned::SameFace(card) => (card, true, false),
            Planned::NewFace(card) => (card, true, true),
        };
        if card.content != known.card.content && !new_face {
            pin(&mut card, &known.publication, known.is_looked_at || known.new_face);
        }
        let row_differs = card.content != known.card.content || card.sequence != known.card.sequence;
        let next = Working {
            card,
            publication: known.publication.clone(),
            stored: known.stored.clone(),
            passes: known.passes.clone(),
            unchanged: known.unchanged,
            is_looked_at: known.is_looked_at,
            written: known.written || changed || row_differs,
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
        let passes = context.new_passes(&card.serial);
        Ok(Working {
            card,
            publication,
            passes,
            unchanged: None,
            is_looked_at: true,
            stored: None,
            written: true,
            changed: true,
            new_face: true,
        })
    }
}

/// Returns how many of the commands can be planned in parallel: those before the first that is for the same card as an
/// earlier one.
fn length_of_round(commands: &[&CardCommand]) -> usize {
    let mut ids = HashSet::with_capacity(commands.len());
    commands.iter().take_while(|command| ids.insert(&command.id)).count()
}

/// Returns the event to record for a command that was carried out.
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
