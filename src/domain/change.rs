//! What a change of a card means for the phones that hold it.

use super::ids::FieldKey;
use super::render::{FieldValue, RenderedCard};
use super::template::Template;

/// Returns the fields whose change message may be live on the face that a change makes, the most important first.
///
/// Phones show a specific text only when a single field with a message changed, so one is chosen: the first of
/// [`Template::messaged_fields`] that shows something new. A message that no phone has fetched yet (`waiting`) stays unless
/// a more important one takes its place: its field still differs from what phones hold.
pub fn live_messages(
    template: &Template,
    before: &RenderedCard<'_>,
    after: &RenderedCard<'_>,
    waiting: Option<&FieldKey>,
) -> Vec<FieldKey> {
    let fields = template.messaged_fields().into_iter();
    let live = fields.filter(|field| has_news(before, after, &field.key, waiting == Some(&field.key)));
    live.map(|field| field.key.clone()).collect()
}

/// Whether a field shows a value that phones don't hold. One that had none before is new to them: its key was in the pass
/// ([`RenderedCard::awaited`]). One that has none any more has nothing to say.
fn has_news(before: &RenderedCard<'_>, after: &RenderedCard<'_>, key: &FieldKey, is_waiting: bool) -> bool {
    let Some(new) = value(after, key).filter(|new| !new.is_blank()) else { return false };
    is_waiting || value(before, key) != Some(new)
}

fn value<'c, 't>(card: &'c RenderedCard<'t>, key: &FieldKey) -> Option<&'c FieldValue<'t>> {
    card.values().find(|(found, _)| *found == key).map(|(_, value)| value)
}
