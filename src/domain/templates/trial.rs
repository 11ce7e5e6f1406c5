//! Tries every expression of a template with values that its attributes may have, so that an expression that fails for
//! some of them is found when the template is put, not when a card is.
//!
//! Missing values are not tried, because they have a meaning of their own (a field is left out, a card that needs the
//! value is refused). Nor are numbers so large that hardly any card has them; such a card is refused when it is put.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::input::{Node, Problems};
use crate::domain::render::budget::Budget;
use crate::domain::render::expression::{EvaluationError, Scope, Text};
use crate::domain::templates::Template;
use crate::domain::values::attribute::{Attribute, AttributeType, AttributeValue};
use crate::domain::values::locale::Language;
use crate::domain::values::money::Currency;
use crate::domain::values::zone::Zone;

/// The most evaluations for one expression.
const MOST_FOR_ONE: usize = 100;
/// The most evaluations for a template; with many expressions, fewer for each.
const MOST_FOR_ALL: usize = 20_000;
/// The fewest evaluations for one expression, however many there are.
const FEWEST_FOR_ONE: usize = 3;
/// The longest text that is tried, in bytes: a longer one shows nothing new, and costs more.
const LONGEST: usize = 64;

/// Adds a problem for every expression among `texts` (with their places in the document) that fails for some values.
pub fn check(template: &Template, texts: &[(String, Text)], problems: &mut Problems) {
    let mut tried: BTreeSet<String> = BTreeSet::new();
    let all: Vec<(&str, Text)> =
        texts.iter().flat_map(|(at, text)| text.expressions().map(move |one| (at.as_str(), one))).collect();
    let for_one = (MOST_FOR_ALL / all.len().max(1)).clamp(FEWEST_FOR_ONE, MOST_FOR_ONE);
    for (at, one) in all {
        let Some(source) = one.source().map(str::to_owned) else { continue };
        if !tried.insert(source.clone()) {
            continue;
        }
        if let Some((values, why)) = failing(template, &one, &source, for_one) {
            let quoted: String = source.chars().take(60).collect();
            let values: Vec<String> = values.iter().map(|(name, value)| format!("{name} is {value}")).collect();
            let when = if values.is_empty() { String::new() } else { format!(" when {}", values.join(" and ")) };
            problems.add(
                at,
                format!(
                    "has the expression {{{{ {quoted} }}}}, which fails{when}: {why}; expected a value for every card, for \
                     example by else"
                ),
            );
        }
    }
}

/// Returns values with which the expression fails, and the reason.
fn failing(template: &Template, one: &Text, source: &str, most: usize) -> Option<(Vec<(String, String)>, String)> {
    let names: BTreeSet<&str> = one.names().collect();
    let candidates: Vec<(&str, Vec<Candidate>)> =
        names.into_iter().map(|name| (name, candidates(template, name, source))).collect();
    let language = template.languages.first().cloned().unwrap_or_else(Language::english);
    for choice in combinations(&candidates.iter().map(|(_, values)| values.len()).collect::<Vec<_>>(), most) {
        let chosen: BTreeMap<&str, &Candidate> = candidates
            .iter()
            .zip(&choice)
            .filter_map(|((name, values), place)| Some((*name, values.get(*place)?)))
            .collect();
        let scope = Trial { template, chosen: &chosen, budget: Budget::default() };
        if let Err(EvaluationError::Failed(why)) = one.evaluate(&scope, &language) {
            let shown = chosen.iter().filter(|(name, _)| template.attribute(name).is_some());
            return Some((shown.map(|(name, value)| ((*name).to_owned(), value.shown())).collect(), why));
        }
    }
    None
}

/// Returns at most `most` combinations of indices into lists of those lengths: all when they are few, otherwise each
/// index with the others at their first and then at their second, and further ones spread evenly.
fn combinations(lengths: &[usize], most: usize) -> Vec<Vec<usize>> {
    let all = lengths.iter().try_fold(1usize, |all, length| all.checked_mul(*length)).unwrap_or(usize::MAX);
    let nth = |mut n: usize| {
        let digit = |length: &usize| {
            let digit = n % length.max(&1);
            n /= length.max(&1);
            digit
        };
        lengths.iter().map(digit).collect::<Vec<usize>>()
    };
    if all <= most {
        return (0..all).map(nth).collect();
    }
    let mut chosen = Vec::with_capacity(most);
    for others in [0usize, 1] {
        for (place, length) in lengths.iter().enumerate() {
            for value in 0..*length {
                let mut choice: Vec<usize> =
                    lengths.iter().map(|length| others.min(length.saturating_sub(1))).collect();
                if let Some(chosen) = choice.get_mut(place) {
                    *chosen = value;
                }
                chosen.push(choice);
            }
        }
    }
    chosen.truncate(most);
    // A step that has no divisor in common with most lengths yields ever new combinations.
    let step = (all / most.max(1)) | 1;
    let rest = most - chosen.len();
    chosen.extend((0..rest).map(|i| nth(step.wrapping_mul(i + 1) % all)));
    chosen
}

