//! What an endpoint says of itself: the types of descriptions. They know neither routes nor handlers.

use std::collections::BTreeMap;

use super::schemas;
use serde_json::{Map, Value, json};

use crate::actions::keys::Scope;
use crate::http::problem::{
    FAULT, FORBIDDEN, IDEMPOTENCY_KEY_REUSED, IDEMPOTENCY_UNDER_WAY, INSUFFICIENT_STORAGE, Kind, NOT_JSON, TOO_LARGE,
    TOO_MANY_REQUESTS, TOO_SLOW, UNAUTHENTICATED, UNAVAILABLE,
};

/// A named shape of JSON (JSON Schema 2020-12, as OpenAPI 3.1 has it).
#[derive(Debug)]
pub struct Schema {
    /// Its name in the document.
    pub name: &'static str,
    /// Makes it; other shapes are named by [`Schema::reference`].
    pub make: fn() -> Value,
}

impl Schema {
    /// How other parts of the document name it.
    pub fn reference(&self) -> Value {
        json!({"$ref": format!("#/components/schemas/{}", self.name)})
    }
}

/// Where a parameter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Place {
    Path,
    Query,
    Header,
}

/// A parameter.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct Parameter {
    pub name: &'static str,
    pub place: Place,
    pub meaning: &'static str,
    pub schema: fn() -> Value,
}

/// What a body holds.
#[derive(Debug, Clone, Copy)]
pub enum Content {
    /// There is none.
    Nothing,
    /// A JSON document.
    Json(&'static Schema),
    /// A JSON document of that shape on each line (`application/x-ndjson`).
    Lines(&'static Schema),
    /// Bytes of one of these media types.
    Bytes(&'static [&'static str]),
}

/// An answer that isn't a problem.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct Answer {
    pub status: u16,
    pub meaning: &'static str,
    pub content: Content,
}

/// Who may do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// A key with that scope.
    Scope(Scope),
    /// The bootstrap key from the configuration, and no other.
    BootstrapKey,
}

impl Needs {
    /// In words.
    pub fn text(self) -> String {
        match self {
            Self::Scope(scope) => format!("the scope `{}`", scope.name()),
            Self::BootstrapKey => "the bootstrap key (`PASSLOOM_ADMIN_KEY`)".to_owned(),
        }
    }
}

/// What an endpoint does, takes and answers.
#[derive(Debug)]
pub struct Operation {
    /// Its name for generated clients.
    pub id: &'static str,
    /// The heading it stands under.
    pub tag: &'static str,
    /// What it does, in a line.
    pub summary: &'static str,
    /// What else there is to know; may be empty.
    pub description: &'static str,
    /// Who may.
    pub needs: Needs,
    /// Everything but the body.
    pub parameters: &'static [&'static Parameter],
    /// What is sent.
    pub body: Content,
    /// The answers when it goes well.
    pub answers: &'static [Answer],
    /// The kinds of problems of its own; those that any operation may answer are added.
    pub problems: &'static [&'static Kind],
}

