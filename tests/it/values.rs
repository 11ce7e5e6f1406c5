//! Phones announce a field whose `value` in pass.json differs. So it differs exactly when somebody sees something else.

use std::collections::HashMap;
use std::sync::LazyLock;

use passloom::domain::cards::Card;
use passloom::domain::ids::{AuthToken, PassTypeId, SerialNumber};
use passloom::domain::render::render;
use passloom::domain::templates::Template;
use passloom::domain::time::Timestamp;
use passloom::wallets::apple::package::pass_json::{PassIdentity, pass_json};
use passloom::wallets::apple::package::strings::{fixed_entries, languages};
use passloom::wallets::apple::rules::strings::parse;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// Every filter, every type, and texts that are translated in all or some languages.
const VALUES: [&str; 33] = [
    "{{ points }}",
    "{{ ratio }}",
    "{{ balance }}",
    "{{ until }}",
    "{{ at }}",
    "{{ tier }}",
    "{{ name }}",
    "{{ vip }}",
    "{{ points | number }}",
    "{{ points | number(2) }} p.",
    "{{ ratio | number }}",
    "{{ ratio | number(1) }}",
    "{{ balance | money }}",
    "{{ points | money('USD') }}",
    "{{ until | date }}",
    "{{ until | date('short') }}",
    "{{ at | date('long') }}",
    "{{ tier | upper }}",
    "{{ name | lower }}",
    "{{ name | capitalize }}",
    "{{ name | trim }}",
    "{{ name | default('–') }}",
    "{{ (0 - points) | abs }}",
    "{{ ratio | round }}",
    "{{ ratio | round(1) | number }}",
    "{{ 'VIP' if vip else 'Guest' }}",
    "Status: {{ tier }}",
    "Gold",
    "{{ points | number }} points",
    "{{ 'Many' if points > 1000 else 'Few' }} points",
    "{{ card.id ~ ' ' ~ card.state }}",
    "{{ template.name }}: {{ tier | upper }}",
    "Terms",
];

static TEMPLATE: LazyLock<Template> = LazyLock::new(|| {
    let fields: Vec<Value> = VALUES
        .iter()
        .enumerate()
        .map(|(i, value)| json!({"key": format!("f{i}"), "label": "L", "value": value}))
        .collect();
    let document = json!({
        "name": "Values", "organization": "Kuzina", "languages": ["lv", "en", "de", "ru"],
        "attributes": [
            {"name": "points", "type": "integer"}, {"name": "ratio", "type": "decimal"},
            {"name": "balance", "type": "money", "currency": "EUR"}, {"name": "until", "type": "date"},
            {"name": "at", "type": "datetime"}, {"name": "tier", "type": "choice", "choices": ["a", "b"]},
            {"name": "name", "type": "text"}, {"name": "vip", "type": "boolean"}],
        "fields": {"back": fields},
        "strings": {
            "en": {"Status: {{ tier }}": "Your status: {{ tier | upper }}", "L": "Label"},
            // Only who reads German sees the tier, only who reads Russian whether there are many points.
            "de": {"Gold": "Gold {{ tier }}", "{{ points | number }} points": "{{ points | number }} Punkte"},
            "ru": {"{{ 'Many' if points > 1000 else 'Few' }} points": "{{ 'Много' if points > 1200 else 'Мало' }}",
                "Terms": "Условия"}},
        "apple": {"style": "storeCard"}
    });
    Template::parse(&document).expect("a valid template")
});

