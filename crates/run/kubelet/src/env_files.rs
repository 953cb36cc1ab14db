//! Files of environment variables in a pod's volumes, read as they are when a container starts.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use k8s_openapi::api::core::v1::{Container, Pod};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use plimsoll_podlife::env::{References, file_names};

use crate::agent::Agent;
use crate::volume;

/// The longest file that is read, in bytes.
const LONGEST: u64 = 1024 * 1024;

/// Adds the files that a container's environment needs. What is not there is left out.
pub(crate) fn read<'a>(
    agent: &Agent,
    pod: &Pod,
    container: &Container,
    references: &'a References,
) -> Result<Cow<'a, References>, String> {
    let mut references = Cow::Borrowed(references);
    for (name, path) in file_names(container) {
        let folder = volume::source(agent, pod, name)?;
        if let Some(text) =
            read_below(&folder, path).map_err(|error| format!("env file \"{path}\": {error}"))?
        {
            references.to_mut().files.insert((name.to_owned(), path.to_owned()), text);
        }
    }
    Ok(references)
}

/// The text of a file in a volume. Links lead nowhere outside: to the file's maker the volume is all there is.
fn read_below(folder: &Path, path: &str) -> io::Result<Option<String>> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let inside = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let opened = openat2(AT_FDCWD, folder, OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC))
        .and_then(|whole| openat2(&whole, path, OpenHow::new().flags(flags).resolve(inside)));
    let file = match opened {
        Err(Errno::ENOENT) => return Ok(None),
        opened => File::from(opened?),
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a file"));
    }
    let mut text = String::new();
    file.take(LONGEST + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LONGEST { Err(io::Error::other("too long")) } else { Ok(Some(text)) }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn files_stay_inside_their_volume() {
        let temp = tempfile::tempdir().unwrap();
        let volume = temp.path().join("volume");
        fs::create_dir_all(volume.join("etc")).unwrap();
        fs::write(temp.path().join("secret"), "no").unwrap();
        fs::write(volume.join("a.env"), "A='1'").unwrap();
        fs::write(volume.join("etc/hostname"), "inside").unwrap();
        symlink("/a.env", volume.join("link")).unwrap();
        symlink("/etc/hostname", volume.join("outward")).unwrap();
        symlink("../secret", volume.join("upward")).unwrap();
        let read = |path: &str| read_below(&volume, path);
        assert_eq!(read("a.env").unwrap().unwrap(), "A='1'");
        assert_eq!(read("link").unwrap().unwrap(), "A='1'");
        assert_eq!(read("outward").unwrap().unwrap(), "inside");
        assert_eq!(read("upward").unwrap(), None);
        assert_eq!(read("none").unwrap(), None);
        assert!(read("etc").is_err());
        fs::write(volume.join("big"), "x".repeat(1 << 21)).unwrap();
        assert_eq!(read("big").unwrap_err().to_string(), "too long");
    }
}
