//! What issuing and changing a card have in common: rendering it, comparing faces, taking its place in the order of
//! commits, and marking the devices that must be told.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use super::error::ActionError;
use super::published::Published;
use crate::app::App;
use crate::domain::card::{Card, Content, State};
use crate::domain::change::live_message;
use crate::domain::event::EventKind;
use crate::domain::ids::{FieldKey, TemplateId, WorkspaceId};
use crate::domain::input::Problems;
use crate::domain::render::{RenderedCard, render};
use crate::domain::retry::WINDOW;
use crate::domain::template::Template;
use crate::domain::time::Timestamp;
use crate::issuers::AppleIssuer;
use crate::outside::secrets::WorkspaceSecret;
use crate::store::cards::{self, Issued};
use crate::store::{Tx, devices, events, templates, workspaces};
use crate::wallets::apple::pass_json::{PassIdentity, PassJson, pass_json};

/// What a card is rendered with.
#[derive(Debug, Clone)]
pub struct Desk {
    /// The template's newest published version.
    pub published: Arc<Published>,
    /// Who signs.
    pub issuer: Arc<AppleIssuer>,
    /// From which the card's tokens are derived.
    pub secret: WorkspaceSecret,
}

/// The newest published version of a template that a card document names; `problems` are those found so far, which are
/// told together with an unknown template and before one that was never published.
///
/// # Errors
/// A problem at `/template` when it is unknown, [`ActionError::NotPublished`] when it was never published.
pub async fn published_for_card(
    app: &App,
    workspace: &WorkspaceId,
    template: &TemplateId,
    problems: &Problems,
) -> Result<Arc<Published>, ActionError> {
    let row = templates::find(&mut app.store.read().await?, workspace, template).await?;
    let Some(row) = row else {
        let mut problems = problems.clone();
        problems.add("/template", "is not a template of this workspace");
        return Err(ActionError::Invalid(problems));
    };
    match row.publication() {
        Some(publication) => app.published(workspace, template, publication.version).await,
        // Who can't sign can't publish either: that is what has to be mended first.
        None if problems.is_empty() && app.find_apple_issuer(workspace).await?.is_none() => {
            Err(ActionError::IssuerMissing)
        }
        None if problems.is_empty() => Err(ActionError::NotPublished),
        None => Err(ActionError::Invalid(problems.clone())),
    }
}

impl Desk {
    /// Gathers what a card of that pass type needs.
    ///
    /// # Errors
    /// [`ActionError::IssuerMissing`] when the workspace can't sign.
    pub async fn open(app: &App, workspace: &WorkspaceId, published: Arc<Published>) -> Result<Self, ActionError> {
        let issuer = app.find_apple_issuer(workspace).await?.ok_or(ActionError::IssuerMissing)?;
        let secret = app.secret(workspace).await?;
        Ok(Self { published, issuer, secret })
    }

    fn render<'t>(&self, template: &'t Template, card: &Card, page_base: &str) -> Result<RenderedCard<'t>, Problems> {
        let token = self.secret.page_token(&card.serial, card.page_generation);
        render(template, card, &format!("{page_base}/c/{}", token.as_str()))
    }

    /// The card's pass.json, to compare faces and to check what its values break.
    fn pass_json(&self, rendered: &RenderedCard<'_>, card: &Card, app: &App) -> PassJson {
        let identity = PassIdentity {
            serial: &card.serial,
            pass_type: &card.pass_type,
            team: &self.issuer.identity.team,
            auth_token: &self.secret.auth_token(&card.serial),
            web_service_url: &format!("{}/apple", app.public_url),
        };
        pass_json(rendered, &identity)
    }

    /// Renders a card as it will be and checks it as a phone would.
    ///
    /// # Errors
    /// Problems at the attributes whose values break a rule.
    pub fn check(&self, app: &App, card: &Card) -> Result<(), ActionError> {
        let template = &self.published.template;
        let rendered = self.render(template, card, &app.public_url)?;
        let json = self.pass_json(&rendered, card, app);
        let problems = super::check_template::problems_of_values(template, &json.json, app.now());
        if problems.is_empty() { Ok(()) } else { Err(ActionError::Invalid(problems)) }
    }
}

/// What came of laying a new content over a card.
#[derive(Debug)]
pub enum Changed {
    /// The card has a new revision.
    Updated(Issued),
    /// Nothing differs.
    Unchanged(Issued),
    /// Nothing was written: the template was published meanwhile, and the change must be judged anew.
    Outdated,
}

