//! Machines in network namespaces, and nodes on them.
//!
//! Each machine is on one of several links; a router joins the links, and this machine looks in from
//! outside. Needs `ip`, `nsenter` and `unshare`.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::agent::invite;
use crate::cluster::{Cluster, last, program};
use crate::command::{Outcome, run};

/// Longest run of a helping command.
const COMMAND: Duration = Duration::from_secs(60);

/// Each group of machines has links of its own.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// Machines on links that a router joins; gone when dropped.
#[derive(Debug)]
pub struct Hosts {
    hosts: Vec<Host>,
    _router: Place,
}

/// A machine in a network namespace.
#[derive(Debug)]
pub struct Host {
    place: Place,
    address: IpAddr,
}

/// A network namespace that lives as long as the process in it.
#[derive(Debug)]
struct Place(Child);

impl Hosts {
    /// A machine for each number, on the link of that number, counted from 1.
    #[track_caller]
    pub fn start(links: &[u8]) -> Self {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let id = std::process::id();
        // Groups of other processes shall hardly meet this one on the way from here to the router.
        let (second, third) = (240 + id % 16, (id / 16 + 31 * count) % 256);
        let address = |link: u8, host: u8| format!("10.{second}.{third}.{}", 32 * link + host);
        let router = Place::make();
        let outside = format!("e2e-{}", (id + 7919 * count) % 1_000_000);
        ip(&["link", "add", &outside, "type", "veth", "peer", "name", "world", "netns", &router.id()]);
        ip(&["address", "add", &format!("{}/27", address(0, 2)), "dev", &outside]);
        ip(&["link", "set", &outside, "up"]);
        router.ip(&["address", "add", &format!("{}/27", address(0, 1)), "dev", "world"]);
        router.ip(&["link", "set", "world", "up"]);
        router.run("sysctl", &["-q", "-w", "net.ipv4.ip_forward=1"]);
        let mut known = Vec::new();
        let mut hosts = Vec::new();
        for (number, link) in links.iter().enumerate() {
            let bridge = format!("link{link}");
            if !known.contains(link) {
                known.push(*link);
                router.ip(&["link", "add", &bridge, "type", "bridge"]);
                router.ip(&["address", "add", &format!("{}/27", address(*link, 1)), "dev", &bridge]);
                router.ip(&["link", "set", &bridge, "up"]);
                ip(&["route", "add", &format!("{}/27", address(*link, 0)), "via", &address(0, 1)]);
            }
            let (place, port) = (Place::make(), format!("host{number}"));
            let own = address(*link, u8::try_from(number).expect("few machines") + 2);
            router.ip(&["link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &place.id()]);
            router.ip(&["link", "set", &port, "master", &bridge, "up"]);
            place.ip(&["address", "add", &format!("{own}/27"), "dev", "eth0"]);
            place.ip(&["link", "set", "eth0", "up"]);
            place.ip(&["route", "add", "default", "via", &address(*link, 1)]);
            let address = own.parse::<Ipv4Addr>().expect("an address").into();
            hosts.push(Host { place, address });
        }
        Self { hosts, _router: router }
    }

    /// The machine of that number, counted from 0.
    pub fn host(&self, number: usize) -> &Host {
        &self.hosts[number]
    }
}

impl Host {
    /// Its address, which this machine reaches.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// A program on the machine, not started yet.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(self.entry()).arg(program);
        command
    }

    /// What makes `nsenter` enter the machine.
    pub(crate) fn entry(&self) -> [String; 2] {
        [format!("--net=/proc/{}/ns/net", self.place.id()), "--".to_owned()]
    }

    /// Runs a program on the machine, which must succeed.
    #[track_caller]
    pub fn run(&self, program: &str, arguments: &[&str]) -> String {
        run(self.command(program).args(arguments), b"", COMMAND).ok()
    }
}

impl Place {
    #[track_caller]
    fn make() -> Self {
        let mut command = Command::new("unshare");
        command.args(["--net", "sleep", "infinity"]).stdin(Stdio::null()).stdout(Stdio::null());
        let place = Self(command.spawn().expect("start unshare"));
        let (own, theirs) = ("/proc/self/ns/net".to_owned(), format!("/proc/{}/ns/net", place.id()));
        let deadline = Instant::now() + COMMAND;
        while fs::read_link(&theirs).ok() == fs::read_link(&own).ok() {
            assert!(Instant::now() < deadline, "there is no network namespace");
            thread::sleep(Duration::from_millis(2));
        }
        place.ip(&["link", "set", "lo", "up"]);
        place
    }

    fn id(&self) -> String {
        self.0.id().to_string()
    }

    #[track_caller]
    fn ip(&self, arguments: &[&str]) {
        self.run("ip", arguments);
    }