/// Each field's value in pass.json, and what is to be read in each language.
fn shown(attributes: &Map<String, Value>) -> Vec<(Value, Vec<Value>)> {
    let card = Card::sample(attributes.clone(), Timestamp::from_seconds(1_795_000_000));
    let rendered = render(&TEMPLATE, &card, "https://kuzina.example/c/x").expect("it can be drawn");
    let pass = pass_json(
        &rendered,
        &PassIdentity {
            serial: &SerialNumber::parse("1").unwrap(),
            pass_type: &PassTypeId::parse("pass.example").unwrap(),
            team: "T",
            auth_token: &AuthToken::parse("0123456789abcdef").unwrap(),
            web_service_url: "https://kuzina.example/apple",
        },
    );
    let tables: Vec<HashMap<String, String>> = languages(&TEMPLATE)
        .into_iter()
        .map(|(_, place)| fixed_entries(&TEMPLATE, place) + &pass.own_entries[place])
        .map(|table| parse(&table).expect("a table").into_iter().collect())
        .collect();
    let read = |table: &HashMap<String, String>, value: &Value| {
        let text = value.as_str().and_then(|key| table.get(key));
        text.map_or_else(|| value.clone(), |text| json!(text))
    };
    let fields = pass.json["storeCard"]["backFields"].as_array().unwrap();
    let values = fields.iter().map(|field| &field["value"]);
    values.map(|value| (value.clone(), tables.iter().map(|table| read(table, value)).collect())).collect()
}

fn attributes() -> impl Strategy<Value = Map<String, Value>> {
    let points = prop::sample::select(vec![0, 1, 1000, 1001, 1300]);
    let ratio = prop::sample::select(vec!["0.1", "0.10", "0.14", "1234.56"]);
    let balance = prop::sample::select(vec!["0", "12.5", "12.50", "1200"]);
    let until = prop::sample::select(vec!["2026-12-31", "2027-01-01"]);
    let at = prop::sample::select(vec!["2026-12-31T10:00:00Z", "2026-12-31T12:00:00+02:00", "2026-12-31T11:00:00Z"]);
    let tier = prop::sample::select(vec!["a", "b"]);
    let name = prop::sample::select(vec!["Anna", "anna", " Anna"]);
    (points, ratio, balance, until, at, tier, name, any::<bool>()).prop_map(
        |(points, ratio, balance, until, at, tier, name, vip)| {
            let values = json!({"points": points, "ratio": ratio, "balance": balance, "until": until, "at": at,
                "tier": tier, "name": name, "vip": vip});
            values.as_object().unwrap().clone()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn what_anybody_sees_changed_is_a_changed_value_and_nothing_else_is(old in attributes(), new in attributes()) {
        for (i, (old, new)) in shown(&old).into_iter().zip(shown(&new)).enumerate() {
            prop_assert_eq!(old.1 != new.1, old.0 != new.0, "{}: {:?} {:?}", VALUES[i], old, new);
        }
    }
}

/// The value of the only field of a template with these translations.
fn only_value(languages: &Value, strings: &Value) -> Value {
    let document = json!({"name": "n", "organization": "o", "languages": languages, "strings": strings,
        "fields": {"back": [{"key": "k", "value": "Hello"}]}, "apple": {"style": "storeCard"}});
    let template = Template::parse(&document).expect("valid");
    let card = Card::sample(Map::new(), Timestamp::from_seconds(1_795_000_000));
    let rendered = render(&template, &card, "https://kuzina.example/c/x").expect("it can be drawn");
    let pass = pass_json(
        &rendered,
        &PassIdentity {
            serial: &card.serial,
            pass_type: &PassTypeId::parse("pass.example").unwrap(),
            team: "T",
            auth_token: &AuthToken::parse("0123456789abcdef").unwrap(),
            web_service_url: "https://kuzina.example/apple",
        },
    );
    pass.json["storeCard"]["backFields"][0]["value"].clone()
}

#[test]
fn a_new_version_changes_the_values_whose_texts_it_changes() {
    let value = only_value(&json!(["en", "lv"]), &json!({"lv": {"Hello": "Sveiki"}}));
    assert_ne!(value, only_value(&json!(["en", "lv"]), &json!({"lv": {"Hello": "Labdien"}})));
    // Another language without a text of its own changes nothing that is to be read.
    assert_eq!(value, only_value(&json!(["en", "lv", "ru"]), &json!({"lv": {"Hello": "Sveiki"}})));
    assert_eq!(only_value(&json!(["en"]), &json!({})), only_value(&json!(["en", "lv"]), &json!({})));
}
