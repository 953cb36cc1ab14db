//! The etcd API of a store: where it is served, and to whom.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use plimsoll_pki::{Authority, CertifiedFiles, Purpose, Request};
use plimsoll_store::Store;
use plimsoll_store::etcd::{Etcd, Listen, Tls};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio_util::sync::CancellationToken;

/// The socket that `plimsoll store` asks, in the data directory. The owner alone can use it.
pub(crate) const SOCKET: &str = "store.sock";

/// Certificates of the etcd API
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "etcd API")]
pub(crate) struct EtcdTlsArgs {
    /// Certificate that the etcd API shows; unless it is given, one of the instance's own authority
    #[arg(long, value_name = "FILE", requires = "etcd_key_file")]
    pub(crate) etcd_cert_file: Option<PathBuf>,
    /// Its key
    #[arg(long, value_name = "FILE", requires = "etcd_cert_file")]
    pub(crate) etcd_key_file: Option<PathBuf>,
    /// Authorities whose certificates clients of the etcd API must show; unless they are given, the instance's own,
    /// which makes pki/etcd/client.crt
    #[arg(long, value_name = "FILE")]
    pub(crate) etcd_trusted_ca_file: Option<PathBuf>,
}

/// Where the API is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// With certificates of both sides.
    Https(SocketAddr),
    /// On a loopback address: all programs of this machine have everything.
    Http(SocketAddr),
    /// On a socket of the owner's.
    Unix(PathBuf),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address = |text: &str| {
            let text = text.trim_end_matches('/').replace("localhost", "127.0.0.1");
            text.parse::<SocketAddr>().map_err(|_| format!("{text:?} is no ADDRESS:PORT"))
        };
        if let Some(path) = text.strip_prefix("unix://").or_else(|| text.strip_prefix("unix:")) {
            return if path.starts_with('/') {
                Ok(Self::Unix(path.into()))
            } else {
                Err(format!("{text:?} names no absolute path: unix:///PATH"))
            };
        }
        if let Some(rest) = text.strip_prefix("http://") {
            let address = address(rest)?;
            return if address.ip().is_loopback() {
                Ok(Self::Http(address))
            } else {
                Err(format!("{address} is reached by other machines, which needs https://"))
            };
        }
        address(text.strip_prefix("https://").unwrap_or(text)).map(Self::Https)
    }
}

impl Place {
    fn url(&self) -> String {
        match self {
            Self::Https(address) => format!("https://{address}"),
            Self::Http(address) => format!("http://{address}"),
            Self::Unix(path) => format!("unix://{}", path.display()),
        }
    }
}

/// Serves the etcd API of a store at `places` and on the socket of its data directory, until `shutdown`.
pub(crate) async fn serve(
    store: Store,
    directory: &Path,
    cluster: &str,
    places: &[Place],
    tls: &EtcdTlsArgs,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    let name = nix::unistd::gethostname().context("name of the host")?;
    let urls = places.iter().map(Place::url).collect();
    let etcd = Etcd::new(store, &name.to_string_lossy(), cluster, urls);
    etcd.serve(Listen::Unix(directory.join(SOCKET)), shutdown.clone()).await?;
    for place in places {
        let listen = match place {
            Place::Https(address) => Listen::Tcp(*address, Some(certificates(tls, directory, address.ip())?)),
            Place::Http(address) => Listen::Tcp(*address, None),
            Place::Unix(path) => Listen::Unix(path.clone()),
        };
        etcd.serve(listen, shutdown.clone()).await?;
    }
    Ok(())
}

/// The given files, or those of the instance's own authority for its store.
fn certificates(flags: &EtcdTlsArgs, directory: &Path, address: IpAddr) -> anyhow::Result<Tls> {
    let own = |authority: &Authority, folder: &Path| {
        let mut addresses = vec![IpAddr::from([127, 0, 0, 1]), std::net::Ipv6Addr::LOCALHOST.into()];
        if !address.is_unspecified() && !addresses.contains(&address) {
            addresses.push(address);
        }
        let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
        let dns_names = ["localhost".to_owned()].into_iter().chain(host).collect();
        let request =
            Request { purpose: Purpose::Server, dns_names, addresses, ..Request::client("etcd", &[]) };
        authority.ensure_issued(folder, "server", &request)
    };
    let folder = directory.join("pki/etcd");
    let needs_own = flags.etcd_cert_file.is_none() || flags.etcd_trusted_ca_file.is_none();
    let authority = match needs_own {
        true => {
            let authority =
                Authority::ensure(&folder, "ca", "plimsoll-etcd-ca").context("authority of the etcd API")?;
            let client = Request::client("plimsoll-etcd-client", &[]);
            authority
                .ensure_issued(&folder, "client", &client)
                .context("certificate for clients of the etcd API")?;
            Some(authority)
        }
        false => None,
    };
    let shown = match (&flags.etcd_cert_file, &flags.etcd_key_file, &authority) {
        (Some(certificate), Some(key), _) => {
            CertifiedFiles { certificate: certificate.clone(), key: key.clone() }
        }
        (_, _, Some(authority)) => own(authority, &folder).context("certificate of the etcd API")?,
        _ => anyhow::bail!("--etcd-cert-file and --etcd-key-file belong together"),
    };
    let trusted = flags.etcd_trusted_ca_file.clone().unwrap_or_else(|| folder.join("ca.crt"));
    config(&shown, &trusted)
}

/// Clients must show a certificate of `trusted`.
fn config(shown: &CertifiedFiles, trusted: &Path) -> anyhow::Result<Tls> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    for certificate in read_certificates(trusted)? {
        roots.add(certificate).with_context(|| format!("certificate in {}", trusted.display()))?;
    }
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .with_context(|| format!("authorities of {}", trusted.display()))?;
    let key =
        PrivateKeyDer::from_pem_file(&shown.key).with_context(|| format!("read {}", shown.key.display()))?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("TLS")?
        .with_client_cert_verifier(clients)
        .with_single_cert(read_certificates(&shown.certificate)?, key)
        .with_context(|| format!("certificate {}", shown.certificate.display()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn read_certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let read = || format!("read {}", path.display());
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .with_context(read)?
        .collect::<Result<_, _>>()
        .with_context(read)?;
    anyhow::ensure!(!found.is_empty(), "{} holds no certificate", path.display());
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_urls() {
        let address = |text: &str| text.parse().expect("an address");
        for (text, place) in [
            ("127.0.0.1:2379", Ok(Place::Https(address("127.0.0.1:2379")))),
            ("https://10.0.0.1:2379/", Ok(Place::Https(address("10.0.0.1:2379")))),
            ("http://localhost:2379", Ok(Place::Http(address("127.0.0.1:2379")))),
            ("unix:///run/etcd.sock", Ok(Place::Unix("/run/etcd.sock".into()))),
            ("http://10.0.0.1:2379", Err("10.0.0.1:2379 is reached by other machines, which needs https://")),
            ("unix:etcd.sock", Err("\"unix:etcd.sock\" names no absolute path: unix:///PATH")),
            ("etcd", Err("\"etcd\" is no ADDRESS:PORT")),
        ] {
            assert_eq!(text.parse::<Place>(), place.map_err(str::to_owned), "{text}");
        }
    }
}
