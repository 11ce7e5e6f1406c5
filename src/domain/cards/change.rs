//! What a change of a card means for the phones that hold it.

use crate::domain::cards::message::{MESSAGE_KEY, Message, message_key};
use crate::domain::ids::FieldKey;
use crate::domain::render::{FieldValue, RenderedCard};
use crate::domain::templates::Template;

/// Returns the fields whose change message may be live on the face that a change makes, the most important first.
///
/// Phones show a specific text only when a single field with a message changed, so one is chosen: the first of
/// [`Template::messaged_fields`] that shows something new. A message that no phone has fetched yet (`waiting`) stays unless
/// a more important one takes its place: its field still differs from what phones hold. A text of the backend's own comes
/// before all fields. `wanted` is what the backend says of this change; what waits is of an earlier one.
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

/// Whether a field shows a value that phones don't hold. One that had none before is new to them: its key was in the pass
/// ([`RenderedCard::awaited`]). One that has none any more has nothing to say.
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
