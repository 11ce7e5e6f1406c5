//! What a change is to a card: rendering it as it was and as it will be, checking it, comparing the faces. Nothing here
//! touches the database.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::actions::error::ActionError;
use crate::actions::templates::check_template::problems_of_values;
use crate::actions::templates::published::Published;
use crate::domain::cards::change::live_messages;
use crate::domain::cards::message::{Message, message_key};
use crate::domain::cards::{Card, Content, Publication, State};
use crate::domain::input::Problems;
use crate::domain::render::{RenderedCard, render};
use crate::domain::templates::picture::PictureName;
use crate::domain::time::Timestamp;
use crate::platform::secrets::WorkspaceSecret;
use crate::wallets::apple::package::pass_json::{PassIdentity, PassJson, pass_json};
use crate::wallets::issuers::AppleIssuer;

/// How many messages are tried before a change is told without one: each costs a pass.
const MOST_MESSAGES: usize = 3;

/// What a card is rendered with.
#[derive(Debug, Clone)]
pub struct RenderContext {
    /// The template's newest published version.
    pub published: Arc<Published>,
    /// Who signs.
    pub issuer: Arc<AppleIssuer>,
    /// From which the card's tokens are derived.
    pub secret: WorkspaceSecret,
    /// What customers and phones reach, without a slash at the end.
    pub public_url: String,
}

impl RenderContext {
    fn render(&self, card: &Card) -> Result<RenderedCard<'_>, Problems> {
        let token = self.secret.page_token(&card.serial, card.page_generation);
        render(&self.published.template, card, &format!("{}/c/{}", self.public_url, token.as_str()))
    }

    /// The card's pass.json, to compare faces and to check what its values break.
    fn pass_json(&self, rendered: &RenderedCard<'_>, card: &Card) -> PassJson {
        let identity = PassIdentity {
            serial: &card.serial,
            pass_type: &card.pass_type,
            team: &self.issuer.identity.team,
            auth_token: &self.secret.auth_token(&card.serial),
            web_service_url: &format!("{}/apple", self.public_url),
        };
        pass_json(rendered, &identity)
    }

    /// Renders a card as it will be and checks it as a phone would.
    ///
    /// # Errors
    /// Problems at the attributes whose values break a rule.
    pub fn check(&self, card: &Card, now: Timestamp) -> Result<(), ActionError> {
        let rendered = self.render(card)?;
        self.check_pass(&rendered, &self.pass_json(&rendered, card), now)
    }

    fn check_pass(&self, rendered: &RenderedCard<'_>, pass: &PassJson, now: Timestamp) -> Result<(), ActionError> {
        let has_picture = |name: &PictureName| self.published.passes.has_picture(name);
        let problems = problems_of_values(rendered, &pass.json, &has_picture, now);
        if problems.is_empty() { Ok(()) } else { Err(ActionError::Invalid(problems)) }
    }
}

/// What a new content is to a card.
#[derive(Debug)]
pub enum Planned {
    /// Nothing differs, but for the sequence and for defaults that were said aloud.
    Unchanged(Card),
    /// The card has a new revision, but shows what it showed: a push would bring nothing.
    SameFace(Card),
    /// The card shows something new.
    NewFace(Card),
}

/// Lays `content` over a card, to be announced as `message` says. `waiting` says that no phone has fetched its live message
/// yet. How a change is announced is no change of its own, but a new text is.
///
/// # Errors
/// When values break a rule, or the change is stale.
pub fn plan_card(
    context: &RenderContext,
    before: &Card,
    waiting: bool,
    (content, message): (Content, Option<&Message>),
    sequence: Option<i64>,
    now: Timestamp,
) -> Result<Planned, ActionError> {
    let late = sequence.zip(before.sequence).filter(|(given, stored)| given <= stored);
    if let Some((given, stored)) = late
        && given < stored
    {
        return Err(ActionError::Stale { stored });
    }
    let mut card = before.clone();
    card.sequence = sequence.or(card.sequence);
    let text = message.and_then(Message::text);
    let says_more = text.is_some_and(|text| before.message.as_ref().is_none_or(|before| !before.says(text)));
    if content == before.content && !says_more {
        return Ok(Planned::Unchanged(card));
    }
    // A default said aloud changes nothing now, and is kept for when the template's default is another one.
    if !says_more && content.means(&before.content, &context.published.template) {
        card.content = content;
        return Ok(Planned::Unchanged(card));
    }
    // The same number again is a repeated request only when it changes nothing; else it is another change that came late.
    if let Some((_, stored)) = late {
        return Err(ActionError::Stale { stored });
    }
    card.expired_at = match (before.content.state, content.state) {
        (State::Expired, State::Expired) if before.is_expired_by_its_end() => {
            before.expired_at.max(content.expires_at.filter(|end| *end <= now))
        }
        (State::Expired, State::Expired) => before.expired_at,
        (_, State::Expired) => Some(now),
        _ => None,
    };
    card.content = content;
    if let Some(text) = text {
        card.message = Some(text.after(before.message.as_ref()));
    }
    card.revision += 1;
    let judged = plan_content(context, before, waiting, card.clone(), message, now);
    // A card keeps the version that its values suit when a later one asks for what it lacks or forbids what it has. It can be
    // voided and expired all the same, and while values are lacking given another end and language: its values are not what
    // the backend changes.
    let same_values = Content {
        state: before.content.state,
        locale: before.content.locale.clone(),
        expires_at: before.content.expires_at,
        ..card.content.clone()
    };
    if same_values.means(&before.content, &context.published.template)
        && matches!(judged, Err(ActionError::Invalid(_)))
        && (card.content.state != State::Active || context.render(&card).is_err())
    {
        card.live_message = text.map(|_| message_key());
        return Ok(Planned::NewFace(card));
    }
    judged
}

