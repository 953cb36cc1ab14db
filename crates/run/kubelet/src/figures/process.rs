//! What the processes of a group hold open.

use std::fs;
use std::os::unix::ffi::OsStrExt;

/// Open files of all processes of a group together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Open {
    pub(super) files: u64,
    pub(super) sockets: u64,
    /// How many files the first process may have open; none for no limit.
    pub(super) limit: Option<Limit>,
}

/// A limit of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    Files(u64),
    Unlimited,
}

/// Counts what these processes hold open; the limit is of interest for containers.
pub(super) fn open(processes: &[i32], with_limit: bool) -> Open {
    let mut open = Open::default();
    for process in processes {
        for file in fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten() {
            open.files += 1;
            let target = fs::read_link(file.path()).unwrap_or_default();
            open.sockets += u64::from(target.as_os_str().as_bytes().starts_with(b"socket:"));
        }
    }
    if with_limit {
        open.limit = processes.first().and_then(|process| limit(*process));
    }
    open
}

fn limit(process: i32) -> Option<Limit> {
    let text = fs::read_to_string(format!("/proc/{process}/limits")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(Limit::Unlimited),
        number => number.parse().ok().map(Limit::Files),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_files_too() {
        let own = i32::try_from(std::process::id()).expect("fits");
        let (left, right) = std::os::unix::net::UnixStream::pair().expect("sockets");
        let open = open(&[own], true);
        assert!(open.sockets >= 2 && open.files > open.sockets, "{open:?}");
        assert!(open.limit.is_some());
        drop((left, right));
    }
}
