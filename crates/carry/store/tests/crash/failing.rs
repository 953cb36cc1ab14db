//! The disk refuses: a sync fails, there is no room, nothing may be made. What was acknowledged stays; nothing more
//! is accepted, reading goes on, and the process can leave.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use plimsoll_store::{Store, StoreError};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter_all_threads,
};

use crate::child::{self, Acknowledged};
use crate::power::options;

const LARGEST: usize = 3000;
/// With these, what is kept from one compaction to the next does not fit the small disk.
const LARGE: usize = 60_000;

/// A fault: the name by which the child knows it, system calls of this machine, and what they answer.
struct Fault {
    name: &'static str,
    calls: &'static [Call],
    errno: nix::errno::Errno,
}

enum Call {
    Sync,
    Write,
    Make,
}

const FAULTS: &[Fault] = &[
    Fault { name: "sync", calls: &[Call::Sync], errno: nix::errno::Errno::EIO },
    Fault { name: "full", calls: &[Call::Write, Call::Make], errno: nix::errno::Errno::ENOSPC },
    Fault { name: "read-only", calls: &[Call::Write, Call::Make], errno: nix::errno::Errno::EROFS },
];

/// Lets the fault of this child happen from now on, if this is its turn (`name:turn`).
pub(crate) fn arm(turn: usize) {
    let Ok(asked) = std::env::var(child::FAULT) else { return };
    let Some((name, when)) = asked.split_once(':') else { return };
    if when.parse() == Ok(turn) {
        let fault = FAULTS.iter().find(|fault| fault.name == name).unwrap();
        let filter = SeccompFilter::new(
            fault.calls.iter().flat_map(Call::rules).collect(),
            SeccompAction::Allow,
            SeccompAction::Errno(fault.errno as u32),
            std::env::consts::ARCH.try_into().unwrap(),
        );
        apply_filter_all_threads(&BpfProgram::try_from(filter.unwrap()).unwrap()).unwrap();
    }
}

impl Call {
    /// Numbers of the calls on this machine, and for which arguments they fail.
    fn rules(&self) -> Vec<(i64, Vec<SeccompRule>)> {
        match self {
            Self::Sync => vec![(nix::libc::SYS_fsync, vec![]), (nix::libc::SYS_fdatasync, vec![])],
            Self::Write => vec![(nix::libc::SYS_write, vec![file()]), (nix::libc::SYS_writev, vec![file()])],
            Self::Make => vec![(nix::libc::SYS_openat, vec![making()])],
        }
    }
}

/// Everything but the standard streams, and the eight bytes by which threads wake each other.
fn file() -> SeccompRule {
    let more = |argument, than| {
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Gt, than).unwrap()
    };
    SeccompRule::new(vec![more(0, 2), more(2, 8)]).unwrap()
}

fn making() -> SeccompRule {
    let flag = nix::libc::O_CREAT as u64;
    let masked = SeccompCmpOp::MaskedEq(flag);
    SeccompRule::new(vec![SeccompCondition::new(2, SeccompCmpArgLen::Dword, masked, flag).unwrap()]).unwrap()
}

/// What a child said until it ended by itself.
struct Told {
    acknowledged: Acknowledged,
    broken: Option<String>,
    reads: bool,
}

fn run(command: &mut Command) -> Told {
    let mut process = command.spawn().unwrap();
    let mut told = Told { acknowledged: Acknowledged::new(), broken: None, reads: false };
    for line in child::lines(&mut process) {
        told.acknowledged.extend(child::parse(&line));
        told.reads |= line.starts_with("reads ");
        told.broken = told.broken.or_else(|| line.strip_prefix("broken ").map(str::to_owned));
    }
    assert!(process.wait().unwrap().success(), "{:?}", told.broken);
    told
}

#[tokio::test]
async fn a_disk_that_fails_takes_nothing_that_was_acknowledged() {
    for fault in FAULTS {
        for turn in [0, 3, 250] {
            let folder = tempfile::tempdir().unwrap();
            let fault = format!("{}:{turn}", fault.name);
            let told = run(child::command(folder.path(), LARGEST).env(child::FAULT, &fault));
            assert!(told.reads, "{fault}: reading goes on");
            let broken = told.broken.unwrap();
            // Who compacts may meet it before a writer does.
            let known =
                broken.starts_with("log cannot be written: ") || broken.starts_with("log on the disk");
            assert!(known, "{fault}: {broken}");
            let store = child::open(folder.path()).unwrap();
            child::check(&store, &told.acknowledged, LARGEST).await;
        }
    }
}

/// A real file system of a few megabytes; the folder is opened where there is room again.
#[tokio::test]
async fn a_full_disk_takes_nothing_that_was_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let (small, saved) = (folder.path().join("small"), folder.path().join("saved"));
    fs::create_dir(&small).unwrap();
    let mut command = Command::new("unshare");
    let script = "mount -t tmpfs -o size=3m tmpfs $0 || exit 77; \"$@\"; code=$?; cp -a --sparse=always $0 $1; exit $code";
    let script = script.replace("$1;", &format!("{};", saved.display()));
    command.args(["-Urm", "sh", "-c", &script]).arg(&small);
    let child = child::command(&small, LARGE);
    command.arg(child.get_program()).args(child.get_args()).stdout(Stdio::piped()).stderr(Stdio::null());
    command.envs(child.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let allowed = Command::new("unshare").args(["-Urm", "true"]).stderr(Stdio::null()).status();
    if !allowed.is_ok_and(|status| status.success()) {
        return println!("skipped: namespaces are not allowed here");
    }
    let told = run(&mut command);
    assert!(told.reads && told.broken.is_some(), "the disk was full");
    assert!(told.acknowledged.len() > 50);
    let store = child::open(&saved).unwrap();
    child::check(&store, &told.acknowledged, LARGE).await;
}

/// Everything in a folder, with its bytes.
fn everything(folder: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(everything(&path)),
            false => found.push((path.clone(), fs::read(path).unwrap())),
        }
    }
    found.sort();
    found
}

/// Why a store in a folder that nobody may write to does not open.
fn refused(folder: &Path) -> StoreError {
    let open = || Store::open(folder, options()).err().unwrap();
    if nix::unistd::geteuid().is_root() {
        // The superuser may write whatever the mode says, but not to what is mounted without that.
        return thread::scope(|scope| {
            let elsewhere = scope.spawn(|| {
                unshare(CloneFlags::CLONE_NEWNS).unwrap();
                let mount = |from: Option<&Path>, to: &Path, flags| {
                    mount(from, to, None::<&str>, flags, None::<&str>).unwrap();
                };
                mount(None, Path::new("/"), MsFlags::MS_REC | MsFlags::MS_PRIVATE);
                mount(Some(folder), folder, MsFlags::MS_BIND);
                mount(None, folder, MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY);
                open()
            });
            elsewhere.join().unwrap()
        });
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(0o500)).unwrap();
    fs::set_permissions(folder.join("lock"), fs::Permissions::from_mode(0o400)).unwrap();
    let refused = open();
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).unwrap();
    refused
}

#[test]
fn a_directory_that_nobody_may_write_to_is_refused_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    drop(Store::open(folder.path(), options()).unwrap());
    let before = everything(folder.path());
    let refused = refused(folder.path());
    assert!(matches!(refused, StoreError::Directory { .. }), "{refused}");
    assert_eq!(everything(folder.path()), before);
}
