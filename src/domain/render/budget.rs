//! The cost of texts: bounds on the bytes and the work of an expression, known before it runs.
//!
//! One model serves twice. When a template is put, every name has the largest value that its type allows, and a
//! template whose cards could cost too much is refused. When a card is rendered, the names have the card's own values,
//! and what an expression may cost is charged to the card's [`Budget`] before it runs, because an expression can't be
//! interrupted.
//!
//! A step stands for a nanosecond of one core in an optimised build. The weights below are two to ten times what was
//! measured on a server of 2024, so that a slow or busy core stays within the time of [`MOST_STEPS`], too.

use std::cell::Cell;
use std::collections::BTreeSet;

use minijinja::machinery::ast::{BinOpKind, CallArg, Expr};

use crate::domain::values::attribute::AttributeType;

/// The most steps to render a card: 50 ms of one core.
pub const MOST_STEPS: u64 = 50_000_000;
/// The most bytes of a card's pass.json.
pub const MOST_PASS_JSON: u64 = 2 * 1024 * 1024;
/// The most bytes of a card's `pass.strings`, all languages together.
pub const MOST_TABLES: u64 = 4 * 1024 * 1024;
/// The most bytes of all texts of a card.
pub const MOST_BYTES: u64 = MOST_PASS_JSON + MOST_TABLES;
/// The most bytes of any intermediate text of an expression.
pub const MOST_WITHIN: u64 = 256 * 1024;

/// Steps to start and finish an expression.
const EXPRESSION: u64 = 1_500;
/// Steps for one operation of an expression.
const OPERATION: u64 = 100;
/// Steps to give an expression a value that it names.
const NAME: u64 = 200;
/// Steps for a byte that is copied from one text to a longer one.
const BYTE: u64 = 1;
/// Steps for a character that a filter converts, or that is sliced or compared.
const CHARACTER: u64 = 40;
/// Steps to call a filter.
const FILTER: u64 = 500;
/// Steps to format a number, an amount or a date for a language.
const NUMBER: u64 = 3_000;
const MONEY: u64 = 6_000;
const DATE: u64 = 6_000;
/// Steps for a byte of the result: it is checked, written into JSON or a table, hashed and packed.
const WRITTEN: u64 = 8;
/// Steps for a text of the design: its place in JSON or in a table.
const PLACE: u64 = 500;

/// The size of a text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extent {
    /// Its bytes in memory.
    pub bytes: u64,
    /// Its characters.
    pub characters: u64,
    /// Its bytes as a string of JSON or an entry of `pass.strings`, escapes included.
    pub escaped: u64,
    /// Its characters, assuming that no letter becomes several when its case is changed; only few do.
    pub usual: u64,
}

impl Extent {
    /// Returns the size of the longest text of `n` characters, whatever they are.
    pub const fn characters(n: u64) -> Self {
        Self { bytes: 4 * n, characters: n, escaped: 4 * n, usual: n }
    }

    /// Returns the size of the longest text of `n` plain characters: letters, digits, signs that need no escape.
    pub const fn plain(n: u64) -> Self {
        Self { bytes: n, characters: n, escaped: n, usual: n }
    }

    /// Returns the size of a text.
    pub fn of(text: &str) -> Self {
        let escapes = text.bytes().filter(|b| matches!(b, b'"' | b'\\' | b'\n' | b'\t')).count() as u64;
        let controls = text.bytes().filter(|b| !matches!(b, b'\n' | b'\t') && (*b < 0x20 || *b == 0x7f)).count() as u64;
        let (bytes, characters) = (text.len() as u64, text.chars().count() as u64);
        Self { bytes, characters, escaped: bytes + escapes + 5 * controls, usual: characters }
    }

    /// Returns the size of one text followed by the other.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(other.bytes),
            characters: self.characters.saturating_add(other.characters),
            escaped: self.escaped.saturating_add(other.escaped),
            usual: self.usual.saturating_add(other.usual),
        }
    }

    /// Returns a size that is enough for either text.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.max(other.bytes),
            characters: self.characters.max(other.characters),
            escaped: self.escaped.max(other.escaped),
            usual: self.usual.max(other.usual),
        }
    }

    const fn times(self, n: u64) -> Self {
        Self {
            bytes: self.bytes.saturating_mul(n),
            characters: self.characters.saturating_mul(n),
            escaped: self.escaped.saturating_mul(n),
            usual: self.usual.saturating_mul(n),
        }
    }

    /// Limits the size to that number of characters, because a longer text is refused.
    #[must_use]
    pub fn at_most(self, characters: u64) -> Self {
        let cut = Self {
            bytes: 4 * characters,
            characters,
            // An escaped character is at most as long as one of four bytes, except controls, which no text may contain.
            escaped: 4 * characters,
            usual: characters,
        };
        Self {
            bytes: self.bytes.min(cut.bytes),
            characters: self.characters.min(cut.characters),
            escaped: self.escaped.min(cut.escaped),
            usual: self.usual.min(cut.usual),
        }
    }
}

