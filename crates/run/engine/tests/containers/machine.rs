//! An engine with an image made of busybox, and a look at what it leaves behind.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use plimsoll_cri::v1::{
    ContainerConfig, ContainerMetadata, ContainerState, ContainerStatus, ContainerStatusRequest, ImageSpec,
    LinuxContainerConfig, LinuxContainerResources, LinuxContainerSecurityContext, LinuxPodSandboxConfig,
    LinuxSandboxSecurityContext, NamespaceMode, NamespaceOption, PodSandboxConfig, PodSandboxMetadata,
    SecurityProfile, runtime_service_server::RuntimeService,
};
use plimsoll_engine::{Config, Credentials, Engine, ImageError, ImageFacts, ImageUsage, Images};

/// Where the test's control groups are.
pub(crate) const CGROUP_ROOT: &str = "/plimsoll-engine-test";

pub(crate) struct Machine {
    pub(crate) engine: Engine,
    pub(crate) config: Config,
    pub(crate) folder: PathBuf,
}

struct Busybox(Arc<ImageFacts>);

impl Images for Busybox {
    fn find(&self, name: &str) -> Option<Arc<ImageFacts>> {
        (name == "busybox").then(|| self.0.clone())
    }
    fn list(&self) -> Vec<Arc<ImageFacts>> {
        vec![self.0.clone()]
    }
    fn pull<'a>(&'a self, name: &'a str, _: Credentials) -> BoxFuture<'a, Result<String, ImageError>> {
        Box::pin(async move { Err(ImageError::NotFound(name.to_owned())) })
    }
    fn remove<'a>(
        &'a self,
        _: &'a str,
        _: Arc<dyn Fn(&str) -> bool + Send + Sync>,
    ) -> BoxFuture<'a, Result<(), ImageError>> {
        Box::pin(async { Ok(()) })
    }
    fn folder(&self) -> PathBuf {
        PathBuf::from("/")
    }
    fn usage(&self) -> BoxFuture<'_, ImageUsage> {
        Box::pin(async { ImageUsage::default() })
    }
}

