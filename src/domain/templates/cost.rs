//! The most that rendering a card of a template can cost, whatever the card's values are; checked when a template is
//! put.

use crate::domain::input::Problems;
use crate::domain::render::budget::{self, Cost, Extent, MOST_PASS_JSON, MOST_STEPS, MOST_TABLES, MOST_WITHIN};
use crate::domain::render::expression::{MAX_OUTPUT, Text};
use crate::domain::render::is_address;
use crate::domain::templates::{Phrase, Template, Tree};
use crate::domain::values::attribute::Attribute;
use crate::domain::values::locale::Language;

/// The bytes of a pass that don't come from the template: its identity, where it is updated, its dates and colours.
const IDENTITY: u64 = 4096;
/// The bytes around a field's value: its styles, and the keys of its members.
const AROUND_FIELD: u64 = 512;
/// The bytes around a string in pass.json, or around an entry in a table.
const AROUND_TEXT: u64 = 64;
/// The most expressions, counted in each language in which a text differs: a hundred times what a rich card in many
/// languages needs.
const MOST_EXPRESSIONS: usize = 5_000;
/// Steps to write a field or a member as JSON.
const MEMBER: u64 = 1_000;

/// The most that rendering a card can cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TemplateCost {
    /// The work, in steps.
    pub steps: u64,
    /// The bytes of pass.json.
    pub pass_json: u64,
    /// The bytes of all `pass.strings`.
    pub tables: u64,
}

impl TemplateCost {
    /// Whether no card can exceed the limits.
    pub const fn fits(&self) -> bool {
        self.steps <= MOST_STEPS && self.pass_json <= MOST_PASS_JSON && self.tables <= MOST_TABLES
    }

    const fn and(self, other: Self) -> Self {
        Self {
            steps: self.steps.saturating_add(other.steps),
            pass_json: self.pass_json.saturating_add(other.pass_json),
            tables: self.tables.saturating_add(other.tables),
        }
    }

    fn or(self, other: Self) -> Self {
        Self {
            steps: self.steps.max(other.steps),
            pass_json: self.pass_json.max(other.pass_json),
            tables: self.tables.max(other.tables),
        }
    }
}

/// The cost of a template, added up place by place.
struct Ledger<'t> {
    template: &'t Template,
    languages: u64,
    whole: TemplateCost,
    expressions: usize,
    /// The costliest place for each of steps, pass.json and tables.
    worst: [(u64, String); 3],
    /// Texts that can be too long, or whose intermediate texts can.
    too_long: Problems,
}

/// Returns the sizes of the largest values that a template's names can have.
pub fn sizes(template: &Template) -> impl Fn(&str) -> Extent {
    |name| match name {
        "template.name" => Extent::of(&template.name),
        "template.organization" => match template.organization.fixed.as_ref().and_then(|texts| texts.first()) {
            Some(text) => Extent::of(text),
            None => Extent::default(),
        },
        _ => template.attribute(name).map_or_else(|| budget::largest_built_in(name), Attribute::largest),
    }
}

/// Returns the most that a card of the template can cost.
pub fn cost_of(template: &Template) -> TemplateCost {
    walk(template).whole
}

/// Adds a problem for everything in a template that could cost more than a card may.
pub fn check(template: &Template, problems: &mut Problems) {
    let Ledger { whole, worst, too_long, expressions, .. } = walk(template);
    if expressions > MOST_EXPRESSIONS {
        let each = "counted in each language in which a text differs";
        problems.add(
            "",
            format!("computes {expressions} expressions for each card, {each}; expected at most {MOST_EXPRESSIONS}"),
        );
    }
    for problem in too_long.into_vec() {
        problems.add(problem.pointer, problem.detail);
    }
    let advice = "use fewer or shorter expressions, or give texts a smaller max_length";
    let [steps, pass_json, tables] = worst;
    let limits = [
        (whole.steps, MOST_STEPS, steps, "steps of work", "a card may need"),
        (whole.pass_json, MOST_PASS_JSON, pass_json, "bytes", "a card's pass.json may have"),
        (whole.tables, MOST_TABLES, tables, "bytes", "a card's pass.strings may have in all languages"),
    ];
    for (found, most, (of_place, place), unit, what) in limits {
        if found > most {
            problems.add(
                place,
                format!("needs {of_place} of the {found} {unit} that {what}; expected at most {most} in all: {advice}"),
            );
        }
    }
}

