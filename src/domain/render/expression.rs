//! Texts with expressions, such as `You have {{ points }} points`.
//!
//! Only expressions exist, no statements: minijinja's `compile_expression` on an empty environment knows no loop, no
//! macro and no function beyond the filters registered here. What an expression may cost is known before it runs (see
//! [`crate::domain::render::budget`]); fuel bounds what that model may have overlooked, and `*` works on numbers only
//! (it would repeat texts).

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use minijinja::value::Value as Dynamic;
use minijinja::{Environment, Expression, State, UndefinedBehavior};

use crate::domain::ids::AttributeName;
use crate::domain::input::{Lines, forbidden_character, with_line_feeds};
use crate::domain::render::budget::{Budget, Cost, Extent, MOST_WITHIN, SHOWN_NUMBER, Shape};
use crate::domain::render::formats::{self, DateLength, TimeLength};
use crate::domain::values::address;
use crate::domain::values::attribute::AttributeValue;
use crate::domain::values::locale::Language;
use crate::domain::values::money::Currency;
use crate::domain::values::zone::Zone;

/// The longest expression in bytes.
const MAX_EXPRESSION: usize = 500;
/// The longest resulting text, in characters.
pub const MAX_OUTPUT: usize = 16_384;
/// Names that exist besides the attributes.
pub const BUILT_IN: [&str; 7] = [
    "card.id",
    "card.serial_number",
    "card.state",
    "card.url",
    "template.id",
    "template.name",
    "template.organization",
];

static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut env = Environment::empty();
    env.set_undefined_behavior(UndefinedBehavior::Strict);
    env.set_fuel(Some(10_000));
    env.add_filter(
        "default",
        |value: Dynamic, other: Dynamic| {
            if value.is_undefined() || value.is_none() { other } else { value }
        },
    );
    env.add_filter("upper", |text: String| text.to_uppercase());
    env.add_filter("lower", |text: String| text.to_lowercase());
    env.add_filter("capitalize", |text: String| {
        let mut letters = text.chars();
        letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect::<String>())
    });
    env.add_filter("number", number_filter);
    env.add_filter("money", money_filter);
    env.add_filter("date", date_filter);
    env.add_filter("time", time_filter);
    env.add_filter("datetime", date_time_filter);
    env.add_filter("trim", |text: String| text.trim().to_owned());
    env.add_filter("abs", |n: f64| tidy(n.abs()));
    env.add_filter("round", |n: f64, places: Option<u32>| {
        let factor = 10f64.powi(i32::try_from(places.unwrap_or(0).min(9)).unwrap_or(0));
        tidy((n * factor).round() / factor)
    });
    env.add_test("defined", |value: Dynamic| !value.is_undefined());
    env.add_test("none", |value: Dynamic| value.is_none());
    env
});

/// Filters whose result depends on the language of the text.
const LOCALISED: [&str; 5] = ["number", "money", "date", "time", "datetime"];
/// Names under which such filters find the text's language and the currency of the amounts in the expression. No
/// expression can use them: a name that is neither an attribute nor built in is refused.
const LANGUAGE: &str = "_language";
const CURRENCY: &str = "_currency";

fn refused(why: impl Into<std::borrow::Cow<'static, str>>) -> minijinja::Error {
    minijinja::Error::new(minijinja::ErrorKind::InvalidOperation, why)
}

fn language(state: &State<'_, '_>) -> Language {
    let tag = state.lookup(LANGUAGE).and_then(|tag| tag.as_str().map(str::to_owned));
    tag.and_then(|tag| Language::parse(&tag).ok()).unwrap_or_else(Language::english)
}

/// The filter `number`, with or without a number of decimals: `number(2)`.
fn number_filter(state: &State<'_, '_>, n: f64, places: Option<usize>) -> Result<String, minijinja::Error> {
    let written = match (written(n), places) {
        (Some(_), Some(places)) => format!("{n:.*}", places.min(9)),
        (Some(written), None) => written,
        (None, _) => return Err(refused("it is no number that can be shown")),
    };
    formats::number(&written, &language(state)).ok_or_else(|| refused("it is no number that can be shown"))
}

/// The filter `money`, in the currency of the amount in the expression or in a given one: `money('EUR')`.
fn money_filter(state: &State<'_, '_>, n: f64, currency: Option<String>) -> Result<String, minijinja::Error> {
    let currency = currency.or_else(|| state.lookup(CURRENCY).and_then(|code| code.as_str().map(str::to_owned)));
    let currency = currency.ok_or_else(|| refused("money needs a currency, for example money('EUR')"))?;
    let currency = Currency::parse(&currency).map_err(refused)?;
    written(n).ok_or_else(|| refused("it is no number that can be shown"))?;
    let written = format!("{n:.*}", usize::from(currency.decimals()));
    formats::money(&written, currency, &language(state)).ok_or_else(|| refused("it is no amount that can be shown"))
}

