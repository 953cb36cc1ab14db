//! Encryption at rest with keys that a service keeps.

use std::path::Path;
use std::sync::{Arc, Mutex};

use plimsoll_apiserver::{EncryptionOptions, Reload};
use plimsoll_kms::v2;
use plimsoll_kms::v2::key_management_service_server::{KeyManagementService, KeyManagementServiceServer};
use serde_json::json;
use tokio::runtime::Runtime;
use tonic::{Request, Response, Status};

use crate::encryption::on_disk;
use crate::support::Cluster;

const SECRETS: &str = "/api/v1/namespaces/default/secrets";
const VALUE: &str = "cGxpbXNvbGwta21zLXZhbHVl";

/// A service that turns around every bit: what it says of itself, and how often it decrypted.
#[derive(Clone)]
struct Service(Arc<Mutex<(v2::StatusResponse, usize)>>);

impl Service {
    fn new(key_id: &str) -> Self {
        let status = v2::StatusResponse {
            version: "v2".to_owned(),
            healthz: "ok".to_owned(),
            key_id: key_id.to_owned(),
        };
        Self(Arc::new(Mutex::new((status, 0))))
    }

    fn with<T>(&self, change: impl FnOnce(&mut v2::StatusResponse, &mut usize) -> T) -> T {
        let mut state = self.0.lock().expect("unpoisoned");
        let (status, decrypted) = &mut *state;
        change(status, decrypted)
    }

    /// Serves on a socket while the runtime lives.
    fn serve(&self, runtime: &Runtime, socket: &Path) {
        let _inside = runtime.enter();
        let listener = tokio::net::UnixListener::bind(socket).expect("a socket");
        let incoming = tokio_stream::wrappers::UnixListenerStream::new(listener);
        let service = KeyManagementServiceServer::new(self.clone());
        runtime.spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
    }
}

fn turned(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|byte| !byte).collect()
}

#[tonic::async_trait]
impl KeyManagementService for Service {
    async fn status(&self, _: Request<v2::StatusRequest>) -> Result<Response<v2::StatusResponse>, Status> {
        Ok(Response::new(self.with(|status, _| status.clone())))
    }

    async fn encrypt(
        &self,
        request: Request<v2::EncryptRequest>,
    ) -> Result<Response<v2::EncryptResponse>, Status> {
        Ok(Response::new(v2::EncryptResponse {
            ciphertext: turned(&request.get_ref().plaintext),
            key_id: self.with(|status, _| status.key_id.clone()),
            annotations: [("version.example.com".to_owned(), b"1".to_vec())].into(),
        }))
    }

    async fn decrypt(
        &self,
        request: Request<v2::DecryptRequest>,
    ) -> Result<Response<v2::DecryptResponse>, Status> {
        let request = request.get_ref();
        if request.annotations.get("version.example.com").map(Vec::as_slice) != Some(b"1") {
            return Err(Status::invalid_argument("the annotation is missing"));
        }
        self.with(|_, decrypted| *decrypted += 1);
        Ok(Response::new(v2::DecryptResponse { plaintext: turned(&request.ciphertext) }))
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

#[test]
fn a_service_keeps_the_keys_of_secrets() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let (socket, file) = (scratch.path().join("kms.sock"), scratch.path().join("encryption.yaml"));
    let text = json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration",
        "resources": [{"resources": ["secrets"], "providers": [
            {"kms": {"apiVersion": "v2", "name": "mine", "endpoint": format!("unix://{}", socket.display()), "timeout": "2s"}},
            {"identity": {}}]}]});
    std::fs::write(&file, text.to_string()).expect("written");
    let (beside, service) = (runtime(), Service::new("first-key"));
    service.serve(&beside, &socket);
    let folder = Arc::new(tempfile::tempdir().expect("a scratch folder"));
    let start = || {
        let options = EncryptionOptions { configuration: file.clone(), reload: Reload::AtStart };
        Cluster::start_in(Arc::clone(&folder), |config| config.safeguards.encryption = Some(options))
    };
    let store = folder.path().join("store");
    let run = runtime();
    run.block_on(async {
        let cluster = start().await;
        let secret = |name: &str| json!({"metadata": {"name": name}, "data": {"k": VALUE}});
        assert_eq!(cluster.post(SECRETS, secret("one")).await.code, 201);
        assert!(on_disk(&store, "k8s:enc:kms:v2:mine:") && on_disk(&store, "first-key"));
        assert!(!on_disk(&store, VALUE));
        assert_eq!(cluster.get("/readyz/kms-provider-0").await.code, 200);
        // The service gets another key, and is ill afterwards: its last seed stays in use.
        service.with(|status, _| status.key_id = "second-key".to_owned());
        let path = format!("{SECRETS}/one");
        let read = cluster.get(&path).await.json();
        cluster
            .until(async || {
                // Who asks for the health has the service asked.
                cluster.get("/readyz").await;
                cluster.put(&path, read.clone()).await;
                on_disk(&store, "second-key")
            })
            .await;
        service.with(|status, _| status.healthz = "broken".to_owned());
        cluster.until(async || cluster.get("/readyz").await.code == 500).await;
        let told = cluster.get("/readyz?verbose").await;
        let told = String::from_utf8_lossy(&told.body).into_owned();
        assert!(told.contains("[-]kms-provider-0 failed: reason withheld"), "{told}");
        assert_eq!(cluster.post(SECRETS, secret("two")).await.code, 201);
        service.with(|status, _| status.healthz = "ok".to_owned());
        cluster.stop();
    });
    drop(run);
    assert_eq!(service.with(|_, decrypted| *decrypted), 0, "own seeds are known");
    let run = runtime();
    run.block_on(async {
        let cluster = start().await;
        for name in ["one", "two"] {
            assert_eq!(cluster.get(&format!("{SECRETS}/{name}")).await.json()["data"]["k"], VALUE, "{name}");
        }
        assert_eq!(service.with(|_, decrypted| *decrypted), 2, "once for each seed");
    });
}
