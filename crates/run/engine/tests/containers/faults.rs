//! What containers and the engine live through.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use plimsoll_cri::v1::{
    ContainerState, PodSandboxState, PodSandboxStatusRequest, runtime_service_server::RuntimeService,
};
use plimsoll_engine::Engine;
use plimsoll_kernel::cgroup::{Hierarchy, Limits};

use crate::cases::Case;
use crate::machine::{CGROUP_ROOT, Machine, pod, processes, shell};

/// Every case with its name.
pub(crate) const ALL: [(&str, Case); 7] = [
    ("an_engine_killed_in_every_phase", || Box::pin(an_engine_killed_in_every_phase())),
    ("a_killed_pause_process", || Box::pin(a_killed_pause_process())),
    ("a_reboot", || Box::pin(a_reboot())),
    ("forks_without_end", || Box::pin(forks_without_end())),
    ("a_full_disk", || Box::pin(a_full_disk())),
    ("a_log_moved_while_it_is_written", || Box::pin(a_log_moved_while_it_is_written())),
    ("a_log_of_a_hundred_megabytes", || Box::pin(a_log_of_a_hundred_megabytes())),
];

async fn restarted(machine: Machine) -> Machine {
    let Machine { engine, config, folder } = machine;
    drop(engine);
    let engine = Engine::open(config.clone()).await.unwrap();
    Machine { engine, config, folder }
}

async fn is_ready(machine: &Machine, sandbox: &str) -> bool {
    let request = PodSandboxStatusRequest { pod_sandbox_id: sandbox.to_owned(), verbose: false };
    let answer = RuntimeService::pod_sandbox_status(&machine.engine, tonic::Request::new(request)).await;
    answer.unwrap().into_inner().status.unwrap().state() == PodSandboxState::SandboxReady
}

