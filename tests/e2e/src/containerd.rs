//! A containerd with everything in a folder of its own: the other container engine.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::cluster::{Cluster, last};
use crate::command::{Outcome, found, run};
use crate::machine::{remove_groups, unmount_below};

/// Longest run of a helping command.
const COMMAND: Duration = Duration::from_secs(60);

/// Each has a network of its own.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// A running containerd, ended with all its containers when dropped.
#[derive(Debug)]
pub struct Containerd {
    process: Child,
    folder: PathBuf,
    /// Control groups of its containers, which go when these have gone.
    groups: Mutex<Vec<String>>,
}

impl Containerd {
    /// Starts one in a folder of a cluster's directory, and waits until it answers.
    #[track_caller]
    pub fn start(cluster: &Cluster, folder: &str) -> Self {
        let folder = cluster.scratch().join(folder);
        fs::create_dir_all(folder.join("cni")).expect("make a directory");
        fs::write(folder.join("config.toml"), config(&folder)).expect("write a file");
        fs::write(folder.join("cni/10-e2e.conflist"), network(&folder)).expect("write a file");
        let log = File::create(folder.join("log")).expect("open the log");
        let process = Command::new("containerd")
            .arg("--config")
            .arg(folder.join("config.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("containerd in PATH; ./test takes it from Debian's package");
        let engine = Self { process, folder, groups: Mutex::default() };
        cluster.wait("containerd answers", || (engine.ctr(&["version"]).code == 0).then_some(()));
        engine
    }

    /// Where it speaks CRI.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("sock")
    }

    /// Removes a control group at its end, when nothing is in it any more.
    pub(crate) fn remove_at_end(&self, group: &str) {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner).push(group.to_owned());
    }

    /// Runs its client on what pods have.
    pub fn ctr(&self, arguments: &[&str]) -> Outcome {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(self.socket()).args(["--namespace", "k8s.io"]).args(arguments);
        run(&mut command, b"", COMMAND)
    }

    /// Brings images of the instance, and its pause image.
    #[track_caller]
    pub fn import(&self, cluster: &Cluster, images: &[&str]) {
        let archive = self.folder.join("images.tar");
        let archive = archive.to_string_lossy();
        let options = [&["-o", &archive, "plimsoll.io/pause"], images].concat();
        cluster.plimsoll("image save", &options).ok();
        self.ctr(&["images", "import", &archive]).ok();
    }
}

fn config(folder: &Path) -> String {
    let plugins = found("ptp").expect("ptp in PATH; Debian's package is containernetworking-plugins");
    format!(
        r#"version = 2
root = "{at}/root"
state = "{at}/state"
[grpc]
address = "{at}/sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "plimsoll.io/pause:latest"
stream_server_address = "127.0.0.1"
stream_server_port = "0"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{cni}"
conf_dir = "{at}/cni"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
"#,
        at = folder.display(),
        cni = plugins.parent().expect("a file is in a folder").display(),
    )
}

fn network(folder: &Path) -> String {
    let number = (std::process::id() + COUNT.fetch_add(1, Ordering::Relaxed)) % 256;
    format!(
        r#"{{"cniVersion": "0.4.0", "name": "e2e", "plugins": [{{"type": "ptp", "ipam": {{
            "type": "host-local", "dataDir": "{at}/ipam", "ranges": [[{{"subnet": "10.231.{number}.0/24"}}]],
            "routes": [{{"dst": "0.0.0.0/0"}}]}}}}]}}"#,
        at = folder.display(),
    )
}

impl Drop for Containerd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            eprintln!("--- containerd\n{}", last(&log, 40));
        }
        // Containers outlive containerd, so they go first.
        for line in self.ctr(&["tasks", "list", "--quiet"]).stdout.lines() {
            self.ctr(&["tasks", "kill", "--signal", "SIGKILL", line]);
            self.ctr(&["tasks", "delete", "--force", line]);
            self.ctr(&["containers", "delete", line]);
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
        unmount_below(&self.folder);
        let groups = self.groups.get_mut().unwrap_or_else(PoisonError::into_inner);
        groups.iter().for_each(|group| remove_groups(group));
    }
}
