//! The servers that are measured, each a process of its own, and the page that they pass on.

use std::fs;
use std::io::Read as _;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

use super::played::Api;
use super::{free, wrk};
use crate::process::family_time;

/// The word that starts the ingress itself.
pub(crate) const COMMAND: &str = "serve-ingress";
/// The word that starts the server of the page.
pub(crate) const PAGE: &str = "serve-page";

/// Ingresses that change in a second.
pub(crate) const CHANGES: u32 = 10;

/// The path of the Ingress that has limits for each client.
pub(crate) const LIMITED: &str = "limited";

const LENGTH: usize = 1024;

/// A server that runs.
pub(crate) struct Server {
    child: Child,
    http: SocketAddr,
    https: SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        // nginx takes its workers along when it is asked to end.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

impl Server {
    pub(crate) fn page() -> anyhow::Result<Self> {
        let (http, https) = (free()?, free()?);
        Self::ours_with(&[PAGE, &http.to_string()], http, https)
    }

    /// The ingress with so many Ingresses, one of which is for the page.
    pub(crate) fn ours(page: &Self, folder: &Path, count: usize) -> anyhow::Result<Self> {
        let (http, https) = (free()?, free()?);
        let folder = folder.to_str().context("a path that is text")?;
        let [plain, encrypted, page] = [http, https, page.http].map(|address| address.to_string());
        Self::ours_with(&[COMMAND, &plain, &encrypted, &page, folder, &count.to_string()], http, https)
    }

    fn ours_with(words: &[&str], http: SocketAddr, https: SocketAddr) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let child = command.args(words).stdin(Stdio::piped()).spawn()?;
        Self { child, http, https }.ready()
    }

    /// nginx with the headers that its ingress controller adds; none if it is not installed.
    pub(crate) fn nginx(page: &Self, folder: &Path) -> anyhow::Result<Option<Self>> {
        let (http, https) = (free()?, free()?);
        let path = folder.join("nginx.conf");
        fs::write(&path, configuration(page.http, http, https, folder))?;
        let mut command = Command::new("nginx");
        command.arg("-p").arg(folder).arg("-c").arg(path).stderr(Stdio::null());
        match command.spawn() {
            Ok(child) => Self { child, http, https }.ready().map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                println!("nginx is not installed and left out");
                Ok(None)
            }
            Err(error) => Err(error).context("nginx"),
        }
    }

    fn ready(self) -> anyhow::Result<Self> {
        let start = Instant::now();
        while TcpStream::connect(self.http).is_err() {
            anyhow::ensure!(start.elapsed() < Duration::from_secs(20), "nobody listens on {}", self.http);
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(self)
    }

    pub(crate) fn http(&self) -> SocketAddr {
        self.http
    }

    pub(crate) fn plain(&self) -> String {
        format!("http://{}/", self.http)
    }

    pub(crate) fn encrypted(&self) -> String {
        format!("https://{}/", self.https)
    }

    /// From here on Ingresses change.
    pub(crate) fn begin_changes(&mut self) {
        drop(self.child.stdin.take());
    }

    pub(crate) fn measure(&self, url: &str, seconds: u64) -> anyhow::Result<wrk::Figures> {
        wrk::ask(url, 1)?;
        let before = family_time(self.child.id());
        let figures = wrk::ask(url, seconds)?;
        let used = family_time(self.child.id()) - before;
        Ok(wrk::Figures { cost: used * 1e6 / figures.requests, ..figures })
    }
}

fn configuration(page: SocketAddr, http: SocketAddr, https: SocketAddr, folder: &Path) -> String {
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    let folder = folder.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|name| format!("  {name}_temp_path {folder}/{name};\n"))
        .collect();
    let headers: String = [
        ("Connection", "\"\""),
        ("Host", "$http_host"),
        ("X-Request-ID", "$request_id"),
        ("X-Real-IP", "$remote_addr"),
        ("X-Forwarded-For", "$remote_addr"),
        ("X-Forwarded-Host", "$http_host"),
        ("X-Forwarded-Port", "$server_port"),
        ("X-Forwarded-Proto", "$scheme"),
        ("X-Forwarded-Scheme", "$scheme"),
        ("X-Scheme", "$scheme"),
    ]
    .iter()
    .map(|(name, value)| format!("      proxy_set_header {name} {value};\n"))
    .collect();
    format!(
        "daemon off;\nuser root;\nworker_processes {workers};\npid {folder}/pid;\nerror_log stderr crit;\n\
         events {{ worker_connections 4096; multi_accept on; }}\nhttp {{\n{temporary}  access_log off;\n  \
         tcp_nodelay on;\n  keepalive_requests 1000000000;\n  upstream page {{ server {page}; keepalive 320; \
         keepalive_requests 1000000000; }}\n  server {{\n    listen {http} reuseport;\n    listen {https} ssl reuseport;\n    \
         ssl_protocols TLSv1.2 TLSv1.3;\n    ssl_certificate {folder}/tls.crt;\n    ssl_certificate_key {folder}/tls.key;\n    \
         location / {{\n      proxy_pass http://page;\n      proxy_http_version 1.1;\n{headers}    }}\n  }}\n}}\n"
    )
}

