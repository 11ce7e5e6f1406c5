//! The issues that rules find in a template or a pass.
//!
//! The rules of each wallet live with the wallet; this is the form in which all of them report, shared by
//! `publish`, the API and `passloom inspect`.

/// The severity of an [`Issue`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// A phone would refuse the pass or show it broken: the template can't be published.
    Error,
    /// It works, but not as the author probably meant.
    Warning,
}

/// A violation of one rule.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Issue {
    /// The rule's stable name, e.g. `field-key-duplicate`.
    pub rule: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// The place: a JSON pointer into the checked document, or a file's path in an archive; empty for the whole.
    pub pointer: String,
    /// What was found, what is expected and how to fix it, in one or two sentences.
    pub detail: String,
}

impl Issue {
    /// Returns an issue that forbids publishing.
    pub fn error(rule: &'static str, pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { rule, severity: Severity::Error, pointer: pointer.into(), detail: detail.into() }
    }

    /// Returns an issue that is worth knowing but doesn't forbid publishing.
    pub fn warning(rule: &'static str, pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { rule, severity: Severity::Warning, pointer: pointer.into(), detail: detail.into() }
    }
}
