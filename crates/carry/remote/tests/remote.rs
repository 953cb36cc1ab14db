//! Against a server of our own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use plimsoll_pki::{Authority, Purpose};
use plimsoll_remote::{Authorities, Remote, RemoteError, Resolve, client_tls};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// Every name is the test server.
struct Fixed(SocketAddr);

impl Resolve for Fixed {
    fn resolve<'a>(&'a self, _host: &'a str, _port: u16) -> BoxFuture<'a, Result<SocketAddr, String>> {
        let address = self.0;
        Box::pin(async move { Ok(address) })
    }
}

struct Server {
    address: SocketAddr,
    authority: Vec<u8>,
    connections: Arc<AtomicUsize>,
    _folder: tempfile::TempDir,
}

/// Echoes paths; `/slow` never answers; `/large` answers with 2,000 bytes.
async fn server() -> Server {
    let folder = tempfile::tempdir().expect("folder");
    let authority = Authority::ensure(folder.path(), "ca", "test").expect("authority");
    let request = plimsoll_pki::Request {
        purpose: Purpose::Server,
        dns_names: vec!["hook.web.svc".to_owned()],
        ..plimsoll_pki::Request::client("hook", &[])
    };
    let files = authority.ensure_issued(folder.path(), "server", &request).expect("certificate");
    let chain = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .expect("chain");
    let key = PrivateKeyDer::from_pem_file(&files.key).expect("key");
    let mut tls =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("certificate");
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
    let address = listener.local_addr().expect("address");
    let connections = Arc::new(AtomicUsize::new(0));
    let (counter, acceptor) = (Arc::clone(&connections), TlsAcceptor::from(Arc::new(tls)));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            counter.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(
                hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service_fn(answer))
                    .into_owned(),
            );
        }
    });
    Server { address, authority: authority.pem().as_bytes().to_vec(), connections, _folder: folder }
}

async fn answer(
    request: Request<hyper::body::Incoming>,
) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
    let body = match request.uri().path() {
        "/slow" => std::future::pending().await,
        "/large" => Bytes::from(vec![b'x'; 2000]),
        path => Bytes::copy_from_slice(path.as_bytes()),
    };
    Ok(Response::new(Full::new(body)))
}

async fn ask(remote: &Remote, url: &str) -> Result<Bytes, RemoteError> {
    let request = Request::post(url).body(Bytes::from_static(b"{}")).expect("request");
    remote.send(request, Duration::from_millis(300)).await.map(Response::into_body)
}

#[tokio::test]
async fn trusted_servers_answer_over_one_connection() {
    let server = server().await;
    let tls = client_tls(&Authorities::Bundle(server.authority.clone()), None).expect("tls");
    let remote = Remote::new(tls, Arc::new(Fixed(server.address)), 1000);
    for path in ["/a", "/b", "/c"] {
        assert_eq!(ask(&remote, &format!("https://hook.web.svc{path}")).await, Ok(Bytes::from(path)));
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
    let bad = |outcome: Result<Bytes, RemoteError>| outcome.expect_err("refused").to_string();
    assert_eq!(bad(ask(&remote, "https://hook.web.svc/slow").await), "context deadline exceeded");
    assert_eq!(bad(ask(&remote, "https://hook.web.svc/large").await), "response is larger than 1000 bytes");
    let other = bad(ask(&remote, "https://other.web.svc/").await);
    assert!(other.starts_with("tls: failed to verify certificate: x509: "), "{other}");
}

#[tokio::test]
async fn strangers_are_refused_unless_anybody_will_do() {
    let server = server().await;
    let folder = tempfile::tempdir().expect("folder");
    let stranger = Authority::ensure(folder.path(), "ca", "stranger").expect("authority");
    let names: Arc<dyn Resolve> = Arc::new(Fixed(server.address));
    for (authorities, expected) in [
        (
            Authorities::Bundle(stranger.pem().as_bytes().to_vec()),
            Err("tls: failed to verify certificate: x509: certificate signed by unknown authority".to_owned()),
        ),
        (Authorities::Anybody, Ok(Bytes::from_static(b"/x"))),
    ] {
        let remote = Remote::new(client_tls(&authorities, None).expect("tls"), Arc::clone(&names), 1000);
        let found = ask(&remote, "https://hook.web.svc/x").await.map_err(|error| error.to_string());
        assert_eq!(found, expected);
    }
    assert!(client_tls(&Authorities::Bundle(b"no pem".to_vec()), None).is_err());
}

#[tokio::test]
async fn a_closed_port_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
    let address = listener.local_addr().expect("address");
    drop(listener);
    let tls = client_tls(&Authorities::Anybody, None).expect("tls");
    let remote = Remote::new(tls, Arc::new(Fixed(address)), 1000);
    let error = ask(&remote, "https://hook.web.svc/").await.expect_err("nobody listens");
    assert_eq!(error.to_string(), format!("dial tcp {address}: connect: connection refused"));
}
