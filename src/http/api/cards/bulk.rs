//! `POST /api/v1/cards/bulk`

use std::collections::BTreeSet;
use std::pin::pin;

use actix_web::http::header::CACHE_CONTROL;
use actix_web::web::{self, Bytes};
use actix_web::{HttpRequest, HttpResponse, error};
use futures_util::FutureExt;
use futures_util::future::{self, Either, LocalBoxFuture};
use futures_util::stream;
use serde_json::{Value, json};

use crate::actions::api_keys::Scope;
use crate::actions::card_order::{IfMatch, Order};
use crate::actions::error::ActionError;
use crate::actions::judge_orders::Done;
use crate::actions::put_cards::{Batch, foresee, put_cards};
use crate::app::App;
use crate::domain::ids::{CardId, WorkspaceId};
use crate::domain::input::{Problems, normalise_line_ends};
use crate::http::auth::{CardsWrite, Key, was_revoked};
use crate::http::body::MOST_VALUES;
use crate::http::lines::{Body, BrokenOff, LONGEST, Line};
use crate::http::openapi::{Answer, Content, Needs, Operation, schemas};
use crate::http::problem::{NOT_JSON, Problem, TOO_LARGE};
use crate::outside::memory::{Held, parsed_size};
use crate::store::cards;

/// What it says of itself.
pub const DOC: Operation = Operation {
    id: "putCards",
    tag: "Cards",
    summary: "Issue and change many cards",
    description: "A JSON document on each line: `id` with the members of a PUT or, with `\"patch\": true`, of a PATCH. Answers \
        one line for each line, in order, while the body is still arriving: read them while you send. What is answered is \
        stored. A bad line fails alone; its `id` is null when it can't be read.",
    needs: Needs::Scope(Scope::CardsWrite),
    parameters: &[],
    body: Content::Lines(&schemas::BULK_LINE),
    answers: &[Answer { status: 200, meaning: "A line for each line", content: Content::Lines(&schemas::BULK_ANSWER) }],
    problems: &[],
};

/// How many lines one transaction takes at most.
const BATCH: usize = 500;
/// Room in memory for a bulk: the lines that were read and not yet handed on, and the answers of a batch.
const BULK: usize = 2 * MIB;
/// What the lines of a batch may be parsed to at most, but for one line that is larger.
const PARSED: usize = 8 * MIB;
/// What the cards of a batch may have as they are stored at most, but for one that is larger.
const STORED: usize = 4 * MIB;
/// How much of a stored card is held: as it was, as it will be, and on its way into the database.
const COPIES: usize = 4;
const MIB: usize = 1024 * 1024;

/// Lines on their way.
type Reading = LocalBoxFuture<'static, (Body, Result<Vec<Line>, BrokenOff>)>;

/// Where a bulk is when the next batch's answers are asked for. The client decides when that is, so nothing waits here that
/// others may wait for: no connection, no lock.
enum Next {
    /// The lines are being read.
    Reading(Reading),
    /// The same, since before its sender had all answers so far: its patience is counted anew.
    ReadingAhead(Reading),
    /// They were read and judged while those before them were stored.
    Judged(Box<(Body, JudgedLines)>),
}

/// Reads lines, carries them out some hundred at a time, and answers each once it is stored. What is held at a time is two
/// batches, however long the body is.
///
/// # Errors
/// When too many bulks are under way. A bad line is answered as such.
pub async fn bulk(
    app: web::Data<App>,
    key: Key<CardsWrite>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let workspace = key.workspace;
    let room = app.memory.bulks.take(BULK).await?;
    let answers = stream::try_unfold(Next::Reading(read(Body::new(payload))), move |next| {
        let (app, workspace, request) = (app.clone(), workspace.clone(), request.clone());
        // As long as there is a stream of answers.
        let _ = &room;
        async move {
            let (mut body, lines) = match next {
                Next::Judged(judged) => {
                    still_allowed(&app, &request).await?;
                    let (body, batch) = *judged;
                    return Ok::<_, actix_web::Error>(Some(store(&app, &workspace, body, batch).await));
                }
                Next::Reading(reading) => reading.await,
                Next::ReadingAhead(reading) => match reading.await {
                    (body, Err(BrokenOff::Slow)) => read(body).await,
                    read => read,
                },
            };
            // The answer breaks off, too: a sender that is still there sees that not every line was taken.
            let mut lines = lines.map_err(|broken| {
                tracing::info!(?broken, "a bulk broke off");
                error::ErrorBadRequest("the body broke off")
            })?;
            if lines.is_empty() {
                return Ok(None);
            }
            let room = app.memory.batches.take(JudgedLines::fitting(&mut body, &mut lines)).await;
            let room = room.map_err(Problem::from)?;
            let batch = JudgedLines::judge(&app, &workspace, lines, room, &mut body).await;
            still_allowed(&app, &request).await?;
            Ok(Some(store(&app, &workspace, body, batch).await))
        }
    });
    Ok(HttpResponse::Ok()
        .content_type("application/x-ndjson")
        .insert_header((CACHE_CONTROL, "no-store"))
        .streaming(answers))
}