/// The size of a number, true or false within an expression: a float has up to 330 digits.
const SHORT: Extent = Extent::plain(345);
/// The size of a number, or of a sign for true or false, as part of a text.
pub const SHOWN_NUMBER: Extent = Extent { bytes: 30, characters: 30, escaped: 30, usual: 30 };
/// Returns the size of a number, an amount or a date as a language writes it: at most 25 digits, in some languages of
/// four bytes each, with signs between them and words around.
const fn written_by_language(steps: u64) -> Extent {
    match steps {
        NUMBER => Extent::characters(40),
        MONEY => Extent::characters(64),
        // A date and a time of day.
        _ => Extent::characters(120),
    }
}
/// How many times longer a text can get when its case is changed: `ΐ` has two bytes, as capitals three characters and
/// six bytes.
const CASE: u64 = 3;
/// How many times longer a text can get within a list that is written out: a character of one byte becomes `\u{1f}`.
const QUOTED: u64 = 8;

/// Returns the size of the largest value of a type, as texts contain it.
pub fn largest(kind: &AttributeType) -> Extent {
    match kind {
        AttributeType::Text { max_length } => Extent::characters(*max_length as u64),
        AttributeType::Choice { choices } => choices.iter().map(|c| Extent::of(c)).fold(Extent::default(), Extent::or),
        AttributeType::Url | AttributeType::Image => Extent::characters(2048),
        AttributeType::Email => Extent::characters(254),
        AttributeType::Phone => Extent::plain(32),
        // A moment is the longest: 2026-12-31T18:00:00.000000Z.
        _ => SHOWN_NUMBER,
    }
}

/// Returns the size of the largest value of a built-in name; the template's name and organization are measured instead.
pub fn largest_built_in(name: &str) -> Extent {
    match name {
        "card.id" => Extent::plain(128),
        "card.serial_number" => Extent::plain(64),
        "card.url" => Extent::plain(2048),
        _ => Extent::characters(128),
    }
}

/// The most that a computation can cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// The size of the result.
    pub out: Extent,
    /// The work, in steps.
    pub steps: u64,
    /// The bytes of the longest intermediate text.
    pub within: u64,
}

impl Cost {
    /// Returns the cost of writing a text of that size somewhere.
    pub const fn written(out: Extent) -> Self {
        Self { out, steps: PLACE + out.bytes.saturating_mul(WRITTEN), within: out.bytes }
    }

    /// Returns the cost of writing a value into a text.
    pub const fn named(out: Extent) -> Self {
        Self { out, steps: NAME + out.bytes.saturating_mul(2 * BYTE), within: out.bytes }
    }
}

/// The parts of an expression that decide what it costs.
#[derive(Debug, Clone)]
pub enum Shape {
    /// A literal text or number.
    Literal(Extent),
    /// A value by its name.
    Name(String),
    /// A short result of all these parts: a number, true or false.
    Short(Vec<Shape>),
    /// One text after the other.
    Joined(Box<(Shape, Shape)>),
    /// One of these parts; the first decides which.
    OneOf(Vec<Shape>),
    /// A list or map that is written out.
    List(Vec<Shape>),
    /// An item, slice or trimmed rest of the first part.
    Part(Vec<Shape>),
    /// A text whose case is changed.
    Case(Vec<Shape>),
    /// The result of a filter that depends on the language, with that filter's steps.
    Localised(u64, Vec<Shape>),
}

