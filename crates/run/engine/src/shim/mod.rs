//! The shim: one small process for each pod, the parent of everything in it.
//!
//! It owns the pause process and with it the namespaces, the first process of each container, their
//! standard streams and their exit codes. It has one thread, because containers are made by cloning,
//! and one loop, which sleeps until the kernel has something to say. It lives on when the engine
//! dies; the next engine finds it by its socket.

mod confine;
mod container;
mod launch;
mod log;
mod pump;
mod server;

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;

use nix::sched::CloneFlags;
use plimsoll_kernel::pause::{self, Setup};
use plimsoll_kernel::process::{self, Identity};

use crate::files;
use crate::layout::SandboxDir;
use crate::protocol::{Plan, State};

/// Tells a shim its folder.
pub(crate) const FOLDER_VARIABLE: &str = "PLIMSOLL_SHIM_FOLDER";

/// Who is killed first: the shim is the last but the engine.
const SHIM_OOM_SCORE: i32 = -998;

/// The program of a shim, called before any other thread starts.
///
/// Expects its folder in the environment and a listening socket as standard input, which the engine
/// gives it.
pub fn shim_main() -> ! {
    let code = match run() {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("shim: {error}");
            1
        }
    };
    std::process::exit(code)
}

fn run() -> io::Result<()> {
    let folder = std::env::var_os(FOLDER_VARIABLE).ok_or_else(|| {
        io::Error::other(format!("{FOLDER_VARIABLE} is not set: shims are started by the engine"))
    })?;
    let dir = SandboxDir(PathBuf::from(folder));
    let listener = io::stdin().as_fd().try_clone_to_owned()?;
    let null = File::open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    // The engine may have started us as leader of a group of its own: then there is a session already.
    let _ = nix::unistd::setsid();
    nix::unistd::chdir(dir.path())?;
    process::become_subreaper()?;
    // Not a reason to fail: without the privilege the score stays where it was.
    let _ = process::set_oom_score(std::process::id() as i32, SHIM_OOM_SCORE);
    let plan: Plan = files::read_json(&dir.plan())?;
    let pause = start_pause(&plan);
    let state = State {
        shim: Identity::of(std::process::id() as i32),
        pause: pause.as_ref().ok().and_then(|pid| Identity::of(*pid)),
        ..State::default()
    };
    files::replace_json(&dir.shim_state(), &state)?;
    let failure = pause.err().map(|error| error.to_string());
    let mut server = server::Server::new(dir, plan.cgroups, listener, state, failure)?;
    server.run()
}

fn start_pause(plan: &Plan) -> io::Result<i32> {
    let mut namespaces = CloneFlags::empty();
    namespaces.set(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWUTS, plan.network);
    namespaces.set(CloneFlags::CLONE_NEWIPC, plan.ipc);
    namespaces.set(CloneFlags::CLONE_NEWPID, plan.pid);
    let setup = Setup {
        namespaces,
        hostname: &plan.hostname,
        sysctls: &plan.sysctls,
        root: &plan.empty,
        users: plan.users,
    };
    let pid = pause::start(&setup)?;
    let _ = process::set_oom_score(pid, plan.oom_score);
    Ok(pid)
}
