//! Profiles of AppArmor: whether the kernel has them, which are loaded, and loading one.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const FOLDER: &str = "/sys/kernel/security/apparmor";
const ENABLED: &str = "/sys/module/apparmor/parameters/enabled";
/// Where distributions put what compiles profiles, which `PATH` of services need not name.
const PARSERS: [&str; 3] = ["/sbin/apparmor_parser", "/usr/sbin/apparmor_parser", "/usr/bin/apparmor_parser"];

/// Whether the kernel confines programs by profiles.
#[must_use]
pub fn enabled() -> bool {
    Path::new(FOLDER).is_dir() && fs::read_to_string(ENABLED).is_ok_and(|text| text.starts_with('Y'))
}

/// The program that compiles profiles.
#[must_use]
pub fn parser() -> Option<PathBuf> {
    PARSERS.iter().map(PathBuf::from).find(|path| path.is_file())
}

/// The profile that this process runs under; `unconfined` if there is none.
#[must_use]
pub fn own_label() -> String {
    let text = ["/proc/self/attr/apparmor/current", "/proc/self/attr/current"]
        .into_iter()
        .find_map(|path| fs::read_to_string(path).ok());
    label(&text.unwrap_or_default()).to_owned()
}

/// Whether a profile of this name is loaded.
///
/// # Errors
/// When the kernel's list cannot be read.
pub fn loaded(name: &str) -> io::Result<bool> {
    let text = fs::read_to_string(Path::new(FOLDER).join("profiles"))?;
    Ok(text.lines().any(|line| label(line) == name))
}

/// Loads a profile, in place of one of the same name.
///
/// # Errors
/// When there is no parser, or it or the kernel refuses; the text is the parser's.
pub fn load(text: &str) -> io::Result<()> {
    let parser = parser().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no apparmor_parser"))?;
    // What was compiled is not kept: it depends on the kernel, and is loaded once for each start.
    let mut child = Command::new(parser)
        .args(["--skip-cache", "--replace"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(text.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim())))
}

/// The name in `name (enforce)`; names may have blanks.
fn label(line: &str) -> &str {
    let line = line.trim_end_matches(['\n', '\0']);
    line.rsplit_once(" (").map_or(line, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_without_their_modes() {
        for (line, name) in [
            ("plimsoll-default (enforce)", "plimsoll-default"),
            ("a name (b) (complain)\n", "a name (b)"),
            ("unconfined\n", "unconfined"),
            ("", ""),
        ] {
            assert_eq!(label(line), name, "{line}");
        }
    }
}