/// A bulk may last for hours, and a key that is revoked ends at once: what isn't stored by then breaks off.
async fn still_allowed(app: &App, request: &HttpRequest) -> Result<(), actix_web::Error> {
    if was_revoked::<CardsWrite>(app, request).await {
        tracing::info!("a bulk breaks off: its key was revoked");
        return Err(error::ErrorUnauthorized("the key was revoked"));
    }
    Ok(())
}

fn read(mut body: Body) -> Reading {
    async move {
        let lines = body.next(BATCH).await;
        (body, lines)
    }
    .boxed_local()
}

/// Stores a batch, and reads and judges the next one meanwhile, if it comes; no answer waits for lines that may not come
/// before it is read.
async fn store(app: &App, workspace: &WorkspaceId, body: Body, batch: JudgedLines) -> (Bytes, Next) {
    let storing = pin!(batch.store(app, workspace));
    match future::select(storing, read(body)).await {
        Either::Left((answers, reading)) => (answers, Next::ReadingAhead(reading)),
        Either::Right(((mut body, Ok(mut lines)), storing)) if !lines.is_empty() => {
            let need = JudgedLines::fitting(&mut body, &mut lines);
            // Held until the client reads on: no more than half of the room is for what may wait so.
            let batches = &app.memory.batches;
            let room = Some(batches).filter(|batches| batches.free() >= batches.size() / 2 + need);
            let Some(Ok(room)) = room.map(|batches| batches.try_take(need)) else {
                let read = future::ready((body, Ok(lines)));
                return (storing.await, Next::ReadingAhead(read.boxed_local()));
            };
            let judging = JudgedLines::judge(app, workspace, lines, room, &mut body);
            let (answers, batch) = future::join(storing, judging).await;
            (answers, Next::Judged(Box::new((body, batch))))
        }
        Either::Right((read, storing)) => (storing.await, Next::ReadingAhead(future::ready(read).boxed_local())),
    }
}

/// A line as far as it can be read without the database.
struct Read {
    id: Option<CardId>,
    body: Result<Value, Problem>,
    patch: bool,
}

impl Read {
    fn line(line: Line) -> Self {
        let text = match line {
            Line::Text(text) => text,
            Line::TooLong => {
                let problem = Problem::new(&TOO_LARGE, format!("expected a line of at most {LONGEST} bytes"));
                return Self { id: None, body: Err(problem), patch: false };
            }
        };
        // The parser's own words may quote the line, which may hold personal values.
        let not_json = |e: &serde_json::Error| {
            let problem = Problem::new(&NOT_JSON, format!("the line is not valid JSON at column {}", e.column()));
            Self { id: None, body: Err(problem), patch: false }
        };
        let values = parsed_size(&text).values;
        if values > MOST_VALUES {
            // Told without keeping anything of it.
            if let Err(e) = serde_json::from_slice::<serde::de::IgnoredAny>(&text) {
                return not_json(&e);
            }
            let problems = Problems::one("", format!("has about {values} values; expected at most {MOST_VALUES}"));
            return Self { id: None, body: Err(Problem::invalid(problems)), patch: false };
        }
        let document = serde_json::from_slice(&text).map(|mut document| {
            normalise_line_ends(&mut document);
            document
        });
        let mut members = match document {
            Ok(Value::Object(members)) => members,
            Ok(_) => {
                let problems = Problems::one("", "is no object; expected id and the members of a card");
                return Self { id: None, body: Err(Problem::invalid(problems)), patch: false };
            }
            Err(e) => return not_json(&e),
        };
        let mut problems = Problems::new();
        let id = match members.shift_remove("id") {
            Some(Value::String(text)) => CardId::parse(&text).map_err(|e| problems.add("/id", e.to_string())).ok(),
            Some(_) => {
                problems.add("/id", "is no string; expected your number for the card");
                None
            }
            None => {
                problems.add("/id", "is required");
                None
            }
        };
        let patch = match members.shift_remove("patch") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(patch)) => patch,
            Some(_) => {
                problems.add("/patch", "is no boolean");
                false
            }
        };
        let body = if problems.is_empty() { Ok(Value::Object(members)) } else { Err(Problem::invalid(problems)) };
        Self { id, body, patch }
    }
}

/// Some hundred lines, judged and not stored yet.
struct JudgedLines {
    /// For each line its id as far as it can be read, and why it is no order; those that are come in the same order.
    lines: Vec<(Option<CardId>, Option<Problem>)>,
    orders: Option<Batch>,
    /// Given back when it is stored.
    _room: Held,
}

impl JudgedLines {
    /// Leaves as many lines as may be parsed at once, at least one, and gives the others back. How much room they need.
    fn fitting(body: &mut Body, lines: &mut Vec<Line>) -> usize {
        let mut need = MIB;
        let size = |line: &Line| match line {
            Line::Text(text) => parsed_size(text).bytes,
            Line::TooLong => 0,
        };
        let fitting = lines.iter().take_while(|line| {
            let fits = need < MIB + PARSED;
            need += if fits { size(line) } else { 0 };
            fits
        });
        let fitting = fitting.count();
        body.put_back(lines.drain(fitting..));
        need
    }

