//! The resolver of a node beside those that Debian has: questions per second from memory, and how long they take at
//! half that rate, what an answer costs, and what they hold.
//!
//! Each server is a process of its own that knows the same 10,000 names. Peers that are not installed
//! (`dnsmasq-base`, `unbound`) are left out.

mod api;
mod load;

use std::io::Write as _;
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;

use crate::process::{anonymous, processor_time, resident};
use crate::report;
use load::{client, flood, paced, query};

/// The word that starts the resolver itself.
pub(crate) const COMMAND: &str = "serve-dns";

const NAMES: usize = 10_000;

/// Measures all servers.
pub(crate) fn run() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let mut servers = vec![Server::ours()?];
    servers.extend([Server::dnsmasq(folder.path())?, Server::unbound(folder.path())?].into_iter().flatten());
    let mut best = 0.0_f64;
    let mut figures = Vec::new();
    for server in &mut servers {
        server.ready()?;
        let before = processor_time(server.child.id());
        let (rate, answers) = flood(server.address)?;
        let each = (processor_time(server.child.id()) - before) / answers.max(1) as f64;
        let (median, worst) = paced(server.address, rate / 2.0)?;
        let memory = (resident(server.child.id()), anonymous(server.child.id()));
        figures.push((server.name, rate, each, median, worst, memory));
        if server.name != OURS {
            best = best.max(rate);
        }
        server.child.kill()?;
        server.child.wait()?;
    }
    for (name, rate, each, median, worst, memory) in figures {
        let ours = name == OURS;
        let aim = |text: String| if ours { text } else { "peer".to_owned() };
        report(
            &format!("{name}: answers per second"),
            &format!("{rate:.0}"),
            &aim(format!("{best:.0}, the best peer's")),
        );
        report(
            &format!("{name}: processor time of an answer"),
            &format!("{:.2} µs", each * 1e6),
            &aim("-".to_owned()),
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
            &format!("{:.1} MB", memory.0 / 1e6),
            &aim("30 MB".to_owned()),
        );
        report(
            &format!("{name}: of that not of files"),
            &format!("{:.1} MB", memory.1 / 1e6),
            &aim("-".to_owned()),
        );
    }
    Ok(())
}

/// Serves the names of an API server until killed.
pub(crate) fn serve(address: &str, api: &str) -> anyhow::Result<()> {
    let address: SocketAddr = address.parse()?;
    let config = plimsoll_dns::Config {
        listen: vec![address],
        listen_if_free: Vec::new(),
        metrics: Vec::new(),
        zone: "cluster.local".to_owned(),
        addresses: vec![address.ip()],
        node_name: "node".to_owned(),
        resolv_conf: "/dev/null".into(),
        copies: plimsoll_dns::Copies::Own,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = plimsoll_client::connect_kubeconfig_text(&api::kubeconfig(api)).await?;
        let informers = plimsoll_client::Informers::new(client);
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
        command.args([COMMAND, &address.to_string(), &api::start()?.to_string()]);
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

fn free() -> anyhow::Result<SocketAddr> {
    Ok(UdpSocket::bind("127.0.0.1:0")?.local_addr()?)
}

fn name(number: usize) -> String {
    format!("service-{number}.default.svc.cluster.local")
}

fn ip(number: usize) -> String {
    format!("10.43.{}.{}", 1 + number / 250, 1 + number % 250)
}