/// The filter `date`, also `date('short')` and `date('long')`: of a date, or of a moment's day in the business's zone.
fn date_filter(state: &State<'_, '_>, text: String, length: Option<String>) -> Result<String, minijinja::Error> {
    let length = date_length("date", length)?;
    let day = text.get(..10).and_then(|day| day.parse().ok()).ok_or_else(|| refused("it is no date"))?;
    formats::date(day, length, &language(state)).ok_or_else(|| refused("it is no date that can be shown"))
}

fn date_length(filter: &str, length: Option<String>) -> Result<DateLength, minijinja::Error> {
    let known = length.as_deref().map_or(Some(DateLength::Medium), DateLength::parse);
    known.ok_or_else(|| refused(format!("{filter} takes 'short', 'medium' or 'long'")))
}

/// The filter `time` of a moment in the business's zone: hours and minutes; `time('medium')` adds the seconds.
fn time_filter(state: &State<'_, '_>, text: String, length: Option<String>) -> Result<String, minijinja::Error> {
    let length = length.as_deref().map_or(Some(TimeLength::Short), TimeLength::parse);
    let length = length.ok_or_else(|| refused("time takes 'short' or 'medium'"))?;
    let written = formats::time(moment(&text)?.time(), length, &language(state));
    written.ok_or_else(|| refused("it is no time that can be shown"))
}

/// The filter `datetime`, also `datetime('short')` and `datetime('long')`: the day in that length, hours and minutes.
fn date_time_filter(state: &State<'_, '_>, text: String, length: Option<String>) -> Result<String, minijinja::Error> {
    let length = date_length("datetime", length)?;
    let written = formats::date_time(moment(&text)?, (length, TimeLength::Short), &language(state));
    written.ok_or_else(|| refused("it is no time that can be shown"))
}

/// Returns what clocks showed where a moment was written. Moments of a card are written in the business's zone.
fn moment(text: &str) -> Result<jiff::civil::DateTime, minijinja::Error> {
    let shown = text.get(..19).filter(|shown| shown.contains(['T', 't', ' ']));
    shown.and_then(|shown| shown.parse().ok()).ok_or_else(|| refused("it is no datetime"))
}

/// Returns a number as an integer when it is whole, so that it prints without `.0`.
fn tidy(n: f64) -> Dynamic {
    if n.fract() == 0.0 && n.abs() < 9e15 { Dynamic::from(n as i64) } else { Dynamic::from(n) }
}

/// Why a text has no value for a card.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvaluationError {
    /// It uses an attribute that this card has no value for, and gives no default.
    #[error("needs a value of {0}")]
    Missing(String),
    /// It can't be computed from this card's values.
    #[error("can't be computed: {0}")]
    Failed(String),
}

/// The names that a text may refer to, and what they stand for.
pub trait Scope {
    /// Returns the value of an attribute; `None` when the card has none.
    fn attribute(&self, name: &str) -> Option<&AttributeValue>;
    /// Returns the value of a name in [`BUILT_IN`].
    fn built_in(&self, name: &str) -> Option<String>;
    /// Returns the currency that an attribute is declared with.
    fn currency(&self, name: &str) -> Option<Currency>;
    /// Returns the zone in which moments are written.
    fn zone(&self) -> &Zone {
        Zone::utc()
    }
    /// Returns the budget that computations are charged to.
    fn budget(&self) -> &Budget;
}

/// A text with expressions, parsed once.
#[derive(Debug, Clone)]
pub struct Text {
    // Shared: a text without a translation is the same in every language.
    segments: Arc<[Segment]>,
}

#[derive(Debug, Clone)]
enum Segment {
    Literal(String),
    Name(String),
    Expression(Arc<Compiled>),
}

/// An expression that was checked when it was read. Its compiled form takes 14 KiB however short it is, so only the
/// expressions that were computed last are kept compiled; see [`Recent`].
#[derive(Debug)]
struct Compiled {
    source: Box<str>,
    shape: Shape,
    names: Vec<String>,
    numbers_only: bool,
    localised: bool,
}

/// The compiled expressions that were computed last, of all templates: at most some 2,000, or 28 MiB.
static RECENT: LazyLock<Recent> = LazyLock::new(Recent::default);

/// How many new expressions a shard holds; it keeps as many older ones.
const NEW_IN_SHARD: usize = 64;

/// A cache of compiled expressions by their text. When a shard's new expressions reach the limit, they become its old
/// ones, and the old ones that were not used meanwhile are forgotten.
#[derive(Default)]
struct Recent {
    shards: [Mutex<Shard>; 16],
    hashes: RandomState,
}

