//! The styles of a pass, and which of them may be combined.

use super::report::{Report, quoted};
use super::{CLASSIC_STYLES, Files, POSTER_GENERIC, Pass, images, is_empty, list};

/// A value of `preferredStyleSchemes` and the style that it requires.
const SCHEMES: [(&str, &str); 4] = [
    ("posterEventTicket", "eventTicket"),
    ("eventTicket", "eventTicket"),
    ("semanticBoardingPass", "boardingPass"),
    ("boardingPass", "boardingPass"),
];

pub fn check(pass: &Pass<'_>, files: &Files, report: &mut Report) {
    let classic: Vec<&str> = CLASSIC_STYLES.into_iter().filter(|style| pass.has_style(style)).collect();
    let poster = pass.has_style(POSTER_GENERIC);
    if classic.is_empty() && !poster {
        let detail = format!("the pass has no style; expected one of {}", CLASSIC_STYLES.join(", "));
        report.error("style-missing", "", detail);
    }
    if classic.len() > 1 {
        let detail = format!("the pass has {}; Wallet shows one style, keep that", classic.join(" and "));
        if poster {
            report.warning("style-multiple-fallbacks", "", detail);
        } else {
            report.error("style-multiple", "", detail);
        }
    }
    if poster && classic.is_empty() {
        report.warning(
            "poster-generic-no-fallback",
            "/posterGeneric",
            "iOS 26 and earlier can't add this pass; put a classic style, for instance generic, beside it",
        );
    }
    if poster && !images::has_role(files, "artwork") && !images::has_role(files, "background") {
        report.warning(
            "poster-generic-image",
            "/posterGeneric",
            "has neither an artwork nor a background image to show",
        );
    }
    check_schemes(pass, report);
    for (name, style) in &pass.styles {
        let given = !is_empty(style.get("transitType"));
        if *name == "boardingPass" && !given {
            report.error(
                "transit-type-missing",
                "/boardingPass/transitType",
                "transitType is absent; a boarding pass needs it",
            );
        }
        if *name != "boardingPass" && style.contains_key("transitType") {
            report.error(
                "transit-type-misplaced",
                format!("/{name}/transitType"),
                "only a boarding pass has a transitType",
            );
        }
    }
}

fn check_schemes(pass: &Pass<'_>, report: &mut Report) {
    let schemes = list(pass.root, "preferredStyleSchemes");
    for (index, scheme) in schemes.iter().enumerate() {
        let Some(scheme) = scheme.as_str() else { continue };
        let pointer = format!("/preferredStyleSchemes/{index}");
        match SCHEMES.iter().find(|(word, _)| *word == scheme) {
            None => {
                let known = SCHEMES.map(|(word, _)| word).join(", ");
                report.error("scheme-unknown", pointer, format!("is {}; expected one of {known}", quoted(scheme)));
            }
            Some((_, style)) if !pass.has_style(style) => {
                report.error(
                    "scheme-style-mismatch",
                    pointer,
                    format!("{scheme} needs the style {style}, which the pass lacks"),
                );
            }
            Some(_) => {}
        }
    }
    let last_is_classic =
        schemes.last().is_none_or(|last| last.as_str().is_some_and(|last| CLASSIC_STYLES.contains(&last)));
    if !last_is_classic {
        report.warning(
            "scheme-no-fallback",
            "/preferredStyleSchemes",
            "does not end with the classic style, which older systems show",
        );
    }
}
