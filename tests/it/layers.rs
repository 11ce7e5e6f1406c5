//! The layers of ARCHITECTURE.md, held against what the files of `src/` use.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// For each room of `src/`, the rooms that it may use beside itself.
const MAY_USE: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("platform", &["domain"]),
    ("store", &["domain", "platform"]),
    ("wallets", &["domain", "platform"]),
    ("sandbox", &["domain", "platform", "wallets"]),
    // What a running service has: the rooms above hold its parts' types, and take it whole so far.
    ("app", &["actions", "config", "delivery", "domain", "platform", "sandbox", "store", "telemetry", "wallets"]),
    ("telemetry", &["actions", "domain", "platform", "store"]),
    ("actions", &["app", "delivery", "domain", "platform", "sandbox", "store", "telemetry", "wallets"]),
    ("delivery", &["actions", "app", "domain", "platform", "store", "telemetry", "wallets"]),
    ("jobs", &["actions", "app", "delivery", "domain", "platform", "store", "telemetry"]),
    ("http", &["actions", "app", "delivery", "domain", "platform", "store", "telemetry", "wallets"]),
    ("config", &["domain", "http", "platform", "telemetry", "wallets"]),
    (
        "startup",
        &["actions", "app", "config", "domain", "http", "jobs", "platform", "sandbox", "store", "telemetry", "wallets"],
    ),
    ("doctor", &["actions", "app", "config", "domain", "http", "platform", "sandbox", "startup", "store", "wallets"]),
    (
        "cli",
        &[
            "actions",
            "app",
            "config",
            "doctor",
            "domain",
            "http",
            "platform",
            "sandbox",
            "startup",
            "store",
            "telemetry",
            "wallets",
        ],
    ),
];

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// The code of a file without its comments and its tests.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let text = text.split("\n#[cfg(test)]\nmod tests").next().unwrap_or_default();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The paths below `crate::` that a file names, up to `depth` parts, those in braces each by itself.
fn used(code: &str, depth: usize) -> BTreeSet<Vec<String>> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let path = code[at + 7..].split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).next().unwrap_or("");
        let parts: Vec<String> = path.split("::").filter(|p| !p.is_empty()).map(str::to_owned).collect();
        if !parts.is_empty() {
            found.insert(parts.into_iter().take(depth).collect());
        }
    }
    found
}

#[test]
fn no_arrow_leads_against_the_layers() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let may_use: BTreeMap<&str, &[&str]> = MAY_USE.iter().copied().collect();
    let (mut all, mut wrong, mut drawn) = (Vec::new(), Vec::new(), BTreeSet::new());
    files(&src, &mut all);
    for path in &all {
        let inside = path.strip_prefix(&src).unwrap();
        let room = inside.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs");
        // Tests within the library may use what they like, `lib` and `main` use nothing.
        if ["lib", "main"].contains(&room) || path.ends_with("tests.rs") {
            continue;
        }
        let allowed = may_use.get(room).unwrap_or_else(|| panic!("the room {room} has no place in the layers"));
        for part in used(&code(path), 1) {
            let to = part[0].clone();
            if to == room || !may_use.contains_key(to.as_str()) {
                continue;
            }
            drawn.insert((room.to_owned(), to.clone()));
            if !allowed.contains(&to.as_str()) {
                wrong.push(format!("{} uses crate::{to}", inside.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "against the layers of ARCHITECTURE.md:\n{}", wrong.join("\n"));
    assert!(drawn.len() > 40, "only {} arrows were found: the test reads nothing", drawn.len());
}

#[test]
fn descriptions_of_the_api_know_no_routes() {
    let http = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http");
    let mut all = Vec::new();
    files(&http.join("openapi"), &mut all);
    files(&http.join("api"), &mut all);
    assert!(all.len() > 25, "{}", all.len());
    for path in all {
        let routes: Vec<String> = vec!["http".to_owned(), "routes".to_owned()];
        assert!(!used(&code(&path), 2).contains(&routes), "{} uses the list of routes", path.display());
    }
}
