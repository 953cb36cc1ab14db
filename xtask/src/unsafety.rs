//! Unsafe code is in one crate.

use crate::workspace::Source;

/// The folder of the crate that speaks to the kernel without safe wrappers.
const KERNEL: &str = "crates/carry/kernel/";

/// Every place outside of [`KERNEL`] that lets unsafe code in.
pub(crate) fn problems(sources: &[Source]) -> Vec<String> {
    sources.iter().filter(|source| !source.path.starts_with(KERNEL)).filter_map(problem).collect()
}

fn problem(source: &Source) -> Option<String> {
    let manifest = source.path.ends_with("Cargo.toml");
    let place = source.text.lines().position(|line| if manifest { overrides(line) } else { relaxes(line) });
    if let Some(line) = place {
        return Some(format!("{}:{}: unsafe code belongs in {KERNEL}", source.path, line + 1));
    }
    let inherits = source.text.contains("[lints]") && source.text.contains("workspace = true");
    (manifest && !inherits).then(|| format!("{}: does not inherit the lints of the workspace", source.path))
}

fn overrides(line: &str) -> bool {
    line.trim_start().starts_with("unsafe_code")
}

/// Attributes only: a comment or a text may speak of unsafe code.
fn relaxes(line: &str) -> bool {
    let line = line.trim_start();
    let attribute = line.starts_with("#[") || line.starts_with("#![");
    attribute && line.contains("unsafe_code") && !line.contains("forbid(") && !line.contains("deny(")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_crate_may_be_unsafe() {
        let inherited = "[lints]\nworkspace = true\n";
        let table = [
            ("crates/carry/kernel/src/lib.rs", "#![expect(unsafe_code, reason = \"ioctl\")]", true),
            ("crates/carry/kernel/Cargo.toml", "[lints.rust]\nunsafe_code = \"allow\"\n", true),
            ("crates/run/engine/src/lib.rs", "#![expect(unsafe_code, reason = \"fork\")]", false),
            ("crates/run/engine/src/lib.rs", "    #[allow(unsafe_code)]", false),
            ("crates/run/engine/src/lib.rs", "#![forbid(unsafe_code)]", true),
            ("crates/run/engine/src/lib.rs", "// unsafe_code is elsewhere", true),
            ("crates/run/engine/Cargo.toml", inherited, true),
            ("crates/run/engine/Cargo.toml", "[lints.rust]\nunsafe_code = \"allow\"\n", false),
            ("crates/run/engine/Cargo.toml", "[package]\nname = \"plimsoll-engine\"\n", false),
        ];
        for (path, text, allowed) in table {
            let found = problems(&[Source { path: path.to_owned(), text: text.to_owned() }]);
            assert_eq!(found.is_empty(), allowed, "{path}: {text}: {found:?}");
        }
    }
}
