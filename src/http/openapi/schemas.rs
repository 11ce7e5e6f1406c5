//! The shapes of what the API takes and answers.
//!
//! Objects are closed: a member that isn't here is refused on the way in, and a test that sees one on the way out fails.

use serde_json::{Value, json};

use super::Schema;
use crate::actions::keys::Scope;
use crate::domain::actor::Actor;
use crate::domain::audit;
use crate::domain::event::EventKind;
use crate::domain::templates::styles;

macro_rules! schemas {
    ($($(#[$doc:meta])* $constant:ident $name:literal => $shape:expr;)*) => {
        $( $(#[$doc])* pub const $constant: Schema = Schema { name: $name, make: || $shape }; )*
        /// Every named shape.
        pub const ALL: &[&Schema] = &[$(&$constant),*];
    };
}

schemas! {
    /// What goes wrong.
    PROBLEM "Problem" => json!({
        "type": "object",
        "description": "A problem document (RFC 9457).",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": {"type": "string", "format": "uri-reference", "description": "The kind of problem; leads to a page that explains it."},
            "title": {"type": "string"},
            "status": {"type": "integer", "minimum": 400, "maximum": 599},
            "detail": {"type": "string", "description": "What happened this time."},
            "oldest": nullable(json!({"type": "string", "description": "Of `events-gone`: the id of the oldest event that can be read."})),
            "errors": {
                "type": "array",
                "description": "All problems of the request at once.",
                "items": {
                    "type": "object",
                    "required": ["pointer", "detail"],
                    "properties": {
                        "pointer": {"type": "string", "description": "Where, as a JSON pointer into the request."},
                        "detail": {"type": "string", "description": "What was found and what is expected."},
                        "rule": {"type": "string", "description": "The broken rule of a wallet, where it is one."},
                        "severity": severity(),
                    },
                    "additionalProperties": false,
                },
            },
        },
        "additionalProperties": false,
    });
    /// Where a card's newest face has got to.
    DELIVERY "Delivery" => closed(&["revision", "face", "targets"], json!({
        "revision": {"type": "integer", "minimum": 1},
        "face": {"type": "integer", "minimum": 0, "description": "The number that every device must reach; it grows with the card's changes and with its template's publishing."},
        "targets": {"type": "array", "items": closed(
            &["wallet", "device", "kind", "wanted", "pushed", "pushed_at", "asked_at", "fetched", "fetched_at", "state", "reason"],
            json!({
                "wallet": {"enum": ["apple", "google"]},
                "device": {"type": "string", "description": "Stays the same for a device; it is not the device's own name."},
                "kind": {"enum": ["apns", "google", "other"], "description": "How it learns of changes: from Apple's or Google's service, or it polls by itself."},
                "wanted": {"type": "integer", "minimum": 0},
                "pushed": {"type": "integer", "minimum": 0, "description": "It was told of everything up to here."},
                "pushed_at": nullable(time()),
                "asked_at": nullable(time()),
                "fetched": {"type": "integer", "minimum": 0, "description": "It has at least this."},
                "fetched_at": nullable(time()),
                "state": {"enum": ["current", "behind", "unreachable"]},
                "reason": nullable(json!({"type": "string", "description": "Why it isn't current."})),
            }),
        )},
    }));
    /// What phones complain about.
    DEVICE_LOGS "DeviceLogs" => closed(&["data", "next_cursor"], json!({
        "data": {"type": "array", "items": closed(
            &["pass_type", "message", "count", "first_at", "last_at", "serial_number", "device"],
            json!({
                "pass_type": {"type": "string"},
                "message": {"type": "string", "description": "With stand-ins for what differs between messages of the form."},
                "count": {"type": "integer", "minimum": 1},
                "first_at": time(),
                "last_at": time(),
                "serial_number": nullable(json!({"type": "string", "description": "What the last message named; a stranger may have sent it."})),
                "device": nullable(json!({"type": "string", "description": "As in a card's delivery."})),
            }),
        )},
        "next_cursor": nullable(json!({"type": "string"})),
    }));
    /// What a PUT of a card takes.
    CARD_PUT "CardPut" => closed(&["template"], json!({
        "template": {"$ref": "#/components/schemas/TemplateId"},
        "locale": nullable(card_language()),
        "attributes": nullable(attribute_values()),
        "state": nullable(state()),
        "expires_at": nullable(time()),
        "sequence": sequence(),
        "message": message(),
    }));
    /// What a PATCH of a card takes.
    CARD_PATCH "CardPatch" => closed(&[], json!({
        "template": {"$ref": "#/components/schemas/TemplateId"},
        "locale": nullable(card_language()),
        "attributes": nullable(attribute_values()),
        "state": nullable(state()),
        "expires_at": nullable(time()),
        "sequence": sequence(),
        "message": message(),
    }));
    /// A card.
    CARD "Card" => closed(
        &["id", "template", "template_version", "serial_number", "state", "revision", "locale", "attributes", "urls", "wallets",
          "created_at", "updated_at"],
        json!({
            "id": card_id(),
            "template": {"$ref": "#/components/schemas/TemplateId"},
            "template_version": {"type": "integer", "minimum": 1, "description": "The published version that the card shows."},
            "serial_number": {"type": "string"},
            "state": state(),
            "revision": {"type": "integer", "minimum": 1, "description": "Counts your changes; also the ETag."},
            "locale": card_language(),
            "attributes": {"type": "object", "description": "Every attribute of the template, with its default or null.", "additionalProperties": true},
            "expires_at": nullable(time()),
            "sequence": sequence(),
            "urls": closed(&["page", "apple", "google"], json!({"page": uri(), "apple": uri(), "google": uri()})),
            "wallets": closed(&["apple", "google"], json!({
                "apple": closed(&["devices", "current"], json!({
                    "devices": {"type": "integer", "minimum": 0, "description": "Phones that hold the card."},
                    "current": {"type": "integer", "minimum": 0, "description": "How many of them show its newest face."},
                })),
                "google": closed(&["saved", "current"], json!({"saved": {"type": "boolean"}, "current": {"type": "boolean"}})),
            })),
            "created_at": time(),
            "updated_at": time(),
        }),
    );
    /// A line of a bulk.
    BULK_LINE "BulkLine" => closed(&["id"], json!({
        "id": card_id(),
        "patch": nullable(json!({"type": "boolean", "description": "Whether the line is a merge patch; else it replaces."})),
        "template": nullable(json!({"$ref": "#/components/schemas/TemplateId"})),
        "locale": nullable(card_language()),
        "attributes": nullable(attribute_values()),
        "state": nullable(state()),
        "expires_at": nullable(time()),
        "sequence": sequence(),
        "message": message(),
    }));
    /// What came of a line.
    BULK_ANSWER "BulkAnswer" => closed(&["id", "status", "revision", "problem"], json!({
        "id": nullable(card_id()),
        "status": {"enum": ["created", "updated", "unchanged", "stale", "failed"]},
        "revision": nullable(json!({"type": "integer", "minimum": 1})),
        "problem": nullable(PROBLEM.reference()),
    }));
    /// A page of cards.
    CARDS "Cards" => page_of(&CARD.reference());
    /// What happened.
    EVENTS "Events" => page_of(&closed(&["id", "type", "timestamp", "actor", "data"], json!({
        "id": {"type": "string", "description": "Unique everywhere; also the id of the webhook calls that tell of it."},
        "type": {"enum": EventKind::ALL.map(EventKind::as_str)},
        "timestamp": time(),
        "actor": nullable(json!({"$ref": "#/components/schemas/Actor"})),
        "data": {"type": "object", "description": "What there is to say, the card's id as `card`; never a personal value. Of `card.installed`, `card.removed` and `delivery.failed` a card has 20 a day; further ones are counted on the last: `repeats` is how many, `last_at` when the last of them happened.", "additionalProperties": true},
    })));
    /// Who or what a change comes from.
    ACTOR "Actor" => {
        let mut actor = closed(&["kind", "id"], json!({"kind": {"enum": Actor::KINDS}, "id": nullable(json!({"type": "string"}))}));
        actor["description"] = json!("Whom or what it comes from: an API key by its id (`bootstrap` is PASSLOOM_ADMIN_KEY), a signed-in user, a customer by a link's slug, or the system: what phones do (registering, fetching), customers on a card's page, and the service by itself. Null for what is older than the record of it.");
        actor
    };
    /// Who changed what.
    AUDIT "Audit" => page_of(&closed(&["id", "type", "timestamp", "actor", "subject", "data"], json!({
        "id": {"type": "string", "description": "Unique everywhere; the event's own, where there is one."},
        "type": {"enum": audit::kinds()},
        "timestamp": time(),
        "actor": nullable(json!({"$ref": "#/components/schemas/Actor"})),
        "subject": closed(&["kind", "id"], json!({
            "kind": {"enum": ["workspace", "key", "issuer", "certificate", "template", "card"]},
            "id": nullable(json!({"type": "string", "description": "Its id; of an issuer the pass type, of a certificate the fingerprint, of an erased card a stand-in."})),
        })),
        "data": {"type": "object", "description": "What else there is to say: names of attributes, a version, a picture's role. Never a secret or a personal value.", "additionalProperties": true},
    })));
    /// The name of a template.
    TEMPLATE_ID "TemplateId" => {
        let mut id = word(64);
        id["examples"] = json!(["bakery-points"]);
        id
    };
    /// A card design with what the service adds.
    STORED_TEMPLATE "StoredTemplate" => template(&[
        ("id", json!({"$ref": "#/components/schemas/TemplateId"})),
        ("published_version", nullable(json!({"type": "integer", "minimum": 1}))),
    ]);
    /// A field of a card.
    FIELD "Field" => closed(&["key", "value"], json!({
        "key": word(64),
        "label": nullable(text(128)),
        "value": {"type": "string", "maxLength": 4096, "description": "Text with {{ expressions }}; exactly one {{ attribute }} keeps its type."},
        "change_message": nullable(json!({"type": "string", "maxLength": 256, "description": "What a phone says when the value changed; %@ stands for it."})),
        "date_style": nullable(date_style("Of a date or datetime that stands alone: how its day is written; medium unless said.")),
        "time_style": nullable(date_style("Of a datetime that stands alone: how its time of day is written; short unless said.")),
        "ignores_time_zone": nullable(json!({"type": "boolean", "description": "Of a datetime that stands alone: shown in the template's zone wherever the phone is."})),
        "link": nullable(json!({"type": "string", "maxLength": 2048, "description": "Where a tap leads; on the back only."})),
    }));
    /// The colours of a card.
    COLOURS "Colors" => closed(&[], json!({"background": nullable(colour()), "foreground": nullable(colour()), "label": nullable(colour())}));
    /// What makes a key.
    NEW_KEY "NewKey" => closed(&["name", "scopes"], json!({"name": filled(100), "scopes": scopes()}));
    /// A new key, with its secret.
    ISSUED_KEY "IssuedKey" => closed(&["id", "name", "scopes", "secret"], json!({
        "id": {"type": "string"},
        "name": {"type": "string"},
        "scopes": scopes(),
        "secret": {"type": "string", "description": "Shown once; only a hash of it is kept."},
    }));
    /// The keys of a workspace.
    KEYS "Keys" => page_of(&closed(&["id", "name", "scopes", "created_at", "revoked", "revoked_at"], json!({
        "id": {"type": "string"},
        "name": {"type": "string"},
        "scopes": scopes(),
        "created_at": time(),
        "revoked": {"type": "boolean"},
        "revoked_at": nullable(time()),
    })));
    /// What makes a workspace.
    NEW_WORKSPACE "NewWorkspace" => closed(&["id", "name"], json!({"id": word(64), "name": filled(100), "time_zone": nullable(time_zone())}));
    /// A new workspace with its first key.
    WORKSPACE "Workspace" => closed(&["id", "name", "key"], json!({"id": word(64), "name": {"type": "string"}, "time_zone": time_zone(), "key": ISSUED_KEY.reference()}));
    /// An Apple certificate with its key.
    NEW_APPLE_ISSUER "NewAppleIssuer" => json!({
        "oneOf": [
            closed(&["certificate", "key"], json!({
                "certificate": pem("The pass type certificate"),
                "key": pem("Its private key"),
                "key_password": nullable(json!({"type": "string", "description": "Of an encrypted key."})),
                "wwdr": nullable(pem("The intermediate that issued the certificate, when it is none of Apple's")),
            })),
            closed(&["pkcs12"], json!({
                "pkcs12": {"type": "string", "contentEncoding": "base64", "description": "Certificate and key in one file, as Keychain exports it."},
                "password": nullable(json!({"type": "string"})),
                "wwdr": nullable(pem("The intermediate that issued the certificate, when it is none of Apple's")),
            })),
        ],
    });
    /// The Apple certificates of a workspace.
    APPLE_ISSUER "AppleIssuer" => closed(&["pass_type", "team", "certificates"], json!({
        "pass_type": {"type": "string", "description": "What new cards get."},
        "team": {"type": "string"},
        "certificates": {"type": "array", "items": closed(
            &["pass_type", "team", "name", "issued_by", "serial_number", "fingerprint", "not_before", "not_after", "valid",
              "apple", "active", "paused", "source", "set_at"],
            json!({
                "pass_type": {"type": "string"},
                "team": {"type": "string"},
                "name": {"type": "string"},
                "issued_by": {"type": "string"},
                "serial_number": {"type": "string", "pattern": "^[0-9A-F]*$"},
                "fingerprint": {"type": "string", "pattern": "^[0-9a-f]{64}$", "description": "SHA-256 of the certificate."},
                "not_before": time(),
                "not_after": time(),
                "valid": {"type": "boolean", "description": "Whether it is within its dates."},
                "apple": {"type": "boolean", "description": "Whether it leads to one of Apple's roots; phones take passes of no other."},
                "active": {"type": "boolean", "description": "Whether it signs and pushes now for its pass type."},
                "paused": nullable(closed(&["since", "reason"], json!({"since": time(), "reason": {"type": "string"}}))),
                "source": {"enum": ["configuration", "api"]},
                "set_at": nullable(time()),
            }),
        )},
    }));
    /// A card design with an id.
    NEW_TEMPLATE "NewTemplate" => template(&[("id", nullable(json!({"$ref": "#/components/schemas/TemplateId"})))]);
    /// The templates of a workspace.
    TEMPLATES "Templates" => page_of(&closed(
        &["id", "name", "organization", "kind", "style", "published_version", "created_at", "updated_at"],
        json!({
            "id": {"$ref": "#/components/schemas/TemplateId"},
            "name": text(128),
            "organization": text(128),
            "kind": {"enum": crate::domain::templates::Kind::names()},
            "style": {"type": "string", "description": "Apple's style."},
            "published_version": nullable(json!({"type": "integer", "minimum": 1})),
            "created_at": time(),
            "updated_at": time(),
        }),
    ));
    /// The pictures of a draft.
    IMAGES "Images" => page_of(&closed(&["role", "locale", "tier", "content_type", "bytes"], json!({
        "role": {"type": "string"},
        "locale": nullable(language()),
        "tier": nullable(text(64)),
        "content_type": nullable(json!({"type": "string"})),
        "bytes": {"type": "integer", "minimum": 1},
    })));
    /// The published versions of a template.
    VERSIONS "Versions" => page_of(&closed(&["version", "published_at"], json!({
        "version": {"type": "integer", "minimum": 1},
        "published_at": time(),
    })));
    /// What an archive became.
    IMPORTED "Imported" => closed(&["id"], json!({"id": TEMPLATE_ID.reference()}));
    /// A broken rule.
    ISSUE "Issue" => closed(&["rule", "severity", "pointer", "detail"], json!({
        "rule": {"type": "string", "description": "Its stable name."},
        "severity": severity(),
        "pointer": {"type": "string", "description": "Where, as a JSON pointer into the template document; `/images/{role}` for pictures; empty for the whole."},
        "detail": {"type": "string", "description": "What was found and what is expected."},
    }));
    /// The broken rules of a draft.
    CHECKED "Checked" => closed(&["issues"], json!({"issues": {"type": "array", "items": ISSUE.reference()}}));
    /// What a preview takes.
    PREVIEW_REQUEST "PreviewRequest" => closed(&[], json!({
        "attributes": nullable(attribute_values()),
        "locale": nullable(language()),
    }));
    /// A preview.
    PREVIEW "Preview" => closed(&["apple", "google", "issues"], json!({
        "apple": {"type": "object", "description": "The pass.json, texts written out in the wanted language, with placeholders for who it is."},
        "google": {"type": "null", "description": "Google Wallet isn't there yet."},
        "issues": {"type": "array", "items": ISSUE.reference()},
    }));
    /// A new version.
    PUBLISHED "Published" => closed(&["version"], json!({
        "version": {"type": "integer", "minimum": 1},
        "cards": closed(&["checked", "complete", "keeping"], json!({
            "checked": {"type": "integer", "minimum": 0, "description": "How many cards were looked at."},
            "complete": {"type": "boolean", "description": "Whether those were all of the template's."},
            "keeping": {
                "type": "array",
                "description": "Cards whose values would break a rule under the new version; they keep theirs.",
                "items": closed(&["id", "version", "errors"], json!({
                    "id": card_id(),
                    "version": {"type": "integer", "minimum": 1, "description": "The version that the card is shown by."},
                    "errors": {"type": "array", "items": closed(&["pointer", "detail"], json!({
                        "pointer": {"type": "string", "description": "Into the card's document."},
                        "detail": {"type": "string"},
                    }))},
                })),
            },
        })),
    }));
}

/// An object with these members and no others.
pub fn closed(required: &[&str], properties: Value) -> Value {
    json!({"type": "object", "required": required, "properties": properties, "additionalProperties": false})
}

/// The page of a list.
pub fn page_of(entry: &Value) -> Value {
    closed(
        &["data", "next_cursor"],
        json!({
            "data": {"type": "array", "items": entry},
            "next_cursor": nullable(json!({"type": "string"})),
        }),
    )
}

/// That, or null.
pub fn nullable(schema: Value) -> Value {
    json!({"anyOf": [schema, {"type": "null"}]})
}

/// A moment.
pub fn time() -> Value {
    json!({"type": "string", "format": "date-time", "examples": ["2026-12-31T18:00:00Z"]})
}

/// A text of at most so many characters, without control characters.
pub fn text(longest: usize) -> Value {
    json!({"type": "string", "maxLength": longest})
}

/// A text of at most so many characters, not blank.
pub fn filled(longest: usize) -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": longest, "pattern": "\\S"})
}

/// A name of ours.
pub fn word(longest: usize) -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": longest, "pattern": "^[A-Za-z0-9_-]+$"})
}

/// A backend's number for a card.
pub fn card_id() -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[A-Za-z0-9._~:@-]+$", "not": {"enum": [".", ".."]}, "examples": ["M-1001"]})
}

