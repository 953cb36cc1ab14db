//! Requests that are handed on: to node agents, pods and Services.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::header::{AUTHORIZATION, CONNECTION, HOST, UPGRADE};
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use plimsoll_meta::status::Status;
use plimsoll_remote::{Authorities, client_tls};
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::body::{self, RequestBody, ResponseBody};
use crate::guarded::Session;

/// Something that bytes flow through.
trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// Where a request goes on to.
#[derive(Clone, Debug)]
pub(crate) struct Destination {
    pub(crate) address: SocketAddr,
    /// Name that the server's certificate must carry where that counts; `None` for plain HTTP.
    pub(crate) tls: Option<String>,
    /// Path and query there.
    pub(crate) path: String,
}

/// Makes connections to servers of one kind: whom it trusts, and as whom it comes.
#[derive(Clone)]
pub(crate) struct Wires(pub(crate) Arc<rustls::ClientConfig>);

impl Wires {
    /// To servers whose certificates nobody knows, as nobody.
    pub(crate) fn to_anybody() -> Self {
        let tls = client_tls(&Authorities::Anybody, None).expect("without certificates none is unreadable");
        Self(Arc::new(tls))
    }
}

/// Address of the agent of a node.
pub(crate) fn agent(node: &Value, path: String) -> Result<Destination, Status> {
    let name = node["metadata"]["name"].as_str().unwrap_or_default();
    let addresses = || node["status"]["addresses"].as_array().into_iter().flatten();
    let of = |kind: &str| {
        addresses()
            .find(|address| address["type"] == kind)
            .and_then(|address| address["address"].as_str()?.parse().ok())
    };
    let address: IpAddr = of("InternalIP")
        .or_else(|| of("ExternalIP"))
        .ok_or_else(|| Status::internal(format!("no address known for node {name:?}")))?;
    let port = node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"].as_u64().unwrap_or(10250);
    let port = u16::try_from(port)
        .map_err(|_| Status::internal(format!("node {name:?} has no usable agent port")))?;
    Ok(Destination { address: SocketAddr::new(address, port), tls: Some(address.to_string()), path })
}

/// Sends the request on and brings the answer back, byte streams included.
pub(crate) async fn forward(
    wires: &Wires,
    destination: Destination,
    mut request: Request<RequestBody>,
) -> Result<Response<ResponseBody>, Status> {
    let unreachable = |error: &dyn std::fmt::Display| {
        Status::new(
            StatusCode::BAD_GATEWAY.as_u16(),
            "ServiceUnavailable",
            format!("error trying to reach {}: {error}", destination.address),
        )
    };
    let incoming = request.headers().contains_key(UPGRADE).then(|| hyper::upgrade::on(&mut request));
    let stream = TcpStream::connect(destination.address).await.map_err(|error| unreachable(&error))?;
    stream.set_nodelay(true).map_err(|error| unreachable(&error))?;
    let wire: Box<dyn Wire> = match &destination.tls {
        None => Box::new(stream),
        Some(name) => {
            let name = ServerName::try_from(name.clone()).map_err(|error| unreachable(&error))?;
            let connector = TlsConnector::from(Arc::clone(&wires.0));
            Box::new(connector.connect(name, stream).await.map_err(|error| unreachable(&error))?)
        }
    };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(wire))
        .await
        .map_err(|error| unreachable(&error))?;
    tokio::spawn(connection.with_upgrades());
    let request = readdressed(request, &destination)?;
    let mut response = sender.send_request(request).await.map_err(|error| unreachable(&error))?;
    if let (StatusCode::SWITCHING_PROTOCOLS, Some(incoming)) = (response.status(), incoming) {
        let outgoing = hyper::upgrade::on(&mut response);
        let session = Session::default();
        response.extensions_mut().insert(session.clone());
        tokio::spawn(async move {
            if let (Ok(near), Ok(far)) = tokio::join!(incoming, outgoing) {
                // Either side may hang up at any time; that ends the other.
                let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(near), &mut TokioIo::new(far)).await;
            }
            drop(session);
        });
    }
    Ok(response.map(|body| body.map_err(|error| body::Error::new(&error)).boxed_unsync()))
}

fn readdressed(
    mut request: Request<RequestBody>,
    destination: &Destination,
) -> Result<Request<RequestBody>, Status> {
    let path: PathAndQuery = destination.path.parse().map_err(|error| {
        Status::bad_request(format!("path {:?} cannot be proxied: {error}", destination.path))
    })?;
    *request.uri_mut() = Uri::from(path);
    *request.version_mut() = http::Version::HTTP_11;
    let upgrades = request.headers().contains_key(UPGRADE);
    let headers = request.headers_mut();
    // The far side must never see whose credentials opened the way.
    headers.remove(AUTHORIZATION);
    headers.remove(HOST);
    if !upgrades {
        headers.remove(CONNECTION);
    }
    let host = HeaderValue::from_str(&destination.address.to_string()).map_err(Status::internal)?;
    headers.insert(HOST, host);
    Ok(request)
}
