//! Shows what a template's draft makes of given values, before anything is published.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::actions::error::ActionError;
use crate::actions::passes::renders::Reader;
use crate::actions::templates::draft::Draft;
use crate::app::App;
use crate::domain::cards::Card;
use crate::domain::ids::{TemplateId, WorkspaceId};
use crate::domain::input::{Node, Problems};
use crate::domain::render::render;
use crate::domain::templates::picture::PictureName;
use crate::domain::templates::samples::sample_values;
use crate::domain::values::attribute::check_values;
use crate::domain::values::locale::Language;
use crate::wallets::apple::check::{Sample, problems_of_values};
use crate::wallets::apple::package::pass_json::pass_json_in_language;

/// Returns the draft's pass of a card with the values in `body`, and the rules it breaks: rendered, written and checked
/// by the same code as a real one. Without values, every attribute has its default or a plausible value. Texts are in
/// the requested language; the pass's identity is a placeholder without valid tokens. Google Wallet isn't supported
/// yet: null.
///
/// # Errors
/// When there is no such template; every problem of the body, and of values with which no card could be issued.
pub async fn preview_template(
    app: &App,
    workspace: &WorkspaceId,
    id: &TemplateId,
    body: &Value,
) -> Result<Value, ActionError> {
    let draft = Draft::read(app, workspace, id).await?;
    let template = draft.template(app, workspace).await?;
    let now = app.now();
    let mut problems = Problems::new();
    let Some(mut object) = Node::root(body).object(&mut problems) else { return Err(problems.into()) };
    let values: Map<String, Value> = match object.get("attributes") {
        Some(given) => check_values(&given, &template.attributes, &mut problems),
        None => sample_values(&template, now),
    };
    let locale = object.get("locale").and_then(|n| n.parsed(&mut problems, Language::parse_known));
    object.finish(&mut problems);
    if !problems.is_empty() {
        return Err(problems.into());
    }
    let files = draft.files(app, workspace, &template).await?;
    let given = body.get("attributes").is_some_and(|given| !given.is_null());
    let names: BTreeSet<String> = draft.pictures.iter().map(|row| row.role.clone()).collect();
    let (issuer, public_url) = (app.find_apple_issuer(workspace).await?, app.public_url.clone());
    let work = app.render(Reader::Designer, move || {
        let identity = issuer.as_deref().map(|i| &i.identity);
        let sample = Sample { template: &template, identity, public_url: &public_url, now };
        let card = Card::sample(values.clone(), now);
        let rendered = render(&template, &card, &sample.page_url())?;
        let place = locale.and_then(|locale| locale.best_of(&template.languages)).unwrap_or(0);
        let pass = sample.with_identity(&card, |identity| pass_json_in_language(&rendered, identity, place));
        let has_picture = |name: &PictureName| names.contains(&name.to_string());
        let values_break = problems_of_values(&rendered, &pass, &has_picture, now);
        if given && !values_break.is_empty() {
            return Err(values_break);
        }
        let mut issues = sample.issues(&files, &values);
        issues.sort_by_key(|issue| issue.severity);
        Ok::<_, Problems>(json!({"apple": pass, "google": null, "issues": issues}))
    });
    Ok(work.await??)
}
