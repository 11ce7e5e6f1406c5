//! What we build on: licences that we may pass on, and one library for cryptography.

use std::collections::{HashMap, VecDeque};

use cargo_metadata::{CargoOpt, DependencyKind, Metadata, MetadataCommand, Package, PackageId};

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
const ONLY_VERSION: &[(&str, u64, u64)] = &[("h2", 0, 4), ("openssl", 0, 10), ("openssl-sys", 0, 9)];

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

/// Everything that a build or a test on Linux uses, with who brings it in.
struct Dependencies {
    metadata: Metadata,
    /// For each package in use, the one through which it was reached first, by the shortest way.
    brought_by: HashMap<PackageId, Option<PackageId>>,
}

impl Dependencies {
    fn read() -> Self {
        let mut command = MetadataCommand::new();
        command.manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
        command.features(CargoOpt::SomeFeatures(vec!["crash-points".to_owned()]));
        // Everything was fetched to build this test, and nothing may change the lock file meanwhile.
        command.other_options(
            ["--locked", "--offline", "--filter-platform", "x86_64-unknown-linux-gnu"].map(str::to_owned).to_vec(),
        );
        let metadata = command.exec().unwrap();
        let resolve = metadata.resolve.as_ref().unwrap();
        let root = resolve.root.clone().unwrap();
        let nodes: HashMap<_, _> = resolve.nodes.iter().map(|node| (&node.id, node)).collect();
        let mut brought_by = HashMap::from([(root.clone(), None)]);
        let mut queue = VecDeque::from([root.clone()]);
        while let Some(id) = queue.pop_front() {
            for dependency in &nodes[&id].deps {
                // Cargo lists dev-dependencies of the root package only; what builds a build script isn't shipped.
                let used = dependency.dep_kinds.iter().any(|kind| kind.kind != DependencyKind::Build);
                if used && !brought_by.contains_key(&dependency.pkg) {
                    brought_by.insert(dependency.pkg.clone(), Some(id.clone()));
                    queue.push_back(dependency.pkg.clone());
                }
            }
        }
        Self { metadata, brought_by }
    }

    fn packages(&self) -> impl Iterator<Item = &Package> {
        self.metadata.packages.iter().filter(|package| self.brought_by.contains_key(&package.id))
    }

    /// `passloom > sqlx 0.9.0 > ring 0.17.14`.
    fn path(&self, package: &Package) -> String {
        let mut steps = Vec::new();
        let mut next = Some(&package.id);
        while let Some(id) = next {
            let package = &self.metadata[id];
            steps.push(format!("{} {}", package.name, package.version));
            next = self.brought_by[id].as_ref();
        }
        steps.reverse();
        steps.join(" > ")
    }

    fn assert_none(&self, complaints: Vec<(&Package, String)>) {
        let lines: Vec<String> =
            complaints.iter().map(|(package, why)| format!("{}\n    {why}", self.path(package))).collect();
        assert!(lines.is_empty(), "{}", lines.join("\n"));
    }
}

/// Whether an SPDX expression can be fulfilled with the permissive licences alone: one of a choice is enough, of a
/// conjunction all are needed. `/` is how old packages write `OR`.
fn permitted(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = expression.split_whitespace().collect();
    let mut place = 0;
    either(&words, &mut place) && place == words.len()
}

fn either(words: &[&str], place: &mut usize) -> bool {
    let mut any = all(words, place);
    while words.get(*place) == Some(&"OR") {
        *place += 1;
        any |= all(words, place);
    }
    any
}

fn all(words: &[&str], place: &mut usize) -> bool {
    let mut every = one(words, place);
    while words.get(*place) == Some(&"AND") {
        *place += 1;
        every &= one(words, place);
    }
    every
}

fn one(words: &[&str], place: &mut usize) -> bool {
    let Some(&word) = words.get(*place) else { return false };
    *place += 1;
    if word == "(" {
        let inner = either(words, place);
        let closed = words.get(*place) == Some(&")");
        *place += 1;
        return inner && closed;
    }
    let mut name = word.to_owned();
    if words.get(*place) == Some(&"WITH") {
        name = format!("{word} WITH {}", words.get(*place + 1).unwrap_or(&""));
        *place += 2;
    }
    PERMISSIVE.contains(&name.as_str())
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
    let dependencies = Dependencies::read();
    let complaints = dependencies.packages().filter_map(|package| match package.license.as_deref() {
        None => Some((package, "has no licence that can be read".to_owned())),
        Some(licence) if permitted(licence) => None,
        Some(licence) => Some((package, format!("is under {licence}, and none of its choices is in the list"))),
    });
    let complaints = complaints.collect();
    dependencies.assert_none(complaints);
}

#[test]
fn openssl_is_the_only_library_for_keys_and_connections() {
    let dependencies = Dependencies::read();
    assert!(dependencies.packages().any(|package| *package.name == "openssl"), "the list can't be whole");
    let complaints = dependencies.packages().filter_map(|package| {
        let (_, why) = REFUSED.iter().find(|(name, _)| *name == **package.name)?;
        Some((package, (*why).to_owned()))
    });
    let complaints = complaints.collect();
    dependencies.assert_none(complaints);
}

#[test]
fn no_second_version_of_http_2_or_openssl_comes_in() {
    let dependencies = Dependencies::read();
    let complaints = dependencies.packages().filter_map(|package| {
        let (_, major, minor) = ONLY_VERSION.iter().find(|(name, ..)| *name == **package.name)?;
        let same = package.version.major == *major && package.version.minor == *minor;
        (!same).then(|| (package, format!("only version {major}.{minor} is wanted")))
    });
    let complaints = complaints.collect();
    dependencies.assert_none(complaints);
}
