//! `POST /api/v1/cards/bulk`

use std::collections::BTreeSet;
use std::pin::pin;

use actix_web::http::header::CACHE_CONTROL;
use actix_web::web::{self, Bytes};
use actix_web::{HttpRequest, HttpResponse, error};
use futures_util::FutureExt;
use futures_util::future::{self, Either, LocalBoxFuture};
use futures_util::stream;
use serde_json::Value;

use super::bulk_line::{ReadLine, answer, problem_of};
use crate::actions::cards::put_cards::{Batch, precompute, put_cards};
use crate::actions::error::ActionError;
use crate::actions::keys::Scope;
use crate::app::App;
use crate::domain::actor::Actor;
use crate::domain::ids::{CardId, WorkspaceId};
use crate::http::auth::{CardsWrite, Key, was_revoked};
use crate::http::ndjson::{Body, BrokenOff, Line};
use crate::http::openapi::{Answer, Content, Needs, Operation, schemas};
use crate::http::problem::Problem;
use crate::platform::memory::Held;
use crate::store::cards;

/// The OpenAPI description of the operation.
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

/// The most lines of one transaction.
const BATCH: usize = 500;
/// The memory reserved for a bulk: the lines read and not yet processed, and the answers of a batch.
const BULK: usize = 2 * MIB;
/// The most parsed bytes of a batch's lines, unless a single line is larger.
const PARSED: usize = 8 * MIB;
/// The most stored bytes of a batch's cards, unless a single card is larger.
const STORED: usize = 4 * MIB;
/// How many copies of a stored card are held: as it was, as it will be, and on its way into the database.
const COPIES: usize = 4;
const MIB: usize = 1024 * 1024;

/// Lines being read.
type Reading = LocalBoxFuture<'static, (Body, Result<Vec<Line>, BrokenOff>)>;

/// The state of a bulk when the next batch's answers are polled. The client decides when that is, so nothing that
/// others need is held here: no connection, no lock.
enum Next {
    /// The lines are being read.
    Reading(Reading),
    /// The lines have been read since before the client had all earlier answers, so its timeout starts again.
    ReadingAhead(Reading),
    /// The lines were read and planned while those before them were stored.
    Planned(Box<(Body, Result<PlannedLines, Problem>)>),
}

/// Reads lines, carries them out some hundred at a time, and answers each once it is stored. At most two batches are
/// held in memory, however long the body is.
///
/// # Errors
/// When too many bulks are under way. A bad line gets a problem as its answer.
pub async fn bulk(
    app: web::Data<App>,
    key: Key<CardsWrite>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let Key { workspace, actor, .. } = key;
    let room = app.memory.bulks.take(BULK).await?;
    let answers = stream::try_unfold(Next::Reading(read(Body::new(payload))), move |next| {
        let (app, workspace, actor, request) = (app.clone(), workspace.clone(), actor.clone(), request.clone());
        // Reserved as long as the stream of answers exists.
        let _ = &room;
        async move {
            let (mut body, lines) = match next {
                Next::Planned(planned) => {
                    still_allowed(&app, &request).await?;
                    let (body, batch) = *planned;
                    return Ok::<_, actix_web::Error>(Some(store(&app, &workspace, &actor, body, batch?).await?));
                }
                Next::Reading(reading) => reading.await,
                Next::ReadingAhead(reading) => match reading.await {
                    (body, Err(BrokenOff::Slow)) => read(body).await,
                    read => read,
                },
            };
            // The answer breaks off, too, so a client that is still connected sees that not every line was processed.
            let lines = lines.map_err(|broken| {
                tracing::info!(?broken, "a bulk broke off");
                error::ErrorBadRequest("the body broke off")
            })?;
            if lines.is_empty() {
                return Ok(None);
            }
            let (lines, need) = PlannedLines::fitting(&app, &mut body, lines).await?;
            let room = app.memory.batches.take(need).await.map_err(Problem::from)?;
            let batch = PlannedLines::plan(&app, &workspace, lines, room, &mut body).await?;
            still_allowed(&app, &request).await?;
            Ok(Some(store(&app, &workspace, &actor, body, batch).await?))
        }
    });
    Ok(HttpResponse::Ok()
        .content_type("application/x-ndjson")
        .insert_header((CACHE_CONTROL, "no-store"))
        .streaming(answers))
}

/// Fails when the key was revoked meanwhile. A bulk may last for hours, and a revoked key must end at once: what isn't
/// stored by then is dropped.
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

/// Stores a batch and meanwhile reads and plans the next one, if it arrives. Answers are never held back for lines that
/// may not come before the client has read them.
async fn store(
    app: &App,
    workspace: &WorkspaceId,
    actor: &Actor,
    body: Body,
    batch: PlannedLines,
) -> Result<(Bytes, Next), Problem> {
    let storing = pin!(batch.store(app, workspace, actor));
    let (answers, next) = match future::select(storing, read(body)).await {
        Either::Left((answers, reading)) => (answers, Next::ReadingAhead(reading)),
        Either::Right(((body, Ok(lines)), storing)) if !lines.is_empty() => {
            future::join(storing, plan_ahead(app, workspace, body, lines)).await
        }
        Either::Right((read, storing)) => (storing.await, Next::ReadingAhead(future::ready(read).boxed_local())),
    };
    Ok((answers?, next))
}

