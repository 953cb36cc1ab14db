//! The resolver of a node beside those that Debian has: questions per second from memory, and how long they take at
//! half that rate.
//!
//! Each server is a process of its own that knows the same 10,000 names. Peers that are not installed
//! (`dnsmasq-base`, `unbound`) are left out.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::Write as _;
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::process::resident;
use crate::report;

/// The word that starts the resolver itself.
pub(crate) const COMMAND: &str = "serve-dns";

const NAMES: usize = 10_000;
/// Questions under way at once.
const WINDOW: usize = 100;
const RUN: Duration = Duration::from_secs(4);

/// Measures all servers.
pub(crate) fn run() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let mut servers = vec![Server::ours()?];
    servers.extend([Server::dnsmasq(folder.path())?, Server::unbound(folder.path())?].into_iter().flatten());
    let mut best = 0.0_f64;
    let mut figures = Vec::new();
    for server in &mut servers {
        server.ready()?;
        let rate = flood(server.address)?;
        let (median, worst) = paced(server.address, rate / 2.0)?;
        let memory = resident(server.child.id());
        figures.push((server.name, rate, median, worst, memory));
        if server.name != OURS {
            best = best.max(rate);
        }
        server.child.kill()?;
        server.child.wait()?;
    }
    for (name, rate, median, worst, memory) in figures {
        let ours = name == OURS;
        let aim = |text: String| if ours { text } else { "peer".to_owned() };
        report(
            &format!("{name}: answers per second"),
            &format!("{rate:.0}"),
            &aim(format!("{best:.0}, the best peer's")),
        );
        report(
            &format!("{name}: median at half load"),
            &format!("{:.0} µs", median * 1e6),
            &aim("-".to_owned()),
        );
        report(
            &format!("{name}: p99 at half load"),
            &format!("{:.0} µs", worst * 1e6),
            &aim("2000 µs".to_owned()),
        );
        report(
            &format!("{name}: resident memory"),
            &format!("{:.1} MB", memory / 1e6),
            &aim("30 MB".to_owned()),
        );
    }
    Ok(())
}

/// Serves the names until killed.
pub(crate) fn serve(address: &str) -> anyhow::Result<()> {
    let address: SocketAddr = address.parse()?;
    let config = plimsoll_dns::Config {
        listen: vec![address],
        metrics: Vec::new(),
        zone: "cluster.local".to_owned(),
        addresses: vec![address.ip()],
        node_name: "node".to_owned(),
        resolv_conf: "/dev/null".into(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let informers = plimsoll_client::Informers::new(plimsoll_client::from_service(Api));
        plimsoll_dns::run(config, informers, CancellationToken::new()).await.map_err(Into::into)
    })
}

const OURS: &str = "plimsoll";

struct Server {
    name: &'static str,
    address: SocketAddr,
    child: Child,
}

impl Server {
    fn ours() -> anyhow::Result<Self> {
        let address = free()?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args([COMMAND, &address.to_string()]);
        Ok(Self { name: OURS, address, child: command.spawn()? })
    }

    fn dnsmasq(folder: &std::path::Path) -> anyhow::Result<Option<Self>> {
        let (address, hosts) = (free()?, folder.join("hosts"));
        let mut file = std::io::BufWriter::new(std::fs::File::create(&hosts)?);
        for number in 0..NAMES {
            writeln!(file, "{} {}", ip(number), name(number))?;
        }
        file.flush()?;
        let mut command = Command::new("dnsmasq");
        command.args([
            "--keep-in-foreground",
            "--no-resolv",
            "--no-hosts",
            "--bind-interfaces",
            "--user=root",
        ]);
        command.args([
            "--conf-file=/dev/null",
            "--listen-address=127.0.0.1",
            "--cache-size=10000",
            "--pid-file=",
        ]);
        command.arg(format!("--port={}", address.port())).arg(format!("--addn-hosts={}", hosts.display()));
        Self::peer("dnsmasq", address, command)
    }

    fn unbound(folder: &std::path::Path) -> anyhow::Result<Option<Self>> {
        let (address, path) = (free()?, folder.join("unbound.conf"));
        let mut file = std::io::BufWriter::new(std::fs::File::create(&path)?);
        writeln!(
            file,
            "server:\n interface: 127.0.0.1@{}\n username: \"\"\n chroot: \"\"\n pidfile: \"\"\n do-daemonize: no\n \
             use-syslog: no\n logfile: \"/dev/null\"\n directory: \"{}\"\n local-zone: \"cluster.local.\" static",
            address.port(),
            folder.display()
        )?;
        for number in 0..NAMES {
            writeln!(file, " local-data: \"{} A {}\"", name(number), ip(number))?;
        }
        file.flush()?;
        let mut command = Command::new("unbound");
        command.args(["-d", "-c"]).arg(&path);
        Self::peer("unbound", address, command)
    }