impl Operation {
    /// Every kind of problem that may come.
    pub fn all_problems(&self) -> Vec<&'static Kind> {
        let mut kinds =
            vec![&UNAUTHENTICATED, &FORBIDDEN, &TOO_MANY_REQUESTS, &FAULT, &UNAVAILABLE, &INSUFFICIENT_STORAGE];
        match self.body {
            Content::Nothing => {}
            Content::Json(_) => kinds.extend([&NOT_JSON, &TOO_LARGE, &TOO_SLOW]),
            Content::Lines(_) | Content::Bytes(_) => kinds.extend([&TOO_LARGE, &TOO_SLOW, &NOT_JSON]),
        }
        if crate::http::idempotency::applies(self) {
            kinds.extend([&IDEMPOTENCY_UNDER_WAY, &IDEMPOTENCY_KEY_REUSED, &TOO_LARGE, &TOO_SLOW, &NOT_JSON]);
        }
        kinds.extend(self.problems);
        kinds.sort_by_key(|kind| (kind.status, kind.code));
        kinds.dedup_by_key(|kind| kind.code);
        kinds
    }

    pub(super) fn document(&self) -> Value {
        let parameters: Vec<Value> = self.parameters.iter().map(|p| p.document()).collect();
        let mut responses: BTreeMap<u16, Value> = BTreeMap::new();
        for answer in self.answers {
            let mut response = json!({"description": answer.meaning});
            add_content(&mut response, answer.content);
            responses.insert(answer.status, response);
        }
        let mut by_status: BTreeMap<u16, Vec<&Kind>> = BTreeMap::new();
        for kind in self.all_problems() {
            by_status.entry(kind.status).or_default().push(kind);
        }
        for (status, kinds) in by_status {
            let words: Vec<String> = kinds.iter().map(|kind| format!("{} (`{}`)", kind.title, kind.code)).collect();
            let content = json!({"application/problem+json": {"schema": schemas::PROBLEM.reference()}});
            responses.insert(status, json!({"description": words.join("; "), "content": content}));
        }
        let mut operation = json!({
            "operationId": self.id,
            "tags": [self.tag],
            "summary": self.summary,
            "description": self.text(),
            "security": [{"key": []}],
            "responses": responses.into_iter().map(|(status, r)| (status.to_string(), r)).collect::<Map<_, _>>(),
        });
        if let Some(map) = operation.as_object_mut() {
            if !parameters.is_empty() {
                map.insert("parameters".to_owned(), Value::Array(parameters));
            }
            let mut body = json!({"required": true});
            if add_content(&mut body, self.body) {
                map.insert("requestBody".to_owned(), body);
            }
        }
        operation
    }

    /// The description with what the key needs.
    fn text(&self) -> String {
        let needs = format!("Needs {}.", self.needs.text());
        if self.description.is_empty() { needs } else { format!("{} {needs}", self.description) }
    }
}

impl Parameter {
    pub(super) fn document(&self) -> Value {
        json!({
            "name": self.name,
            "in": match self.place {
                Place::Path => "path",
                Place::Query => "query",
                Place::Header => "header",
            },
            "required": self.place == Place::Path,
            "description": self.meaning,
            "schema": (self.schema)(),
        })
    }
}

/// False when there is no content to add.
fn add_content(to: &mut Value, content: Content) -> bool {
    let content = match content {
        Content::Nothing => return false,
        Content::Json(schema) => json!({"application/json": {"schema": schema.reference()}}),
        Content::Lines(schema) => {
            // OpenAPI 3.1 can only say that it is a text; 3.2 will have a word for its lines.
            let lines = json!({"type": "string", "contentMediaType": "application/x-ndjson", "contentSchema": schema.reference()});
            json!({"application/x-ndjson": {"schema": lines}})
        }
        Content::Bytes(types) => {
            let types = types.iter().map(|media_type| ((*media_type).to_owned(), json!({})));
            Value::Object(types.collect())
        }
    };
    if let Some(map) = to.as_object_mut() {
        map.insert("content".to_owned(), content);
    }
    true
}

/// Parameters that several operations have.
pub mod parameters {
    use serde_json::json;

    use super::{Parameter, Place, schemas};