#[derive(Default)]
struct Shard {
    new: HashMap<Box<str>, Arc<Expression<'static, 'static>>>,
    old: HashMap<Box<str>, Arc<Expression<'static, 'static>>>,
}

impl Shard {
    fn find(&mut self, source: &str) -> Option<Arc<Expression<'static, 'static>>> {
        if let Some(found) = self.new.get(source) {
            return Some(Arc::clone(found));
        }
        let (source, found) = self.old.remove_entry(source)?;
        self.keep(source, Arc::clone(&found));
        Some(found)
    }

    fn keep(&mut self, source: Box<str>, expression: Arc<Expression<'static, 'static>>) {
        if self.new.len() >= NEW_IN_SHARD {
            self.old = std::mem::take(&mut self.new);
        }
        self.new.insert(source, expression);
    }
}

impl Recent {
    fn compiled(&self, source: &str) -> Result<Arc<Expression<'static, 'static>>, minijinja::Error> {
        let hash = self.hashes.hash_one(source);
        let shard = &self.shards[hash as usize % self.shards.len()];
        let lock = || shard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = lock().find(source) {
            return Ok(found);
        }
        let expression = Arc::new(ENVIRONMENT.compile_expression_owned(source.to_owned())?);
        lock().keep(source.into(), Arc::clone(&expression));
        Ok(expression)
    }
}

/// The most expressions in one text.
const MAX_EXPRESSIONS: usize = 20;

impl Text {
    /// Parses a text; `known` says whether a name may be used.
    ///
    /// # Errors
    /// A sentence that quotes the expression and says what is wrong.
    pub fn parse(source: &str, known: &dyn Fn(&str) -> bool) -> Result<Self, String> {
        let mut segments = Vec::new();
        let mut rest = source;
        while let Some(start) = rest.find("{{") {
            let (literal, tail) = rest.split_at(start);
            if !literal.is_empty() {
                segments.push(Segment::Literal(literal.to_owned()));
            }
            let tail = &tail[2..];
            let Some(end) = tail.find("}}") else {
                return Err("has {{ without }}".to_owned());
            };
            let inner = tail[..end].trim();
            segments.push(Self::segment(inner, known)?);
            let expressions = segments.iter().filter(|s| !matches!(s, Segment::Literal(_))).count();
            if expressions > MAX_EXPRESSIONS {
                return Err(format!("has more than {MAX_EXPRESSIONS} expressions"));
            }
            rest = &tail[end + 2..];
        }
        if !rest.is_empty() {
            segments.push(Segment::Literal(rest.to_owned()));
        }
        Ok(Self { segments: segments.into() })
    }

    fn segment(inner: &str, known: &dyn Fn(&str) -> bool) -> Result<Segment, String> {
        let quoted: String = inner.chars().take(60).collect();
        if inner.is_empty() {
            return Err("has an empty {{ }}".to_owned());
        }
        if inner.len() > MAX_EXPRESSION {
            return Err(format!("has an expression of {} bytes; expected at most {MAX_EXPRESSION}", inner.len()));
        }
        let unknown = |name: &str| {
            format!(
                "uses {name} in {{{{ {quoted} }}}}, which is neither an attribute of the template nor one of {}",
                BUILT_IN.join(", ")
            )
        };
        if inner.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.')
            && inner.starts_with(|c: char| c.is_ascii_alphabetic())
            && !["true", "false", "none"].contains(&inner)
        {
            return if known(inner) || BUILT_IN.contains(&inner) {
                Ok(Segment::Name(inner.to_owned()))
            } else {
                Err(unknown(inner))
            };
        }
        // Constants are folded while an expression is compiled, where fuel doesn't count, so `*` must never meet a
        // text.
        let numbers_only = inner.contains('*');
        if numbers_only && !multiplies_numbers(inner) {
            return Err(format!(
                "has the expression {{{{ {quoted} }}}}; * works on numbers only, for example {{{{ (points * 2) | number }}}}"
            ));
        }
        let expression = ENVIRONMENT.compile_expression_owned(inner.to_owned()).map_err(|e| {
            format!(
                "has the expression {{{{ {quoted} }}}}, which can't be understood: {}",
                e.detail().unwrap_or("syntax error")
            )
        })?;
        let not_understood =
            |why: &str| format!("has the expression {{{{ {quoted} }}}}, which can't be understood: {why}");
        let shape = minijinja::machinery::parse_expr(inner).map_err(|_| not_understood("syntax error"))?;
        let shape = Shape::of(&shape).map_err(not_understood)?;
        // Not the library's own list, which leaves out the names in a slice.
        let names = shape.names();
        if let Some(name) = names.iter().find(|name| !known(name) && !BUILT_IN.contains(&name.as_str())) {
            return Err(unknown(name));
        }
        // Filters are looked up when an expression runs; a trial run finds a misspelt one before a card does.
        let trial = expression.eval(Dynamic::from(BTreeMap::<String, Dynamic>::new()));
        if let Err(e) = trial
            && matches!(
                e.kind(),
                minijinja::ErrorKind::UnknownFilter
                    | minijinja::ErrorKind::UnknownTest
                    | minijinja::ErrorKind::UnknownFunction
            )
        {
            return Err(format!("has the expression {{{{ {quoted} }}}}: {}", e.detail().unwrap_or("unknown filter")));
        }
        // A rough match: a text that only mentions such a filter is evaluated per language needlessly.
        let mut filters = inner.split('|').skip(1).map(str::trim_start);
        let localised = filters.any(|filter| {
            let name: &str = filter.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default();
            LOCALISED.contains(&name)
        });
        Ok(Segment::Expression(Arc::new(Compiled { source: inner.into(), shape, names, numbers_only, localised })))
    }

