//! The paths that documents name exist.

/// Paths below `crates/`, `tests/` and `xtask/` that a text names in backquotes.
#[cfg(test)]
fn named(text: &str) -> Vec<&str> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.filter(|word| ["crates/", "tests/", "xtask/"].iter().any(|root| word.starts_with(root))).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn paths_are_found_in_backquotes() {
        assert_eq!(named("see `crates/a/b.rs`, not crates/c or `x/y`, and `xtask/z`"), ["crates/a/b.rs", "xtask/z"]);
    }

    #[test]
    fn what_the_architecture_names_is_there() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let text = std::fs::read_to_string(root.join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
        let paths = named(&text);
        assert!(paths.len() > 20, "only {} paths are named", paths.len());
        let missing: Vec<&str> = paths.into_iter().filter(|path| !root.join(path).exists()).collect();
        assert!(missing.is_empty(), "ARCHITECTURE.md names {missing:?}");
    }
}
