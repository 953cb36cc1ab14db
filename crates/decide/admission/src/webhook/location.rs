//! Where a webhook is, as `clientConfig` says it.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

/// Everything that calling a webhook depends on; the same location may share connections.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Location {
    /// How it is found.
    pub place: Place,
    /// PEM certificates that its own must come from; empty for those that the system trusts.
    pub authorities: Vec<u8>,
}

/// How a webhook is found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// At a URL.
    Url(String),
    /// Behind a Service of the cluster.
    Service {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Its port.
        port: u16,
        /// Path of the URL, with its first slash; may be empty.
        path: String,
    },
}

impl Location {
    /// Reads `clientConfig`.
    pub fn read(config: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let service = &config["service"];
        let place = match service.is_object() {
            true => Place::Service {
                namespace: text(&service["namespace"]),
                name: text(&service["name"]),
                port: service["port"].as_u64().and_then(|port| u16::try_from(port).ok()).unwrap_or(443),
                path: text(&service["path"]),
            },
            false => Place::Url(text(&config["url"])),
        };
        let authorities = config["caBundle"].as_str().unwrap_or_default();
        Self { place, authorities: BASE64_STANDARD.decode(authorities).unwrap_or_default() }
    }

    /// The URL that is called; a Service's name is the name that its certificate must carry.
    pub fn url(&self) -> String {
        match &self.place {
            Place::Url(url) => url.clone(),
            Place::Service { namespace, name, port, path } => {
                let slash = if path.starts_with('/') || path.is_empty() { "" } else { "/" };
                format!("https://{name}.{namespace}.svc:{port}{slash}{path}")
            }
        }
    }

    /// [`Location::url`], with the time that the webhook has for its answer.
    pub fn url_within(&self, timeout: Duration) -> String {
        let url = self.url();
        let slash = if url.trim_start_matches("https://").contains('/') { "" } else { "/" };
        let seconds = timeout.as_secs();
        format!("{url}{slash}?timeout={seconds}s")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn urls() {
        for (config, expected) in [
            (json!({"url": "https://a.example:8443/x"}), "https://a.example:8443/x?timeout=10s"),
            (json!({"url": "https://a.example"}), "https://a.example/?timeout=10s"),
            (
                json!({"service": {"namespace": "n", "name": "s", "path": "/p/q"}}),
                "https://s.n.svc:443/p/q?timeout=10s",
            ),
            (
                json!({"service": {"namespace": "n", "name": "s", "port": 9443}}),
                "https://s.n.svc:9443/?timeout=10s",
            ),
        ] {
            assert_eq!(Location::read(&config).url_within(Duration::from_secs(10)), expected);
        }
    }

    #[test]
    fn authorities_are_decoded() {
        let location = Location::read(&json!({"url": "https://a", "caBundle": "UEVN"}));
        assert_eq!(location.authorities, b"PEM");
    }
}
