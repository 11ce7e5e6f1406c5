//! What a change of a card means for the phones that hold it.

use super::ids::FieldKey;
use super::render::RenderedCard;
use super::template::Template;

/// Decides which field's change message is live on the face that a change makes.
///
/// Phones show a specific text only when a single field with a message changed, so one is chosen: the most
/// important changed field of [`Template::messaged_fields`]. A message that no phone has fetched yet (`waiting`)
/// stays unless a more important one takes its place: its field still differs from what phones hold.
pub fn live_message(
    template: &Template,
    before: &RenderedCard<'_>,
    after: &RenderedCard<'_>,
    waiting: Option<&FieldKey>,
) -> Option<FieldKey> {
    template
        .messaged_fields()
        .into_iter()
        .find(|field| waiting == Some(&field.key) || differs(before, after, &field.key))
        .map(|field| field.key.clone())
}

fn differs(before: &RenderedCard<'_>, after: &RenderedCard<'_>, key: &FieldKey) -> bool {
    let value = |card: &RenderedCard<'_>| {
        let mut fields = card.fields.iter().flat_map(|(_, fields)| fields);
        fields.find(|f| f.key == key).map(|f| f.value.in_language(0))
    };
    // A field that wasn't there before has no old value to differ from, and one that is gone shows nothing.
    match (value(before), value(after)) {
        (Some(old), Some(new)) => old != new,
        _ => false,
    }
}