    /// Returns about how many bytes it takes in memory.
    pub fn memory(&self) -> usize {
        let of_segment = |segment: &Segment| match segment {
            Segment::Literal(text) | Segment::Name(text) => 48 + text.len(),
            Segment::Expression(compiled) => 160 + 3 * compiled.source.len(),
        };
        self.segments.iter().map(of_segment).sum()
    }

    /// Whether it contains no expression, so that it is the same for every card.
    pub fn is_fixed(&self) -> bool {
        self.segments.iter().all(|s| matches!(s, Segment::Literal(_)))
    }

    /// Whether it contains letters outside its expressions: words that may need a translation.
    pub fn has_words(&self) -> bool {
        self.segments.iter().any(|s| matches!(s, Segment::Literal(text) if text.chars().any(char::is_alphabetic)))
    }

    /// Returns the attribute when the text is exactly one `{{ attribute }}`: then the value keeps its type.
    pub fn single_attribute(&self) -> Option<&str> {
        match &*self.segments {
            [Segment::Name(name)] if !name.contains('.') => Some(name),
            _ => None,
        }
    }

    /// Whether it differs between languages even without a translation.
    pub fn is_localised(&self) -> bool {
        self.segments.iter().any(|s| matches!(s, Segment::Expression(compiled) if compiled.localised))
    }

