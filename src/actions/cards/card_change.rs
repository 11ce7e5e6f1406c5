//! Determines what a change does to a card: renders it before and after, checks it, compares what it shows. Nothing
//! here touches the database.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::actions::error::ActionError;
use crate::actions::templates::published::Published;
use crate::domain::cards::change::live_messages;
use crate::domain::cards::message::{Message, message_key};
use crate::domain::cards::{Card, Content, Publication, State};
use crate::domain::ids::SerialNumber;
use crate::domain::input::Problems;
use crate::domain::render::{RenderedCard, render};
use crate::domain::time::Timestamp;
use crate::platform::secrets::WorkspaceSecret;
use crate::store::passes::PassRecord;
use crate::wallets::{CardIdentity, Issuer, Prepared, WalletDocument};

/// How many messages are tried before a change is shown without one: each costs rendering a pass.
const MOST_MESSAGES: usize = 3;

/// The context in which a card is rendered.
#[derive(Debug, Clone)]
pub struct RenderContext {
    /// The template's newest published version.
    pub published: Arc<Published>,
    /// The issuers for new passes, one for each wallet that the workspace can issue in.
    pub issuers: Vec<Arc<dyn Issuer>>,
    /// The secret from which the card's tokens are derived.
    pub secret: WorkspaceSecret,
    /// The service's public address, without a slash at the end.
    pub public_url: String,
}

impl RenderContext {
    fn render(&self, card: &Card) -> Result<RenderedCard<'_>, Problems> {
        let token = self.secret.page_token(&card.serial, card.page_generation);
        render(&self.published.template, card, &format!("{}/c/{}", self.public_url, token.as_str()))
    }

    /// Returns what each wallet shows of the card, to compare faces and to check which rules its values break.
    fn documents(&self, rendered: &RenderedCard<'_>, card: &Card) -> Vec<WalletDocument> {
        let auth_token = self.secret.auth_token(&card.serial);
        let document = |(issuer, prepared): (&dyn Issuer, &dyn Prepared)| {
            let (serial, auth_token, public_url) = (&card.serial, &auth_token, self.public_url.as_str());
            prepared.document(rendered, Some(&CardIdentity { serial, issuer, auth_token, public_url }))
        };
        self.offered().map(document).collect()
    }

    /// Returns the wallets in which the card is shown, each with its issuer.
    fn offered(&self) -> impl Iterator<Item = (&dyn Issuer, &dyn Prepared)> {
        self.issuers.iter().filter_map(|issuer| Some((&**issuer, self.published.prepared(issuer.wallet())?)))
    }

    /// Returns the passes of a new card.
    pub fn new_passes(&self, serial: &SerialNumber) -> Vec<PassRecord> {
        let pass = |(issuer, _): (&dyn Issuer, &dyn Prepared)| PassRecord {
            wallet: issuer.wallet(),
            issuer: issuer.id().clone(),
            object_id: serial.as_str().to_owned(),
            fetched: None,
        };
        self.offered().map(pass).collect()
    }

    /// Renders a card as it will be and checks it as a phone would.
    ///
    /// # Errors
    /// Problems at the attributes whose values break a rule.
    pub fn check(&self, card: &Card, now: Timestamp) -> Result<(), ActionError> {
        let rendered = self.render(card)?;
        self.check_documents(&rendered, &self.documents(&rendered, card), now)
    }

    fn check_documents(
        &self,
        rendered: &RenderedCard<'_>,
        documents: &[WalletDocument],
        now: Timestamp,
    ) -> Result<(), ActionError> {
        let mut problems = Problems::new();
        for ((_, prepared), document) in self.offered().zip(documents) {
            problems.extend(prepared.problems_of_values(rendered, document, now));
        }
        if problems.is_empty() { Ok(()) } else { Err(ActionError::Invalid(problems)) }
    }
}

/// The effect of new content on a card.
#[derive(Debug)]
pub enum Planned {
    /// Nothing differs but the sequence, or defaults that are now given explicitly.
    Unchanged(Card),
    /// The card has a new revision but shows the same as before, so a push would bring nothing.
    SameFace(Card),
    /// The card shows something new.
    NewFace(Card),
}

