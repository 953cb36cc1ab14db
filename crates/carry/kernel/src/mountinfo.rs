//! The mount table, `/proc/self/mountinfo`.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// Why the mount table could not be read.
#[derive(Debug, thiserror::Error)]
#[error("/proc/self/mountinfo: {0}")]
pub struct Error(#[from] io::Error);

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountInfo {
    /// Number of the mount.
    pub id: u32,
    /// Number of the mount it lies on.
    pub parent: u32,
    /// What of the file system is mounted (`/` is all of it).
    pub root: PathBuf,
    /// Where it is mounted.
    pub point: PathBuf,
    /// Options of the mount (`rw,nosuid`).
    pub options: String,
    /// Whether mounts made here appear in other mount namespaces (`shared:N`).
    pub shared: bool,
    /// Kind of file system.
    pub kind: String,
    /// Device or name.
    pub source: String,
    /// Options of the file system.
    pub super_options: String,
}

/// Reads the table of this process.
///
/// # Errors
/// When `/proc` is not mounted.
pub fn read() -> Result<Vec<MountInfo>, Error> {
    let text = fs::read("/proc/self/mountinfo")?;
    Ok(parse(&String::from_utf8_lossy(&text)))
}

/// Reads lines of a table; lines that make no sense are left out.
#[must_use]
pub fn parse(text: &str) -> Vec<MountInfo> {
    text.lines().filter_map(line).collect()
}

fn line(text: &str) -> Option<MountInfo> {
    let (mount, file_system) = text.split_once(" - ")?;
    let mut words = mount.split(' ');
    let id = words.next()?.parse().ok()?;
    let parent = words.next()?.parse().ok()?;
    let root = unescape(words.nth(1)?);
    let point = unescape(words.next()?);
    let options = words.next()?.to_owned();
    let shared = words.any(|word| word.starts_with("shared:"));
    let mut words = file_system.split(' ');
    let kind = words.next()?.to_owned();
    let source = words.next()?.to_owned();
    let super_options = words.next().unwrap_or_default().to_owned();
    Some(MountInfo { id, parent, root, point, options, shared, kind, source, super_options })
}

/// The kernel writes space, tab, newline and backslash as `\040` and so on.
fn unescape(text: &str) -> PathBuf {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let octal = bytes.get(at + 1..at + 4).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.filter(|_| bytes[at] == b'\\').and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                plain.push(byte);
                at += 4;
            }
            None => {
                plain.push(bytes[at]);
                at += 1;
            }
        }
    }
    PathBuf::from(OsString::from_vec(plain))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn lines_with_and_without_propagation() {
        let table = parse(
            "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard\n\
             31 27 0:28 / /a\\040b rw shared:7 master:2 - tmpfs none rw,mode=755\nnonsense\n",
        );
        assert_eq!(table.len(), 2);
        let (first, second) = (table.first().unwrap(), table.get(1).unwrap());
        assert_eq!(
            (first.kind.as_str(), first.shared, first.super_options.as_str()),
            ("ext4", false, "rw,discard")
        );
        assert_eq!((second.point.to_str().unwrap(), second.shared, second.parent), ("/a b", true, 27));
    }
}
