//! The delivery state of a card's newest content version (in the API, its face): which version each target should show,
//! was notified of, polled for and has, and, when it is behind, why, in plain words.
//!
//! A target is notified and polls by position ("everything up to here"), which may be newer than the card's face; the
//! ledger never shows more than the face. A fetch is recorded for a pass, not for a target: it counts for the targets
//! that polled since the change.

use serde_json::{Value, json};

use crate::actions::error::ActionError;
use crate::app::App;
use crate::domain::time::Timestamp;
use crate::platform::secrets::short_form;
use crate::store::cards::Issued;
use crate::store::fan_outs::{self, FanOutKey};
use crate::store::issuer_pauses;
use crate::store::passes::PassRecord;
use crate::store::targets::{self, TargetState};
use crate::wallets::Words;

/// What delays all targets of a pass.
#[derive(Debug, Default)]
struct HeldUp {
    /// Why pushes are delayed: the certificate, or this node can't reach APNs.
    pushes: Option<String>,
    /// Whether a publishing has not marked this card's targets yet.
    refreshing: bool,
}

/// Returns the ledger as JSON.
///
/// # Errors
/// When the database fails.
pub async fn delivery_ledger(app: &App, mut issued: Issued) -> Result<Value, ActionError> {
    app.look_at(&mut issued).await?;
    let card = &issued.card;
    let face = issued.face();
    let mut reader = app.store.read().await?;
    let targets = targets::targets(&mut reader, card).await?;
    let pauses = issuer_pauses::all(&mut reader).await?;
    let fan_out = FanOutKey::publishing(&card.workspace, &card.content.template);
    let refreshing = fan_outs::is_under_way(&mut reader, &fan_out).await?;
    drop(reader);
    let now = app.now();
    let of_pass = |pass: &PassRecord| {
        let Words { service, credentials, issuer } = app.wallets.words(pass.wallet);
        let refused = pauses.iter().find(|pause| pause.issuer_id == pass.issuer).map(|pause| {
            let (since, reason) = (pause.since.to_rfc3339(), &pause.reason);
            format!(
                "{service} has refused the {credentials} since {since} ({reason}); it is tried again every five minutes"
            )
        });
        let missing = || {
            let known = app.wallets.issuer(&card.workspace, &pass.issuer, now).is_some();
            (!known).then(|| format!("there is no {credentials} for the card's {issuer}"))
        };
        let away = || {
            let (since, reason) = app.channels.trouble(&pass.issuer)?;
            Some(format!(
                "{service} has been away since {} ({reason}); it is probed until it is back",
                since.to_rfc3339()
            ))
        };
        let held_up = HeldUp { pushes: refused.or_else(missing).or_else(away), refreshing };
        let of_issuer = targets.iter().filter(|target| target.issuer == pass.issuer);
        of_issuer.map(|target| show(target, face, pass, &held_up, now)).collect::<Vec<Value>>()
    };
    let shown: Vec<Value> = issued.passes.iter().flat_map(of_pass).collect();
    Ok(json!({"revision": card.revision, "face": face, "targets": shown}))
}

fn show(target: &TargetState, face: i64, pass: &PassRecord, held_up: &HeldUp, now: Timestamp) -> Value {
    // A target that polled up to a position has everything that was fetched up to it.
    let (taken, taken_at) = pass.fetched.map_or((0, None), |fetch| (fetch.face, Some(fetch.at)));
    let fetched = taken.min(target.polled_position).min(face);
    let fetched_at = taken_at.filter(|_| target.polled_position >= taken);
    let (state, reason) = match (fetched >= face, target.dead_since) {
        (true, _) => ("current", None),
        (false, Some(since)) => {
            let problem = target.problem.as_deref().unwrap_or("the push token is dead");
            let words = format!("{problem}, since {}; it counts again when the device registers", since.to_rfc3339());
            ("unreachable", Some(words))
        }
        (false, None) => ("behind", Some(why_behind(target, face, held_up, now))),
    };
    json!({
        "wallet": pass.wallet,
        "device": short_form(target.id.as_str()),
        "kind": target.kind,
        "wanted": face,
        "pushed": target.notified_position.min(face),
        "pushed_at": target.notified_at,
        "asked_at": target.polled_at,
        "fetched": fetched,
        "fetched_at": fetched_at,
        "state": state,
        "reason": reason,
    })
}

fn why_behind(target: &TargetState, face: i64, held_up: &HeldUp, now: Timestamp) -> String {
    if target.polled_position >= face {
        return "it asked what changed and has not fetched the pass yet".to_owned();
    }
    if target.kind == "other" {
        return "it is a reader that Apple does not push to; it asks by itself".to_owned();
    }
    let problem = target.problem.as_deref();
    match (target.due_at, &held_up.pushes, problem) {
        (Some(_), Some(why), _) => why.clone(),
        (Some(due), None, Some(problem)) if due > now => {
            format!("the last push failed ({problem}); the next leaves at {}", due.to_rfc3339())
        }
        (Some(due), None, _) if due > now => {
            format!("its push leaves at {}, together with later changes", due.to_rfc3339())
        }
        (Some(_), None, _) => "its push is about to leave".to_owned(),
        (None, _, Some(problem)) if target.notified_position < face => {
            format!("{problem}; the card's next change is pushed anew")
        }
        (None, ..) if target.notified_position < face && held_up.refreshing => {
            "the publishing of its template is being spread over its cards, and has not come to this one".to_owned()
        }
        (None, ..) if target.notified_position < face => "no push is due; it asks by itself".to_owned(),
        (None, ..) => match target.remind_at {
            Some(at) => {
                format!("it was pushed to and has not asked since; the push is repeated at {}", at.to_rfc3339())
            }
            None => "it was pushed to several times and has not asked since".to_owned(),
        },
    }
}