fn time_zone() -> Value {
    json!({"type": "string", "maxLength": 64, "description": "In which moments are written as text: a name of the IANA database, or an offset such as +05:30.", "examples": ["Europe/Riga"]})
}

fn date_style(meaning: &str) -> Value {
    let names = crate::domain::templates::DateStyle::ALL.map(|(name, _)| name);
    json!({"enum": names, "description": meaning})
}

/// The language of a card's owner.
fn card_language() -> Value {
    let mut schema = language();
    schema["description"] = json!(
        "The language of the card's owner, as a tag of BCP 47 whose language Unicode's data (CLDR) knows; any other is 422. \
         It chooses for the card's page and messages: the same of the template's languages, else one of the same language \
         (de for de-AT), else the template's first. Wallets follow the phone's language."
    );
    schema
}

/// A language tag.
pub fn language() -> Value {
    json!({"type": "string", "maxLength": 35, "pattern": "^[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*$", "examples": ["lv"]})
}

/// How bad a broken rule is.
pub fn severity() -> Value {
    json!({"enum": ["error", "warning"]})
}

fn pem(what: &str) -> Value {
    json!({"type": "string", "description": format!("{what}, as PEM text or base64 of the DER file.")})
}

fn scopes() -> Value {
    let names: Vec<&str> = Scope::ALL.iter().map(|scope| scope.name()).collect();
    json!({"type": "array", "minItems": 1, "items": {"enum": names}})
}

