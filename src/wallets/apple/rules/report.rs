//! Collects broken rules without letting a hostile file fill the memory with them.

use std::collections::BTreeMap;

use crate::domain::checks::{Issue, Severity};

/// The most issues listed for one rule; more would help nobody, and the rest are counted.
const MAX_PER_RULE: usize = 40;

/// The issues found so far.
#[derive(Debug, Default)]
pub struct Report {
    issues: Vec<Issue>,
    counts: BTreeMap<(&'static str, Severity), usize>,
}

impl Report {
    /// Records something that a phone would refuse or show broken.
    pub fn error(&mut self, rule: &'static str, pointer: impl Into<String>, detail: impl Into<String>) {
        self.add(Issue::error(rule, pointer, detail));
    }

    /// Records something that works, but probably not as the author intended.
    pub fn warning(&mut self, rule: &'static str, pointer: impl Into<String>, detail: impl Into<String>) {
        self.add(Issue::warning(rule, pointer, detail));
    }

    /// Records an issue whose severity was decided elsewhere.
    pub fn add(&mut self, issue: Issue) {
        let count = self.counts.entry((issue.rule, issue.severity)).or_default();
        *count += 1;
        if *count <= MAX_PER_RULE {
            self.issues.push(issue);
        }
    }

    /// Returns all issues in the order of finding; those beyond the limit of a rule are summed up at the end.
    pub fn finish(mut self) -> Vec<Issue> {
        for ((rule, severity), count) in self.counts {
            if count > MAX_PER_RULE {
                let detail = format!("{} more places break this rule", count - MAX_PER_RULE);
                self.issues.push(Issue { rule, severity, pointer: String::new(), detail });
            }
        }
        self.issues
    }
}

/// Returns a found text for use in a message: quoted, escaped, and cut.
pub fn quoted(text: &str) -> String {
    const LONGEST: usize = 80;
    let cut: String = text.chars().take(LONGEST).collect();
    if cut.len() < text.len() { format!("{cut:?}…") } else { format!("{cut:?}") }
}

/// Returns a detail without the texts that [`quoted`] put in, for members' own values, which must not be shown.
pub fn without_quotes(detail: &str) -> String {
    let (mut out, mut within, mut escaped) = (String::new(), false, false);
    for c in detail.chars() {
        match c {
            '"' if !escaped => {
                within = !within;
                out.push_str(if within { "\"…" } else { "\"" });
            }
            _ if within => {}
            _ => out.push(c),
        }
        escaped = within && c == '\\' && !escaped;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_quoted_is_not_repeated_whatever_it_holds() {
        for text in ["Anna", "", "a \"b\" c", "\\", "\\\"", "line\nline", &"long ".repeat(50)] {
            let detail = format!("is {}; expected a date", quoted(text));
            let expected =
                if text.len() > 80 { "is \"…\"…; expected a date" } else { "is \"…\"; expected a date" };
            assert_eq!(without_quotes(&detail), expected, "{detail}");
        }
        assert_eq!(without_quotes("has 7 of 5"), "has 7 of 5");
    }

    #[test]
    fn a_rule_broken_a_thousand_times_is_listed_forty_times_and_summed_up() {
        let mut report = Report::default();
        for place in 0..1000 {
            report.error("some-rule", format!("/{place}"), "wrong");
        }
        report.warning("other-rule", "", "odd");
        let issues = report.finish();
        assert_eq!(issues.len(), 42);
        assert_eq!(issues.last().map(|issue| issue.detail.as_str()), Some("960 more places break this rule"));
    }
}