async fn until_not_ready(machine: &Machine, sandbox: &str) {
    for _ in 0..2000 {
        if !is_ready(machine, sandbox).await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("sandbox {sandbox} stays ready");
}

/// Removes every sandbox there is; what stands in the way, and the processes that are left.
async fn tidied(machine: &Machine) -> Vec<String> {
    let folder = machine.config.data_dir.join("engine/sandboxes");
    let mut left = Vec::new();
    for sandbox in fs::read_dir(folder).unwrap().flatten() {
        let id = sandbox.file_name().to_string_lossy().into_owned();
        machine.engine.stop_sandbox(&id).await.unwrap();
        left.extend(machine.engine.remove_sandbox(&id).await.err().map(|error| error.to_string()));
    }
    left.extend(processes(&machine.folder.display().to_string()));
    left
}

/// What a call leaves that was cut off at any step: the engine's task is dropped while it works.
async fn an_engine_killed_in_every_phase() {
    let mut machine = Machine::new().await;
    for millis in [0, 1, 2, 4, 8, 16, 32] {
        let cut = Duration::from_millis(millis);
        let engine = &machine.engine;
        let work = async {
            let sandbox = engine.run_sandbox(pod("web"), "").await.unwrap();
            let id = engine.create_container(&sandbox, shell("sleep 1000"), None).await.unwrap();
            engine.start_container(&id).await.unwrap();
        };
        // Ends in the middle, or after it.
        let _ = tokio::time::timeout(cut, work).await;
        machine = restarted(machine).await;
        // Unlike those of a killed process, the threads of the engine that was cut off may still be starting a shim, or
        // writing into folders that are removed.
        let mut left = tidied(&machine).await;
        for _ in 0..500 {
            if left.is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
            left = tidied(&machine).await;
        }
        assert_eq!(left, Vec::<String>::new(), "after {millis} ms");
    }
    let sandbox = machine.sandbox().await;
    let id = machine.script(&sandbox, "exit 4").await;
    assert_eq!(machine.end(&id).await.exit_code, 4);
    machine.finish().await;
}

/// The pause process of the machine's only sandbox.
fn pause(machine: &Machine) -> Pid {
    let name = machine.config.data_dir.display().to_string();
    let shim = processes(&name).into_iter().next().unwrap();
    let children = fs::read_to_string(format!("/proc/{shim}/task/{shim}/children")).unwrap();
    let is_pause = |pid: &&str| {
        let cmdline = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        cmdline.starts_with(b"/pause")
    };
    let pid = children.split_whitespace().find(is_pause).unwrap();
    Pid::from_raw(pid.parse().unwrap())
}

async fn a_killed_pause_process() {
    let machine = Machine::new().await;
    let sandbox = machine.sandbox().await;
    let id = machine.script(&sandbox, "trap 'exit 3' TERM; while :; do sleep 0.05; done").await;
    kill(pause(&machine), Signal::SIGKILL).unwrap();
    until_not_ready(&machine, &sandbox).await;
    assert_eq!(machine.status(&id).await.state(), ContainerState::ContainerRunning);
    assert!(machine.engine.create_container(&sandbox, shell("true"), None).await.is_err());
    machine.engine.stop_sandbox(&sandbox).await.unwrap();
    assert_eq!(machine.status(&id).await.state(), ContainerState::ContainerExited);
    let again = machine.sandbox().await;
    let second = machine.script(&again, "exit 0").await;
    assert_eq!(machine.end(&second).await.exit_code, 0);
    machine.engine.remove_sandbox(&sandbox).await.unwrap();
    machine.finish().await;
}

/// After a reboot nothing runs, and the numbers of processes belong to others.
async fn a_reboot() {
    let machine = Machine::new().await;
    let sandbox = machine.sandbox().await;
    let id = machine.script(&sandbox, "sleep 1000").await;
    let made = machine.engine.create_container(&sandbox, shell("true"), None).await.unwrap();
    let Machine { engine, config, folder } = machine;
    drop(engine);
    for pid in processes(&folder.display().to_string()) {
        let _ = kill(Pid::from_raw(pid.parse().unwrap()), Signal::SIGKILL);
    }
    let record = config.data_dir.join("engine/sandboxes").join(&sandbox);
    let record = find(&record, "\"boot\"");
    let mut text: serde_json::Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
    text["boot"] = "another one".into();
    fs::write(&record, text.to_string()).unwrap();
    let engine = Engine::open(config.clone()).await.unwrap();
    let machine = Machine { engine, config, folder };
    assert!(!is_ready(&machine, &sandbox).await);
    for id in [&id, &made] {
        let status = machine.status(id).await;
        assert_eq!((status.state(), status.exit_code), (ContainerState::ContainerExited, 255), "{id}");
    }
    let again = machine.sandbox().await;
    let second = machine.script(&again, "exit 0").await;
    assert_eq!(machine.end(&second).await.exit_code, 0);
    machine.engine.remove_sandbox(&sandbox).await.unwrap();
    machine.finish().await;
}

/// The file right below `folder` that holds `text`.
fn find(folder: &Path, text: &str) -> PathBuf {
    let files = fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path());
    files.into_iter().find(|path| fs::read_to_string(path).is_ok_and(|it| it.contains(text))).unwrap()
}