    /// How many of these lines have cards that may be held at once, with their room; at least one.
    async fn held_at_once(
        app: &App,
        workspace: &WorkspaceId,
        read: &[Read],
        room: &mut Held,
    ) -> Result<usize, ActionError> {
        let ids: BTreeSet<&CardId> = read.iter().filter_map(|line| line.id.as_ref()).collect();
        let ids: Vec<&CardId> = ids.into_iter().collect();
        let sizes = cards::sizes(&mut app.store.read().await?, workspace, &ids).await?;
        let up_to = |most: usize| {
            let mut left = sizes.clone();
            let mut stored = 0;
            let fitting = read.iter().take_while(|line| {
                let size = line.id.as_ref().and_then(|id| left.remove(id));
                stored += size.and_then(|size| usize::try_from(size).ok()).unwrap_or(0);
                stored <= most
            });
            (fitting.count().max(1), COPIES * stored.min(most))
        };
        let (count, need) = up_to(STORED);
        // Of what was reserved for a batch, a part is for its cards.
        if need <= MIB / 2 {
            return Ok(count);
        }
        match app.memory.batches.try_take(need) {
            Ok(more) => {
                room.add(more);
                Ok(count)
            }
            Err(_) => Ok(up_to(MIB / 2 / COPIES).0),
        }
    }

    async fn judge(app: &App, workspace: &WorkspaceId, lines: Vec<Line>, mut room: Held, rest: &mut Body) -> Self {
        let mut all: Vec<Read> = lines.iter().cloned().map(Read::line).collect();
        // Should that fail, so will the batch.
        let count = Self::held_at_once(app, workspace, &all, &mut room).await.unwrap_or(all.len());
        all.truncate(count);
        rest.put_back(lines.into_iter().skip(count).collect::<Vec<_>>().into_iter());
        let mut orders = Vec::with_capacity(all.len());
        let mut read = Vec::with_capacity(all.len());
        for Read { id, body, patch } in all {
            let refused = match (body, &id) {
                (Err(problem), _) => Some(problem),
                // A line without an id has a problem.
                (Ok(_), None) => Some(ActionError::Fault("a line has neither id nor problem".to_owned()).into()),
                (Ok(body), Some(id)) => {
                    let order = if patch { Order::patch } else { Order::put };
                    order(id.clone(), body, IfMatch::Anything).map(|order| orders.push(order)).err().map(Problem::from)
                }
            };
            read.push((id, refused));
        }
        let orders = match orders.is_empty() {
            true => None,
            false => Some(foresee(app, workspace, orders).await),
        };
        Self { lines: read, orders, _room: room }
    }

    /// Stores it; a line of answer for each of its lines.
    async fn store(self, app: &App, workspace: &WorkspaceId) -> Bytes {
        let stored = match self.orders {
            None => Ok(Vec::new()),
            Some(batch) => put_cards(app, workspace, batch).await.map(|fulfilled| fulfilled.each),
        };
        let mut stored = stored.map(Vec::into_iter).map_err(|error| {
            tracing::error!(%error, "a batch of a bulk could not be stored");
            Problem::from(error).short_document(&app.base_path)
        });
        let mut answers = Vec::with_capacity(self.lines.len() * 96);
        for (id, refused) in self.lines {
            let outcome = match (refused, &mut stored) {
                (Some(problem), _) => Err(problem.short_document(&app.base_path)),
                (None, Err(problem)) => Err(problem.clone()),
                (None, Ok(stored)) => match stored.next() {
                    Some(outcome) => outcome.map_err(|error| told(error, &app.base_path)),
                    None => Err(told(ActionError::Fault("a line has no outcome".to_owned()), &app.base_path)),
                },
            };
            let answer = match outcome {
                Ok((done, revision)) => {
                    let status = match done {
                        Done::Created => "created",
                        Done::Updated => "updated",
                        Done::Unchanged => "unchanged",
                    };
                    json!({"id": id, "status": status, "revision": revision, "problem": null})
                }
                Err(problem) => {
                    let stale = problem["type"].as_str().is_some_and(|kind| kind.ends_with("/problems/stale"));
                    let status = if stale { "stale" } else { "failed" };
                    json!({"id": id, "status": status, "revision": null, "problem": problem})
                }
            };
            answers.extend_from_slice(answer.to_string().as_bytes());
            answers.push(b'\n');
        }
        Bytes::from(answers)
    }
}

/// A line's failure; what is our fault is logged, since no status of the answer tells of it.
fn told(error: ActionError, base_path: &str) -> Value {
    let problem = Problem::from(error);
    if let Some(cause) = problem.cause() {
        tracing::error!(cause, "a line of a bulk failed");
    }
    problem.short_document(base_path)
}
