//! A client: TLS connections that stay open, HTTP/1.1 or HTTP/2.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, ensure};
use base64::Engine as _;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A server, and as whom to talk to it.
#[derive(Clone)]
pub(crate) struct Endpoint {
    address: SocketAddr,
    tls: Arc<rustls::ClientConfig>,
}

impl Endpoint {
    /// `user` names the certificate in `pki`.
    pub(crate) fn new(address: SocketAddr, pki: PathBuf, user: &str) -> anyhow::Result<Self> {
        let read = |name: String| std::fs::read(pki.join(&name)).context(name);
        Self::of(
            address,
            &read("ca.crt".to_owned())?,
            &read(format!("{user}.crt"))?,
            &read(format!("{user}.key"))?,
        )
    }

    /// The server and the user of a kubeconfig that holds its certificates itself.
    pub(crate) fn of_kubeconfig(path: &str) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.to_owned())?;
        let config: serde_json::Value = serde_saphyr::from_str(&text)?;
        let (cluster, user) = (&config["clusters"][0]["cluster"], &config["users"][0]["user"]);
        let decode = |holder: &serde_json::Value, key: &'static str| {
            base64::prelude::BASE64_STANDARD.decode(holder[key].as_str().context(key)?).context(key)
        };
        let server = cluster["server"].as_str().and_then(|server| server.strip_prefix("https://"));
        Self::of(
            server.context("a server")?.parse().context("an address and port")?,
            &decode(cluster, "certificate-authority-data")?,
            &decode(user, "client-certificate-data")?,
            &decode(user, "client-key-data")?,
        )
    }

    fn of(address: SocketAddr, authority: &[u8], certificate: &[u8], key: &[u8]) -> anyhow::Result<Self> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority).context("authority")?)?;
        let certificate = CertificateDer::from_pem_slice(certificate).context("certificate")?;
        let key = PrivateKeyDer::from_pem_slice(key).context("key")?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![certificate], key)?;
        Ok(Self { address, tls: Arc::new(tls) })
    }

    async fn stream(&self, protocol: &[u8]) -> anyhow::Result<TokioIo<TlsStream<TcpStream>>> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let mut tls = (*self.tls).clone();
        tls.alpn_protocols = vec![protocol.to_vec()];
        let name = ServerName::from(self.address.ip());
        Ok(TokioIo::new(TlsConnector::from(Arc::new(tls)).connect(name, stream).await?))
    }

    /// A connection for one request after the other.
    pub(crate) async fn connect(&self) -> anyhow::Result<Connection> {
        let (sender, driver) = http1::handshake(self.stream(b"http/1.1").await?).await?;
        tokio::spawn(driver);
        Ok(Connection(sender))
    }

    /// A connection for many requests at a time.
    pub(crate) async fn connect_h2(&self) -> anyhow::Result<http2::SendRequest<Full<Bytes>>> {
        let (sender, driver) = http2::handshake(TokioExecutor::new(), self.stream(b"h2").await?).await?;
        tokio::spawn(driver);
        Ok(sender)
    }
}

/// An HTTP/1.1 connection.
pub(crate) struct Connection(http1::SendRequest<Full<Bytes>>);

/// A request, not sent yet.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) body: Bytes,
    /// More headers.
    pub(crate) headers: Vec<(&'static str, &'static str)>,
}

impl Call {
    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self { method: "GET", path: path.into(), body: Bytes::new(), headers: Vec::new() }
    }

    pub(crate) fn post(path: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self { method: "POST", path: path.into(), body: body.into(), headers: Vec::new() }
    }

    pub(crate) fn patch(path: impl Into<String>, body: impl Into<Bytes>) -> Self {
        let headers = vec![("content-type", "application/merge-patch+json")];
        Self { method: "PATCH", path: path.into(), body: body.into(), headers }
    }

    pub(crate) fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(crate) fn request(&self) -> anyhow::Result<Request<Full<Bytes>>> {
        let mut request = Request::builder().method(self.method).uri(&self.path).header("host", "localhost");
        let given = |name: &str| self.headers.iter().any(|(key, _)| *key == name);
        for (name, value) in [
            ("accept", "application/json"),
            ("content-type", "application/json"),
            ("user-agent", "plimsoll-bench/1"),
        ] {
            if !given(name) {
                request = request.header(name, value);
            }
        }
        for (name, value) in &self.headers {
            request = request.header(*name, *value);
        }
        Ok(request.body(Full::new(self.body.clone()))?)
    }
}

impl Connection {
    /// Sends a request and reads the whole answer, which must be a success.
    pub(crate) async fn call(&mut self, call: &Call) -> anyhow::Result<Bytes> {
        let response = self.open(call).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        ensure!(status.is_success(), "{} {}: {}", call.method, call.path, String::from_utf8_lossy(&body));
        Ok(body)
    }

    /// Sends a request and returns the answer with its body unread.
    pub(crate) async fn open(&mut self, call: &Call) -> anyhow::Result<Response<Incoming>> {
        self.0.ready().await?;
        Ok(self.0.send_request(call.request()?).await?)
    }

    /// Starts a watch.
    pub(crate) async fn watch(&mut self, path: &str) -> anyhow::Result<Incoming> {
        let response = self.open(&Call::get(path)).await?;
        ensure!(response.status() == StatusCode::OK, "watch {path}: {}", response.status());
        Ok(response.into_body())
    }
}