    /// Which card.
    pub const CARD_ID: Parameter = Parameter {
        name: "id",
        place: Place::Path,
        meaning: "Your own number for the card.",
        schema: || schemas::card_id(),
    };
    /// Which template.
    pub const TEMPLATE_ID: Parameter = Parameter {
        name: "id",
        place: Place::Path,
        meaning: "The template.",
        schema: || schemas::TEMPLATE_ID.reference(),
    };
    /// The id of a template to be.
    pub const NEW_TEMPLATE_ID: Parameter = Parameter {
        name: "id",
        place: Place::Query,
        meaning: "The new template's id; without it that in the archive, when it is free, or one made here.",
        schema: || schemas::TEMPLATE_ID.reference(),
    };
    /// Which published version.
    pub const VERSION: Parameter = Parameter {
        name: "version",
        place: Place::Path,
        meaning: "The number of a published version.",
        schema: || json!({"type": "integer", "minimum": 1}),
    };
    /// Which key.
    pub const KEY_ID: Parameter = Parameter {
        name: "id",
        place: Place::Path,
        meaning: "The key.",
        schema: || json!({"type": "string", "minLength": 1}),
    };
    /// A certificate.
    pub const FINGERPRINT: Parameter = Parameter {
        name: "fingerprint",
        place: Place::Path,
        meaning: "The certificate's SHA-256, as the list of certificates shows it.",
        schema: || json!({"type": "string", "minLength": 1}),
    };
    /// Which kind of picture.
    pub const ROLE: Parameter = Parameter {
        name: "role",
        place: Place::Path,
        meaning: "What the picture is for: the wallet's name of the image, without scale. With @ and a name, one of several \
            prepared for the role, of which a card's values choose: strip@6.",
        schema: || {
            let roles = crate::domain::templates::picture::ROLES.join("|");
            json!({"type": "string", "pattern": format!("^({roles})(@[A-Za-z0-9_-]{{1,64}})?$"), "examples": ["icon", "strip@6"]})
        },
    };
    /// A picture's language.
    pub const IMAGE_LOCALE: Parameter = Parameter {
        name: "locale",
        place: Place::Query,
        meaning: "The language that the picture is for; without it, all.",
        schema: || schemas::language(),
    };
    /// A picture's tier.
    pub const IMAGE_TIER: Parameter = Parameter {
        name: "tier",
        place: Place::Query,
        meaning: "The tier that the picture is for; without it, all.",
        schema: || json!({"type": "string", "minLength": 1, "maxLength": 64, "examples": ["gold"]}),
    };
    /// The revision that the caller knows.
    pub const IF_MATCH: Parameter = Parameter {
        name: "If-Match",
        place: Place::Header,
        meaning: "The ETag of the card as you know it; when it is at another revision, nothing is changed (412).",
        schema: || json!({"type": "string", "examples": ["\"3\""]}),
    };
    /// How many entries of a list.
    pub const LIMIT: Parameter = Parameter {
        name: "limit",
        place: Place::Query,
        meaning: "How many entries to answer at most; fewer when they are large. The list goes on while there is a next_cursor.",
        schema: || json!({"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}),
    };
    /// Cards of one template.
    pub const OF_TEMPLATE: Parameter = Parameter {
        name: "template",
        place: Place::Query,
        meaning: "Only cards of this template.",
        schema: || schemas::word(64),
    };
    /// Cards in one state.
    pub const IN_STATE: Parameter = Parameter {
        name: "state",
        place: Place::Query,
        meaning: "Only cards in this state.",
        schema: || schemas::state(),
    };
    /// Cards that changed.
    pub const UPDATED_SINCE: Parameter = Parameter {
        name: "updated_since",
        place: Place::Query,
        meaning: "Only cards that changed at this moment or later.",
        schema: || schemas::time(),
    };
    /// The last event that the caller has read.
    pub const AFTER: Parameter = Parameter {
        name: "after",
        place: Place::Query,
        meaning: "The id of the last event that you have read.",
        schema: || json!({"type": "string", "maxLength": 64}),
    };
    /// Where a list goes on.
    pub const CURSOR: Parameter = Parameter {
        name: "cursor",
        place: Place::Query,
        meaning: "The `next_cursor` of the answer before.",
        schema: || json!({"type": "string", "maxLength": 512}),
    };
    /// Makes a repeat harmless; naming it is what makes an operation honour it.
    pub const IDEMPOTENCY_KEY: Parameter = Parameter {
        name: "Idempotency-Key",
        place: Place::Header,
        meaning: "Any text of yours; within 24 hours a repeat of the request with the same text gives the same answer and does nothing.",
        schema: || json!({"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"}),
    };
}