async fn forks_without_end() {
    let machine = Machine::new().await;
    let hierarchy = Hierarchy::detect().unwrap();
    let path = format!("{CGROUP_ROOT}/pod-bomb");
    hierarchy.group(&path).create().unwrap();
    hierarchy.group(&path).apply(&Limits { pids: Some(30), ..Limits::default() }).unwrap();
    let mut config = pod("bomb");
    config.linux.as_mut().unwrap().cgroup_parent = path.clone();
    let sandbox = machine.engine.run_sandbox(config, "").await.unwrap();
    // A shell that cannot fork ends; the first one never forks again.
    let bomb = "trap '' TERM; f() { f & f & while :; do sleep 1; done; }; (f) & while :; do wait; done";
    let id = machine.script(&sandbox, bomb).await;
    for _ in 0..2000 {
        if refused_forks(&path) > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(refused_forks(&path) > 0, "the bomb does not fill its group");
    // Neighbours do not feel it.
    let neighbour = machine.sandbox().await;
    let other = machine.script(&neighbour, "exit 6").await;
    assert_eq!(machine.end(&other).await.exit_code, 6);
    machine.engine.stop_container(&id, Duration::from_millis(200)).await.unwrap();
    assert_eq!(machine.status(&id).await.exit_code, 137);
    machine.engine.remove_sandbox(&sandbox).await.unwrap();
    hierarchy.group(&path).remove().unwrap();
    machine.finish().await;
}

/// How often the kernel refused a fork in a group of a pod, or in one of its containers' groups.
fn refused_forks(path: &str) -> u64 {
    let group = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"].map(|root| PathBuf::from(format!("{root}{path}")));
    let Some(group) = group.into_iter().find(|group| group.join("pids.events").exists()) else { return 0 };
    let inner = fs::read_dir(&group).into_iter().flatten().flatten().map(|entry| entry.path());
    let counts = inner.chain([group]).filter_map(|folder| {
        let events = fs::read_to_string(folder.join("pids.events")).ok()?;
        events.lines().find_map(|line| line.strip_prefix("max ")?.parse::<u64>().ok())
    });
    counts.sum()
}

/// A container goes on when its log finds no room, and later lines are whole.
async fn a_full_disk() {
    let machine = Machine::new().await;
    let logs = machine.folder.join("logs");
    fs::create_dir_all(&logs).unwrap();
    let (kind, size) = ("tmpfs", "size=64k");
    mount(Some(kind), &logs, Some(kind), MsFlags::empty(), Some(size)).unwrap();
    let sandbox = machine.sandbox().await;
    let wordy = "i=0; while [ $i -lt 4000 ]; do echo 0123456789012345678901234567890123456789; i=$((i+1)); done; \
                 touch /tmp/full; while [ ! -e /tmp/room ]; do sleep 0.01; done; echo room; exit 9";
    let id = machine.script(&sandbox, wordy).await;
    machine.sh(&id, "while [ ! -e /tmp/full ]; do sleep 0.01; done").await;
    fs::OpenOptions::new().write(true).open(logs.join("main.log")).unwrap().set_len(4096).unwrap();
    machine.sh(&id, "touch /tmp/room").await;
    assert_eq!(machine.end(&id).await.exit_code, 9);
    let log = machine.log(&sandbox);
    assert!(log.ends_with(" stdout F room\n"), "{}", &log[log.len().saturating_sub(200)..]);
    machine.engine.remove_sandbox(&sandbox).await.unwrap();
    umount2(&logs, MntFlags::empty()).unwrap();
    machine.finish().await;
}

async fn a_log_moved_while_it_is_written() {
    let machine = Machine::new().await;
    let sandbox = machine.sandbox().await;
    const LINES: usize = 20_000;
    let id = machine
        .script(&sandbox, "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done; exit 0")
        .await;
    let log = machine.folder.join("logs/main.log");
    let mut parts = Vec::new();
    while machine.status(&id).await.state() == ContainerState::ContainerRunning {
        let part = machine.folder.join(format!("logs/main.log.{}", parts.len()));
        fs::rename(&log, &part).unwrap();
        parts.push(part);
        // The container may have ended meanwhile.
        let _ = machine.engine.reopen_log(&id).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(parts.len() > 1, "the container was too quick");
    let mut text: String = parts.iter().map(|part| fs::read_to_string(part).unwrap()).collect();
    text.push_str(&fs::read_to_string(&log).unwrap_or_default());
    let lines: Vec<_> = text.lines().filter_map(|line| line.split(" stdout F ").nth(1)).collect();
    let expected: Vec<_> = (0..LINES).map(|number| format!("line {number}")).collect();
    assert_eq!(lines.len(), LINES);
    assert!(lines.iter().zip(&expected).all(|(line, expected)| line == expected));
    machine.finish().await;
}

/// A flood of output costs the shim no memory: who writes waits.
async fn a_log_of_a_hundred_megabytes() {
    let machine = Machine::new().await;
    let sandbox = machine.sandbox().await;
    let id = machine.script(&sandbox, "dd if=/dev/zero bs=64k count=1600 2>/dev/null | tr '\\0' 'x'").await;
    let name = machine.config.data_dir.display().to_string();
    let shim = processes(&name).into_iter().next().unwrap();
    let resident = || {
        let status = fs::read_to_string(format!("/proc/{shim}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:").map(str::to_owned));
        line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0)
    };
    let mut most = 0;
    while machine.status(&id).await.state() == ContainerState::ContainerRunning {
        most = most.max(resident());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(most < 64 << 10, "the shim takes {most} KiB");
    assert!(fs::metadata(machine.folder.join("logs/main.log")).unwrap().len() > 100 << 20);
    machine.finish().await;
}
