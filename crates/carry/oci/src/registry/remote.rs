//! A repository in a registry, and its errors in words that users know.

use std::time::Duration;

use oci_client::client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError as Fault, OciErrorCode};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference, RegistryOperation};

use super::{Auth, Registries};
use crate::digest::Digest;
use crate::document::{DOCKER_LIST, DOCKER_MANIFEST, MAX_DOCUMENT, OCI_INDEX, OCI_MANIFEST};
use crate::error::{Error, Result};
use crate::name::ImageName;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// A registry that sends nothing for so long is given up.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
const AGENT: &str = concat!("plimsoll/", env!("CARGO_PKG_VERSION"));
const MANIFESTS: [&str; 4] = [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST];

/// A connection for one image name.
#[derive(Clone)]
pub(super) struct Remote {
    pub(super) client: Client,
    pub(super) name: ImageName,
    pub(super) reference: Reference,
    auth: RegistryAuth,
}

impl Remote {
    /// Reaches the registry and authenticates.
    pub(super) async fn connect(
        name: &ImageName,
        auth: &Auth,
        registries: &Registries,
        operation: RegistryOperation,
    ) -> Result<Self> {
        let plain = name.is_loopback() || registries.plain_http.iter().any(|host| host == name.registry());
        let mut remote = Self::new(name, auth, registries, plain)?;
        if plain && remote.wants_tls().await {
            remote = Self::new(name, auth, registries, false)?;
        }
        let authenticated = remote.client.auth(&remote.reference, &remote.auth, operation).await;
        authenticated.map_err(|fault| remote.explain(fault))?;
        Ok(remote)
    }

    fn new(name: &ImageName, auth: &Auth, registries: &Registries, plain: bool) -> Result<Self> {
        let certificate =
            |data: &Vec<u8>| Certificate { encoding: CertificateEncoding::Pem, data: data.clone() };
        let config = ClientConfig {
            protocol: if plain { ClientProtocol::Http } else { ClientProtocol::Https },
            // As docker does: names on this machine need no certificate of others.
            accept_invalid_certificates: name.is_loopback(),
            extra_root_certificates: registries.certificates.iter().map(certificate).collect(),
            use_monolithic_push: true,
            read_timeout: Some(READ_TIMEOUT),
            connect_timeout: Some(CONNECT_TIMEOUT),
            user_agent: AGENT,
            https_proxy: proxy(&["HTTPS_PROXY", "https_proxy"]),
            http_proxy: proxy(&["HTTP_PROXY", "http_proxy"]),
            no_proxy: Some(format!(
                "localhost,127.0.0.0/8,::1,{}",
                proxy(&["NO_PROXY", "no_proxy"]).unwrap_or_default()
            )),
            ..ClientConfig::default()
        };
        let reference = reference(name);
        let client = Client::try_from(config).map_err(|fault| explain(fault, name))?;
        let auth = match auth {
            Auth::Anonymous => RegistryAuth::Anonymous,
            Auth::Basic { user, password } => RegistryAuth::Basic(user.clone(), password.clone()),
            Auth::Bearer(token) => RegistryAuth::Bearer(token.clone()),
        };
        Ok(Self { client, name: name.clone(), reference, auth })
    }

    /// Whether a server that was asked in plain HTTP only speaks TLS: it answers 400.
    async fn wants_tls(&self) -> bool {
        let answer = self.client.fetch_manifest_digest(&self.reference, &self.auth).await;
        matches!(answer, Err(Fault::ServerError { code: 400, .. }))
    }

    /// A manifest or index with its digest, checked when it was asked by digest.
    pub(super) async fn manifest(&self, digest: Option<Digest>) -> Result<(Vec<u8>, Digest)> {
        let reference = match digest {
            Some(digest) => reference(&self.name.with_digest(digest)),
            None => self.reference.clone(),
        };
        let answer = self.client.pull_manifest_raw(&reference, &self.auth, &MANIFESTS).await;
        let (bytes, _) = answer.map_err(|fault| self.explain(fault))?;
        if bytes.len() as u64 > MAX_DOCUMENT {
            return Err(Error::TooLarge { what: "manifest".into(), limit: MAX_DOCUMENT, unit: "bytes" });
        }
        let actual = Digest::of(&bytes);
        match digest.or(self.name.digest()) {
            Some(expected) if expected != actual => {
                Err(Error::Mismatch { what: format!("manifest of {}", self.name), expected, actual })
            }
            _ => Ok((bytes.to_vec(), actual)),
        }
    }