    fn peer(name: &'static str, address: SocketAddr, mut command: Command) -> anyhow::Result<Option<Self>> {
        match command.stderr(Stdio::null()).spawn() {
            Ok(child) => Ok(Some(Self { name, address, child })),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                println!("{name} is not installed and left out");
                Ok(None)
            }
            Err(error) => Err(error).context(name),
        }
    }

    /// Waits until the last name is answered.
    fn ready(&mut self) -> anyhow::Result<()> {
        let socket = client(self.address)?;
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(20) {
            let mut reply = [0; 512];
            // What refuses or answers without the name is not ready.
            if socket.send(&query(1, NAMES - 1)).is_ok()
                && let Ok(length) = socket.recv(&mut reply)
                && length > 12
                && reply[7] == 1
            {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        anyhow::bail!("{} does not answer", self.name)
    }
}

/// Answers per second with a window of questions under way.
fn flood(address: SocketAddr) -> anyhow::Result<f64> {
    let socket = client(address)?;
    let (mut sent, mut answered, mut reply) = (0_usize, 0_usize, [0; 512]);
    let start = Instant::now();
    while start.elapsed() < RUN {
        while sent - answered < WINDOW {
            socket.send(&query(sent as u16, sent * 7919 % NAMES))?;
            sent += 1;
        }
        match socket.recv(&mut reply) {
            Ok(_) => answered += 1,
            // Lost: the window is filled again.
            Err(_) => sent = answered,
        }
    }
    Ok(answered as f64 / start.elapsed().as_secs_f64())
}

/// Median and 99th percentile, in seconds, of questions that come at a rate.
fn paced(address: SocketAddr, rate: f64) -> anyhow::Result<(f64, f64)> {
    let socket = client(address)?;
    let (receiver, done) = (socket.try_clone()?, Arc::new(AtomicBool::new(false)));
    let (tell, told) = std::sync::mpsc::channel::<(u16, Instant)>();
    let ended = done.clone();
    let reader = std::thread::spawn(move || {
        let (mut waiting, mut took, mut reply) = (VecDeque::new(), Vec::new(), [0; 512]);
        while !ended.load(Ordering::Relaxed) {
            let Ok(length) = receiver.recv(&mut reply) else { continue };
            let now = Instant::now();
            waiting.extend(told.try_iter());
            let id = u16::from_be_bytes([reply[0], reply[1]]);
            let place = waiting.iter().position(|(known, _)| *known == id).filter(|_| length > 12);
            if let Some((_, since)) = place.and_then(|place| waiting.remove(place)) {
                took.push(now.duration_since(since).as_secs_f64());
            }
        }
        took
    });
    let (start, mut sent) = (Instant::now(), 0_usize);
    while start.elapsed() < RUN {
        let due = (start.elapsed().as_secs_f64() * rate) as usize;
        while sent < due {
            tell.send((sent as u16, Instant::now()))?;
            socket.send(&query(sent as u16, sent * 7919 % NAMES))?;
            sent += 1;
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    done.store(true, Ordering::Relaxed);
    let mut took = reader.join().map_err(|_| anyhow::anyhow!("the reader broke"))?;
    took.sort_by(f64::total_cmp);
    let at = |share: f64| took.get((took.len() as f64 * share) as usize).copied();
    at(0.5).zip(at(0.99)).context("no answers")
}

fn client(address: SocketAddr) -> anyhow::Result<UdpSocket> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(address)?;
    socket.set_read_timeout(Some(Duration::from_millis(200)))?;
    Ok(socket)
}

fn free() -> anyhow::Result<SocketAddr> {
    Ok(UdpSocket::bind("127.0.0.1:0")?.local_addr()?)
}

fn name(number: usize) -> String {
    format!("service-{number}.default.svc.cluster.local")
}

fn ip(number: usize) -> String {
    format!("10.43.{}.{}", 1 + number / 250, 1 + number % 250)
}

fn query(id: u16, number: usize) -> Vec<u8> {
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name(number).split('.') {
        bytes.push(label.len() as u8);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.extend_from_slice(&[0, 0, 1, 0, 1]);
    bytes
}

/// An API server with the Services, and nothing else.
#[derive(Clone)]
struct Api;

impl tower::Service<http::Request<kube::client::Body>> for Api {
    type Response = http::Response<UnsyncBoxBody<Bytes, Infallible>>;
    type Error = Infallible;
    type Future = futures::future::BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Infallible>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<kube::client::Body>) -> Self::Future {
        let watch = request.uri().query().unwrap_or_default().contains("watch=");
        let services = request.uri().path().ends_with("/services");
        Box::pin(async move {
            if watch {
                std::future::pending::<()>().await;
            }
            let item = |number: usize| {
                json!({
                    "metadata": {"name": format!("service-{number}"), "namespace": "default", "resourceVersion": "1"},
                    "spec": {"clusterIP": ip(number), "ports": [{"name": "http", "port": 80}]},
                })
            };
            let items: Vec<_> = (0..if services { NAMES } else { 0 }).map(item).collect();
            let body = json!({"metadata": {"resourceVersion": "9"}, "items": items}).to_string();
            Ok(http::Response::new(Full::new(Bytes::from(body)).boxed_unsync()))
        })
    }
}
