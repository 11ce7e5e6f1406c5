//! Checks a template: Apple's rules run on a pass written by the production code, others on the document itself.

use serde_json::Map;

use crate::actions::error::ActionError;
use crate::actions::passes::renders::Reader;
use crate::actions::templates::check_design::{PutDesign, issues_of_design};
use crate::actions::templates::draft::Draft;
use crate::actions::templates::publish_template::changed_types;
use crate::app::App;
use crate::domain::cards::Card;
use crate::domain::checks::Issue;
use crate::domain::ids::{TemplateId, WorkspaceId};
use crate::domain::render::expression::EvaluationError;
use crate::domain::render::render_or_faults;
use crate::domain::templates::Template;
use crate::domain::templates::samples::sample_values;
use crate::domain::time::Timestamp;
use crate::wallets::apple::certificates::identity::SigningIdentity;
use crate::wallets::apple::check::Sample;
use crate::wallets::images::VersionFile;

/// Returns every rule violation of a template's draft, errors first.
///
/// # Errors
/// When there is no such template.
pub async fn check_template(app: &App, workspace: &WorkspaceId, id: &TemplateId) -> Result<Vec<Issue>, ActionError> {
    let draft = Draft::read(app, workspace, id).await?;
    let template = draft.template(app, workspace).await?;
    let mut issues = changed_types(app, workspace, id, &template).await?;
    let files = draft.files(app, workspace, &template).await?;
    let design = draft.design(app).await;
    let (issuer, public_url, now) = (app.find_apple_issuer(workspace).await?, app.public_url.clone(), app.now());
    let work = app.render(Reader::Designer, move || {
        check_draft(&design, &template, &files, issuer.as_deref().map(|i| &i.identity), &public_url, now)
    });
    issues.extend(work.await?);
    issues.sort_by_key(|issue| issue.severity);
    Ok(issues)
}

/// Returns every rule violation of a design's passes. Pointers lead into the template document.
pub fn check_draft(
    design: &PutDesign,
    template: &Template,
    files: &[VersionFile],
    identity: Option<&SigningIdentity>,
    public_url: &str,
    now: Timestamp,
) -> Vec<Issue> {
    let sample = Sample { template, identity, public_url, now };
    let mut issues = sample.issues(files, &sample_values(template, now));
    issues.extend(needed_values(&sample));
    for issue in issues_of_design(design, &sample, files) {
        if !issues.contains(&issue) {
            issues.push(issue);
        }
    }
    issues.sort_by_key(|issue| issue.severity);
    issues
}

/// Returns the attributes without which no card can be issued, so that a user knows before the first one is refused.
fn needed_values(sample: &Sample<'_>) -> Vec<Issue> {
    let template = sample.template;
    let card = Card::sample(Map::new(), sample.now);
    let faults = render_or_faults(template, &card, &sample.page_url()).err().unwrap_or_default();
    let mut issues: Vec<Issue> = Vec::new();
    for fault in faults {
        let EvaluationError::Missing(name) = &fault.error else { continue };
        let Some(place) = template.attributes.iter().position(|a| a.name.as_str() == name) else { continue };
        let pointer = format!("/attributes/{place}");
        if issues.iter().all(|issue| issue.pointer != pointer) {
            let detail = format!("has no default, and {} needs a value: a card without one is refused", fault.place);
            issues.push(Issue::warning("attribute-needed", pointer, detail));
        }
    }
    issues
}
