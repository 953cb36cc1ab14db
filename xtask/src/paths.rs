//! The paths that documents name exist.

/// Where paths of this project begin.
#[cfg(test)]
const ROOTS: [&str; 7] = ["crates/", "tests/", "xtask/", "docs/", "examples/", "./", ".ci/"];

/// Paths of this project that a text names in backquotes.
#[cfg(test)]
fn named(text: &str) -> Vec<&str> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.filter(|word| ROOTS.iter().any(|root| word.starts_with(root)) && !word.contains(' ')).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn paths_are_found_in_backquotes() {
        let text = "see `crates/a/b.rs`, not crates/c or `x/y`, `./up`, `./test network::` and `xtask/z`";
        assert_eq!(named(text), ["crates/a/b.rs", "./up", "xtask/z"]);
    }

    #[test]
    fn what_the_documents_name_is_there() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for (document, least) in [("ARCHITECTURE.md", 20), ("README.md", 3)] {
            let text = std::fs::read_to_string(root.join(document)).expect(document);
            let paths = named(&text);
            assert!(paths.len() >= least, "{document} names only {paths:?}");
            let missing: Vec<&str> = paths.into_iter().filter(|path| !root.join(path).exists()).collect();
            assert!(missing.is_empty(), "{document} names {missing:?}");
        }
    }
}