impl Machine {
    pub(crate) async fn new() -> Self {
        let folder = folder();
        let _ = fs::remove_dir_all(&folder);
        let layer = folder.join("layer");
        for name in ["bin", "etc", "tmp", "proc", "sys", "dev"] {
            fs::create_dir_all(layer.join(name)).unwrap();
        }
        let paths = std::env::var_os("PATH").unwrap();
        let busybox =
            std::env::split_paths(&paths).map(|folder| folder.join("busybox")).find(|path| path.exists());
        let busybox = busybox.expect("busybox in PATH; Debian's package is busybox-static");
        fs::copy(busybox, layer.join("bin/busybox")).unwrap();
        for name in [
            "sh", "tr", "touch", "nc", "grep", "true", "pwd", "tty", "sleep", "cat", "id", "mount", "dd",
            "tail", "ps", "hostname", "stty", "kill", "ls", "unshare",
        ] {
            symlink("busybox", layer.join("bin").join(name)).unwrap();
        }
        fs::write(layer.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nweb:x:33:33::/srv:/bin/sh\n")
            .unwrap();
        fs::write(layer.join("etc/group"), "root:x:0:\nweb:x:33:\nlog:x:50:web\n").unwrap();
        fs::write(layer.join("bin/broken"), "not a program").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(layer.join("bin/broken"), mode).unwrap();
        let facts =
            ImageFacts { id: "sha256:busybox".to_owned(), layers: vec![layer], ..ImageFacts::default() };
        let mut config = Config::new(folder.join("data"), Arc::new(Busybox(Arc::new(facts))));
        config.cgroup_root = CGROUP_ROOT.to_owned();
        config.device_folders = vec![folder.join("cdi")];
        let engine = Engine::open(config.clone()).await.unwrap();
        Self { engine, config, folder }
    }

    pub(crate) async fn sandbox(&self) -> String {
        self.engine.run_sandbox(pod("web"), "").await.unwrap()
    }

    /// Creates and starts a container that runs a shell script.
    pub(crate) async fn script(&self, sandbox: &str, script: &str) -> String {
        self.container(sandbox, shell(script)).await
    }

    pub(crate) async fn container(&self, sandbox: &str, config: ContainerConfig) -> String {
        let id = self.engine.create_container(sandbox, config, None).await.unwrap();
        self.engine.start_container(&id).await.unwrap();
        id
    }

    pub(crate) async fn status(&self, id: &str) -> ContainerStatus {
        status(&self.engine, id).await
    }

    /// Waits for the end of a container.
    pub(crate) async fn end(&self, id: &str) -> ContainerStatus {
        end(&self.engine, id).await
    }

    pub(crate) async fn sh(&self, id: &str, script: &str) -> String {
        let command = ["sh", "-c", script].map(str::to_owned);
        let output = self.engine.exec_sync(id, &command, Some(Duration::from_secs(20))).await.unwrap();
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    }

    pub(crate) fn log(&self, sandbox: &str) -> String {
        let _ = sandbox;
        fs::read_to_string(self.folder.join("logs/main.log")).unwrap()
    }

    /// Ends everything and looks for what is left.
    pub(crate) async fn finish(self) {
        drop(self.engine);
        Engine::destroy_all(&self.config.data_dir, CGROUP_ROOT).await.unwrap();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let name = self.folder.display().to_string();
        let left: Vec<&str> = mounts.lines().filter(|line| line.contains(&name)).collect();
        assert!(left.is_empty(), "mounts left: {left:#?}");
        for controller in ["memory", "cpu", "pids"] {
            let group = PathBuf::from(format!("/sys/fs/cgroup/{controller}{CGROUP_ROOT}"));
            assert!(!group.exists(), "{} is left", group.display());
        }
        let left = processes(&name);
        assert!(left.is_empty(), "processes left: {left:?}");
        fs::remove_dir_all(&self.folder).unwrap();
    }
}

fn folder() -> PathBuf {
    std::env::temp_dir().join(format!("plimsoll-engine-{}", std::process::id()))
}

/// Takes away what a failed case has left.
pub(crate) async fn clean_up() {
    let _ = Engine::destroy_all(&folder().join("data"), CGROUP_ROOT).await;
    let _ = fs::remove_dir_all(folder());
}

pub(crate) async fn status(engine: &Engine, id: &str) -> ContainerStatus {
    let request = ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
    let answer = RuntimeService::container_status(engine, tonic::Request::new(request)).await.unwrap();
    answer.into_inner().status.unwrap()
}

pub(crate) async fn end(engine: &Engine, id: &str) -> ContainerStatus {
    for _ in 0..2000 {
        let status = status(engine, id).await;
        if status.state() == ContainerState::ContainerExited {
            return status;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("container {id} does not end");
}

/// Processes whose environment or command line names the folder: shims and what they run.
pub(crate) fn processes(folder: &str) -> Vec<String> {
    let own = std::process::id().to_string();
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let numbers = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let pids = numbers.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()) && *name != own);
    let shows = |pid: &String| {
        let read = |file: &str| fs::read(Path::new("/proc").join(pid).join(file)).unwrap_or_default();
        let text = [read("environ"), read("cmdline")].concat();
        String::from_utf8_lossy(&text).contains(folder)
    };
    pids.filter(shows).collect()
}

pub(crate) fn pod(name: &str) -> PodSandboxConfig {
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: name.to_owned(),
            uid: "1-2-3".to_owned(),
            namespace: "default".to_owned(),
            attempt: 0,
        }),
        hostname: name.to_owned(),
        log_directory: std::env::temp_dir()
            .join(format!("plimsoll-engine-{}/logs", std::process::id()))
            .display()
            .to_string(),
        linux: Some(LinuxPodSandboxConfig {
            security_context: Some(LinuxSandboxSecurityContext {
                namespace_options: Some(namespaces()),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// What the node agent asks for of ordinary pods.
pub(crate) fn namespaces() -> NamespaceOption {
    let mut options = NamespaceOption::default();
    options.set_pid(NamespaceMode::Container);
    options
}

pub(crate) fn shell(script: &str) -> ContainerConfig {
    let _ = fs::create_dir_all(pod("x").log_directory);
    ContainerConfig {
        metadata: Some(ContainerMetadata { name: "main".to_owned(), attempt: 0 }),
        image: Some(ImageSpec { image: "busybox".to_owned(), ..Default::default() }),
        command: ["sh", "-c", script].map(str::to_owned).to_vec(),
        log_path: "main.log".to_owned(),
        labels: HashMap::from([("app".to_owned(), "web".to_owned())]),
        linux: Some(LinuxContainerConfig {
            resources: Some(LinuxContainerResources { cpu_shares: 512, ..Default::default() }),
            security_context: Some(LinuxContainerSecurityContext {
                namespace_options: Some(namespaces()),
                seccomp: Some(SecurityProfile::default()),
                masked_paths: ["/proc/kcore", "/proc/keys"].map(str::to_owned).to_vec(),
                readonly_paths: ["/proc/sys", "/proc/irq"].map(str::to_owned).to_vec(),
                ..Default::default()
            }),
        }),
        ..Default::default()
    }
}