fn walk(template: &Template) -> Ledger<'_> {
    // Phones fall back to English, so its table exists even when the template doesn't have the language.
    let languages = template.languages.len() as u64 + u64::from(!template.languages.contains(&Language::english()));
    let identity = TemplateCost { steps: 50_000, pass_json: IDENTITY, tables: 0 };
    let mut ledger = Ledger {
        template,
        languages,
        whole: identity,
        expressions: 0,
        worst: Default::default(),
        too_long: Problems::new(),
    };
    ledger.phrase(&template.organization, "/organization");
    ledger.phrase(&template.description, "/description");
    if let Some(text) = &template.logo_text {
        ledger.phrase(text, "/logo_text");
    }
    // One message is announced at a time.
    let mut message = (TemplateCost::default(), String::new());
    for (group, fields) in &template.fields {
        for (place, field) in fields.iter().enumerate() {
            let at = format!("/fields/{}/{place}", group.name());
            if let Some(label) = &field.label {
                ledger.phrase(label, &format!("{at}/label"));
            }
            ledger.phrase(&field.value, &format!("{at}/value"));
            ledger.add(&at, TemplateCost { steps: MEMBER, pass_json: AROUND_FIELD, tables: 0 });
            if let Some(text) = &field.change_message {
                let at = format!("{at}/change_message");
                let cost = ledger.cost_of_phrase(text, &at);
                if cost.steps + cost.pass_json + cost.tables > message.0.steps + message.0.pass_json + message.0.tables
                {
                    message.1 = at;
                }
                message.0 = message.0.or(cost);
            }
            if let Some(link) = &field.link {
                let at = format!("{at}/link");
                let sizes = sizes(template);
                let shown = field.value.texts.first().map_or(Extent::default(), |text| text.cost(&sizes).out);
                let link = ledger.address(link, &at);
                // Written as HTML, where a quote becomes &quot;.
                let html = 6 * (link.out.characters + shown.characters);
                let steps = link.steps + 10 * html;
                ledger.add(&at, TemplateCost { steps, pass_json: html + AROUND_TEXT, tables: 0 });
            }
        }
    }
    ledger.add(&message.1, message.0);
    if let Some(barcode) = &template.barcode {
        let both = [Some(&barcode.value), barcode.text.as_ref()];
        for (text, at) in both.into_iter().zip(["/barcode/value", "/barcode/text"]) {
            let Some(text) = text else { continue };
            let cost = ledger.text(text, at);
            // Written twice: for readers that know only one barcode, and for others.
            let pass_json = 2 * (cost.out.escaped + 3 * AROUND_TEXT);
            ledger.add(at, TemplateCost { steps: cost.steps + cost.out.bytes * 8, pass_json, tables: 0 });
        }
    }
    for (place, location) in template.locations.iter().enumerate() {
        let at = format!("/locations/{place}/text");
        ledger.add(&at, TemplateCost { steps: MEMBER, pass_json: 4 * AROUND_TEXT, tables: 0 });
        if let Some(text) = &location.text {
            ledger.phrase(text, &at);
        }
    }
    for (role, text) in &template.images {
        let at = format!("/images/{role}");
        let steps = ledger.text(text, &at).steps;
        ledger.add(&at, TemplateCost { steps, ..TemplateCost::default() });
    }
    ledger.tree(&template.apple_pass, "/apple/pass");
    ledger
}

