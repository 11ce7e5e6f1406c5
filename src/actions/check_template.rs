//! Checks a template as a phone will check its passes: the rules run over the pass that the real code renders.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::domain::attribute::{AttributeType, AttributeValue, value_pointer};
use crate::domain::card::{Card, Content, State};
use crate::domain::checks::{Issue, Severity};
use crate::domain::expression::Text;
use crate::domain::ids::{AttributeName, AuthToken, CardId, FieldKey, PassTypeId, SerialNumber, TemplateId};
use crate::domain::input::{Problems, pointer};
use crate::domain::money::Decimal;
use crate::domain::render::render;
use crate::domain::template::{Phrase, Template};
use crate::domain::time::Timestamp;
use crate::wallets::apple::identity::SigningIdentity;
use crate::wallets::apple::pass_json::{PassIdentity, pass_json};
use crate::wallets::apple::prepare::PassFile;
use crate::wallets::apple::rules::{Context, Files, OwnAddresses, check_pass};
use crate::wallets::apple::strings;

/// Every rule that a draft breaks. Pointers lead into the template document.
pub fn check_draft(
    template: &Template,
    files: &[PassFile],
    identity: Option<&SigningIdentity>,
    public_url: &str,
    now: Timestamp,
) -> Vec<Issue> {
    let context = Context { now, own_addresses: OwnAddresses::of(public_url) };
    let mut packed: Files =
        files.iter().filter(|f| f.tier.is_none()).map(|f| (f.path.clone(), f.bytes.clone())).collect();
    for (language, place) in strings::languages(template) {
        let path = format!("{}/pass.strings", strings::folder(&language));
        packed.insert(path, strings::fixed_entries(template, place).into_bytes());
    }
    let token = AuthToken::trusted("sample-authentication-token-of-43-characters".to_owned());
    let service = format!("{public_url}/apple");
    let none = Files::new();
    let mut issues: Vec<Issue> = Vec::new();
    // A pass carries one change message at a time: each is checked on a pass of its own.
    let messages = template.messaged_fields().into_iter().map(|field| Some(field.key.clone()));
    for live_message in std::iter::once(None).chain(messages) {
        let first = live_message.is_none();
        let card = sample_card(template, live_message, now);
        let found = match render(template, &card, &format!("{public_url}/c/sample")) {
            Ok(rendered) => {
                let written = pass_json(&rendered, &sample_identity(&card, identity, &token, &service));
                let found = check_pass(&written.json, if first { &packed } else { &none }, &context);
                let pass = written.json;
                found.into_iter().map(|issue| in_document(template, &pass, issue)).collect::<Vec<_>>()
            }
            Err(problems) => problems
                .into_vec()
                .into_iter()
                .map(|p| {
                    Issue::error("attribute-default-missing", "/attributes", format!("{} {}", p.pointer, p.detail))
                })
                .collect(),
        };
        for issue in found {
            let about_files = issue.rule.starts_with("image-") || issue.rule.starts_with("strings-");
            if (first || !about_files) && !issues.contains(&issue) {
                issues.push(issue);
            }
        }
    }
    issues.sort_by_key(|issue| issue.severity);
    issues
}

/// What a card's own values break: errors only, at the attributes. The design's faults were found when it was published.
pub fn problems_of_values(template: &Template, pass: &Value, now: Timestamp) -> Problems {
    let context = Context { now, own_addresses: OwnAddresses::Loopback };
    let mut problems = Problems::new();
    for issue in check_pass(pass, &Files::new(), &context) {
        let about_files = ["image-", "strings-", "personalization-"].iter().any(|group| issue.rule.starts_with(group));
        if issue.severity != Severity::Error || about_files {
            continue;
        }
        let texts = texts_behind(template, pass, &issue.pointer);
        let used: BTreeSet<&AttributeName> = template
            .attributes
            .iter()
            .filter(|a| texts.iter().any(|text| text.uses(&a.name)))
            .map(|a| &a.name)
            .collect();
        // What no value stands behind is the design's fault, not this card's.
        for name in used {
            problems.add(value_pointer(name), format!("breaks the rule {}: {}", issue.rule, issue.detail));
        }
    }
    problems
}

fn field_key<'p>(pass: &'p Value, at: &str) -> Option<&'p str> {
    let mut parts = at.split('/').skip(1);
    let (style, group, place) = (parts.next()?, parts.next()?, parts.next()?);
    group.ends_with("Fields").then_some(())?;
    pass.pointer(&format!("/{style}/{group}/{place}/key"))?.as_str()
}

