//! The actors behind changes: API keys, people, links and the service itself.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

/// The person or system behind a change: an argument of every action that backends and people request, stored with the
/// change's events and audit entries.
///
/// What phones do (register, poll, fetch), what customers do on a card's page and what jobs do counts as
/// [`Actor::System`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// A backend, by the id of its API key, never the secret. [`Actor::BOOTSTRAP`] is the key from the configuration.
    ApiKey(String),
    /// A signed-in person.
    User(String),
    /// A customer who came through a link, by the link's slug.
    Link(String),
    /// The service itself.
    System,
}

impl Actor {
    /// The id of the bootstrap key from the configuration, which has no database row.
    pub const BOOTSTRAP: &str = "bootstrap";
    /// The names of all kinds.
    pub const KINDS: [&str; 4] = ["api_key", "user", "link", "system"];

    /// Returns the kind's name in the API and the database.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::ApiKey(_) => "api_key",
            Self::User(_) => "user",
            Self::Link(_) => "link",
            Self::System => "system",
        }
    }

    /// Returns the id within the kind; `None` for the system, of which there is only one.
    pub fn id(&self) -> Option<&str> {
        match self {
            Self::ApiKey(id) | Self::User(id) | Self::Link(id) => Some(id),
            Self::System => None,
        }
    }

    /// Builds an actor from its stored kind and id; `None` when they don't fit together.
    pub fn from_stored(kind: &str, id: Option<String>) -> Option<Self> {
        match (kind, id) {
            ("api_key", Some(id)) => Some(Self::ApiKey(id)),
            ("user", Some(id)) => Some(Self::User(id)),
            ("link", Some(id)) => Some(Self::Link(id)),
            ("system", None) => Some(Self::System),
            _ => None,
        }
    }

    /// Reads `system`, or a kind and an id separated by a colon, such as `api_key:bootstrap`.
    ///
    /// # Errors
    /// A sentence that says what is expected.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (kind, id) = match text.split_once(':') {
            Some((kind, id)) => (kind, Some(id.to_owned())),
            None => (text, None),
        };
        let actor = Self::from_stored(kind, id).filter(|actor| actor.id() != Some(""));
        actor.ok_or("is no actor; expected system, or api_key:, user: or link: with an id after it")
    }
}

impl Serialize for Actor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("kind", self.kind())?;
        map.serialize_entry("id", &self.id())?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_actor_is_read_back_from_what_is_stored_of_it() {
        let all = [Actor::ApiKey("a".into()), Actor::User("b".into()), Actor::Link("c".into()), Actor::System];
        for (actor, kind) in all.into_iter().zip(Actor::KINDS) {
            assert_eq!(actor.kind(), kind);
            let text = actor.id().map_or(kind.to_owned(), |id| format!("{kind}:{id}"));
            assert_eq!(Actor::parse(&text), Ok(actor.clone()));
            assert_eq!(Actor::from_stored(actor.kind(), actor.id().map(str::to_owned)), Some(actor));
        }
        for wrong in ["", "system:x", "api_key", "api_key:", "nobody:x"] {
            assert!(Actor::parse(wrong).is_err(), "{wrong}");
        }
    }
}
