//! A cluster in a directory of its own.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::command::{Background, Outcome, found, run};
use crate::hosts::Host;
use crate::http::get_from;
use crate::namespace::Namespace;

/// A start of the unoptimized program on a busy machine is far below this.
const START: Duration = Duration::from_secs(60);
/// Longest wait for a condition, unless a test says otherwise.
const WAIT: Duration = Duration::from_secs(90);
/// Longest run of one kubectl command.
const COMMAND: Duration = Duration::from_secs(120);
/// How long to leave the API server alone between two looks.
const PAUSE: Duration = Duration::from_millis(50);

static COUNT: AtomicU32 = AtomicU32::new(0);

/// The program under test: `PLIMSOLL_PROGRAM`, or the one built beside this test.
pub fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("PLIMSOLL_PROGRAM") {
        return path.into();
    }
    built("plimsoll")
}

/// A program of the workspace, which is beside this test.
#[track_caller]
pub fn built(program: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a running program has a path");
    let folder = test.ancestors().find(|folder| folder.join(program).is_file());
    folder.map(|folder| folder.join(program)).unwrap_or_else(|| {
        panic!("no {program} beside {}; build it with `cargo build -p {program}`", test.display())
    })
}

/// A cluster of one node, stopped and removed when dropped.
#[derive(Debug)]
pub struct Cluster {
    data: PathBuf,
    listen: SocketAddr,
    node: String,
    options: Vec<String>,
    /// What makes `nsenter` enter the machine that it is on, if it is another one.
    entry: Vec<String>,
    process: Mutex<Option<Child>>,
    proxy: OnceLock<Background>,
    // Last, so that the directory goes after everything that uses it.
    scratch: TempDir,
}

impl Cluster {
    /// Starts a cluster and waits until its node is ready.
    #[track_caller]
    pub fn start() -> Self {
        let cluster = Self::prepare(&[]);
        cluster.up();
        cluster
    }

    /// A cluster that is not started yet, with more options for `up`.
    pub fn prepare(options: &[&str]) -> Self {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let parent = std::env::var_os("PLIMSOLL_SCRATCH").map_or_else(std::env::temp_dir, PathBuf::from);
        let scratch =
            tempfile::Builder::new().prefix("plimsoll-e2e-").tempdir_in(parent).expect("make a directory");
        let free = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("find a free port");
        Self {
            data: scratch.path().join("data"),
            listen: free,
            node: format!("e2e-{}-{number}", std::process::id()),
            options: options.iter().map(|&option| option.to_owned()).collect(),
            entry: Vec::new(),
            process: Mutex::new(None),
            proxy: OnceLock::new(),
            scratch,
        }
    }

    /// Starts a cluster on a machine of its own, where others can join, and waits until its node is ready.
    #[track_caller]
    pub fn start_on(host: &Host, options: &[&str]) -> Self {
        let mut cluster = Self::prepare(options);
        cluster.listen = SocketAddr::new(host.address(), 6443);
        cluster.entry = host.entry().to_vec();
        let config = cluster.scratch().join("kubelet.yaml");
        // Images are brought from here to other nodes, however full the disk is.
        let text = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n\
                    imageGCHighThresholdPercent: 100\n\
                    evictionHard: {nodefs.available: 1%, imagefs.available: 1%}\n";
        fs::write(&config, text).expect("write a file");
        cluster.options.extend(["--kubelet-config".to_owned(), config.to_string_lossy().into_owned()]);
        cluster.up();
        cluster
    }