/// Writes `content` over a locked card. Devices are marked only when the face differs: a value that the card doesn't
/// show is stored without a push.
///
/// # Errors
/// When values break a rule, or the change is stale.
pub async fn change(
    app: &App,
    tx: &mut Tx,
    desk: &Desk,
    before: Issued,
    content: Content,
    sequence: Option<i64>,
) -> Result<Changed, ActionError> {
    if let (Some(given), Some(stored)) = (sequence, before.card.sequence)
        && given <= stored
    {
        return Err(ActionError::Stale { stored });
    }
    let now = app.now();
    let position;
    let mut card = before.card.clone();
    card.sequence = sequence.or(card.sequence);
    if content == before.card.content {
        if sequence.is_some() {
            cards::set_sequence(tx, &card).await?;
        }
        return Ok(Changed::Unchanged(Issued { card, ..before }));
    }
    card.expired_at = expired_at(&before.card, content.state, now);
    card.content = content;
    card.revision += 1;
    match face_of(app, tx, desk, &before, &card).await? {
        Face::Same => {
            desk.check(app, &card)?;
            // Under a design published meanwhile the change may well be seen. Publishing needs the counter, too: whoever
            // has it knows which version is the newest until he commits.
            (position, card.updated_at) = workspaces::take_place(tx, &card.workspace, now).await?;
            let newest = templates::publication(tx, &card.workspace, &card.content.template).await?;
            if newest.is_none_or(|newest| newest.version != desk.published.version) {
                return Ok(Changed::Outdated);
            }
        }
        Face::New(message) => {
            card.live_message = message;
            // A message that this card's values break is left out; it never keeps a card from changing.
            if card.live_message.is_some() && desk.check(app, &card).is_err() {
                card.live_message = None;
            }
            desk.check(app, &card)?;
            devices::mark(tx, &card.workspace, &card.id, now, WINDOW).await?;
            take_place(tx, &mut card, Some(&before.card.content.template), now).await?;
            position = card.position;
        }
    }
    cards::update(tx, &card).await?;
    let event = app.event(EventKind::CardUpdated, Some(&card.id), what_changed(&before.card.content, &card))?;
    events::record(tx, &card.workspace, position, card.updated_at, &[event]).await?;
    let publication = templates::publication(tx, &card.workspace, &card.content.template).await?;
    let publication = publication.ok_or(ActionError::NotPublished)?;
    Ok(Changed::Updated(Issued { card, publication }))
}

/// The names of what differs: attributes by their own, the card's other members by theirs. Never a value.
fn what_changed(before: &Content, card: &Card) -> Value {
    let after = &card.content;
    let names: BTreeSet<&String> = before.attributes.keys().chain(after.attributes.keys()).collect();
    let attributes: Vec<&String> =
        names.into_iter().filter(|name| before.attributes.get(*name) != after.attributes.get(*name)).collect();
    let members = [
        ("template", before.template != after.template),
        ("locale", before.locale != after.locale),
        ("state", before.state != after.state),
        ("expires_at", before.expires_at != after.expires_at),
    ];
    let members: Vec<&str> = members.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect();
    json!({"revision": card.revision, "state": after.state, "attributes": attributes, "members": members})
}

/// What a change does to what phones show.
enum Face {
    /// Nothing.
    Same,
    /// Something, with the field whose message is live.
    New(Option<FieldKey>),
}

async fn face_of(app: &App, tx: &mut Tx, desk: &Desk, before: &Issued, after: &Card) -> Result<Face, ActionError> {
    let template = &desk.published.template;
    let rendered = desk.render(template, after, &app.public_url)?;
    // The old values are rendered with the new design: only what the backend changed counts as a change.
    let Ok(old) = desk.render(template, &before.card, &app.public_url) else {
        return Ok(Face::New(None));
    };
    let same_template = before.card.content.template == after.content.template;
    let (old_json, new_json) = (desk.pass_json(&old, &before.card, app), desk.pass_json(&rendered, after, app));
    let same_pass = old_json.json == new_json.json && old_json.own_entries == new_json.own_entries;
    // The tier chooses pictures, which stand in no JSON.
    if same_template && same_pass && old.tier == rendered.tier {
        return Ok(Face::Same);
    }
    let waiting = match &before.card.live_message {
        Some(field) if cards::fetched(tx, &before.card).await? < before.card.position => Some(field),
        _ => None,
    };
    Ok(Face::New(live_message(template, &old, &rendered, waiting)))
}

fn expired_at(before: &Card, state: State, now: Timestamp) -> Option<Timestamp> {
    match (before.content.state, state) {
        (State::Expired, State::Expired) => before.expired_at,
        (_, State::Expired) => Some(now),
        _ => None,
    }
}

/// Gives a card the next place in the order of commits and a `Last-Modified` later than any that phones were given for
/// it, under this template or the one it had before. The counter is taken last, and the publications are read after it,
/// so that neither can be overtaken unseen.
pub(super) async fn take_place(
    tx: &mut Tx,
    card: &mut Card,
    left: Option<&TemplateId>,
    now: Timestamp,
) -> Result<(), ActionError> {
    (card.position, card.updated_at) = workspaces::take_place(tx, &card.workspace, now).await?;
    card.modified = now.seconds().max(card.modified + 1);
    for template in std::iter::once(&card.content.template).chain(left) {
        if let Some(publication) = templates::publication(tx, &card.workspace, template).await? {
            card.modified = card.modified.max(publication.modified + 1);
        }
    }
    Ok(())
}

/// Adds a new card; `None` when another request added one of that id first.
///
/// # Errors
/// When values break a rule.
pub async fn issue(app: &App, tx: &mut Tx, desk: &Desk, mut card: Card) -> Result<Option<Issued>, ActionError> {
    desk.check(app, &card)?;
    let token = desk.secret.page_token(&card.serial, card.page_generation);
    let hash = crate::outside::secrets::fingerprint(token.as_str());
    if !cards::insert(tx, &card, &hash).await? {
        return Ok(None);
    }
    let now = card.created_at;
    take_place(tx, &mut card, None, now).await?;
    card.created_at = card.updated_at;
    cards::place(tx, &card).await?;
    let content = &card.content;
    let data = json!({"revision": card.revision, "state": content.state, "template": content.template});
    let event = app.event(EventKind::CardCreated, Some(&card.id), data)?;
    events::record(tx, &card.workspace, card.position, card.updated_at, &[event]).await?;
    let publication = templates::publication(tx, &card.workspace, &card.content.template).await?;
    let publication = publication.ok_or(ActionError::NotPublished)?;
    Ok(Some(Issued { card, publication }))
}
