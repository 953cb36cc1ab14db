//! Paths of the node inside pods.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

/// Checks that the path is what its type says, making folders and files where the type allows it.
pub(super) fn check(path: &str, wanted: &str) -> Result<(), String> {
    let path = Path::new(path);
    let text = |error: std::io::Error| format!("{}: {error}", path.display());
    let kind = fs::metadata(path).map(|it| it.file_type()).ok();
    let wrong = |what: &str| Err(format!("hostPath type check failed: {} is not {what}", path.display()));
    match (wanted, kind) {
        ("", _) => Ok(()),
        ("DirectoryOrCreate", None) => {
            fs::create_dir_all(path).map_err(text)?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(text)
        }
        ("FileOrCreate", None) => {
            fs::OpenOptions::new().append(true).create(true).open(path).map_err(text)?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o644)).map_err(text)
        }
        ("Directory" | "DirectoryOrCreate", Some(kind)) if kind.is_dir() => Ok(()),
        ("File" | "FileOrCreate", Some(kind)) if kind.is_file() => Ok(()),
        ("Socket", Some(kind)) if kind.is_socket() => Ok(()),
        ("CharDevice", Some(kind)) if kind.is_char_device() => Ok(()),
        ("BlockDevice", Some(kind)) if kind.is_block_device() => Ok(()),
        ("Directory" | "DirectoryOrCreate", _) => wrong("a directory"),
        ("File" | "FileOrCreate", _) => wrong("a file"),
        ("Socket", _) => wrong("a socket file"),
        ("CharDevice", _) => wrong("a character device"),
        ("BlockDevice", _) => wrong("a block device"),
        (other, _) => Err(format!("{other} is an invalid volume type")),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn types() {
        let temp = tempfile::tempdir().unwrap();
        let path = |name: &str| temp.path().join(name).to_string_lossy().into_owned();
        fs::write(path("file"), "").unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
        let cases = [
            ("", path("missing"), Ok(())),
            ("Directory", path(""), Ok(())),
            ("Directory", path("file"), Err("a directory")),
            ("DirectoryOrCreate", path("new/deep"), Ok(())),
            ("DirectoryOrCreate", path("file"), Err("a directory")),
            ("File", path("file"), Ok(())),
            ("File", path("missing"), Err("a file")),
            ("FileOrCreate", path("made"), Ok(())),
            ("Socket", path("socket"), Ok(())),
            ("Socket", path("file"), Err("a socket file")),
            ("CharDevice", "/dev/null".to_owned(), Ok(())),
            ("BlockDevice", "/dev/null".to_owned(), Err("a block device")),
        ];
        for (kind, path, expected) in cases {
            let expected =
                expected.map_err(|what| format!("hostPath type check failed: {path} is not {what}"));
            assert_eq!(check(&path, kind), expected, "{kind} {path}");
        }
        assert_eq!(check("/", "Drawer").unwrap_err(), "Drawer is an invalid volume type");
        assert!(temp.path().join("new/deep").is_dir() && temp.path().join("made").is_file());
    }
}