impl Ledger<'_> {
    fn add(&mut self, at: &str, cost: TemplateCost) {
        self.whole = self.whole.and(cost);
        for (worst, found) in self.worst.iter_mut().zip([cost.steps, cost.pass_json, cost.tables]) {
            if found > worst.0 {
                *worst = (found, at.to_owned());
            }
        }
    }

    /// Returns the cost of a text; adds a problem when the text can be too long.
    fn text(&mut self, text: &Text, at: &str) -> Cost {
        let sizes = sizes(self.template);
        let cost = text.cost(&sizes);
        self.expressions += text.expressions().count();
        if cost.within > MOST_WITHIN
            && let Some((expression, within)) = text.too_long_within(&sizes)
        {
            let quoted: String = expression.chars().take(60).collect();
            self.too_long.add(
                at,
                format!(
                    "has the expression {{{{ {quoted} }}}}, which may compute with a text of {within} bytes; expected at most \
                     {MOST_WITHIN}"
                ),
            );
        }
        if cost.out.usual > MAX_OUTPUT as u64 {
            let (found, most) = (cost.out.usual, MAX_OUTPUT);
            self.too_long.add(at, format!("can be {found} characters long for some card; expected at most {most}"));
        }
        cost
    }

    fn address(&mut self, text: &Text, at: &str) -> Cost {
        self.text(text, at);
        text.cost_as_address(&sizes(self.template))
    }

    fn phrase(&mut self, phrase: &Phrase, at: &str) {
        let cost = self.cost_of_phrase(phrase, at);
        self.add(at, cost);
    }

    fn cost_of_phrase(&mut self, phrase: &Phrase, at: &str) -> TemplateCost {
        let key = phrase.key.len() as u64 + AROUND_TEXT;
        if !phrase.varied {
            let cost = phrase.texts.first().map_or(Cost::default(), |text| self.text(text, at));
            return TemplateCost { steps: cost.steps, pass_json: cost.out.escaped + AROUND_TEXT, tables: 0 };
        }
        let mut total = TemplateCost { steps: 0, pass_json: key, tables: 0 };
        let mut largest = 0;
        for text in &phrase.texts {
            let cost = self.text(text, at);
            let entry = cost.out.escaped + key;
            largest = largest.max(entry);
            total.steps = total.steps.saturating_add(cost.steps);
            total.tables = total.tables.saturating_add(entry);
        }
        // English gets the first language's texts, or those of its nearest relative.
        if self.languages > phrase.texts.len() as u64 {
            total.tables = total.tables.saturating_add(largest);
            total.steps = total.steps.saturating_add(8 * largest);
        }
        total
    }

    fn tree(&mut self, tree: &Tree, at: &str) {
        match tree {
            Tree::Leaf(value) => {
                let bytes = value.to_string().len() as u64 + AROUND_TEXT;
                self.add(at, TemplateCost { steps: MEMBER + 8 * bytes, pass_json: bytes, tables: 0 });
            }
            Tree::Text(pointer, text) => {
                let cost = self.text(text, pointer);
                let pass_json = cost.out.escaped + AROUND_TEXT;
                self.add(pointer, TemplateCost { steps: MEMBER + cost.steps, pass_json, tables: 0 });
            }
            Tree::List(items) => {
                for item in items {
                    self.tree(item, at);
                }
            }
            Tree::Members(members) => {
                for (name, member) in members {
                    let pass_json = Extent::of(name).escaped + AROUND_TEXT;
                    self.add(at, TemplateCost { steps: MEMBER, pass_json, tables: 0 });
                    match member {
                        Tree::Text(pointer, text) if is_address(name) => {
                            let cost = self.address(text, pointer);
                            let pass_json = cost.out.escaped + AROUND_TEXT;
                            self.add(pointer, TemplateCost { steps: MEMBER + cost.steps, pass_json, tables: 0 });
                        }
                        member => self.tree(member, at),
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use crate::domain::cards::Card;
    use crate::domain::ids::PassTypeId;
    use crate::domain::render::render_or_faults;
    use crate::domain::time::Timestamp;
    use crate::wallets::apple::package::pass_json::{PassIdentity, pass_json};

    fn document(fields: Value, pass: Value, attributes: Value) -> Value {
        json!({"name": "n", "organization": "o", "attributes": attributes, "fields": fields,
            "apple": {"style": "storeCard", "pass": pass}})
    }

    fn refused(document: &Value) -> Vec<(String, String)> {
        let problems = Template::parse(document).expect_err("refused").into_vec();
        problems.into_iter().map(|p| (p.pointer, p.detail)).collect()
    }

    fn long_text(max: u64) -> Value {
        json!([{"name": "a", "type": "text", "max_length": max}])
    }

    fn card(attributes: Map<String, Value>) -> Card {
        Card::sample(attributes, Timestamp::from_seconds(0))
    }

    /// Returns the steps, bytes of pass.json and bytes of tables that a card really takes; `None` when it can't be
    /// rendered.
    fn taken(template: &Template, attributes: &Value) -> Option<TemplateCost> {
        let card = card(attributes.as_object().cloned().unwrap_or_default());
        let rendered = render_or_faults(template, &card, "https://cards.example.com/c/kCj-0FYmaZjKKhcXRDBF").ok()?;
        let identity = PassIdentity {
            serial: &card.serial,
            pass_type: &PassTypeId::trusted("pass.sample".to_owned()),
            team: "TEAMSAMPLE",
            auth_token: &crate::domain::ids::AuthToken::trusted("sample-that-opens-nothing".to_owned()),
            web_service_url: "https://cards.example.com/apple",
        };
        let written = pass_json(&rendered, &identity);
        let own: usize = written.own_entries.iter().map(String::len).sum();
        Some(TemplateCost {
            steps: rendered.taken.0,
            pass_json: written.json.to_string().len() as u64,
            tables: own as u64,
        })
    }

    #[test]
    fn an_expression_that_joins_a_long_text_over_and_over_is_refused_with_its_place() {
        let joined = ["a"; 110].join("~");
        let field = json!([{"key": "k", "value": format!("{{{{ 'x' if ({joined})=='' else 'y' }}}}")}]);
        let found = refused(&document(json!({"back": field}), json!({}), long_text(4096)));
        assert!(
            matches!(found.as_slice(), [(at, why), ..]
            if at == "/fields/back/0/value" && why.contains(&(110 * 4 * 4096).to_string()) && why.contains("262144")),
            "{found:?}"
        );
    }

    #[test]
    fn many_expressions_of_which_each_costs_something_are_refused_for_their_sum() {
        let expression = "{{ 'x' if (a~a~a~a)=='' else 'y' }}";
        let list: Vec<Value> = (0..25).map(|_| json!([expression.repeat(20)])).collect();
        let few = document(json!({}), json!({"userInfo": {"list": list[..2]}}), long_text(4096));
        assert!(Template::parse(&few).is_ok());
        let lists: Vec<Value> = (0..10).map(|_| json!(list)).collect();
        let found = refused(&document(json!({}), json!({"userInfo": {"lists": lists}}), long_text(4096)));
        assert!(
            matches!(found.as_slice(), [(at, why)] if at.starts_with("/apple/pass/userInfo/lists/")
                && why.contains("steps of work") && why.contains("50000000")),
            "{found:?}"
        );
    }

    #[test]
    fn a_template_whose_pass_could_be_too_large_is_refused_with_place_and_number() {
        let list = |n: usize| json!({"userInfo": {"list": vec!["{{a}}"; n]}});
        let found = refused(&document(json!({}), list(500), long_text(4096)));
        assert!(
            found.iter().any(|(at, why)| at.starts_with("/apple/pass/userInfo/list/")
                && why.contains("pass.json")
                && why.contains("2097152")),
            "{found:?}"
        );
        // Just below the limit: the largest values allowed, with four bytes or an escape for each character.
        let template = Template::parse(&document(json!({}), list(127), long_text(4096))).expect("allowed");
        for character in ["\u{1F600}", "\"", "\n", "x"] {
            let taken = taken(&template, &json!({"a": character.repeat(4096)})).expect("drawn");
            assert!(taken.pass_json <= template.cost.pass_json && taken.pass_json <= MOST_PASS_JSON, "{taken:?}");
            assert!(taken.steps <= template.cost.steps && taken.steps <= MOST_STEPS, "{taken:?}");
        }
    }

    #[test]
    fn rich_templates_in_many_languages_are_allowed() {
        let languages = [
            "en", "lv", "ru", "de", "fr", "it", "es", "pt", "pl", "cs", "sk", "hu", "ro", "bg", "el", "fi", "sv", "da",
            "et", "lt",
        ];
        let field = |i: usize| {
            json!({
            "key": format!("k{i}"), "label": format!("Label {i}"), "change_message": format!("Now %@ {i}"),
            "value": format!("Hello {{{{ name }}}}, you have {{{{ points | number }}}} points until {{{{ until | date }}}} {i}")})
        };
        let fields: Vec<Value> = (0..40).map(field).collect();
        let tables: Map<String, Value> = languages[1..]
            .iter()
            .map(|l| {
                let table: Map<String, Value> = fields
                    .iter()
                    .flat_map(|f| [&f["label"], &f["value"], &f["change_message"]])
                    .filter_map(Value::as_str)
                    .map(|text| (text.to_owned(), json!(format!("{l}: {text}"))))
                    .collect();
                ((*l).to_owned(), Value::Object(table))
            })
            .collect();
        let document = json!({
            "name": "n", "organization": "o", "languages": languages, "strings": tables,
            "attributes": [{"name": "name", "type": "text"}, {"name": "points", "type": "integer"}, {"name": "until", "type": "date"}],
            "fields": {"back": fields}, "apple": {"style": "storeCard"}});
        let template = Template::parse(&document).unwrap_or_else(|p| panic!("{p:?}"));
        let name = "Ž\"".repeat(512);
        let taken = taken(&template, &json!({"name": name, "points": 123_456, "until": "2026-12-31"})).expect("drawn");
        assert!(taken.tables <= template.cost.tables && taken.tables > 1_000_000, "{taken:?}");
        assert!(taken.steps <= template.cost.steps, "{taken:?} {:?}", template.cost);
    }

    #[test]
    fn what_was_published_before_there_were_limits_is_stopped_when_a_card_is_drawn() {
        let joined = ["a"; 110].join("~");
        let field = json!([{"key": "k", "value": format!("{{{{ 'x' if ({joined})=='' else 'y' }}}}")}]);
        let old = document(json!({"back": field}), json!({"userInfo": {"list": vec!["{{a}}"; 500]}}), long_text(4096));
        let template = Template::published(&old).expect("read");
        assert!(!template.cost.fits());
        let card = card(json!({"a": "\u{1F600}".repeat(4096)}).as_object().cloned().unwrap_or_default());
        let faults = render_or_faults(&template, &card, "https://x").expect_err("stopped");
        assert_eq!(faults[0].at, "/fields/back/0/value");
        assert!(faults[0].error.to_string().contains("1802240"), "{:?}", faults[0]);
        assert!(
            faults
                .iter()
                .any(|f| f.at.starts_with("/apple/pass/userInfo/list/") && f.error.to_string().contains("6291456"))
        );
    }

    /// Small expressions over three attributes.
    fn expression() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            Just("name".to_owned()),
            Just("points".to_owned()),
            Just("tier".to_owned()),
            Just("card.id".to_owned()),
            Just("'ab\\n\"'".to_owned()),
            Just("7".to_owned()),
        ];
        leaf.prop_recursive(4, 12, 3, |inner| {
            prop_oneof![
                (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} ~ {b})")),
                (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} + {b})")),
                (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| format!("({a} if {b} else {c})")),
                inner.clone().prop_map(|a| format!("({a} | upper)")),
                inner.clone().prop_map(|a| format!("({a} | lower)")),
                inner.clone().prop_map(|a| format!("({a} | capitalize)")),
                inner.clone().prop_map(|a| format!("({a} | trim)")),
                inner.clone().prop_map(|a| format!("(([{a}, {a}]) ~ '')")),
                inner.clone().prop_map(|a| format!("({a} ~ '')[:5]")),
                inner.clone().prop_map(|a| format!("({a} ~ '')[1:-2]")),
                inner.clone().prop_map(|a| format!("(({a} ~ '') == 'x')")),
                inner.clone().prop_map(|a| format!("(points | number ~ {a})")),
                (inner.clone(), inner).prop_map(|(a, b)| format!("([{a}, {b}][0])")),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

        #[test]
        fn no_card_costs_more_than_its_template_says(
            expressions in proptest::collection::vec((expression(), any::<bool>()), 1..5),
            name in "[a\"\\\\ΐßİ\u{1F600}\n\u{301}]{0,12}",
            points in -9_007_199_254_740_992i64..9_007_199_254_740_992,
            languages in 1usize..4,
        ) {
            let texts: Vec<String> = expressions
                .iter()
                .map(|(e, alone)| if *alone { format!("{{{{ {e} }}}}") } else { format!("<\"{{{{ {e} }}}}{{{{ name }}}}>") })
                .collect();
            let back: Vec<Value> = texts
                .iter()
                .enumerate()
                .map(|(i, t)| json!({"key": format!("k{i}"), "label": "{{ name }}", "value": t, "link": "https://x/{{ tier }}"}))
                .collect();
            let document = json!({
                "name": "n", "organization": "{{ name }} & Co", "languages": (["en", "lv", "ru"][..languages]),
                "attributes": [
                    {"name": "name", "type": "text", "max_length": 12}, {"name": "points", "type": "integer"},
                    {"name": "tier", "type": "choice", "choices": ["b\"", "gold"]}],
                "fields": {"back": back},
                "barcode": {"format": "qr", "value": "{{ name ~ card.id }}", "text": "{{ points }}"},
                "locations": [{"latitude": 1, "longitude": 2, "text": "{{ points | number }} {{ name }}"}],
                "apple": {"style": "storeCard", "pass": {"userInfo": {"list": texts}}}});
            // Such expressions may fail for some value; their cost is checked all the same.
            let Ok(template) = Template::published(&document) else { return Ok(()) };
            let values = json!({"name": name, "points": points, "tier": "b\""});
            if let Some(taken) = taken(&template, &values) {
                prop_assert!(taken.steps <= template.cost.steps, "{taken:?} {:?}", template.cost);
                prop_assert!(taken.pass_json <= template.cost.pass_json, "{taken:?} {:?}", template.cost);
                prop_assert!(taken.tables <= template.cost.tables, "{taken:?} {:?}", template.cost);
            }
            // And each expression alone: the result is never longer than predicted.
            let sizes = sizes(&template);
            let card = card(values.as_object().cloned().unwrap_or_default());
            for text in &texts {
                let known = |name: &str| template.attribute(name).is_some();
                let Ok(text) = Text::parse(text, &known) else { continue };
                let Some(out) = crate::domain::render::evaluate_alone(&template, &card, &text) else { continue };
                let (found, foreseen) = (Extent::of(&out), text.cost(&sizes).out);
                prop_assert!(found.bytes <= foreseen.bytes, "{} {out:?} {foreseen:?}", text.source().unwrap_or_default());
                prop_assert!(found.escaped <= foreseen.escaped, "{} {out:?} {foreseen:?}", text.source().unwrap_or_default());
            }
        }
    }
}