    /// Returns every name that it refers to.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.segments
            .iter()
            .flat_map(|segment| match segment {
                Segment::Literal(_) => [].iter(),
                Segment::Name(name) => std::slice::from_ref(name).iter(),
                Segment::Expression(compiled) => compiled.names.iter(),
            })
            .map(String::as_str)
    }

    /// Whether it uses the attribute.
    pub fn uses(&self, attribute: &AttributeName) -> bool {
        self.names().any(|name| name == attribute.as_str())
    }

    /// Returns its expressions, each as a text of its own.
    pub fn expressions(&self) -> impl Iterator<Item = Self> {
        let expressions = self.segments.iter().filter(|segment| matches!(segment, Segment::Expression(_)));
        expressions.map(|segment| Self { segments: Arc::new([segment.clone()]) })
    }

    /// Returns the source of its first expression.
    pub fn source(&self) -> Option<&str> {
        self.segments.iter().find_map(|segment| match segment {
            Segment::Expression(compiled) => Some(&*compiled.source),
            Segment::Literal(_) | Segment::Name(_) => None,
        })
    }

    /// Returns the cost of computing the text and writing it once, when names have values of at most those sizes.
    pub fn cost(&self, size: &dyn Fn(&str) -> Extent) -> Cost {
        let mut whole = Cost::default();
        for segment in self.segments.iter() {
            let cost = match segment {
                Segment::Literal(text) => Cost { out: Extent::of(text), ..Cost::default() },
                Segment::Name(name) => Cost::named(size(name)),
                Segment::Expression(compiled) => compiled.shape.cost(size),
            };
            whole.out = whole.out.and(cost.out);
            whole.steps = whole.steps.saturating_add(cost.steps);
            whole.within = whole.within.max(cost.within);
        }
        let usual = whole.out.usual;
        // A longer text is refused when a card would have it.
        whole.out = Extent { usual, ..whole.out.at_most(MAX_OUTPUT as u64) };
        whole.steps = whole.steps.saturating_add(Cost::written(whole.out).steps);
        whole
    }

    /// Returns its cost as an address ([`Text::evaluate_address`]), where a byte may become three.
    pub fn cost_as_address(&self, size: &dyn Fn(&str) -> Extent) -> Cost {
        let cost = self.cost(size);
        let encoded = cost.out.bytes.saturating_mul(3);
        let out = Extent { usual: cost.out.usual, ..Extent::plain(encoded.min(MAX_OUTPUT as u64)) };
        Cost { out, steps: cost.steps.saturating_add(Cost::written(Extent::plain(encoded)).steps), ..cost }
    }

    /// Returns the first expression with an intermediate text that is too long, and that text's size in bytes.
    pub fn too_long_within(&self, size: &dyn Fn(&str) -> Extent) -> Option<(&str, u64)> {
        self.segments.iter().find_map(|segment| {
            let Segment::Expression(compiled) = segment else { return None };
            let within = compiled.shape.cost(size).within;
            (within > MOST_WITHIN).then_some((&*compiled.source, within))
        })
    }

    /// Returns the text for one card in a language.
    ///
    /// # Errors
    /// [`EvaluationError`] when a value is missing or can't be computed with.
    pub fn evaluate(&self, scope: &dyn Scope, language: &Language) -> Result<String, EvaluationError> {
        self.joined(scope, language, |out, part| match part {
            Part::Literal(text) => out.push_str(text),
            Part::Value(value) => out.push_str(&value),
        })
    }

    /// Returns the address for one card: values are percent-encoded within it (RFC 3986), so that a blank, `&` or `#`
    /// of a value can't end or extend what the template wrote. A value that the address begins with is an address
    /// itself.
    ///
    /// # Errors
    /// As [`Text::evaluate`].
    pub fn evaluate_address(&self, scope: &dyn Scope, language: &Language) -> Result<String, EvaluationError> {
        self.joined(scope, language, |out, part| match part {
            Part::Literal(text) => address::push_literal(out, text),
            Part::Value(value) => address::push_value(out, &value),
        })
    }

    fn joined(
        &self,
        scope: &dyn Scope,
        language: &Language,
        mut push: impl FnMut(&mut String, Part<'_>),
    ) -> Result<String, EvaluationError> {
        let mut out = String::new();
        for segment in self.segments.iter() {
            match segment {
                Segment::Literal(text) => push(&mut out, Part::Literal(text)),
                Segment::Name(name) => {
                    let value = match scope.attribute(name) {
                        Some(value) => plain(value, scope.zone()),
                        None => scope.built_in(name).ok_or_else(|| EvaluationError::Missing(name.clone()))?,
                    };
                    let cost = Cost::named(Extent::plain(value.len() as u64));
                    scope.budget().take(&cost).map_err(|e| EvaluationError::Failed(e.to_string()))?;
                    push(&mut out, Part::Value(value));
                }
                Segment::Expression(compiled) => {
                    let cost = compiled.shape.cost(&|name| size_of(scope, name));
                    scope.budget().take(&cost).map_err(|e| EvaluationError::Failed(e.to_string()))?;
                    push(&mut out, Part::Value(compiled.evaluate(scope, language)?));
                }
            }
            // Checked before the next expression is computed: a character has at most four bytes.
            if out.len() > 4 * MAX_OUTPUT {
                break;
            }
        }
        // An expression can produce a line end of its own ("\r\n" in its quotes).
        if out.contains('\r') {
            out = with_line_feeds(&out).into_owned();
        }
        scope.budget().keep(&out).map_err(|e| EvaluationError::Failed(e.to_string()))?;
        if forbidden_character(&out, Lines::Many).is_some() {
            return Err(EvaluationError::Failed("it has a control character".to_owned()));
        }
        if out.chars().count() > MAX_OUTPUT {
            return Err(EvaluationError::Failed(format!("longer than {MAX_OUTPUT} characters")));
        }
        Ok(out)
    }
}

/// A piece of an evaluated text.
enum Part<'t> {
    /// The template's own words.
    Literal(&'t str),
    /// A value, or the result of an expression.
    Value(String),
}

/// Returns the size of a card's value; zero when it has none.
fn size_of(scope: &dyn Scope, name: &str) -> Extent {
    match scope.attribute(name) {
        // The bytes stand for the characters, of which there are never more: that is enough, and quick.
        Some(AttributeValue::Text(text)) => Extent::plain(text.len() as u64),
        Some(_) => SHOWN_NUMBER,
        // A name may stand for all members of its owner.
        None => Extent::plain(scope.built_in(name).map_or(0, |text| text.len() as u64)),
    }
}

/// Whether `*` in an expression can't meet a text, which it would repeat: the expression contains and produces no text,
/// except by filters on the whole of it in brackets.
fn multiplies_numbers(inner: &str) -> bool {
    let mut depth = 0usize;
    let end = inner.char_indices().find(|(_, c)| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0
    });
    let parts = end.and_then(|(end, c)| Some((inner.get(1..end)?, inner.get(end + c.len_utf8()..)?)));
    let head = match parts {
        Some((head, tail)) if tail.trim_start().starts_with('|') && !tail.contains('*') => head,
        _ => inner,
    };
    let harmless = |filter: &str| {
        let name = filter.trim_start().split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next();
        ["abs", "round", "default"].contains(&name.unwrap_or_default())
    };
    !head.contains(['"', '\'', '[', '{', '~']) && head.split('|').skip(1).all(harmless)
}

