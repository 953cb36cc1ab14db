//! The server under test, and the process around it.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use plimsoll_apiserver::{Config, Credentials, Features, Safeguards, Server};
use plimsoll_pki::{Authority, Purpose, Request};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::process::{processor_time, resident};

/// The word that makes this program the server.
pub(crate) const COMMAND: &str = "api-server";
const START: Duration = Duration::from_secs(60);

/// A running server with an empty store, killed and removed when dropped.
pub(crate) struct ApiServer {
    child: Child,
    address: SocketAddr,
    folder: TempDir,
}

impl ApiServer {
    /// Starts it and waits until it accepts connections.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let parent = std::env::var_os("PLIMSOLL_SCRATCH").map_or_else(std::env::temp_dir, PathBuf::from);
        let folder = tempfile::Builder::new().prefix("plimsoll-bench-").tempdir_in(parent)?;
        let pki = folder.path().join("pki");
        let authority = Authority::ensure(&pki, "ca", "bench-ca")?;
        for (user, groups) in [("admin", &["system:masters"][..]), ("bench", &["bench"])] {
            authority.ensure_issued(&pki, user, &Request::client(user, groups))?;
        }
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let child = Command::new(std::env::current_exe()?)
            .arg(COMMAND)
            .arg(folder.path())
            .arg(address.to_string())
            .spawn()
            .context("start the server")?;
        let mut server = Self { child, address, folder };
        server.wait()?;
        super::client(super::objects::prepare(&server))?;
        Ok(server)
    }

    fn wait(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START;
        while TcpStream::connect(self.address).is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("the server ended with {status}");
            }
            if Instant::now() > deadline {
                bail!("the server does not listen");
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Folder of keys and certificates.
    pub(crate) fn pki(&self) -> PathBuf {
        self.folder.path().join("pki")
    }

    /// Seconds of processor time so far.
    pub(crate) fn processor_time(&self) -> f64 {
        processor_time(self.child.id())
    }

    /// Bytes that it holds.
    pub(crate) fn resident(&self) -> f64 {
        resident(self.child.id())
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the child process does: serves until it is killed.
pub(crate) fn serve(folder: &str, address: &str) -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_max_level(tracing_subscriber::filter::LevelFilter::WARN).init();
    let config = config(Path::new(folder), address.parse().context("address")?)?;
    // As the program itself does.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(thread::available_parallelism().map_or(2, usize::from).clamp(2, 8))
        .max_blocking_threads(64)
        .thread_keep_alive(Duration::from_secs(5))
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let shutdown = CancellationToken::new();
        let _server = Server::start(config, shutdown.clone()).await?;
        shutdown.cancelled().await;
        Ok(())
    })
}

fn config(folder: &Path, address: SocketAddr) -> anyhow::Result<Config> {
    let pki = folder.join("pki");
    let authority = Authority::ensure(&pki, "ca", "bench-ca")?;
    let local = vec![IpAddr::from([127, 0, 0, 1])];
    let request =
        Request { purpose: Purpose::Server, addresses: local, ..Request::client("kube-apiserver", &[]) };
    let server = authority.ensure_issued(&pki, "apiserver", &request)?;
    let agent = authority.ensure_issued(&pki, "agent", &Request::client("agent", &["system:masters"]))?;
    let proxies = Authority::ensure(&pki, "front-proxy-ca", "bench-front-proxy-ca")?;
    let proxy = Request::client("front-proxy-client", &[]);
    let proxy = proxies.ensure_issued(&pki, "front-proxy-client", &proxy)?;
    Ok(Config {
        store: folder.join("store"),
        datastore: None,
        compaction_interval: Some(std::time::Duration::from_secs(300)),
        quota: 2 << 30,
        snapshots: None,
        listen: vec![address],
        // Pods would not reach a loopback address; nobody asks here.
        advertise: SocketAddr::from(([10, 0, 0, 1], address.port())),
        service_cidrs: vec!["10.96.0.0/16".parse()?],
        node_ports: 30000..=32767,
        cluster_dns: vec![IpAddr::from([10, 96, 0, 10])],
        credentials: Credentials {
            client_ca: authority.certificate().to_owned(),
            certificate: server.certificate,
            key: server.key,
            kubelet_certificate: agent.certificate,
            kubelet_key: agent.key,
            front_proxy_certificate: proxy.certificate,
            front_proxy_key: proxy.key,
            service_account_key: pki.join("sa.key"),
        },
        safeguards: Safeguards::default(),
        features: Features::default(),
        limits: plimsoll_apiserver::Limits::default(),
        authentication: Default::default(),
        authorization: Default::default(),
        authorization_file: None,
        first_objects: Vec::new(),
        own_objects: Vec::new(),
    })
}