fn uri() -> Value {
    json!({"type": "string", "format": "uri"})
}

/// A card's state.
pub fn state() -> Value {
    json!({"enum": ["active", "voided", "expired"]})
}

fn sequence() -> Value {
    nullable(json!({
        "type": "integer",
        "format": "int64",
        "minimum": i64::MIN,
        "maximum": i64::MAX,
        "description": "Your own order of changes. A change whose number isn't greater than the last stored is late and refused (409), \
            unless its number is the last stored and it changes nothing: then it is the same request again, and answered 200.",
    }))
}

fn message() -> Value {
    let text = json!({"anyOf": [filled(1024), {
        "type": "object",
        "description": "By language; a language of the template that isn't there has the text of its first.",
        "minProperties": 1,
        "maxProperties": 50,
        "additionalProperties": filled(1024),
    }]});
    let mut message = closed(
        &[],
        json!({
            "field": nullable(json!({"type": "string", "description": "The key of the field that announces itself, if it changed."})),
            "text": nullable(text),
            "silent": nullable(json!({"type": "boolean", "description": "Whether nothing is announced."})),
        }),
    );
    message["description"] = json!(
        "What phones announce of this change, one of the three; without it the template's order decides. A text \
        stays on the card's back until the next; the same text again without another change changes nothing."
    );
    nullable(message)
}