impl Shape {
    /// Returns the shape of an expression. Anything unknown is refused, so that no cost is overlooked.
    ///
    /// # Errors
    /// What can't be used in an expression.
    pub fn of(expression: &Expr<'_>) -> Result<Self, &'static str> {
        let all = |parts: &[&Expr<'_>]| parts.iter().map(|e| Self::of(e)).collect::<Result<Vec<_>, _>>();
        Ok(match expression {
            Expr::Const(c) => Self::Literal(Extent::of(&c.value.to_string())),
            Expr::Var(v) => Self::Name(v.id.to_owned()),
            Expr::GetAttr(a) => match &a.expr {
                Expr::Var(owner) => Self::Name(format!("{}.{}", owner.id, a.name)),
                _ => return Err("takes a member of something that is no name"),
            },
            Expr::UnaryOp(op) => Self::Short(all(&[&op.expr])?),
            Expr::BinOp(op) => match op.op {
                BinOpKind::Concat | BinOpKind::Add => {
                    Self::Joined(Box::new((Self::of(&op.left)?, Self::of(&op.right)?)))
                }
                BinOpKind::ScAnd | BinOpKind::ScOr => Self::OneOf(all(&[&op.left, &op.right])?),
                _ => Self::Short(all(&[&op.left, &op.right])?),
            },
            Expr::Compare(c) => {
                let operands = c.ops.iter().map(|op| &op.expr);
                Self::Short(all(&std::iter::once(&c.expr).chain(operands).collect::<Vec<_>>())?)
            }
            Expr::IfExpr(i) => Self::OneOf(all(&[Some(&i.test_expr), Some(&i.true_expr), i.false_expr.as_ref()]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>())?),
            Expr::Test(t) => Self::Short(with_arguments(Some(&t.expr), &t.args)?),
            Expr::Filter(f) => {
                let parts = with_arguments(f.expr.as_ref(), &f.args)?;
                match f.name {
                    "default" => Self::OneOf(parts),
                    "trim" => Self::Part(parts),
                    "abs" | "round" => Self::Short(parts),
                    "number" => Self::Localised(NUMBER, parts),
                    "money" => Self::Localised(MONEY, parts),
                    "date" | "time" => Self::Localised(DATE, parts),
                    "datetime" => Self::Localised(2 * DATE, parts),
                    // An unknown filter is found when the expression is tried.
                    _ => Self::Case(parts),
                }
            }
            Expr::GetItem(i) => Self::Part(vec![Self::container(&i.expr)?, Self::of(&i.subscript_expr)?]),
            // The library panics when it goes backwards over nothing.
            Expr::Slice(s) if s.step.is_some() => {
                return Err("takes a part in steps; expected a beginning and an end only, for example name[:3]");
            }
            Expr::Slice(s) => {
                let bounds = [&s.start, &s.stop].into_iter().flatten().collect::<Vec<_>>();
                let mut parts = vec![Self::of(&s.expr)?];
                parts.extend(all(&bounds)?);
                Self::Part(parts)
            }
            Expr::List(l) => Self::List(all(&l.items.iter().collect::<Vec<_>>())?),
            Expr::Tuple(t) => Self::List(all(&t.items.iter().collect::<Vec<_>>())?),
            Expr::Map(m) => Self::List(all(&m.keys.iter().chain(&m.values).collect::<Vec<_>>())?),
            Expr::Call(_) => return Err("calls something; expressions have filters only"),
        })
    }

    /// Returns the shape of what an item is taken from: an item of a literal list is one of the list's parts.
    fn container(expression: &Expr<'_>) -> Result<Self, &'static str> {
        Ok(match (Self::of(expression)?, expression) {
            (Self::List(items), Expr::List(_) | Expr::Tuple(_) | Expr::Map(_)) => Self::OneOf(items),
            (other, _) => other,
        })
    }

    /// Returns every name that it uses, in order and each once.
    pub fn names(&self) -> Vec<String> {
        fn collect(shape: &Shape, names: &mut BTreeSet<String>) {
            match shape {
                Shape::Literal(_) => {}
                Shape::Name(name) => {
                    names.insert(name.clone());
                }
                Shape::Joined(both) => {
                    collect(&both.0, names);
                    collect(&both.1, names);
                }
                Shape::Short(parts)
                | Shape::OneOf(parts)
                | Shape::List(parts)
                | Shape::Part(parts)
                | Shape::Case(parts)
                | Shape::Localised(_, parts) => parts.iter().for_each(|part| collect(part, names)),
            }
        }
        let mut names = BTreeSet::new();
        collect(self, &mut names);
        names.into_iter().collect()
    }

    /// Returns the cost of the expression when its names have values of those sizes.
    pub fn cost(&self, size: &dyn Fn(&str) -> Extent) -> Cost {
        let mut cost = Cost { steps: EXPRESSION, ..Cost::default() };
        cost.out = self.walk(size, &mut cost);
        // A number as the result is written with nine decimals at most.
        if let Self::Short(_) = self {
            cost.out = SHOWN_NUMBER;
        }
        cost.steps = cost.steps.saturating_add(cost.out.bytes.saturating_mul(2 * BYTE));
        cost
    }

    fn walk(&self, size: &dyn Fn(&str) -> Extent, cost: &mut Cost) -> Extent {
        let mut add = |steps: u64| cost.steps = cost.steps.saturating_add(steps);
        add(OPERATION);
        let out = match self {
            Self::Literal(extent) => *extent,
            Self::Name(name) => {
                let extent = size(name);
                add(NAME + extent.bytes.saturating_mul(2 * BYTE));
                extent
            }
            Self::Short(parts) => {
                let read = Self::sum(parts, size, cost);
                cost.steps = cost.steps.saturating_add(read.bytes.saturating_mul(BYTE));
                SHORT
            }
            Self::Joined(both) => {
                let joined = both.0.walk(size, cost).and(both.1.walk(size, cost));
                cost.steps = cost.steps.saturating_add(joined.bytes.saturating_mul(BYTE));
                joined
            }
            Self::OneOf(parts) => parts.iter().map(|part| part.walk(size, cost)).fold(Extent::default(), Extent::or),
            Self::List(parts) => {
                let items = Self::sum(parts, size, cost);
                let list = items.times(QUOTED).and(Extent::plain(8 * parts.len() as u64 + 8));
                cost.steps = cost.steps.saturating_add(items.bytes.saturating_mul(QUOTED * BYTE));
                Extent { usual: items.usual, ..list }
            }
            Self::Part(parts) => {
                let mut parts = parts.iter();
                let whole = parts.next().map_or(Extent::default(), |part| part.walk(size, cost));
                for part in parts {
                    part.walk(size, cost);
                }
                cost.steps = cost.steps.saturating_add(whole.characters.saturating_mul(CHARACTER));
                whole
            }
            Self::Case(parts) => {
                let text = Self::sum(parts, size, cost);
                cost.steps =
                    cost.steps.saturating_add(text.characters.saturating_mul(CHARACTER).saturating_add(FILTER));
                Extent { usual: text.usual, ..text.times(CASE) }
            }
            Self::Localised(steps, parts) => {
                let read = Self::sum(parts, size, cost);
                cost.steps = cost.steps.saturating_add(steps.saturating_add(read.bytes.saturating_mul(BYTE)));
                written_by_language(*steps)
            }
        };
        cost.within = cost.within.max(out.bytes);
        out
    }

    fn sum(parts: &[Self], size: &dyn Fn(&str) -> Extent, cost: &mut Cost) -> Extent {
        parts.iter().map(|part| part.walk(size, cost)).fold(Extent::default(), Extent::and)
    }
}

fn with_arguments(first: Option<&Expr<'_>>, arguments: &[CallArg<'_>]) -> Result<Vec<Shape>, &'static str> {
    let arguments = arguments.iter().map(|argument| match argument {
        CallArg::Pos(e) | CallArg::Kwarg(_, e) => Shape::of(e),
        CallArg::PosSplat(_) | CallArg::KwargSplat(_) => Err("spreads a list over a filter's arguments"),
    });
    first.map(Shape::of).into_iter().chain(arguments).collect()
}

/// Why rendering a card was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Exceeded {
    /// It would take too long.
    #[error("needs {0} steps with what was computed before it; expected at most {MOST_STEPS} for a card")]
    Steps(u64),
    /// An intermediate text would be too long.
    #[error("computes with a text of {0} bytes; expected at most {MOST_WITHIN}")]
    Within(u64),
    /// All texts together would be too long.
    #[error("makes the card's texts {0} bytes long; expected at most {MOST_BYTES} in all languages")]
    Bytes(u64),
}