    pub(super) fn explain(&self, fault: Fault) -> Error {
        explain(fault, &self.name)
    }
}

fn proxy(variables: &[&str]) -> Option<String> {
    variables.iter().find_map(|variable| std::env::var(variable).ok()).filter(|value| !value.is_empty())
}

fn reference(name: &ImageName) -> Reference {
    let (registry, repository) = (name.registry().to_owned(), name.repository().to_owned());
    match name.digest() {
        Some(digest) => Reference::with_digest(registry, repository, digest.to_string()),
        None => Reference::with_tag(registry, repository, name.tag().unwrap_or("latest").to_owned()),
    }
}

/// Says what went wrong as docker's users know it.
fn explain(fault: Fault, name: &ImageName) -> Error {
    let registry = || name.registry().to_owned();
    let unauthorized = |reason: String| Error::Unauthorized { name: name.to_string(), reason };
    match fault {
        Fault::RequestError(error) if error.is_connect() || error.is_timeout() => {
            Error::Unreachable { registry: registry(), reason: root_cause(&error) }
        }
        Fault::RequestError(error)
            if error.status().is_some_and(|status| matches!(status.as_u16(), 401 | 403)) =>
        {
            unauthorized("authentication required".into())
        }
        Fault::RequestError(error) => Error::Registry { registry: registry(), reason: root_cause(&error) },
        Fault::AuthenticationFailure(reason) => unauthorized(first_message(&reason)),
        Fault::UnauthorizedError { .. } => unauthorized("authentication required".into()),
        Fault::ImageManifestNotFoundError(_) => Error::ManifestUnknown(name.to_string()),
        Fault::RegistryError { envelope, .. } => {
            let Some(first) = envelope.errors.first() else {
                return Error::Registry { registry: registry(), reason: "an error without a reason".into() };
            };
            match first.code {
                OciErrorCode::ManifestUnknown | OciErrorCode::NameUnknown | OciErrorCode::NotFound => {
                    Error::ManifestUnknown(name.to_string())
                }
                OciErrorCode::Unauthorized | OciErrorCode::Denied => unauthorized(first.message.clone()),
                _ => Error::Registry { registry: registry(), reason: first.message.clone() },
            }
        }
        Fault::ServerError { code: 404, .. } => Error::ManifestUnknown(name.to_string()),
        Fault::ServerError { code: 401 | 403, message, .. } => unauthorized(first_message(&message)),
        Fault::ServerError { code, message, .. } => Error::Registry {
            registry: registry(),
            reason: format!("HTTP status {code}: {}", first_message(&message)),
        },
        other => Error::Registry { registry: registry(), reason: other.to_string() },
    }
}

/// The innermost error says it best: `connection refused`.
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    match cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind) {
        Some(std::io::ErrorKind::ConnectionRefused) => "connection refused".into(),
        Some(std::io::ErrorKind::TimedOut) => "timed out".into(),
        _ => cause.to_string(),
    }
}

/// The message of a registry's error document, or the text itself.
fn first_message(body: &str) -> String {
    let document: Option<serde_json::Value> = serde_json::from_str(body).ok();
    let message = document.as_ref().and_then(|document| {
        let errors = document.pointer("/errors/0/message");
        errors.or_else(|| document.get("details")).or_else(|| document.get("message"))?.as_str()
    });
    message.unwrap_or(body.trim()).chars().take(300).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn errors_read_as_users_know_them() {
        let name = ImageName::parse("localhost:5000/a:b").unwrap();
        let envelope = |code: &str| Fault::RegistryError {
            envelope: serde_json::from_str(&format!(
                r#"{{"errors":[{{"code":"{code}","message":"text"}}]}}"#
            ))
            .unwrap(),
            url: "http://x".into(),
        };
        let server =
            |code, message: &str| Fault::ServerError { code, url: "x".into(), message: message.into() };
        let rows = [
            (envelope("MANIFEST_UNKNOWN"), "manifest for localhost:5000/a:b not found: manifest unknown"),
            (envelope("DENIED"), "access to localhost:5000/a:b denied: unauthorized: text"),
            (envelope("TOOMANYREQUESTS"), "registry localhost:5000: text"),
            (server(404, ""), "manifest for localhost:5000/a:b not found: manifest unknown"),
            (
                server(401, r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#),
                "access to localhost:5000/a:b denied: unauthorized: authentication required",
            ),
            (server(502, "bad gateway\n"), "registry localhost:5000: HTTP status 502: bad gateway"),
        ];
        for (fault, want) in rows {
            assert_eq!(explain(fault, &name).to_string(), want);
        }
    }
}
