//! Questions by DNS over TLS (RFC 7858), over connections that are kept for a while.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use plimsoll_netplan::dns::corefile::Tls;
use plimsoll_remote::{Authorities, client_tls};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::exchange::converse;

/// How long a connection waits for the next question.
const IDLE: Duration = Duration::from_secs(10);

/// Connections that wait for a server's next questions; more are closed.
const KEPT: usize = 64;

type Connection = TlsStream<TcpStream>;

/// A server that is asked over TLS.
pub(crate) struct Encrypted {
    address: SocketAddr,
    name: ServerName<'static>,
    connector: TlsConnector,
    /// Connections without a question, and since when.
    idle: Mutex<Vec<(Connection, Instant)>>,
}

impl Encrypted {
    /// # Errors
    /// When the name is none, or the certificates are none.
    pub(crate) fn new(address: SocketAddr, tls: &Tls) -> io::Result<Self> {
        let name = match &tls.server_name {
            Some(name) => ServerName::try_from(name.to_string()).map_err(io::Error::other)?,
            None => ServerName::IpAddress(address.ip().into()),
        };
        let authorities = match &tls.authorities {
            Some(bundle) => Authorities::Bundle(bundle.as_bytes().to_vec()),
            None => Authorities::System,
        };
        let config = client_tls(&authorities, None).map_err(io::Error::other)?;
        let connector = TlsConnector::from(Arc::new(config));
        Ok(Self { address, name, connector, idle: Mutex::default() })
    }

    /// The reply to a query.
    pub(crate) async fn exchange(&self, query: &[u8]) -> io::Result<Vec<u8>> {
        // The server may have closed what was kept; that says nothing about it.
        while let Some(mut connection) = self.kept() {
            if let Ok(reply) = converse(&mut connection, query).await {
                self.keep(connection);
                return Ok(reply);
            }
        }
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let mut connection = self.connector.connect(self.name.clone(), stream).await?;
        let reply = converse(&mut connection, query).await?;
        self.keep(connection);
        Ok(reply)
    }

    fn kept(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().expect("no code under the lock panics");
        idle.retain(|(_, since)| since.elapsed() < IDLE);
        idle.pop().map(|(connection, _)| connection)
    }

    fn keep(&self, connection: Connection) {
        let mut idle = self.idle.lock().expect("no code under the lock panics");
        if idle.len() < KEPT {
            idle.push((connection, Instant::now()));
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::collections::BTreeMap;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use plimsoll_netplan::dns::corefile::Rules;
    use rustls::ServerConfig;
    use rustls::pki_types::PrivateKeyDer;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::metrics::Metrics;
    use crate::upstream::Upstream;

    const QUERY: [u8; 19] = [1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, b'a', 0, 0, 1, 0, 1];

    /// A server that hangs up after two replies; its address, its certificate, and how many connections it had.
    async fn server() -> (SocketAddr, String, Arc<AtomicUsize>) {
        let made = rcgen::generate_simple_self_signed(["dns.example".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config =
            ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config =
            config.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, count) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let counted = count.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counted.fetch_add(1, Ordering::SeqCst);
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                for _ in 0..2 {
                    let Ok(length) = stream.read_u16().await else { break };
                    let mut message = vec![0; length.into()];
                    stream.read_exact(&mut message).await.unwrap();
                    message[2] |= 0x80;
                    stream.write_u16(length).await.unwrap();
                    stream.write_all(&message).await.unwrap();
                    stream.flush().await.unwrap();
                }
            }
        });
        (address, made.cert.pem(), count)
    }

    fn tls(name: Option<&str>, bundle: &str) -> Tls {
        Tls { server_name: name.map(Into::into), authorities: Some(bundle.into()) }
    }

    #[tokio::test]
    async fn connections_are_used_again_until_the_server_ends_them() {
        let (address, certificate, connections) = server().await;
        let server = Encrypted::new(address, &tls(Some("dns.example"), &certificate)).unwrap();
        for (question, expected) in [(0, 1), (1, 1), (2, 2), (3, 2), (4, 3)] {
            assert_eq!(server.exchange(&QUERY).await.unwrap()[2], 0x81, "question {question}");
            assert_eq!(connections.load(Ordering::SeqCst), expected, "after question {question}");
        }
    }

    #[tokio::test]
    async fn a_corefile_names_them() {
        let (address, certificate, _) = server().await;
        let text =
            format!(". {{\n forward . tls://{address} {{\n tls ca.crt\n tls_servername dns.example\n }}\n}}");
        let rules = Rules::parse(&text, &BTreeMap::from([("ca.crt".into(), certificate)])).unwrap();
        let upstream = Upstream::new("/dev/null".into(), &[], Arc::new(Metrics::new()));
        let reply = upstream.resolve(&QUERY, rules.block("a").unwrap()).await.unwrap();
        assert_eq!(reply[2], 0x81);
    }

    #[tokio::test]
    async fn servers_must_prove_who_they_are() {
        let (address, certificate, _) = server().await;
        let other = rcgen::generate_simple_self_signed(["dns.example".to_owned()]).unwrap().cert.pem();
        for (what, name, bundle) in [
            ("another name", Some("dns.example.org"), &certificate),
            ("its address, which its certificate has not", None, &certificate),
            ("another authority", Some("dns.example"), &other),
        ] {
            let server = Encrypted::new(address, &tls(name, bundle)).unwrap();
            assert!(server.exchange(&QUERY).await.is_err(), "{what}");
        }
        assert!(Encrypted::new(address, &tls(Some("not a name"), &certificate)).is_err());
        assert!(Encrypted::new(address, &tls(None, "no certificate")).is_err());
    }
}