/// Whether a message is there to be shown; one that lacks a value isn't.
fn announces(rendered: &RenderedCard<'_>) -> bool {
    rendered.message.as_ref().is_some_and(|message| message.is_live)
        || rendered.fields.iter().flat_map(|(_, fields)| fields).any(|field| field.message.is_some())
}

/// Whether a changed card shows something new, and which message with it.
fn plan_content(
    context: &RenderContext,
    before: &Card,
    waiting: bool,
    mut card: Card,
    message: Option<&Message>,
    now: Timestamp,
) -> Result<Planned, ActionError> {
    let template = &context.published.template;
    let rendered = context.render(&card)?;
    let pass = context.pass_json(&rendered, &card);
    // The old values are rendered with the new design: only what the backend changed counts as a change.
    let messages = match context.render(before) {
        Err(_) => message.and_then(Message::text).map(|_| message_key()).into_iter().collect(),
        Ok(old) => {
            // Pictures stand in no JSON; and what differs in a field's value needs no second pass to be seen.
            let alike = before.content.template == card.content.template
                && old.look == rendered.look
                && old.values().eq(rendered.values());
            if alike && context.pass_json(&old, before) == pass {
                context.check_pass(&rendered, &pass, now)?;
                return Ok(Planned::SameFace(card));
            }
            live_messages(template, &old, &rendered, before.live_message.as_ref().filter(|_| waiting), message)
        }
    };
    // A message that lacks a value, or that this card's values break, gives way to the next; it never keeps a card from
    // changing.
    let rendered_with = card.live_message.clone();
    for message in messages.into_iter().take(MOST_MESSAGES).map(Some) {
        let announced = if message == rendered_with {
            announces(&rendered) && context.check_pass(&rendered, &pass, now).is_ok()
        } else {
            card.live_message.clone_from(&message);
            context.render(&card).is_ok_and(|rendered| {
                announces(&rendered) && context.check_pass(&rendered, &context.pass_json(&rendered, &card), now).is_ok()
            })
        };
        if announced {
            card.live_message = message;
            return Ok(Planned::NewFace(card));
        }
    }
    card.live_message = None;
    if rendered_with.is_none() {
        context.check_pass(&rendered, &pass, now)?;
    } else {
        context.check(&card, now)?;
    }
    Ok(Planned::NewFace(card))
}

/// The names of what differs: attributes by their own, the card's other members by theirs. Never a value.
pub fn what_changed(before: &Card, card: &Card) -> Value {
    let message = before.message != card.message;
    let (before, after) = (&before.content, &card.content);
    let names: BTreeSet<&String> = before.attributes.keys().chain(after.attributes.keys()).collect();
    let attributes: Vec<&String> =
        names.into_iter().filter(|name| before.attributes.get(*name) != after.attributes.get(*name)).collect();
    let members = [
        ("template", before.template != after.template),
        ("locale", before.locale != after.locale),
        ("state", before.state != after.state),
        ("expires_at", before.expires_at != after.expires_at),
        ("message", message),
    ];
    let members: Vec<&str> = members.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect();
    json!({"revision": card.revision, "state": after.state, "attributes": attributes, "members": members})
}

/// Gives a card a place in the order of commits, and a `Last-Modified` later than any that phones were given for it under
/// one of these publications: its template's, and that of a template which it leaves. They are read after the counter
/// was taken, so that none can be overtaken unseen.
pub fn put_in_place<'p>(
    card: &mut Card,
    (position, at): (i64, Timestamp),
    publications: impl IntoIterator<Item = &'p Publication>,
) {
    card.position = position;
    let newest = publications.into_iter().map(|publication| publication.modified).max().unwrap_or(0);
    card.modified = at.seconds().max(card.modified + 1).max(newest + 1);
}
