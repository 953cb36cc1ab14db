//! What a container is at one moment, as a file: who asks for it is told the file's name, or why there is none.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use plimsoll_pki::{Authority, Purpose, Request};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{Rig, phase, pod};
use crate::{Authorization, Tls};

/// A port that was free a moment ago.
fn port() -> u16 {
    static PORT: OnceLock<u16> = OnceLock::new();
    let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    *PORT.get_or_init(free)
}

/// The agent's server, for whoever trusts it.
fn configure(config: &mut crate::Config) {
    let folder = config.data_dir.with_file_name("pki");
    let authority = Authority::ensure(&folder, "ca", "ca").unwrap();
    let request = Request {
        purpose: Purpose::Server,
        addresses: vec![[127, 0, 0, 1].into()],
        ..Request::client("n1", &[])
    };
    let files = authority.ensure_issued(&folder, "server", &request).unwrap();
    let tls = Tls { certificate: files.certificate, key: files.key, ..Tls::default() };
    (config.tls, config.listen, config.port) = (Some(tls.server().unwrap()), [127, 0, 0, 1].into(), port());
    config.authentication.anonymous = true;
    config.authorization = Authorization::AlwaysAllow;
}

async fn ask(rig: &Rig, method: &str, path: &str) -> (u16, String) {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(rig.temp.path().join("pki/ca.crt")).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(("127.0.0.1", port())).await.unwrap();
    let name = "127.0.0.1".try_into().unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: n1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = Vec::new();
    // Servers need not say that they end.
    let _ = stream.read_to_end(&mut text).await;
    let text = String::from_utf8(text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_are_files_where_the_engine_can_make_them() {
    let Some(rig) = Rig::with("checkpoint", configure).await else { return };
    rig.api.put("pods", pod(json!({"nodeName": "n1", "containers": [{"name": "c", "image": "demo:1"}]})));
    rig.api.wait("the pod runs", |api| api.pod().is_some_and(|pod| phase(&pod) == "Running")).await;
    for (method, path, code, told) in [
        ("GET", "/checkpoint/ns/web/c", 405, "405: Method Not Allowed"),
        ("POST", "/checkpoint/ns/other/c", 404, "pod does not exist"),
        ("POST", "/checkpoint/ns/web/other", 404, "container other does not exist"),
        ("POST", "/checkpoint/ns/web/c?timeout=x", 404, "cannot parse value of timeout parameter"),
        (
            "POST",
            "/checkpoint/ns/web/c",
            500,
            "checkpointing of ns/web/c failed (rpc error: code = Unimplemented desc = containers cannot be checkpointed)",
        ),
    ] {
        let (got, text) = ask(&rig, method, path).await;
        assert_eq!((got, text.trim()), (code, told), "{method} {path}");
    }
    rig.engine.learn_checkpoints();
    let (code, text) = ask(&rig, "POST", "/checkpoint/ns/web/c?timeout=7").await;
    let answer: Value = serde_json::from_str(&text).unwrap();
    let file = PathBuf::from(answer["items"][0].as_str().unwrap());
    assert_eq!((code, file.parent().unwrap().to_owned()), (200, rig.temp.path().join("kubelet/checkpoints")));
    let name = file.file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with("checkpoint-web_ns-c-") && name.ends_with(".tar"), "{name}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "c-0 in 7 s");
    rig.end().await;
}
