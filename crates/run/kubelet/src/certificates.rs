//! Certificates that the cluster signs: asked for, kept in files, renewed long before they end
//! (client-go: util/certificate).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::PostParams;
use plimsoll_client::Backoff;
use plimsoll_pki::{PkiError, Subscriber, new_private_key, validity, write_private};
use tokio_util::sync::CancellationToken;

/// How long somebody has to approve and sign.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// How often it is looked whether that happened.
const LOOK: Duration = Duration::from_secs(1);

/// A certificate of this node.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// Where its files are.
    pub folder: PathBuf,
    /// What they are called: `kubelet-client`, `kubelet-server`.
    pub name: &'static str,
    /// Who signs it.
    pub signer: &'static str,
    /// What it is good for, besides signatures.
    pub usage: &'static str,
    /// Whom it names.
    pub subscriber: Subscriber,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A key, request or file cannot be made.
    #[error("{0}")]
    Files(#[from] PkiError),
    /// The folder cannot be changed.
    #[error("{path}: {source}")]
    Folder {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The API refuses.
    #[error("certificate signing request: {0}")]
    Api(#[from] Box<kube::Error>),
    /// Somebody said no, or the signer cannot.
    #[error("certificate signing request {name} is {what}: {message}")]
    Refused {
        /// The request.
        name: String,
        /// `denied` or `failed`.
        what: &'static str,
        /// Why.
        message: String,
    },
    /// Nobody did anything.
    #[error("certificate signing request {0} was not signed in time")]
    Late(String),
}

impl Certificate {
    /// The link to the newest file: certificate and key together.
    #[must_use]
    pub fn current(&self) -> PathBuf {
        self.folder.join(format!("{}-current.pem", self.name))
    }

    /// Whether there is one that has not ended.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.validity().is_some_and(|(_, until)| until > Timestamp::now().as_second())
    }

    fn validity(&self) -> Option<(i64, i64)> {
        validity(&fs::read(self.current()).ok()?)
    }

    /// Asks for one and takes it up.
    ///
    /// # Errors
    /// When it is refused, or nobody signs it.
    pub async fn obtain(&self, client: &kube::Client) -> Result<(), CertificateError> {
        let key = self.key()?;
        let request = self.subscriber.request(&key)?;
        let requests = Api::<CertificateSigningRequest>::all(client.clone());
        let object = CertificateSigningRequest {
            metadata: ObjectMeta { generate_name: Some("csr-".to_owned()), ..ObjectMeta::default() },
            spec: CertificateSigningRequestSpec {
                request: ByteString(request.into_bytes()),
                signer_name: self.signer.to_owned(),
                usages: Some(vec!["digital signature".to_owned(), self.usage.to_owned()]),
                ..CertificateSigningRequestSpec::default()
            },
            status: None,
        };
        let made = requests.create(&PostParams::default(), &object).await.map_err(Box::new)?;
        let name = made.metadata.name.unwrap_or_default();
        let signed = tokio::time::timeout(PATIENCE, signed(&requests, &name)).await;
        let certificate = signed.unwrap_or_else(|_| Err(CertificateError::Late(name)))?;
        self.take_up(&certificate, &key)
    }

    /// The key of a request that is under way, so that a restart does not ask twice for different keys.
    fn key(&self) -> Result<String, CertificateError> {
        let path = self.folder.join(format!("{}.key.tmp", self.name));
        if let Ok(key) = fs::read_to_string(&path) {
            return Ok(key);
        }
        let key = new_private_key()?;
        write_private(&path, key.as_bytes())?;
        Ok(key)
    }

    /// Writes a file for it and lets the link point there.
    fn take_up(&self, certificate: &str, key: &str) -> Result<(), CertificateError> {
        let stamp = Timestamp::now().strftime("%Y-%m-%d-%H-%M-%S").to_string();
        let file = format!("{}-{stamp}.pem", self.name);
        write_private(&self.folder.join(&file), format!("{certificate}{key}").as_bytes())?;
        let fresh = self.folder.join(format!("{}-updated.pem", self.name));
        let link = || {
            let _ = fs::remove_file(&fresh);
            std::os::unix::fs::symlink(&file, &fresh)?;
            fs::rename(&fresh, self.current())?;
            remove(&self.folder.join(format!("{}.key.tmp", self.name)))
        };
        link().map_err(|source| CertificateError::Folder { path: self.folder.clone(), source })
    }

    /// Renews it for ever. `renewed` is called each time; the client that asks may change then.
    pub async fn keep(self, client: impl Fn() -> kube::Client, renewed: impl Fn(), stop: CancellationToken) {
        let mut backoff = Backoff::new(Duration::from_secs(2), Duration::from_secs(120));
        loop {
            let wait =
                self.validity().map_or(Duration::ZERO, |validity| due(validity, Timestamp::now(), chance()));
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
            match self.obtain(&client()).await {
                Ok(()) => {
                    tracing::info!(certificate = self.name, "certificate renewed");
                    backoff.reset();
                    renewed();
                }
                Err(error) => {
                    tracing::error!(certificate = self.name, %error, "certificate not renewed yet");
                    tokio::time::sleep(backoff.delay()).await;
                }
            }
        }
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Some number from 0 to 1, so that not all nodes ask at once.
fn chance() -> f64 {
    let nanoseconds = Timestamp::now().subsec_nanosecond();
    f64::from(nanoseconds) / 1e9
}

/// How long until a certificate is to be renewed: when 70 to 90 percent of its life are over.
fn due((from, until): (i64, i64), now: Timestamp, chance: f64) -> Duration {
    let life = (until - from).max(0) as f64;
    let when = from as f64 + life * (0.7 + 0.2 * chance);
    Duration::try_from_secs_f64(when - now.as_second() as f64).unwrap_or_default()
}

/// Waits until a request is answered.
async fn signed(requests: &Api<CertificateSigningRequest>, name: &str) -> Result<String, CertificateError> {
    loop {
        let request = requests.get(name).await.map_err(Box::new)?;
        let status = request.status.unwrap_or_default();
        for condition in status.conditions.into_iter().flatten() {
            let what = match condition.type_.as_str() {
                "Denied" => "denied",
                "Failed" => "failed",
                _ => continue,
            };
            let message = condition.message.or(condition.reason).unwrap_or_default();
            return Err(CertificateError::Refused { name: name.to_owned(), what, message });
        }
        if let Some(certificate) = status.certificate.filter(|it| !it.0.is_empty()) {
            return Ok(String::from_utf8_lossy(&certificate.0).into_owned());
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn renewal_is_due_long_before_the_end() {
        let at = |second| Timestamp::from_second(second).unwrap();
        for (now, chance, expected) in
            [(0, 0.0, 700), (0, 1.0, 900), (500, 0.5, 300), (950, 0.0, 0), (5_000, 0.0, 0)]
        {
            let found = due((0, 1000), at(now), chance).as_secs_f64().round() as u64;
            assert_eq!(found, expected, "{now} {chance}");
        }
    }

    #[test]
    fn the_newest_certificate_is_the_current_one() {
        let temp = tempfile::tempdir().unwrap();
        let it = Certificate {
            folder: temp.path().to_owned(),
            name: "kubelet-client",
            signer: "kubernetes.io/kube-apiserver-client-kubelet",
            usage: "client auth",
            subscriber: Subscriber::default(),
        };
        assert!(!it.is_valid());
        let key = it.key().unwrap();
        assert_eq!(it.key().unwrap(), key);
        it.take_up("A\n", &key).unwrap();
        it.take_up("B\n", &key).unwrap();
        assert!(fs::read_to_string(it.current()).unwrap().starts_with("B\n"));
        assert!(fs::symlink_metadata(it.current()).unwrap().is_symlink());
        assert_ne!(it.key().unwrap(), key);
    }
}
