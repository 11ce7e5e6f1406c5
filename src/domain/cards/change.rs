//! The effect of a card's change on the phones that hold it: which change message they show.

use crate::domain::cards::message::{MESSAGE_KEY, Message, message_key};
use crate::domain::ids::FieldKey;
use crate::domain::render::{FieldValue, RenderedCard};
use crate::domain::templates::Template;

/// Returns the fields whose change message may be live on the content version that a change creates, the most important
/// first.
///
/// Phones show a specific text only when a single field with a message changed, so one is chosen: the first of
/// [`Template::messaged_fields`] that shows something new. A message that no phone has fetched yet (`waiting`) stays
/// unless a more important one replaces it, because its field still differs from what phones hold. A text of the
/// backend's own comes before all fields. `wanted` is the message requested with this change; `waiting` comes from an
/// earlier one.
pub fn live_messages(
    template: &Template,
    before: &RenderedCard<'_>,
    after: &RenderedCard<'_>,
    waiting: Option<&FieldKey>,
    wanted: Option<&Message>,
) -> Vec<FieldKey> {
    let fields: Vec<&FieldKey> = match wanted {
        Some(Message::Text(_)) => return vec![message_key()],
        Some(Message::Silent) => waiting.into_iter().collect(),
        Some(Message::Field(key)) => std::iter::once(key).chain(waiting).collect(),
        None => {
            let own = waiting.filter(|key| key.as_str() == MESSAGE_KEY);
            own.into_iter().chain(template.messaged_fields().into_iter().map(|field| &field.key)).collect()
        }
    };
    let live = fields.into_iter().filter(|key| has_news(before, after, key, waiting == Some(*key)));
    live.cloned().collect()
}

/// Whether a field shows a value that phones don't hold. A field that had no value before counts as new: its key was in
/// the pass ([`RenderedCard::awaited`]). A field that lost its value has nothing to announce.
fn has_news(before: &RenderedCard<'_>, after: &RenderedCard<'_>, key: &FieldKey, is_waiting: bool) -> bool {
    if key.as_str() == MESSAGE_KEY {
        return is_waiting;
    }
    let Some(new) = value(after, key).filter(|new| !new.is_blank()) else { return false };
    is_waiting || value(before, key) != Some(new)
}

fn value<'c, 't>(card: &'c RenderedCard<'t>, key: &FieldKey) -> Option<&'c FieldValue<'t>> {
    card.values().find(|(found, _)| *found == key).map(|(_, value)| value)
}
