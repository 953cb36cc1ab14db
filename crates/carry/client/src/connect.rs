//! Making a `kube::Client`.

use std::path::Path;

use http::{Request, Response};
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use tower::Service;

/// Why a client could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The kubeconfig cannot be read, or names something that is not there.
    #[error("kubeconfig {path}: {source}")]
    Kubeconfig {
        /// File, or `(text)`.
        path: String,
        /// What is wrong with it.
        source: Box<kube::config::KubeconfigError>,
    },
    /// Its certificates or keys cannot be used.
    #[error("client for {path}: {source}")]
    Client {
        /// File, or `(text)`.
        path: String,
        /// What is wrong with it.
        source: Box<kube::Error>,
    },
}

/// A client for the current context of a kubeconfig file.
pub async fn connect_kubeconfig(path: impl AsRef<Path>) -> Result<kube::Client, ConnectError> {
    let name = path.as_ref().display().to_string();
    let config = Kubeconfig::read_from(path)
        .map_err(|source| ConnectError::Kubeconfig { path: name.clone(), source: Box::new(source) })?;
    connect(config, name).await
}

/// A client for the current context of a kubeconfig given as YAML.
pub async fn connect_kubeconfig_text(text: &str) -> Result<kube::Client, ConnectError> {
    let name = "(text)".to_owned();
    let config = Kubeconfig::from_yaml(text)
        .map_err(|source| ConnectError::Kubeconfig { path: name.clone(), source: Box::new(source) })?;
    connect(config, name).await
}

async fn connect(config: Kubeconfig, path: String) -> Result<kube::Client, ConnectError> {
    let config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default())
        .await
        .map_err(|source| ConnectError::Kubeconfig { path: path.clone(), source: Box::new(source) })?;
    // The program links two providers of cryptography; the first one that is named here stays. An error only
    // says that one is named already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    kube::Client::try_from(config).map_err(|source| ConnectError::Client { path, source: Box::new(source) })
}

/// A client whose requests go to `service` in this process: no socket, no TLS, no copy of bodies.
///
/// Identity is the service's business: wrap it so that each request carries who calls.
pub fn from_service<S, B>(service: S) -> kube::Client
where
    S: Service<Request<Body>, Response = Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<tower::BoxError>,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<tower::BoxError>,
{
    kube::Client::new(service, "default")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Answers one request, and gives its text.
    async fn serve(listener: tokio::net::TcpListener) -> String {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut text = Vec::new();
        while !text.ends_with(b"\r\n\r\n") {
            text.push(stream.read_u8().await.unwrap());
        }
        let body = r#"{"major":"1","minor":"37","gitVersion":"v1.37.0","gitCommit":"","gitTreeState":"","buildDate":"","goVersion":"","compiler":"","platform":""}"#;
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + body).as_bytes()).await.unwrap();
        String::from_utf8(text).unwrap()
    }

    /// `exec` of a kubeconfig: a program says the token, and is told which protocol it is to speak.
    #[tokio::test]
    async fn a_program_knows_the_token() {
        let folder = std::env::temp_dir().join(format!("plimsoll-client-exec-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let program = folder.join("helper");
        let script = "#!/bin/sh\necho \"$KUBERNETES_EXEC_INFO\" >\"$0.told\"\n\
            echo '{\"apiVersion\": \"client.authentication.k8s.io/v1\", \"kind\": \"ExecCredential\",'\n\
            echo \"\\\"status\\\": {\\\"token\\\": \\\"$WORD-$1\\\"}}\"\n";
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n\
             clusters: [{{name: c, cluster: {{server: 'http://{}'}}}}]\nusers:\n- name: u\n  user:\n    exec:\n      \
             apiVersion: client.authentication.k8s.io/v1\n      command: {}\n      args: [now]\n      \
             env: [{{name: WORD, value: open}}]\n      interactiveMode: Never\n",
            listener.local_addr().unwrap(),
            program.display(),
        );
        let client = connect_kubeconfig_text(&text).await.unwrap();
        let (version, request) = tokio::join!(client.apiserver_version(), serve(listener));
        assert_eq!(version.unwrap().git_version, "v1.37.0");
        assert!(request.to_lowercase().contains("\r\nauthorization: bearer open-now\r\n"), "{request}");
        let told = std::fs::read_to_string(folder.join("helper.told")).unwrap();
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        assert_eq!(told["apiVersion"], "client.authentication.k8s.io/v1");
        assert_eq!(
            (told["kind"].as_str(), told["spec"]["interactive"].as_bool()),
            (Some("ExecCredential"), Some(false))
        );
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