    /// The data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// A place for files of the test, gone with the cluster.
    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// The address of the API server.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// The name of the node.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.data.join("admin.kubeconfig")
    }

    /// What the running program writes to standard error.
    pub fn log(&self) -> PathBuf {
        self.scratch.path().join("log")
    }

    /// The process id of the running program.
    #[track_caller]
    pub fn process_id(&self) -> u32 {
        self.process.lock().unwrap_or_else(PoisonError::into_inner).as_ref().expect("the cluster runs").id()
    }

    /// `plimsoll up` with this cluster's options.
    pub fn up_command(&self) -> Command {
        let mut command = self.program();
        command.arg("up").arg("--data-dir").arg(&self.data).arg("--listen").arg(self.listen.to_string());
        command.arg("--node-name").arg(&self.node).args(&self.options);
        command
    }

    /// The program, on the cluster's machine.
    fn program(&self) -> Command {
        if self.entry.is_empty() {
            return Command::new(program());
        }
        let mut command = Command::new("nsenter");
        command.args(&self.entry).arg(program());
        command
    }

    /// Starts the program and waits for its line `ready in N ms`; returns the milliseconds.
    #[track_caller]
    pub fn up(&self) -> u64 {
        let errors = File::options().create(true).append(true).open(self.log()).expect("open the log");
        let mut command = self.up_command();
        let mut child = command
            .env("PLIMSOLL_LOG", std::env::var("PLIMSOLL_LOG").unwrap_or_else(|_| "info".to_owned()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .expect("start plimsoll");
        let output = child.stdout.take().expect("standard output is a pipe");
        *self.process.lock().unwrap_or_else(PoisonError::into_inner) = Some(child);
        self.ready(BufReader::new(output))
    }

    #[track_caller]
    fn ready(&self, output: impl BufRead + Send + 'static) -> u64 {
        let (sender, lines) = channel();
        // Goes on reading afterwards, so that the program never writes into a closed pipe.
        thread::spawn(move || output.lines().map_while(Result::ok).for_each(|line| drop(sender.send(line))));
        let deadline = Instant::now() + START;
        let mut said = Vec::new();
        loop {
            let line = match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => {
                    panic!("not ready in {START:?}: {said:#?}\n{}", self.log_tail())
                }
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("ended before it was ready: {said:#?}\n{}", self.log_tail())
                }
            };
            if let Some(time) = line.strip_prefix("ready in ").and_then(|rest| rest.strip_suffix(" ms")) {
                return time.parse().expect("milliseconds");
            }
            said.push(line);
        }
    }

    /// Kills the program at once (`kill -9`); its containers go on.
    #[track_caller]
    pub fn kill(&self) {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        let mut child = process.take().expect("the cluster runs");
        child.kill().expect("kill plimsoll");
        child.wait().expect("wait for plimsoll");
    }

    /// Asks the program to stop (`kill -TERM`) and waits for it; its containers go on.
    #[track_caller]
    pub fn stop(&self) {
        let child = self.process.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut child = child.expect("the cluster runs");
        run(Command::new("kill").args(["-TERM", &child.id().to_string()]), b"", COMMAND).ok();
        let deadline = Instant::now() + START;
        while child.try_wait().expect("wait for plimsoll").is_none() {
            assert!(Instant::now() < deadline, "plimsoll does not stop\n{}", self.log_tail());
            thread::sleep(PAUSE);
        }
    }

    /// `plimsoll down` with more options.
    pub fn down(&self, options: &[&str]) -> Outcome {
        let outcome = self.plimsoll("down", options);
        if let Some(mut child) = self.process.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        outcome
    }

    /// `plimsoll WORDS --data-dir …` with more options.
    pub fn plimsoll(&self, words: &str, options: &[&str]) -> Outcome {
        let mut command = self.program();
        command.args(words.split(' ')).arg("--data-dir").arg(&self.data).args(options);
        run(&mut command, b"", COMMAND)
    }

    /// kubectl as the administrator, not started yet.
    pub fn kubectl_command(&self, arguments: &[&str]) -> Command {
        let mut command = self.client("kubectl");
        command.arg("--cache-dir").arg(self.scratch().join("kubectl")).args(arguments);
        command
    }

    /// A program that reads the administrator's kubeconfig and keeps its own files with the cluster's.
    pub fn client(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("KUBECONFIG", self.kubeconfig()).env("HOME", self.scratch());
        command
    }

    /// Runs kubectl as the administrator.
    pub fn kubectl(&self, arguments: &[&str]) -> Outcome {
        run(&mut self.kubectl_command(arguments), b"", COMMAND)
    }

    /// Runs kubectl with `input` on its standard input.
    pub fn kubectl_with(&self, arguments: &[&str], input: &[u8]) -> Outcome {
        run(&mut self.kubectl_command(arguments), input, COMMAND)
    }

    /// Runs `kubectl ARGUMENTS -f -` with manifests in YAML.
    pub fn manifests(&self, arguments: &[&str], text: &str) -> Outcome {
        // The mark tells YAML in flow style from JSON.
        self.kubectl_with(&[arguments, &["-f", "-"]].concat(), format!("---\n{text}").as_bytes())
    }

    /// Reads `path` of the API; `None` when there is no such thing or nobody answers.
    ///
    /// Goes through one `kubectl proxy` that stays, since conditions are looked at often.
    pub fn api(&self, path: &str) -> Option<Value> {
        let socket = self.scratch().join("proxy");
        self.proxy.get_or_init(|| {
            let path = socket.to_string_lossy().into_owned();
            let mut proxy = Background::start(&mut self.kubectl_command(&["proxy", "--unix-socket", &path]));
            proxy.line(START, |line| line.starts_with("Starting to serve"));
            proxy
        });
        let stream = UnixStream::connect(&socket).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        let response = get_from(stream, path).ok()?;
        if response.status != 200 {
            return None;
        }
        serde_json::from_str(&response.body).ok()
    }

    /// Looks until `look` sees something, and fails with what the cluster looks like when it does not.
    #[track_caller]
    pub fn wait<T>(&self, what: &str, look: impl FnMut() -> Option<T>) -> T {
        self.wait_for(what, WAIT, look)
    }

    /// [`Cluster::wait`] with a deadline of its own.
    #[track_caller]
    pub fn wait_for<T>(&self, what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(seen) = look() {
                return seen;
            }
            assert!(Instant::now() < deadline, "{what}: not in {limit:?}\n{}", self.dump());
            thread::sleep(PAUSE);
        }
    }

    /// A new namespace, in which pods can be made.
    #[track_caller]
    pub fn namespace(&self, name: &str) -> Namespace<'_> {
        let manifest = format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}}}}}");
        self.manifests(&["create"], &manifest).ok();
        let account = format!("/api/v1/namespaces/{name}/serviceaccounts/default");
        self.wait("the namespace's service account", || self.api(&account));
        Namespace::new(self, name)
    }

    /// What a reader of a failed test wants to see.
    pub fn dump(&self) -> String {
        let mut text = String::new();
        for arguments in [
            &["get", "nodes,pods,deployments,services,endpointslices,jobs", "-A", "-o", "wide"] as &[&str],
            &["get", "events", "-A", "--sort-by=.metadata.creationTimestamp"],
        ] {
            let seen = run(&mut self.kubectl_command(arguments), b"", Duration::from_secs(10));
            text.push_str(&format!(
                "--- kubectl {}\n{}{}",
                arguments.join(" "),
                last(&seen.stdout, 60),
                last(&seen.stderr, 10)
            ));
        }
        text + &self.log_tail()
    }

    fn log_tail(&self) -> String {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        format!("--- log\n{}", last(&log, 60))
    }

    /// Makes `image` of busybox, which `./test` takes from Debian's busybox-static.
    #[track_caller]
    pub fn busybox(&self, image: &str) {
        let folder = self.scratch().join("busybox");
        fs::create_dir_all(&folder).expect("make a directory");
        let program = found("busybox").expect("busybox in PATH; Debian's package is busybox-static");
        fs::copy(program, folder.join("busybox")).expect("copy busybox");
        let mut file = File::create(folder.join("Dockerfile")).expect("write a Dockerfile");
        let text = "FROM scratch\nCOPY busybox /bin/busybox\nRUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\n\
                    RUN mkdir -p /etc /tmp /home && chmod 1777 /tmp && echo root:x:0:0:root:/:/bin/sh > /etc/passwd\n\
                    ENV PATH=/bin\nCMD [\"sh\"]\n";
        file.write_all(text.as_bytes()).expect("write a Dockerfile");
        self.plimsoll("image build", &["--tag", image, &folder.to_string_lossy()]).ok();
    }
}

/// The last lines of a text.
pub(crate) fn last(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].iter().map(|line| format!("{line}\n")).collect()
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.proxy.take());
        let outcome = self.down(&[]);
        if outcome.code != 0 && !thread::panicking() {
            eprintln!("`{}` failed\n{}{}", outcome.command, outcome.stdout, outcome.stderr);
        }
    }
}