/// Plans lines before the client has read the earlier answers, if there is memory to hold the plan for as long as that
/// takes.
async fn plan_ahead(app: &App, workspace: &WorkspaceId, mut body: Body, lines: Vec<Line>) -> Next {
    let (lines, need) = match PlannedLines::fitting(app, &mut body, lines).await {
        Ok(fitting) => fitting,
        Err(problem) => return Next::Planned(Box::new((body, Err(problem)))),
    };
    // At most half of the memory may be held by plans that wait like this.
    let batches = &app.memory.batches;
    let room = (batches.free() >= batches.size() / 2 + need).then(|| batches.try_take(need));
    let Some(Ok(room)) = room else {
        return Next::ReadingAhead(future::ready((body, Ok(lines))).boxed_local());
    };
    let batch = PlannedLines::plan(app, workspace, lines, room, &mut body).await;
    Next::Planned(Box::new((body, batch)))
}

/// Some hundred lines, planned but not stored yet.
struct PlannedLines {
    /// For each line its id, if it can be read, and the problem if it is no command. The commands come in the same
    /// order.
    lines: Vec<(Option<CardId>, Option<Value>)>,
    commands: Option<Batch>,
    /// The reserved memory, released when the batch is stored.
    room: Held,
}

impl PlannedLines {
    /// Returns as many of the lines as may be parsed at once, at least one, and the memory they need. The others are
    /// put back.
    ///
    /// # Errors
    /// When the service is stopping.
    async fn fitting(app: &App, body: &mut Body, lines: Vec<Line>) -> Result<(Vec<Line>, usize), Problem> {
        let weighing = app.parsing_bodies.run(move || {
            let (mut need, mut lines) = (MIB, lines);
            let fitting = lines.iter().take_while(|line| {
                let fits = need < MIB + PARSED;
                need += if fits { line.parsed_bytes() } else { 0 };
                fits
            });
            let others = lines.split_off(fitting.count());
            (lines, others, need)
        });
        let (lines, others, need) = weighing.await?;
        body.put_back(others.into_iter());
        Ok((lines, need))
    }

    /// Returns how many of these lines have cards that may be held at once, and reserves memory for them; at least one.
    async fn held_at_once(
        app: &App,
        workspace: &WorkspaceId,
        read: &[ReadLine],
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
        // Part of the memory reserved for a batch is for its cards.
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

    /// Reads the lines and plans those that are commands.
    ///
    /// # Errors
    /// When the service is stopping.
    async fn plan(
        app: &App,
        workspace: &WorkspaceId,
        lines: Vec<Line>,
        mut room: Held,
        rest: &mut Body,
    ) -> Result<Self, Problem> {
        let (base_path, texts) = (app.base_path.clone(), lines.clone());
        let reading = app
            .parsing_bodies
            .run(move || texts.into_iter().map(|line| ReadLine::of(line, &base_path)).collect::<Vec<_>>());
        let mut read = reading.await?;
        // If the sizes can't be read, storing the batch will fail, too.
        let count = Self::held_at_once(app, workspace, &read, &mut room).await.unwrap_or(read.len());
        read.truncate(count);
        rest.put_back(lines.into_iter().skip(count).collect::<Vec<_>>().into_iter());
        let mut commands = Vec::with_capacity(read.len());
        let lines =
            read.into_iter().map(|line| (line.id, line.command.map(|command| commands.push(command)).err())).collect();
        let commands = match commands.is_empty() {
            true => None,
            false => Some(precompute(app, workspace, commands).await),
        };
        Ok(Self { lines, commands, room })
    }

    /// Stores the batch; returns a line of answer for each of its lines.
    ///
    /// # Errors
    /// When the service is stopping; the batch may have been stored.
    async fn store(self, app: &App, workspace: &WorkspaceId, actor: &Actor) -> Result<Bytes, Problem> {
        let stored = match self.commands {
            None => Ok(Vec::new()),
            Some(batch) => put_cards(app, workspace, actor, batch).await.map(|batch_result| batch_result.each),
        };
        let base_path = app.base_path.clone();
        let mut stored = stored.map(Vec::into_iter).map_err(|error| {
            tracing::error!(%error, "a batch of a bulk could not be stored");
            Problem::from(error).short_document(&base_path)
        });
        let (lines, room) = (self.lines, self.room);
        let answering = app.parsing_bodies.run(move || {
            let mut answers = Vec::with_capacity(lines.len() * 96);
            for (id, refused) in lines {
                let outcome = match (refused, &mut stored) {
                    (Some(problem), _) => Err(problem),
                    (None, Err(problem)) => Err(problem.clone()),
                    (None, Ok(stored)) => {
                        let none = || Err(ActionError::Fault("a line has no outcome".to_owned()));
                        stored.next().unwrap_or_else(none).map_err(|error| problem_of(error, &base_path))
                    }
                };
                answers.extend_from_slice(answer(id.as_ref(), outcome).to_string().as_bytes());
                answers.push(b'\n');
            }
            drop(room);
            Bytes::from(answers)
        });
        Ok(answering.await?)
    }
}
