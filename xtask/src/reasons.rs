//! Each dependency stands in the workspace table with its reason, and somebody uses it.

use std::collections::BTreeSet;

use crate::workspace::Package;

/// Lines of the table that lack a reason or a user.
pub(crate) fn problems(manifest: &str, packages: &[Package]) -> Vec<String> {
    let used: BTreeSet<&str> =
        packages.iter().flat_map(|package| &package.dependencies).map(|(name, _)| name.as_str()).collect();
    entries(manifest).filter_map(|(name, line)| problem(name, line, &used)).collect()
}

/// The lines of `[workspace.dependencies]` with the names that they begin with.
fn entries(manifest: &str) -> impl Iterator<Item = (&str, &str)> {
    manifest
        .lines()
        .skip_while(|line| line.trim() != "[workspace.dependencies]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter(|line| !line.trim_start().starts_with('#'))
        .filter_map(|line| Some((line.split_once('=')?.0.trim(), line)))
}

fn problem(name: &str, line: &str, used: &BTreeSet<&str>) -> Option<String> {
    if !used.contains(name) {
        return Some(format!("Cargo.toml: {name} is in the table of dependencies, but no crate uses it"));
    }
    let ours = line.contains("path =");
    let reason = line.rsplit_once('#').map_or("", |(_, reason)| reason.trim());
    (!ours && reason.is_empty())
        .then(|| format!("Cargo.toml: {name} stands in the table of dependencies without its reason"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Need;

    #[test]
    fn each_line_has_a_reason_and_a_user() {
        // the line, what is used, fine
        let table = [
            ("serde = \"1\" # encoding", "serde", true),
            ("serde = \"1\"", "serde", false),
            ("serde = \"1\" #", "serde", false),
            ("serde = \"1\" # encoding", "jiff", false),
            ("plimsoll-meta = { path = \"crates/words/meta\" }", "plimsoll-meta", true),
            ("# words: vocabulary", "serde", true),
            ("", "serde", true),
        ];
        for (line, used, fine) in table {
            let manifest = format!(
                "[workspace]\nmembers = []\n[workspace.dependencies]\n{line}\n\n[profile.dev]\ndebug = 1\n"
            );
            let user = Package {
                name: "plimsoll-meta".to_owned(),
                folder: "crates/words/meta".to_owned(),
                dependencies: vec![(used.to_owned(), Need::Normal)],
            };
            let found = problems(&manifest, &[user]);
            assert_eq!(found.is_empty(), fine, "{line}: {found:?}");
        }
    }
}
