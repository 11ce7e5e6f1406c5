//! What we build on: licences that we may pass on, and one library for cryptography.

use std::collections::BTreeSet;
use std::process::Command;

/// Packages that must not come back, and why.
const REFUSED: &[(&str, &str)] = &[
    ("ring", "OpenSSL is our cryptography"),
    ("aws-lc-rs", "OpenSSL is our cryptography"),
    ("aws-lc-sys", "OpenSSL is our cryptography"),
    ("boring", "OpenSSL is our cryptography"),
    ("boring-sys", "OpenSSL is our cryptography"),
    ("mbedtls", "OpenSSL is our cryptography"),
    ("wolfssl", "OpenSSL is our cryptography"),
    ("libsodium-sys", "OpenSSL is our cryptography"),
    ("rustls", "OpenSSL is our TLS; choose the feature native-tls"),
    ("rsa", "OpenSSL is our RSA; this one leaks its key through timing (RUSTSEC-2023-0071)"),
    ("openssl-src", "OpenSSL is the system's unless the feature vendored-openssl is asked for"),
];

/// Packages of which one major version is enough, since the other is outdated or costs a second native library.
const ONLY_VERSION: &[(&str, &str)] = &[("h2", "0.4."), ("openssl", "0.10."), ("openssl-sys", "0.9.")];

/// Licences under which we may pass the code on inside a binary without passing on its source.
const PERMISSIVE: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// A package that a build or a test on Linux uses.
#[derive(Debug)]
struct Used {
    name: String,
    version: String,
    licence: String,
    /// Who brings it in: `passloom 0.1.0 > sqlx 0.9.0 > ring 0.17.14`.
    path: String,
}

/// Asks `cargo tree`, because `cargo metadata` also lists what only a feature that is off would bring in.
fn in_use() -> Vec<Used> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    // Everything was fetched to build this test, and nothing may change the lock file meanwhile. What builds build
    // scripts isn't part of what we ship.
    command.args([
        "tree",
        "--locked",
        "--offline",
        "--target",
        "x86_64-unknown-linux-gnu",
        "--features",
        "crash-points",
    ]);
    command.args(["--edges", "normal,dev", "--prefix", "depth", "--format", "\t{p}\t{l}\t"]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut path: Vec<String> = Vec::new();
    let mut seen = BTreeSet::new();
    let mut used = Vec::new();
    for line in std::str::from_utf8(&output.stdout).unwrap().lines() {
        let mut columns = line.split('\t');
        let depth: usize = columns.next().unwrap().parse().unwrap();
        let (name, rest) = columns.next().unwrap().split_once(" v").unwrap();
        let version = rest.split_once(' ').map_or(rest, |(version, _source)| version);
        let licence = columns.next().unwrap();
        path.truncate(depth);
        path.push(format!("{name} {version}"));
        if seen.insert((name.to_owned(), version.to_owned())) {
            let (name, version, licence) = (name.to_owned(), version.to_owned(), licence.to_owned());
            used.push(Used { name, version, licence, path: path.join(" > ") });
        }
    }
    assert!(used.iter().any(|package| package.name == "openssl"), "the list can't be whole");
    used
}

/// Fails with every package that has something to be said against it.
fn assert_none(complaint: impl Fn(&Used) -> Option<String>) {
    let used = in_use();
    let lines: Vec<String> =
        used.iter().filter_map(|package| Some(format!("{}\n    {}", package.path, complaint(package)?))).collect();
    assert!(lines.is_empty(), "{}", lines.join("\n"));
}

/// Whether an SPDX expression can be fulfilled with the permissive licences alone: one of a choice is enough, of a
/// conjunction all are needed. `/` is how old packages write `OR`. What can't be read isn't permitted.
fn permitted(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = expression.split_whitespace().collect();
    matches!(choice(&words), Some((true, [])))
}

/// An answer and the words that follow it; `None` when these words are no licence.
type Read<'a> = Option<(bool, &'a [&'a str])>;

fn choice<'a>(words: &'a [&'a str]) -> Read<'a> {
    let (mut answer, mut words) = conjunction(words)?;
    while let ["OR", rest @ ..] = words {
        let (other, rest) = conjunction(rest)?;
        (answer, words) = (answer || other, rest);
    }
    Some((answer, words))
}

fn conjunction<'a>(words: &'a [&'a str]) -> Read<'a> {
    let (mut answer, mut words) = single(words)?;
    while let ["AND", rest @ ..] = words {
        let (other, rest) = single(rest)?;
        (answer, words) = (answer && other, rest);
    }
    Some((answer, words))
}

fn single<'a>(words: &'a [&'a str]) -> Read<'a> {
    match words {
        ["(", rest @ ..] => match choice(rest)? {
            (answer, [")", rest @ ..]) => Some((answer, rest)),
            _ => None,
        },
        [name, "WITH", exception, rest @ ..] => {
            Some((PERMISSIVE.contains(&format!("{name} WITH {exception}").as_str()), rest))
        }
        [name, rest @ ..] => Some((PERMISSIVE.contains(name), rest)),
        [] => None,
    }
}

#[test]
fn licences_are_read_as_their_expressions_say() {
    for good in [
        "MIT",
        "MIT OR GPL-3.0-only",
        "MIT/Apache-2.0",
        "(MIT OR LGPL-2.1) AND Unicode-3.0",
        "Apache-2.0 WITH LLVM-exception",
    ] {
        assert!(permitted(good), "{good} was refused");
    }
    for bad in [
        "GPL-3.0-only",
        "LGPL-2.1-or-later",
        "AGPL-3.0",
        "MIT AND GPL-2.0",
        "(MIT OR Zlib) AND MPL-2.0",
        "",
        "MIT OR",
        "MIT MIT",
        "(MIT",
    ] {
        assert!(!permitted(bad), "{bad} was taken");
    }
}

#[test]
fn every_dependency_has_a_licence_that_lets_us_pass_it_on() {
    assert_none(|package| match package.licence.as_str() {
        "" => Some("has no licence that can be read".to_owned()),
        licence if permitted(licence) => None,
        licence => Some(format!("is under {licence}, and none of its choices is in the list")),
    });
}

#[test]
fn openssl_is_the_only_library_for_keys_and_connections() {
    assert_none(|package| REFUSED.iter().find(|(name, _)| *name == package.name).map(|(_, why)| (*why).to_owned()));
}

#[test]
fn no_second_version_of_http_2_or_openssl_comes_in() {
    assert_none(|package| {
        let (_, wanted) = ONLY_VERSION.iter().find(|(name, _)| *name == package.name)?;
        (!package.version.starts_with(wanted)).then(|| format!("only version {wanted}x is wanted"))
    });
}