/// Applies `content` to a card; `message` says how the change is announced. `waiting` means that no phone has fetched
/// the card's live message yet. A different way of announcing is not a change in itself, but a new message text is.
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
    // An explicit default changes nothing now. It is stored, as the template's default may change later.
    if !says_more && content.means(&before.content, &context.published.template) {
        card.content = content;
        return Ok(Planned::Unchanged(card));
    }
    // The same sequence number again is a repeated request only if it changes nothing; otherwise it is a different
    // change that came late.
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
    let planned = plan_content(context, before, waiting, card.clone(), message, now);
    // A card keeps the version that its values suit when a later one requires values it lacks or forbids values it has.
    // It can still be voided and expired and, while values are missing, get another end and language: the backend isn't
    // changing its values then.
    let same_values = Content {
        state: before.content.state,
        locale: before.content.locale.clone(),
        expires_at: before.content.expires_at,
        ..card.content.clone()
    };
    if same_values.means(&before.content, &context.published.template)
        && matches!(planned, Err(ActionError::Invalid(_)))
        && (card.content.state != State::Active || context.render(&card).is_err())
    {
        card.live_message = text.map(|_| message_key());
        return Ok(Planned::NewFace(card));
    }
    planned
}

/// Whether there is a message to show; one that lacks a value isn't shown.
fn announces(rendered: &RenderedCard<'_>) -> bool {
    rendered.message.as_ref().is_some_and(|message| message.is_live)
        || rendered.fields.iter().flat_map(|(_, fields)| fields).any(|field| field.message.is_some())
}

/// Determines whether a changed card shows something new, and with which message.
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
    let shown = context.documents(&rendered, &card);
    // The old values are rendered with the new design, so that only the backend's changes count.
    let messages = match context.render(before) {
        Err(_) => message.and_then(Message::text).map(|_| message_key()).into_iter().collect(),
        Ok(old) => {
            // Pictures aren't in the JSON; and a difference in a field's value shows without comparing the passes.
            let alike = before.content.template == card.content.template
                && old.look == rendered.look
                && old.values().eq(rendered.values());
            if alike && context.documents(&old, before) == shown {
                context.check_documents(&rendered, &shown, now)?;
                return Ok(Planned::SameFace(card));
            }
            live_messages(template, &old, &rendered, before.live_message.as_ref().filter(|_| waiting), message)
        }
    };
    // A message that lacks a value, or that this card's values break, is skipped for the next one; it never prevents
    // the change.
    let rendered_with = card.live_message.clone();
    for message in messages.into_iter().take(MOST_MESSAGES).map(Some) {
        let announced = if message == rendered_with {
            announces(&rendered) && context.check_documents(&rendered, &shown, now).is_ok()
        } else {
            card.live_message.clone_from(&message);
            context.render(&card).is_ok_and(|rendered| {
                announces(&rendered)
                    && context.check_documents(&rendered, &context.documents(&rendered, &card), now).is_ok()
            })
        };
        if announced {
            card.live_message = message;
            return Ok(Planned::NewFace(card));
        }
    }
    card.live_message = None;
    if rendered_with.is_none() {
        context.check_documents(&rendered, &shown, now)?;
    } else {
        context.check(&card, now)?;
    }
    Ok(Planned::NewFace(card))
}

/// Returns the names of what differs: attributes by their own name, other members of the card by theirs. Never a value.
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

/// Gives a card its position in the order of commits, and a `Last-Modified` later than any sent to phones for it under
/// one of these publications: its template's, and that of a template it leaves. They must be read after the counter was
/// taken, so that no later publication is missed.
pub fn put_in_place<'p>(
    card: &mut Card,
    (position, at): (i64, Timestamp),
    publications: impl IntoIterator<Item = &'p Publication>,
) {
    card.position = position;
    let newest = publications.into_iter().map(|publication| publication.modified).max().unwrap_or(0);
    card.modified = at.seconds().max(card.modified + 1).max(newest + 1);
}