fn attribute_values() -> Value {
    json!({
        "type": "object",
        "description": "Values by the names that the template declares; null takes the value away.",
        "maxProperties": 200,
        "additionalProperties": {"type": ["string", "number", "boolean", "null"]},
        "examples": [{"points": 120, "tier": "silver", "name": "Anna"}],
    })
}

fn colour() -> Value {
    json!({"type": "string", "pattern": "^(#[0-9a-fA-F]{3}|#[0-9a-fA-F]{6}|rgb\\(.*\\))$", "examples": ["#1B4D3E"]})
}

fn list(items: Value, most: usize) -> Value {
    nullable(json!({"type": "array", "maxItems": most, "items": items}))
}

fn template(more: &[(&str, Value)]) -> Value {
    let field = FIELD.reference();
    let colours = COLOURS.reference();
    let fields = ["header", "primary", "secondary", "auxiliary", "back"];
    let fields: serde_json::Map<String, Value> =
        fields.iter().map(|group| ((*group).to_owned(), list(field.clone(), 50))).collect();
    let styles: Vec<&str> = styles::STYLES.iter().map(|style| style.name).collect();
    let mut template = closed(
        &["name", "organization", "fields", "apple"],
        json!({
            "name": filled(128),
            "organization": filled(128),
            "description": nullable(text(256)),
            "kind": nullable(json!({"enum": crate::domain::templates::Kind::names()})),
            "languages": list(language(), 50),
            "time_zone": nullable(time_zone()),
            "colors": nullable(colours.clone()),
            "logo_text": nullable(text(64)),
            "attributes": list(attribute(), 100),
            "fields": closed(&[], Value::Object(fields)),
            "message_order": {
                "anyOf": [{"type": "array", "maxItems": 250, "uniqueItems": true, "items": word(64)}, {"type": "null"}],
                "description": "The keys of fields with a change message, the most important first; the others follow in their usual order.",
            },
            "barcode": nullable(closed(&["format", "value"], json!({
                "format": {"enum": ["qr", "pdf417", "aztec", "code128"]},
                "value": text(1024),
                "text": nullable(text(256)),
            }))),
            "images": nullable(json!({
                "type": "object",
                "description": "By role: text with {{ expressions }} that gives the name of one of the pictures prepared for it.",
                "propertyNames": {"enum": crate::domain::templates::picture::ROLES},
                "additionalProperties": text(512),
            })),
            "tiers": nullable(closed(&["attribute"], json!({
                "attribute": {"type": "string", "description": "The attribute that holds a card's tier."},
                "looks": nullable(json!({
                    "type": "object",
                    "maxProperties": 50,
                    "additionalProperties": closed(&[], json!({"colors": nullable(colours)})),
                })),
            }))),
            "strings": nullable(json!({
                "type": "object",
                "description": "By language: the template's texts and their translations.",
                "maxProperties": 50,
                "additionalProperties": {"type": "object", "maxProperties": 500, "additionalProperties": text(4096)},
            })),
            "locations": list(closed(&["latitude", "longitude"], json!({
                "latitude": {"type": "number", "minimum": -90, "maximum": 90},
                "longitude": {"type": "number", "minimum": -180, "maximum": 180},
                "altitude": nullable(json!({"type": "number", "minimum": -1000, "maximum": 100_000})),
                "text": nullable(text(256)),
            })), 10),
            "apple": closed(&["style"], json!({
                "style": {"enum": styles},
                "pass": nullable(json!({"type": "object", "description": "Members merged into pass.json (RFC 7396); identity is protected."})),
            })),
            "google": nullable(closed(&[], json!({
                "type": nullable(text(32)),
                "class": nullable(json!({"type": "object"})),
                "object": nullable(json!({"type": "object"})),
            }))),
        }),
    );
    if let Some(properties) = template.get_mut("properties").and_then(Value::as_object_mut) {
        properties.extend(more.iter().map(|(name, schema)| ((*name).to_owned(), schema.clone())));
    }
    template
}

fn attribute() -> Value {
    closed(
        &["name", "type"],
        json!({
            "name": {"type": "string", "maxLength": 64, "pattern": "^[a-z][a-z0-9_]*$", "not": {"enum": ["card", "template"]}},
            "type": {"enum": crate::domain::values::attribute::TYPE_NAMES},
            "default": {"type": ["string", "number", "boolean", "null"]},
            "personal": nullable(json!({"type": "boolean", "description": "Whether it tells something about a person: erased with the card."})),
            "max_length": nullable(json!({"type": "integer", "minimum": 1, "maximum": 4096})),
            "currency": nullable(json!({"type": "string", "pattern": "^[A-Z]{3}$"})),
            "choices": list(json!({"type": "string", "minLength": 1, "maxLength": 64}), 100),
        }),
    )
}
