//! What clusters change about a machine.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::cluster::program;
use crate::command::run;

/// Control groups are looked at this far down: deeper ones are inside these.
const DEPTH: usize = 2;

/// Everything on the machine that a cluster could leave behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine(BTreeSet<String>);

impl Machine {
    /// Takes an inventory.
    pub fn look() -> Self {
        let mut things = BTreeSet::new();
        things.extend(mounts());
        things.extend(links());
        things.extend(addresses());
        things.extend(tables());
        things.extend(processes());
        for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            groups(&hierarchy.path(), DEPTH, &mut things);
        }
        Self(things)
    }

    /// What is here and was not in `before`.
    pub fn since<'a>(&'a self, before: &Self) -> Vec<&'a str> {
        self.0.iter().filter(|thing| !before.0.contains(*thing)).map(String::as_str).collect()
    }
}

/// Mount points of this process' namespace, kept namespaces among them.
fn mounts() -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table.lines().filter_map(|line| Some(format!("mount {}", line.split(' ').nth(4)?))).collect()
}

fn links() -> Vec<String> {
    let entries = fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    entries.map(|entry| format!("interface {}", entry.file_name().to_string_lossy())).collect()
}

fn addresses() -> Vec<String> {
    let table = fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
    table.lines().filter_map(|line| Some(format!("address {}", line.trim().strip_prefix("|-- ")?))).collect()
}

fn tables() -> Vec<String> {
    let outcome = run(Command::new("nft").args(["list", "tables"]), b"", Duration::from_secs(10));
    outcome.ok().lines().map(|line| format!("nftables {line}")).collect()
}

/// Processes of the program under test, whatever they call themselves.
fn processes() -> Vec<String> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok());
    ids.filter_map(|id: u32| Some(format!("process {id} {}", ours(id)?))).collect()
}

/// The command line of a process that runs the program, or lives in a cluster's directory.
fn ours(id: u32) -> Option<String> {
    let folder = PathBuf::from(format!("/proc/{id}"));
    let same = |a: &Path, b: &Path| Some(fs::metadata(a).ok()?.ino() == fs::metadata(b).ok()?.ino());
    let line = String::from_utf8_lossy(&fs::read(folder.join("cmdline")).ok()?).replace('\0', " ");
    let pod = fs::read_to_string(folder.join("cgroup")).is_ok_and(|groups| groups.contains("kubepods"));
    let program = same(&folder.join("exe"), &program()).unwrap_or(false);
    (pod || program || line.starts_with("plimsoll ")).then_some(line)
}

fn groups(folder: &Path, depth: usize, things: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            things.insert(format!("control group {}", entry.path().display()));
            if depth > 1 {
                groups(&entry.path(), depth - 1, things);
            }
        }
    }
}

/// Unmounts whatever is mounted below a folder.
pub(crate) fn unmount_below(folder: &Path) {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let inside = mounts.lines().rev().filter_map(|line| line.split(' ').nth(1));
    for path in inside.filter(|path| Path::new(path).starts_with(folder)) {
        run(Command::new("umount").args(["--lazy", path]), b"", Duration::from_secs(10));
    }
}

/// Removes the control group `/NAME` and all below it, in every hierarchy.
pub(crate) fn remove_groups(name: &str) {
    let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
    hierarchies.for_each(|hierarchy| remove_group(&hierarchy.path().join(name.trim_start_matches('/'))));
}

fn remove_group(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_group(&entry.path());
        }
    }
    let _ = fs::remove_dir(folder);
}
