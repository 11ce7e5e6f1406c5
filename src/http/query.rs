//! Reads a request's query and reports every problem at once, with `/<member>` as its pointer; unknown members are
//! errors.

use actix_web::HttpRequest;
use actix_web::web;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::problem::Problem;
use crate::domain::input::{Problems, pointer};

/// How many items a list has by default.
const LIMIT: i64 = 100;
/// The most items that a request may ask for.
const MAX_LIMIT: i64 = 1000;

/// A query being read: every known member must be read before [`Query::finish`], which reports the rest.
#[derive(Debug)]
pub struct Query {
    members: Vec<(String, String)>,
    known: Vec<&'static str>,
    /// The problems found so far.
    pub problems: Problems,
}

impl Query {
    /// Returns the request's query.
    pub fn of(request: &HttpRequest) -> Self {
        let mut problems = Problems::new();
        let members = web::Query::<Vec<(String, String)>>::from_query(request.query_string());
        let members = members.map(web::Query::into_inner).unwrap_or_else(|_| {
            problems.add("", "the query can't be read");
            Vec::new()
        });
        Self { members, known: Vec::new(), problems }
    }

    /// Returns the member's text; an empty one counts as given.
    pub fn get(&mut self, name: &'static str) -> Option<String> {
        self.known.push(name);
        let mut values = self.members.iter().filter(|(member, _)| member == name).map(|(_, value)| value);
        let value = values.next().cloned();
        if values.next().is_some() {
            self.problems.add(format!("/{name}"), "is given more than once");
        }
        // No text of the API has one, and PostgreSQL rejects it.
        if value.as_ref().is_some_and(|value| value.contains('\0')) {
            self.problems.add(format!("/{name}"), "holds a NUL character");
            return None;
        }
        value
    }

    /// Returns the member as parsed by `parse`.
    pub fn parsed<T, E: std::fmt::Display>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.get(name)?;
        parse(&text).map_err(|e| self.problems.add(format!("/{name}"), e.to_string())).ok()
    }

    /// Returns `limit`: 1 to 1000, by default 100.
    pub fn limit(&mut self) -> i64 {
        let parse = |text: &str| match text.parse() {
            Ok(limit) if (1..=MAX_LIMIT).contains(&limit) => Ok(limit),
            _ => Err(format!("is not a whole number from 1 to {MAX_LIMIT}")),
        };
        self.parsed("limit", parse).unwrap_or(LIMIT)
    }

    /// Returns `cursor`, as written by [`cursor`].
    pub fn cursor<T: serde::de::DeserializeOwned>(&mut self) -> Option<T> {
        let parse = |text: &str| {
            let json = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            json.filter(|json| !json.contains("\\u0000"))
                .and_then(|json| serde_json::from_str(&json).ok())
                .ok_or("is not the next_cursor of an answer of this list")
        };
        self.parsed("cursor", parse)
    }

    /// Refuses members that were not read.
    ///
    /// # Errors
    /// Every problem of the query.
    pub fn finish(mut self) -> Result<(), Problem> {
        for (name, _) in self.members.iter().filter(|(name, _)| !self.known.contains(&name.as_str())) {
            let shown: String = name.chars().take(64).collect();
            self.problems.add(pointer("", &shown), format!("is unknown; known are {}", self.known.join(", ")));
        }
        if self.problems.is_empty() { Ok(()) } else { Err(Problem::invalid(self.problems)) }
    }
}

/// Returns a position in a list as an opaque text.
pub fn cursor(place: &impl serde::Serialize) -> Option<String> {
    serde_json::to_vec(place).ok().map(|bytes| URL_SAFE_NO_PAD.encode(bytes))
}
