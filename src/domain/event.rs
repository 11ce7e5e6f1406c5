//! What happens to cards and templates, as backends read it.

/// A kind of event; a kind is never renamed, since backends know it by its word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum EventKind {
    CardCreated,
    CardUpdated,
    CardExpired,
    CardErased,
    /// A phone registered for the pass.
    CardInstalled,
    /// A phone ended its registration.
    CardRemoved,
    CardPageOpened,
    /// A push left for a phone that holds the card.
    CardPushed,
    /// A phone took the newest pass.
    CardFetched,
    TemplatePublished,
    /// A wallet could not be told of a change.
    DeliveryFailed,
}

impl EventKind {
    /// Every kind.
    pub const ALL: [Self; 11] = [
        Self::CardCreated,
        Self::CardUpdated,
        Self::CardExpired,
        Self::CardErased,
        Self::CardInstalled,
        Self::CardRemoved,
        Self::CardPageOpened,
        Self::CardPushed,
        Self::CardFetched,
        Self::TemplatePublished,
        Self::DeliveryFailed,
    ];

    /// The word in the API and the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CardCreated => "card.created",
            Self::CardUpdated => "card.updated",
            Self::CardExpired => "card.expired",
            Self::CardErased => "card.erased",
            Self::CardInstalled => "card.installed",
            Self::CardRemoved => "card.removed",
            Self::CardPageOpened => "card.page_opened",
            Self::CardPushed => "card.pushed",
            Self::CardFetched => "card.fetched",
            Self::TemplatePublished => "template.published",
            Self::DeliveryFailed => "delivery.failed",
        }
    }

    /// How many of a card are recorded within a day; `None` for kinds that only the backend, the clock or a change brings
    /// about. Whoever holds a pass can register and unregister in a loop, also under tokens that are dead.
    pub fn most_a_day(self) -> Option<usize> {
        match self {
            Self::CardInstalled | Self::CardRemoved | Self::DeliveryFailed => Some(20),
            // An opened page counts as one visit for a while; a fetch and a push need a change.
            _ => None,
        }
    }

    /// Whether it is a change of a card or template, which the audit list holds: not what phones and customers do, and not
    /// what deliveries come to.
    pub fn is_change(self) -> bool {
        match self {
            Self::CardCreated | Self::CardUpdated | Self::CardExpired | Self::CardErased | Self::TemplatePublished => {
                true
            }
            Self::CardInstalled
            | Self::CardRemoved
            | Self::CardPageOpened
            | Self::CardPushed
            | Self::CardFetched
            | Self::DeliveryFailed => false,
        }
    }

    /// The kind of that word.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_read_back_from_its_word() {
        for kind in EventKind::ALL {
            assert_eq!(EventKind::parse(kind.as_str()), Some(kind));
        }
        assert_eq!(EventKind::parse(""), None);
    }
}