fn texts_behind<'t>(template: &'t Template, pass: &Value, at: &str) -> Vec<&'t Text> {
    if at.starts_with("/barcode") {
        return template.barcode.iter().flat_map(|b| std::iter::once(&b.value).chain(&b.text)).collect();
    }
    if let Some(key) = field_key(pass, at) {
        let field = template.all_fields().map(|(_, field)| field).find(|field| field.key.as_str() == key);
        return field.map_or(Vec::new(), |f| {
            let words = f.label.iter().chain(&f.change_message).flat_map(|phrase| &phrase.texts);
            f.value.texts.iter().chain(&f.link).chain(words).collect()
        });
    }
    let phrases: Vec<&Phrase> = match at.split('/').nth(1) {
        Some("organizationName") => vec![&template.organization],
        Some("description") => vec![&template.description],
        Some("logoText") => template.logo_text.iter().collect(),
        Some("locations") => template.locations.iter().filter_map(|l| l.text.as_ref()).collect(),
        _ => Vec::new(),
    };
    let merged = template.apple_pass.texts_within(&format!("/apple/pass/{}", at.split('/').nth(1).unwrap_or_default()));
    phrases.into_iter().flat_map(|phrase| &phrase.texts).chain(merged).collect()
}

/// The issue with a pointer into the template document instead of pass.json.
fn in_document(template: &Template, pass: &Value, issue: Issue) -> Issue {
    let at = issue.pointer.as_str();
    let member = at.rsplit('/').next().unwrap_or_default();
    let document = match field_key(pass, at) {
        Some(key) => template.fields.iter().find_map(|(group, fields)| {
            let place = fields.iter().position(|field| field.key.as_str() == key)?;
            let member = match member {
                "changeMessage" => "/change_message",
                "label" => "/label",
                "key" => "/key",
                "attributedValue" => "/link",
                "value" | "numberStyle" | "currencyCode" | "dateStyle" | "timeStyle" => "/value",
                _ => "",
            };
            Some(format!("/fields/{}/{place}{member}", group.name()))
        }),
        None if at.starts_with("/barcode") => Some("/barcode".to_owned()),
        None if at.starts_with("/locations") => Some(at.replace("/relevantText", "/text")),
        None => match at.split('/').nth(1) {
            Some("backgroundColor") => Some("/colors/background".to_owned()),
            Some("foregroundColor") => Some("/colors/foreground".to_owned()),
            Some("labelColor") => Some("/colors/label".to_owned()),
            Some("organizationName") => Some("/organization".to_owned()),
            Some("description") => Some("/description".to_owned()),
            Some("logoText") => Some("/logo_text".to_owned()),
            Some(first) if at.starts_with('/') => Some(pointer("/apple/pass", first)),
            _ => None,
        },
    };
    Issue { pointer: document.unwrap_or(issue.pointer), ..issue }
}

fn sample_identity<'a>(
    card: &'a Card,
    identity: Option<&'a SigningIdentity>,
    auth_token: &'a AuthToken,
    web_service_url: &'a str,
) -> PassIdentity<'a> {
    PassIdentity {
        serial: &card.serial,
        pass_type: identity.map_or(&card.pass_type, |i| &i.pass_type),
        team: identity.map_or("TEAMSAMPLE", |i| i.team.as_str()),
        auth_token,
        web_service_url,
    }
}

/// A card that has a value for every attribute.
fn sample_card(template: &Template, live_message: Option<FieldKey>, now: Timestamp) -> Card {
    let attributes: Map<String, Value> = template
        .attributes
        .iter()
        .map(|a| (a.name.as_str().to_owned(), a.default.clone().unwrap_or_else(|| sample_value(&a.kind, now))))
        .collect();
    Card {
        workspace: super::api_keys::default_workspace(),
        id: CardId::trusted("M-1001".to_owned()),
        serial: SerialNumber::trusted("00000000-0000-7000-8000-000000000000".to_owned()),
        pass_type: PassTypeId::trusted("pass.sample".to_owned()),
        content: Content {
            template: TemplateId::trusted("sample".to_owned()),
            locale: None,
            attributes,
            state: State::Active,
            expires_at: None,
        },
        expired_at: None,
        sequence: None,
        revision: 1,
        position: 1,
        modified: now.seconds(),
        page_generation: 1,
        live_message,
        created_at: now,
        updated_at: now,
    }
}

/// A plausible value of a type.
fn sample_value(kind: &AttributeType, now: Timestamp) -> Value {
    match kind {
        AttributeType::Text { max_length } => json!("Sample".chars().take(*max_length).collect::<String>()),
        AttributeType::Integer => json!(120),
        AttributeType::Decimal => json!(7.5),
        AttributeType::Money { currency } => {
            let amount = Decimal::parse("12").unwrap_or_else(|| unreachable!("a number"));
            AttributeValue::Money(amount, *currency).to_json()
        }
        AttributeType::Boolean => json!(true),
        AttributeType::Date => json!("2030-12-31"),
        AttributeType::DateTime => json!(now),
        AttributeType::Choice { choices } => json!(choices.first()),
        AttributeType::Url => json!("https://example.com/"),
        AttributeType::Phone => json!("+371 20000000"),
        AttributeType::Email => json!("anna@example.com"),
    }
}
