//! Words and decisions take time, randomness and files as arguments.

use crate::workspace::Source;

/// What a pure crate must not say, beside what it cannot depend on.
const IMPURE: &[&str] = &[
    "Timestamp::now",
    "Zoned::now",
    "Instant::now",
    "SystemTime",
    "std::fs",
    "std::env::",
    "std::net::Tcp",
    "std::net::Udp",
    "std::os::unix::net",
    "std::process",
    "std::thread",
];

/// Lines of pure crates that read a clock, a file, a socket or the environment.
pub(crate) fn problems(sources: &[Source]) -> Vec<String> {
    sources.iter().filter(|source| is_pure(&source.path)).flat_map(lines).collect()
}

fn is_pure(path: &str) -> bool {
    let pure = path.starts_with("crates/words/") || path.starts_with("crates/decide/");
    let test = path.ends_with("tests.rs") || path.ends_with("testing.rs");
    pure && path.contains("/src/") && path.ends_with(".rs") && !test
}

/// Looks above the tests of a file only.
fn lines(source: &Source) -> impl Iterator<Item = String> + '_ {
    let code = source.text.lines().enumerate().take_while(|(_, line)| line.trim() != "#[cfg(test)]");
    code.filter(|(_, line)| !line.trim_start().starts_with("//")).filter_map(|(number, line)| {
        let word = IMPURE.iter().find(|word| line.contains(**word))?;
        Some(format!("{}:{}: {word} in a pure crate; take it as an argument", source.path, number + 1))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pure_crates_do_not_look_around() {
        let table = [
            ("crates/decide/reconcile/src/job.rs", "let now = Timestamp::now();", false),
            ("crates/words/meta/src/name.rs", "use std::fs;", false),
            ("crates/decide/reconcile/src/job.rs", "// never Timestamp::now", true),
            ("crates/decide/reconcile/src/job.rs", "#[cfg(test)]\nmod tests { use std::fs; }", true),
            ("crates/decide/merge/tests/published.rs", "use std::fs;", true),
            ("crates/carry/store/src/disk.rs", "use std::fs;", true),
            ("crates/run/kubelet/src/pods.rs", "Timestamp::now()", true),
        ];
        for (path, text, allowed) in table {
            let found = problems(&[Source { path: path.to_owned(), text: text.to_owned() }]);
            assert_eq!(found.is_empty(), allowed, "{path}: {text}: {found:?}");
        }
    }
}