/// Returns a number with at most nine decimals and without the noise of binary fractions; `None` when it is not finite
/// or reaches 10^15.
fn written(n: f64) -> Option<String> {
    if !n.is_finite() || n.abs() >= 1e15 {
        return None;
    }
    let text = format!("{n:.9}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    Some(if text == "-0" { "0" } else { text }.to_owned())
}

impl Compiled {
    fn evaluate(&self, scope: &dyn Scope, language: &Language) -> Result<String, EvaluationError> {
        let mut context: BTreeMap<String, Dynamic> = BTreeMap::new();
        for name in &self.names {
            if let Some(value) = scope.attribute(name)
                && let Some(value) = dynamic(value, self.numbers_only, scope.zone())
            {
                context.insert(name.clone(), value);
            }
        }
        if self.localised {
            context.insert(LANGUAGE.to_owned(), Dynamic::from(language.as_str()));
            let mut currencies = self.names.iter().filter_map(|name| scope.currency(name));
            // Amounts of two currencies have no currency in common.
            if let Some(currency) = currencies.next()
                && currencies.all(|other| other == currency)
            {
                context.insert(CURRENCY.to_owned(), Dynamic::from(currency.as_str()));
            }
        }
        for owner in ["card", "template"] {
            let prefix = format!("{owner}.");
            if !self.numbers_only && self.names.iter().any(|n| n.starts_with(&prefix)) {
                let members: BTreeMap<String, Dynamic> = BUILT_IN
                    .iter()
                    .filter_map(|name| {
                        let member = name.strip_prefix(prefix.as_str())?;
                        Some((member.to_owned(), Dynamic::from(scope.built_in(name)?)))
                    })
                    .collect();
                context.insert(owner.to_owned(), Dynamic::from(members));
            }
        }
        let missing = || {
            self.names
                .iter()
                .find(|name| !name.contains('.') && scope.attribute(name).is_none())
                .map(|name| EvaluationError::Missing(name.clone()))
        };
        let expression = RECENT.compiled(&self.source).map_err(|e| EvaluationError::Failed(e.kind().to_string()))?;
        match expression.eval(Dynamic::from(context)) {
            Ok(value) if value.is_undefined() || value.is_none() => {
                Err(missing().unwrap_or_else(|| EvaluationError::Failed("it has no value".to_owned())))
            }
            Ok(value) => match value.kind() {
                minijinja::value::ValueKind::Bool => Ok(if value.is_true() { "✓" } else { "–" }.to_owned()),
                minijinja::value::ValueKind::Number => {
                    let number = f64::try_from(value.clone()).unwrap_or(f64::NAN);
                    written(number)
                        .ok_or_else(|| EvaluationError::Failed("it is no number that can be shown".to_owned()))
                }
                minijinja::value::ValueKind::String => Ok(value.to_string()),
                other => Err(EvaluationError::Failed(format!("it is a {other}; expected a text or a number"))),
            },
            Err(e) => {
                // A missing value makes almost any operation fail, so it is the reason to report.
                let failed = || EvaluationError::Failed(e.detail().map_or_else(|| e.kind().to_string(), str::to_owned));
                Err(missing().unwrap_or_else(failed))
            }
        }
    }
}

/// Returns a value as part of a longer text: numbers with a point, dates as written, true and false as signs.
fn plain(value: &AttributeValue, zone: &Zone) -> String {
    match value {
        AttributeValue::Boolean(true) => "✓".to_owned(),
        AttributeValue::Boolean(false) => "–".to_owned(),
        AttributeValue::DateTime(t) => zone.to_rfc3339(*t),
        AttributeValue::Decimal(d) => d.to_fixed(0),
        other => match other.to_json() {
            serde_json::Value::String(text) => text,
            json => json.to_string(),
        },
    }
}

fn dynamic(value: &AttributeValue, numbers_only: bool, zone: &Zone) -> Option<Dynamic> {
    match value {
        AttributeValue::Integer(n) => Some(Dynamic::from(*n)),
        AttributeValue::Decimal(d) | AttributeValue::Money(d, _) => Some(tidy(d.to_f64())),
        AttributeValue::Boolean(b) => Some(Dynamic::from(*b)),
        _ if numbers_only => None,
        other => Some(Dynamic::from(plain(other, zone))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    struct Values(BTreeMap<&'static str, AttributeValue>, Budget);

    static DUBAI: LazyLock<Zone> = LazyLock::new(|| Zone::parse("Asia/Dubai").expect("a zone"));

    impl Scope for Values {
        fn attribute(&self, name: &str) -> Option<&AttributeValue> {
            self.0.get(name)
        }
        fn built_in(&self, name: &str) -> Option<String> {
            (name == "card.id").then(|| "M-1".to_owned())
        }
        fn currency(&self, name: &str) -> Option<Currency> {
            (name == "balance").then(|| Currency::parse("EUR").expect("a currency"))
        }
        fn budget(&self) -> &Budget {
            &self.1
        }
        fn zone(&self) -> &Zone {
            &DUBAI
        }
    }

    const KNOWN: [&str; 7] = ["points", "name", "tier", "empty", "balance", "until", "slot"];

    fn parse(source: &str) -> Result<Text, String> {
        Text::parse(source, &|name| KNOWN.contains(&name))
    }

    fn evaluate(source: &str) -> Result<String, EvaluationError> {
        evaluate_in(source, "en")
    }

    fn evaluate_in(source: &str, language: &str) -> Result<String, EvaluationError> {
        let slot = crate::domain::time::Timestamp::parse_rfc3339("2026-12-24T20:30:05Z").expect("a moment");
        let scope = Values(
            BTreeMap::from([
                ("points", AttributeValue::Integer(120)),
                ("name", AttributeValue::Text("Anna".to_owned())),
                ("tier", AttributeValue::Text("gold".to_owned())),
                (
                    "balance",
                    AttributeValue::Money(
                        crate::domain::values::money::Decimal::parse("12345.5").expect("a number"),
                        Currency::parse("EUR").expect("a currency"),
                    ),
                ),
                ("until", AttributeValue::Date(jiff::civil::date(2026, 12, 31))),
                ("slot", AttributeValue::DateTime(slot)),
            ]),
            Budget::default(),
        );
        let language = Language::parse(language).expect("a language");
        parse(source).expect("a valid text").evaluate(&scope, &language)
    }

    #[test]
    fn numbers_amounts_and_dates_are_written_as_the_language_does() {
        for (source, english, latvian) in [
            ("{{ balance | money }}", "€12,345.50", "12\u{a0}345,50\u{a0}€"),
            ("{{ (points * 100) | number }}", "12,000", "12\u{a0}000"),
            ("{{ points | number(2) }}", "120.00", "120,00"),
            ("{{ (balance / 2) | money }}", "€6,172.75", "6172,75\u{a0}€"),
            ("{{ points | money('USD') }}", "$120.00", "120,00\u{a0}$"),
            ("{{ until | date }}", "Dec 31, 2026", "2026. g. 31. dec."),
            ("{{ until | date('long') }}", "December 31, 2026", "2026. gada 31. decembris"),
            ("{{ empty | default(0) | number }}", "0", "0"),
            // Half past twelve at night, where the shop is.
            ("{{ slot | date }}", "Dec 25, 2026", "2026. g. 25. dec."),
            ("{{ slot | time }}", "12:30\u{202f}AM", "00:30"),
            ("{{ slot | time('medium') }}", "12:30:05\u{202f}AM", "00:30:05"),
            ("{{ slot | datetime('short') }}", "12/25/26, 12:30\u{202f}AM", "25.12.26. 00:30"),
            ("{{ slot | default('–') | datetime }}", "Dec 25, 2026, 12:30\u{202f}AM", "2026. g. 25. dec. 00:30"),
        ] {
            assert_eq!(evaluate_in(source, "en").as_deref(), Ok(english), "{source}");
            assert_eq!(evaluate_in(source, "lv").as_deref(), Ok(latvian), "{source}");
            assert!(parse(source).expect("valid").is_localised(), "{source}");
        }
        assert!(!parse("{{ points | round }}").expect("valid").is_localised());
        for missing in ["{{ empty | number }}", "{{ empty | money }}", "{{ empty | date }}"] {
            assert_eq!(evaluate(missing), Err(EvaluationError::Missing("empty".to_owned())), "{missing}");
        }
        for wrong in [
            "{{ name | number }}",
            "{{ name | date }}",
            "{{ until | date('tiny') }}",
            "{{ until | time }}",
            "{{ name | datetime }}",
            "{{ slot | time('long') }}",
            "{{ points | money }}",
            "{{ points | money('euro') }}",
            "{{ 1e300 | number(9) }}",
            "{{ name | money('EUR') }}",
        ] {
            assert!(matches!(evaluate(wrong), Err(EvaluationError::Failed(_))), "{wrong}");
        }
        assert_eq!(evaluate("At {{ slot }}").as_deref(), Ok("At 2026-12-25T00:30:05+04:00"));
        assert_eq!(evaluate("{{ slot if points > 1 else '' }}").as_deref(), Ok("2026-12-25T00:30:05+04:00"));
        assert!(parse("{{ _language }}").is_err() && parse("{{ _currency | upper }}").is_err());
    }

    #[test]
    fn a_hostile_text_stays_small_and_fast() {
        let started = std::time::Instant::now();
        let long = AttributeValue::Text("x".repeat(4096));
        let scope = Values(BTreeMap::from([("name", long)]), Budget::default());
        let english = Language::english();
        // The longest expressions allowed, as many as a text may have.
        let doubled = format!("{{{{ {} }}}}", ["name"; 60].join("~")).repeat(20);
        let text = parse(&doubled).expect("valid");
        assert!(
            matches!(text.evaluate(&scope, &english), Err(EvaluationError::Failed(_))),
            "16,384 characters at most"
        );
        for deep in ["(".repeat(200) + "1" + &")".repeat(200), "not ".repeat(100) + "1", "-".repeat(400) + "1"] {
            let _ = parse(&format!("{{{{ {deep} }}}}"));
        }
        assert!(parse(&format!("{{{{ {} }}}}", "1+".repeat(400))).is_err(), "longer than 500 bytes");
        assert!(started.elapsed() < std::time::Duration::from_secs(5));
    }

    #[test]
    fn expressions_are_evaluated_within_texts() {
        assert_eq!(evaluate("Hello {{ name }}, {{points}} points").as_deref(), Ok("Hello Anna, 120 points"));
        assert_eq!(evaluate("{{ name | upper }} {{ 'VIP' if tier == 'gold' else '' }}").as_deref(), Ok("ANNA VIP"));
        assert_eq!(evaluate("{{ points * 2 + 1 }} {{ (points / 7) | round(2) }}").as_deref(), Ok("241 17.14"));
        assert_eq!(evaluate("{{ points > 100 }}").as_deref(), Ok("✓"));
        assert_eq!(evaluate("{{ 0.1 + 0.2 }}").as_deref(), Ok("0.3"));
        assert!(evaluate("{{ 1e308 * 10 }}").is_err());
        assert!(evaluate("{{ 'a\\u202eb' }}").is_err(), "no way round the characters that texts may not hold");
        assert_eq!(evaluate("{{ card.id }}/{{ card.id | lower }}").as_deref(), Ok("M-1/m-1"));
    }

    #[test]
    fn only_the_expressions_that_were_computed_last_are_kept_compiled() {
        let recent = Recent::default();
        for n in 0..5_000 {
            recent.compiled(&format!("1 + {n}")).expect("valid");
            let again = recent.compiled("2 + 2").expect("valid");
            assert_eq!(again.eval(()).expect("a sum").to_string(), "4");
        }
        let kept = recent.shards.iter().map(|shard| shard.lock().expect("whole"));
        let kept: usize = kept.map(|shard| shard.new.len() + shard.old.len()).sum();
        assert!((500..=2 * 16 * NEW_IN_SHARD).contains(&kept), "{kept}");
        assert!(recent.compiled("1 +").is_err());
    }

    #[test]
    fn a_missing_value_is_an_error_unless_a_default_is_given() {
        assert_eq!(evaluate("{{ empty }}"), Err(EvaluationError::Missing("empty".to_owned())));
        assert_eq!(evaluate("{{ empty | upper }}"), Err(EvaluationError::Missing("empty".to_owned())));
        assert_eq!(evaluate("{{ empty ~ 'x' }}"), Err(EvaluationError::Missing("empty".to_owned())));
        assert_eq!(evaluate("{{ empty | default('none') }}").as_deref(), Ok("none"));
    }

    #[test]
    fn what_can_not_be_understood_is_refused_when_it_is_written() {
        for bad in [
            "{{ points",
            "{{ }}",
            "{{ pionts }}",
            "{{ points | shout }}",
            "{{ 'x' * 900000000 }}",
            "{{ '\\'' * 100000000 ~ '\\'' }}",
            "{{ (1 ~ 1) * 900000000 }}",
            "{{ (5 | upper) * 900000000 }}",
            "{{ 5 | number * 900000000 }}",
            "{{ points * 100 | number }}",
            "{{ (points) | number * 900000000 }}",
            "{{ ((5) | upper) * 900000000 | default(1) }}",
            &"{{ 1 }}".repeat(21),
            "{{ [1] * 9 }}",
            "{{ range(9) }}",
            "{{ points + }}",
            "{{ card.secret }}",
            "{{ x.y }}",
            "{{ name[::-1] }}",
            "{{ pionts[:2] }}",
            "{{ name.upper() }}",
        ] {
            assert!(parse(bad).is_err(), "{bad:?} was taken");
        }
        assert!(evaluate("{{ name * 900000000 }}").is_err());
    }

    #[test]
    fn only_a_lone_attribute_keeps_its_type() {
        assert_eq!(parse("{{ points }}").expect("valid").single_attribute(), Some("points"));
        assert_eq!(parse(" {{ points }}").expect("valid").single_attribute(), None);
        assert_eq!(parse("{{ card.id }}").expect("valid").single_attribute(), None);
        assert!(parse("plain").expect("valid").is_fixed());
    }
}
