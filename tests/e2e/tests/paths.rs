//! What the documents name exists.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Paths in backquotes that begin with a folder or a file of this project.
fn named(text: &str) -> Vec<&str> {
    let quoted = text.split('`').skip(1).step_by(2);
    let ours = ["crates/", "tests/", "xtask/", "docs/", "examples/", "./", ".ci/"];
    quoted.filter(|word| ours.iter().any(|start| word.starts_with(start)) && !word.contains(' ')).collect()
}

#[test]
fn every_path_in_the_documents_exists() {
    let mut missing = Vec::new();
    for document in ["ARCHITECTURE.md", "README.md"] {
        let text = fs::read_to_string(root().join(document)).unwrap_or_default();
        let paths = named(&text);
        assert!(!paths.is_empty(), "{document} names no path");
        missing.extend(
            paths
                .into_iter()
                .filter(|path| !root().join(path).exists())
                .map(|path| format!("{document}: {path}")),
        );
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn paths_are_found_in_text() {
    let text = "see `crates/words/meta` and `cargo xtask`, then `./up` or `examples/hello`; not `a/b`";
    assert_eq!(named(text), ["crates/words/meta", "./up", "examples/hello"]);
}