/// The budget for rendering one card, over all its texts and languages: counts what was used so far.
#[derive(Debug, Default)]
pub struct Budget {
    steps: Cell<u64>,
    bytes: Cell<u64>,
}

impl Budget {
    /// Charges the cost of a computation that is about to run.
    ///
    /// # Errors
    /// When it exceeds the budget; the rest of the card can't be computed then.
    pub fn take(&self, cost: &Cost) -> Result<(), Exceeded> {
        self.steps.set(self.steps.get().saturating_add(cost.steps));
        if cost.within > MOST_WITHIN {
            return Err(Exceeded::Within(cost.within));
        }
        if self.steps.get() > MOST_STEPS {
            return Err(Exceeded::Steps(self.steps.get()));
        }
        Ok(())
    }

    /// Charges a text that was computed.
    ///
    /// # Errors
    /// When all texts together are longer than a pass may be, or took too many steps.
    pub fn keep(&self, text: &str) -> Result<(), Exceeded> {
        self.bytes.set(self.bytes.get().saturating_add(text.len() as u64));
        self.steps.set(self.steps.get().saturating_add(Cost::written(Extent::plain(text.len() as u64)).steps));
        match self.bytes.get() {
            bytes if bytes > MOST_BYTES => Err(Exceeded::Bytes(bytes)),
            _ if self.steps.get() > MOST_STEPS => Err(Exceeded::Steps(self.steps.get())),
            _ => Ok(()),
        }
    }

    /// Returns the steps and bytes charged so far.
    pub fn taken(&self) -> (u64, u64) {
        (self.steps.get(), self.bytes.get())
    }
}