enum Candidate {
    Value(AttributeValue),
    BuiltIn(String),
}

impl Candidate {
    fn shown(&self) -> String {
        match self {
            Self::Value(value) => value.to_json().to_string(),
            Self::BuiltIn(text) => format!("{text:?}"),
        }
    }
}

struct Trial<'a> {
    template: &'a Template,
    chosen: &'a BTreeMap<&'a str, &'a Candidate>,
    budget: Budget,
}

impl Scope for Trial<'_> {
    fn attribute(&self, name: &str) -> Option<&AttributeValue> {
        match self.chosen.get(name)? {
            Candidate::Value(value) => Some(value),
            Candidate::BuiltIn(_) => None,
        }
    }

    fn built_in(&self, name: &str) -> Option<String> {
        match self.chosen.get(name) {
            Some(Candidate::BuiltIn(text)) => Some(text.clone()),
            _ => built_in_values(self.template, name).into_iter().next(),
        }
    }

    fn currency(&self, name: &str) -> Option<Currency> {
        match self.template.attribute(name)?.kind {
            AttributeType::Money { currency } => Some(currency),
            _ => None,
        }
    }

    fn budget(&self) -> &Budget {
        &self.budget
    }

    fn zone(&self) -> &Zone {
        self.template.zone()
    }
}

/// Returns the values that a built-in name is tried with.
fn built_in_values(template: &Template, name: &str) -> Vec<String> {
    let texts: &[&str] = match name {
        "template.name" => return vec![template.name.clone()],
        "template.organization" => {
            let fixed = template.organization.fixed.as_ref().and_then(|texts| texts.first());
            return fixed.cloned().into_iter().collect();
        }
        "card.id" => &["M-1001"],
        "card.serial_number" => &["00000000-0000-7000-8000-000000000000"],
        "card.state" => &["active", "voided", "expired"],
        "card.url" => &["https://cards.example/c/sample"],
        _ => &["sample"],
    };
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn candidates(template: &Template, name: &str, source: &str) -> Vec<Candidate> {
    match template.attribute(name) {
        Some(attribute) => values(attribute, source).into_iter().map(Candidate::Value).collect(),
        None => built_in_values(template, name).into_iter().map(Candidate::BuiltIn).collect(),
    }
}

/// Returns values of an attribute that behave differently: small and empty ones, each choice, and what the expression
/// itself compares with.
fn values(attribute: &Attribute, source: &str) -> Vec<AttributeValue> {
    let kind = &attribute.kind;
    let numbers = || {
        let mut numbers: Vec<String> = ["0", "1", "-1", "2", "1000"].map(str::to_owned).to_vec();
        for literal in number_literals(source).take(5) {
            numbers.extend([literal - 1.0, literal, literal + 1.0, -literal].map(|n| format!("{n}")));
        }
        numbers
    };
    let texts = |texts: &[&str]| texts.iter().map(|text| serde_json::Value::from(*text)).collect::<Vec<_>>();
    let mut found: Vec<serde_json::Value> = match kind {
        AttributeType::Integer => {
            numbers().iter().filter_map(|n| n.parse::<i64>().ok()).map(serde_json::Value::from).collect()
        }
        AttributeType::Decimal | AttributeType::Money { .. } => {
            let fractions = ["0.5".to_owned()].into_iter().filter(|_| *kind == AttributeType::Decimal);
            numbers().into_iter().chain(fractions).map(serde_json::Value::from).collect()
        }
        AttributeType::Boolean => vec![false.into(), true.into()],
        AttributeType::Date => texts(&["2026-12-31", "0001-01-01", "9999-12-31"]),
        AttributeType::DateTime => texts(&["2026-12-31T18:00:00Z", "0001-01-02T00:00:00Z", "9999-12-30T00:00:00Z"]),
        AttributeType::Choice { choices } => choices.iter().map(|c| serde_json::Value::from(c.as_str())).collect(),
        AttributeType::Text { .. } => {
            let mut all = texts(&["", "Anna", "-7.5"]);
            all.extend(text_literals(source).take(5).map(serde_json::Value::from));
            all
        }
        AttributeType::Url => texts(&["https://example.com/"]),
        AttributeType::Image => texts(&["strip@6", "https://example.com/a.png"]),
        AttributeType::Phone => texts(&["+37120000000"]),
        AttributeType::Email => texts(&["anna@example.com"]),
    };
    found.extend(attribute.default.clone().filter(|default| default.as_str().is_none_or(|text| text.len() <= LONGEST)));
    let mut values: Vec<AttributeValue> = Vec::new();
    for value in found {
        // A value that isn't legal for the type can't occur.
        let value = kind.check(&Node::root(&value), &mut Problems::new());
        if let Some(value) = value.filter(|value| !values.contains(value)) {
            values.push(value);
        }
    }
    values
}

/// Returns the numbers that an expression contains.
fn number_literals(source: &str) -> impl Iterator<Item = f64> {
    source
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '.' && c != '_')
        .filter(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.len() <= 12)
        .filter_map(|word| word.parse().ok())
        .filter(|n: &f64| n.abs() <= 1e9)
}

