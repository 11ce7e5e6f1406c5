//! A line of a bulk: reading it and answering it.

use serde_json::{Value, json};

use crate::actions::cards::command::{CardCommand, IfMatch};
use crate::actions::cards::plan_changes::WriteOutcome;
use crate::actions::error::ActionError;
use crate::domain::ids::CardId;
use crate::domain::input::{Problems, normalise_line_ends};
use crate::http::body::VALUES;
use crate::http::ndjson::{LONGEST, Line};
use crate::http::problem::{NOT_JSON, Problem, TOO_LARGE};
use crate::platform::memory::parsed_size;

/// A line of a bulk, read as far as possible without the database.
#[derive(Debug)]
pub struct ReadLine {
    /// The card's id, if it can be read. A command always has one.
    pub id: Option<CardId>,
    /// The command, or the problem document that says why the line is none.
    pub command: Result<CardCommand, Value>,
}

impl ReadLine {
    /// Reads a line. For large ones that takes milliseconds.
    pub fn of(line: Line, base_path: &str) -> Self {
        let mut id = None;
        let command = command(line, &mut id).map_err(|problem| problem.short_document(base_path));
        Self { id, command }
    }
}

fn command(line: Line, id: &mut Option<CardId>) -> Result<CardCommand, Problem> {
    let Line::Text(text) = line else {
        return Err(Problem::new(&TOO_LARGE, format!("expected a line of at most {LONGEST} bytes")));
    };
    // The parser's message may quote the line, which may hold personal values, so it isn't repeated.
    let not_json =
        |e: serde_json::Error| Problem::new(&NOT_JSON, format!("the line is not valid JSON at column {}", e.column()));
    let values = parsed_size(&text).values;
    if values > VALUES {
        // Invalid JSON is refused as such, which this check finds without keeping any of it.
        serde_json::from_slice::<serde::de::IgnoredAny>(&text).map_err(not_json)?;
        return Err(Problems::one("", format!("has about {values} values; expected at most {VALUES}")).into());
    }
    let mut document = serde_json::from_slice(&text).map_err(not_json)?;
    normalise_line_ends(&mut document);
    let Value::Object(mut members) = document else {
        return Err(Problems::one("", "is no object; expected id and the members of a card").into());
    };
    let mut problems = Problems::new();
    match members.shift_remove("id") {
        Some(Value::String(text)) => match CardId::parse(&text) {
            Ok(parsed) => *id = Some(parsed),
            Err(error) => problems.add("/id", error.to_string()),
        },
        Some(_) => problems.add("/id", "is no string; expected your number for the card"),
        None => problems.add("/id", "is required"),
    }
    let read = match members.shift_remove("patch") {
        None | Some(Value::Null | Value::Bool(false)) => CardCommand::put,
        Some(Value::Bool(true)) => CardCommand::patch,
        Some(_) => {
            problems.add("/patch", "is no boolean");
            CardCommand::put
        }
    };
    match id {
        Some(id) if problems.is_empty() => Ok(read(id.clone(), Value::Object(members), IfMatch::Anything)?),
        _ => Err(Problem::invalid(problems)),
    }
}

/// Returns the line that answers one.
pub fn answer(id: Option<&CardId>, outcome: Result<(WriteOutcome, i64), Value>) -> Value {
    match outcome {
        Ok((done, revision)) => {
            let status = match done {
                WriteOutcome::Created => "created",
                WriteOutcome::Updated => "updated",
                WriteOutcome::Unchanged => "unchanged",
            };
            json!({"id": id, "status": status, "revision": revision, "problem": null})
        }
        Err(problem) => {
            let stale = problem["type"].as_str().is_some_and(|kind| kind.ends_with("/problems/stale"));
            let status = if stale { "stale" } else { "failed" };
            json!({"id": id, "status": status, "revision": null, "problem": problem})
        }
    }
}

/// Returns the document of a line's failure. A failure of the service is logged, since no status of the answer shows
/// it.
pub fn problem_of(error: ActionError, base_path: &str) -> Value {
    let problem = Problem::from(error);
    if let Some(cause) = problem.cause() {
        tracing::error!(cause, "a line of a bulk failed");
    }
    problem.short_document(base_path)
}