/// Writes the certificate that all use.
pub(crate) fn certificate(folder: &Path) -> anyhow::Result<()> {
    let key = rcgen::KeyPair::generate()?;
    let made = rcgen::CertificateParams::new(vec!["localhost".to_owned()])?.self_signed(&key)?;
    fs::write(folder.join("tls.crt"), made.pem())?;
    fs::write(folder.join("tls.key"), key.serialize_pem())?;
    Ok(())
}

/// Serves a page to whoever asks, as cheaply as possible, until killed.
pub(crate) fn serve_page(address: &str) -> anyhow::Result<()> {
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {LENGTH}\r\n\r\n{}",
        "x".repeat(LENGTH)
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(address).await?;
        loop {
            let (mut stream, _) = listener.accept().await?;
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut bytes = Vec::with_capacity(4096);
                while stream.read_buf(&mut bytes).await.is_ok_and(|count| count > 0) {
                    if bytes.ends_with(b"\r\n\r\n") {
                        bytes.clear();
                        if stream.write_all(answer.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                }
            });
        }
    })
}

/// Serves the page by an Ingress until killed; changes the others from the end of its input on.
pub(crate) fn serve(words: &[&str]) -> anyhow::Result<()> {
    let &[http, https, page, folder, count] = words else { anyhow::bail!("takes five words") };
    let config = plimsoll_ingress::Config {
        http: http.parse()?,
        https: https.parse()?,
        node_name: "node".to_owned(),
        trusted: Vec::new(),
        proxy_protocol: false,
        limit_status: 503,
        metrics: None,
        resolver: None,
        workers: std::thread::available_parallelism().map_or(2, usize::from),
        farewell: Duration::from_secs(1),
    };
    let count: usize = count.parse()?;
    let api = api(page.parse()?, Path::new(folder), count)?;
    let changed = api.clone();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        for round in 1_usize.. {
            std::thread::sleep(Duration::from_secs(1) / CHANGES);
            changed.change("ingresses", &ingress(1 + round % count.max(2).saturating_sub(1), round));
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = api.client();
        let informers = plimsoll_client::Informers::new(client.clone());
        plimsoll_ingress::run(config, client, informers, CancellationToken::new()).await.map_err(Into::into)
    })
}

fn api(page: SocketAddr, folder: &Path, count: usize) -> anyhow::Result<Api> {
    let text = |name: &str| anyhow::Ok(STANDARD.encode(fs::read(folder.join(name))?));
    let meta = |name: &str, labels: Value| json!({"name": name, "namespace": "default", "uid": name, "resourceVersion": "1", "labels": labels});
    let class = json!({
        "metadata": {"name": "c", "resourceVersion": "1"},
        "spec": {"controller": "plimsoll.io/ingress"},
    });
    let service =
        json!({"metadata": meta("page", json!({})), "spec": {"ports": [{"name": "http", "port": 80}]}});
    let slice = json!({
        "metadata": meta("page", json!({"kubernetes.io/service-name": "page"})),
        "addressType": "IPv4",
        "endpoints": [{"addresses": [page.ip()], "conditions": {"ready": true, "serving": true}}],
        "ports": [{"name": "http", "port": page.port(), "protocol": "TCP"}],
    });
    let secret = json!({
        "metadata": meta("tls", json!({})),
        "type": "kubernetes.io/tls",
        "data": {"tls.crt": text("tls.crt")?, "tls.key": text("tls.key")?},
    });
    Ok(Api::new([
        ("ingresses", (0..count).map(|number| ingress(number, 0)).chain([limited()]).collect()),
        ("ingressclasses", vec![class]),
        ("services", vec![service]),
        ("endpointslices", vec![slice]),
        ("secrets", vec![secret]),
    ]))
}

/// For the page, too, at another path.
fn limited() -> Value {
    let mut limited = ingress(0, 0);
    limited["metadata"]["name"] = json!(LIMITED);
    limited["metadata"]["uid"] = json!(LIMITED);
    limited["metadata"]["annotations"]["nginx.ingress.kubernetes.io/limit-rps"] = json!("800");
    limited["metadata"]["annotations"]["nginx.ingress.kubernetes.io/limit-connections"] = json!("32");
    limited["spec"]["rules"][0]["http"]["paths"][0]["path"] = json!(format!("/{LIMITED}"));
    limited
}

/// The first is for the page.
fn ingress(number: usize, round: usize) -> Value {
    let path = |path: String| json!({"path": path, "pathType": "Prefix", "backend": {"service": {"name": "page", "port": {"number": 80}}}});
    let mut paths = vec![path("/".to_owned())];
    if round > 0 {
        paths.push(path(format!("/{round}")));
    }
    let host = if number == 0 { String::new() } else { format!("host-{number}.example") };
    json!({
        "metadata": {
            "name": format!("ingress-{number}"), "namespace": "default", "uid": number.to_string(),
            "resourceVersion": (10 + round).to_string(),
            "annotations": {"nginx.ingress.kubernetes.io/ssl-redirect": "false"},
        },
        "spec": {"ingressClassName": "c", "rules": [{"host": host, "http": {"paths": paths}}], "tls": [{"secretName": "tls"}]},
    })
}
