//! Events of cards and templates, as backends read them.

/// A kind of event. Kinds are never renamed, because backends rely on their names.
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
    /// A push was sent to a phone that holds the card.
    CardPushed,
    /// A phone fetched the newest pass.
    CardFetched,
    TemplatePublished,
    /// A wallet could not be notified of a change.
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

    /// Returns the name in the API and the database.
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

    /// Returns how many events of this kind are recorded for a card within a day; `None` for kinds that only the
    /// backend, the clock or a change can cause. Anybody who holds a pass can register and unregister in a loop, even
    /// with dead tokens.
    pub fn most_a_day(self) -> Option<usize> {
        match self {
            Self::CardInstalled | Self::CardRemoved | Self::DeliveryFailed => Some(20),
            // Page views within a while count as one visit; a fetch and a push need a change.
            _ => None,
        }
    }

    /// Whether it is a change of a card or template, which the audit list includes; not what phones and customers do,
    /// nor the results of deliveries.
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

    /// Returns the kind with that name.
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
