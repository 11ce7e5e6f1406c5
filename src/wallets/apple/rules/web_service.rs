//! The pass's web service, which updates it, and the app that it opens.

use crate::domain::checks::Issue;

use super::report::{Report, quoted};
use super::{Context, Pass, is_empty};

/// The fewest characters of a token (Apple, "Pass": authenticationToken, read 2026-11).
const SHORTEST_TOKEN: usize = 16;

pub fn check(pass: &Pass<'_>, context: &Context, report: &mut Report) {
    let (url, token) = (pass.root.get("webServiceURL"), pass.root.get("authenticationToken"));
    if !is_empty(url) && is_empty(token) {
        let detail = "is absent; Wallet needs it together with webServiceURL";
        report.error("web-service-token-missing", "/authenticationToken", detail);
    }
    if is_empty(url) && !is_empty(token) {
        let detail = "is absent; authenticationToken means nothing without it";
        report.error("web-service-url-missing", "/webServiceURL", detail);
    }
    if let Some(token) = pass.text("authenticationToken").filter(|token| !token.is_empty()) {
        let length = token.chars().count();
        if length < SHORTEST_TOKEN {
            // The token is a secret: its length is reported, its text never.
            let detail = format!("has {length} characters; Wallet refuses fewer than {SHORTEST_TOKEN}");
            report.error("web-service-token-length", "/authenticationToken", detail);
        }
    }
    if let Some(url) = pass.text("webServiceURL").filter(|url| !url.is_empty()) {
        let secure = url.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"));
        if !secure {
            report.add(Issue {
                rule: "web-service-https",
                severity: context.own_addresses.severity(),
                pointer: "/webServiceURL".into(),
                detail: format!("is {}; phones ask over https only", quoted(url)),
            });
        }
        if url.trim_end_matches('/').ends_with("/v1") {
            let detail = "ends in /v1, and Wallet appends another /v1; leave it out";
            report.warning("web-service-version-suffix", "/webServiceURL", detail);
        }
    }
    if !is_empty(pass.root.get("appLaunchURL")) && is_empty(pass.root.get("associatedStoreIdentifiers")) {
        let detail = "does nothing without associatedStoreIdentifiers, which say the app";
        report.error("app-launch-without-store", "/appLaunchURL", detail);
    }
}