    #[track_caller]
    fn run(&self, program: &str, arguments: &[&str]) {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.id())).arg("--").arg(program).args(arguments);
        run(&mut command, b"", COMMAND).ok();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[track_caller]
fn ip(arguments: &[&str]) {
    run(Command::new("ip").args(arguments), b"", COMMAND).ok();
}

/// A node of a cluster on a machine of its own, with engine and network; gone when dropped.
#[derive(Debug)]
pub struct Worker<'a> {
    cluster: &'a Cluster,
    host: &'a Host,
    root: PathBuf,
    node: String,
    process: Mutex<Option<Child>>,
}

impl<'a> Worker<'a> {
    /// Joins the cluster and waits until the node is ready.
    #[track_caller]
    pub fn join(cluster: &'a Cluster, host: &'a Host, name: &str) -> Self {
        let node = format!("{}-{name}", cluster.node());
        let root = cluster.scratch().join("workers").join(name);
        fs::create_dir_all(&root).expect("make a directory");
        let config = format!(
            "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\naddress: {}\n\
             healthzPort: 0\ncgroupRoot: /plimsoll-e2e-{node}\nfailSwapOn: false\nimageGCHighThresholdPercent: 100\n\
             authentication: {{x509: {{clientCAFile: {}}}}}\n\
             evictionHard: {{nodefs.available: 1%, imagefs.available: 1%}}\n",
            host.address(),
            cluster.data().join("pki/ca.crt").display(),
        );
        fs::write(root.join("kubelet.yaml"), config).expect("write a file");
        fs::write(root.join("bootstrap"), invite(cluster)).expect("write a file");
        let worker = Self { cluster, host, root, node, process: Mutex::default() };
        worker.start();
        worker.wait_ready();
        worker
    }

    /// Starts it, again after [`Worker::kill`].
    #[track_caller]
    pub fn start(&self) {
        let log =
            File::options().create(true).append(true).open(self.root.join("log")).expect("open the log");
        let ranges: Value = fs::read(self.cluster.data().join("instance.json"))
            .map(|text| serde_json::from_slice(&text).expect("JSON"))
            .expect("read what the instance chose");
        let range = |name: &str| ranges[name].as_str().expect("a range").to_owned();
        let file = |name: &str| self.root.join(name).to_string_lossy().into_owned();
        let child = self
            .host
            .command(program())
            .args(["kubelet", "--hostname-override", &self.node])
            .args(["--node-ip", &self.host.address().to_string()])
            .args(["--root-dir", &self.root.to_string_lossy()])
            .args(["--config", &file("kubelet.yaml")])
            .args(["--bootstrap-kubeconfig", &file("bootstrap"), "--kubeconfig", &file("kubeconfig")])
            .args(["--cluster-cidr", &range("podCidr"), "--service-cluster-ip-range", &range("serviceCidr")])
            .env("PLIMSOLL_LOG", std::env::var("PLIMSOLL_LOG").unwrap_or_else(|_| "info".to_owned()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("start a worker");
        *self.process.lock().unwrap_or_else(PoisonError::into_inner) = Some(child);
    }

    /// Waits until the API says that the node is ready.
    #[track_caller]
    pub fn wait_ready(&self) {
        let path = format!("/api/v1/nodes/{}", self.node);
        self.cluster.wait("the worker is ready", || {
            let node = self.cluster.api(&path)?;
            let conditions = node["status"]["conditions"].as_array()?;
            conditions.iter().any(|it| it["type"] == "Ready" && it["status"] == "True").then_some(())
        });
    }

    /// The name of the node.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Its machine.
    pub fn host(&self) -> &'a Host {
        self.host
    }

    /// Kills the agent at once; its containers go on.
    #[track_caller]
    pub fn kill(&self) {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        let mut child = process.take().expect("the worker runs");
        child.kill().expect("kill the worker");
        child.wait().expect("wait for the worker");
    }

    /// `plimsoll WORDS --data-dir …` on its folder.
    pub fn plimsoll(&self, words: &str, options: &[&str]) -> Outcome {
        let mut command = self.host.command(program());
        command.args(words.split(' ')).arg("--data-dir").arg(&self.root).args(options);
        run(&mut command, b"", COMMAND)
    }

    /// Brings images of the cluster's first node.
    #[track_caller]
    pub fn bring(&self, images: &[&str]) {
        let archive = self.root.join("images.tar");
        let archive = archive.to_string_lossy();
        self.cluster.plimsoll("image save", &[&["-o", &archive], images].concat()).ok();
        self.plimsoll("image load", &["-i", &archive]).ok();
    }
}

impl Drop for Worker<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = fs::read_to_string(self.root.join("log")).unwrap_or_default();
            eprintln!("--- worker {}\n{}", self.node, last(&log, 40));
        }
        let outcome = self.plimsoll("down", &[]);
        if let Some(mut child) = self.process.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if outcome.code != 0 && !thread::panicking() {
            eprintln!("`{}` failed\n{}{}", outcome.command, outcome.stdout, outcome.stderr);
        }
    }
}