/// Returns the texts that an expression contains.
fn text_literals(source: &str) -> impl Iterator<Item = &str> {
    source.split(['\'', '"']).skip(1).step_by(2).filter(|text| text.len() <= LONGEST && !text.contains('\\'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn problems(attributes: Value, expression: &str) -> Vec<String> {
        let document = json!({
            "name": "n", "organization": "o", "attributes": attributes,
            "fields": {"back": [{"key": "a", "value": expression}]}, "apple": {"style": "storeCard"}});
        let found = Template::parse(&document).err().map(Problems::into_vec).unwrap_or_default();
        found.into_iter().map(|p| format!("{} {}", p.pointer, p.detail)).collect()
    }

    #[test]
    fn an_expression_that_fails_for_some_value_is_found_with_that_value() {
        let attributes = json!([
            {"name": "gold", "type": "boolean"}, {"name": "name", "type": "text", "default": "Anna"},
            {"name": "points", "type": "integer", "default": 5}, {"name": "goal", "type": "integer"},
            {"name": "rate", "type": "decimal"}, {"name": "until", "type": "date"},
            {"name": "credit", "type": "money", "currency": "EUR"},
            {"name": "tier", "type": "choice", "choices": ["basic", "silver", "gold"]}]);
        for (wrong, expected) in [
            ("{{ name if gold }}", "when gold is false"),
            ("{{ 100 / points }}", "when points is 0"),
            ("{{ 100 / (points - 37) }}", "when points is 37"),
            ("{{ 100 / (points - goal) }}", "goal is 0 and points is 0"),
            ("{{ rate // rate }}", "when rate is 0"),
            ("{{ name | date }}", "when name is"),
            ("{{ name | number }}", "when name is"),
            ("{{ name + 1 }}", "when name is"),
            ("{{ name[0] }}", "when name is \"\""),
            ("{{ ['a', 'b'][points] }}", "when points is 2"),
            ("{{ {'basic': 1, 'silver': 2}[tier] }}", "when tier is \"gold\""),
            ("{{ 'x' if tier == 'basic' else ('y' if tier == 'gold') }}", "when tier is \"silver\""),
            ("{{ points | money }}", "money needs a currency"),
            ("{{ until | date('tiny') }}", "date takes"),
            ("{{ until | time }}", "when until is"),
            ("{{ 1 / 0 }}", "which fails: "),
            ("{{ [name] }}", "expected a text or a number"),
        ] {
            let found = problems(attributes.clone(), wrong);
            assert!(
                matches!(found.as_slice(), [one] if one.starts_with("/fields/back/0/value ") && one.contains(expected)),
                "{wrong}: {found:?}"
            );
        }
        for right in [
            "{{ name if gold else '' }}",
            "{{ 100 / points if points else 0 }}",
            "{{ (100 / points) | round(1) if points > 0 else '-' }}",
            "{{ name[:1] }}",
            "{{ ['a', 'b'][points] | default('more') }}",
            "{{ {'basic': 1, 'silver': 2}[tier] | default(3) }}",
            "{{ credit | money }} {{ rate | number(2) }} {{ until | date('long') }}",
            "{{ points * 2 + goal }} {{ (points * 100) | number }}",
            "{{ name | upper ~ ' ' ~ tier | capitalize }}",
            "{{ goal | default(7) }} {{ card.id ~ template.organization }}",
            "{{ 'soon' if goal is defined else 'later' }}",
            "{{ points }} of {{ goal }}",
        ] {
            assert_eq!(problems(attributes.clone(), right), Vec::<String>::new(), "{right}");
        }
    }

    #[test]
    fn a_translation_that_fails_is_found_where_it_stands() {
        let document = json!({
            "name": "n", "organization": "o", "languages": ["en", "lv"],
            "attributes": [{"name": "gold", "type": "boolean"}],
            "fields": {"back": [{"key": "a", "label": "Yes", "value": "{{ gold }}"}]},
            "strings": {"lv": {"Yes": "{{ 'Jā' if gold }}"}}, "apple": {"style": "storeCard"}});
        let found = Template::parse(&document).expect_err("refused").into_vec();
        assert_eq!(found.iter().map(|p| p.pointer.as_str()).collect::<Vec<_>>(), ["/strings/lv/Yes"]);
    }
}
