//! The server that takes events, from a file in the format of kubeconfig.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, Uri};
use plimsoll_remote::{Authorities, Identity};
use serde_json::Value;

use crate::safeguards::{document, wrong};
use crate::server::StartError;

/// Where events go, whom to trust there and who one is.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) uri: Uri,
    pub(super) authorities: Authorities,
    pub(super) identity: Option<Identity>,
    pub(super) authorization: Option<HeaderValue>,
}

impl Place {
    /// Reads the current context of the file, or its first cluster and user.
    pub(super) fn read(file: &Path) -> Result<Self, StartError> {
        let text = document(file)?;
        let context = named(&text["contexts"], text["current-context"].as_str().unwrap_or_default());
        let part = |list: &str, kind: &str| {
            named(&text[list], context["context"][kind].as_str().unwrap_or_default())[kind].clone()
        };
        let (cluster, user) = (part("clusters", "cluster"), part("users", "user"));
        let server = cluster["server"].as_str().unwrap_or_default();
        let uri = server.parse().ok().filter(|uri: &Uri| uri.authority().is_some());
        let uri = uri.ok_or_else(|| wrong(file, format!("{server:?} names no server")))?;
        let pem = |holder: &Value, field: &str| bytes(file, holder, field);
        let authorities = match pem(&cluster, "certificate-authority")? {
            _ if cluster["insecure-skip-tls-verify"] == true => Authorities::Anybody,
            Some(bundle) => Authorities::Bundle(bundle),
            None => Authorities::System,
        };
        let identity = match (pem(&user, "client-certificate")?, pem(&user, "client-key")?) {
            (Some(certificate), Some(key)) => Some(Identity { certificate, key }),
            _ => None,
        };
        let authorization = authorization(file, &user)?;
        Ok(Self { uri, authorities, identity, authorization })
    }
}

/// The entry of that name, or the first one when no name is given.
fn named<'l>(list: &'l Value, name: &str) -> &'l Value {
    let entries = list.as_array();
    let found = entries.into_iter().flatten().find(|entry| name.is_empty() || entry["name"] == name);
    found.unwrap_or(&Value::Null)
}

/// A field that has its bytes in base64 (`FIELD-data`) or in a file.
fn bytes(file: &Path, holder: &Value, field: &str) -> Result<Option<Vec<u8>>, StartError> {
    if let Some(data) = holder[format!("{field}-data")].as_str() {
        return STANDARD
            .decode(data)
            .map(Some)
            .map_err(|error| wrong(file, format!("{field}-data: {error}")));
    }
    holder[field].as_str().map(|name| other_file(file, name)).transpose()
}

fn authorization(file: &Path, user: &Value) -> Result<Option<HeaderValue>, StartError> {
    let text = |field: &str| user[field].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let of_file = user["tokenFile"].as_str().map(|name| other_file(file, name)).transpose()?;
    let token = text("token").or(of_file.map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned()));
    let line = match (token, text("username")) {
        (Some(token), _) => format!("Bearer {token}"),
        (None, Some(name)) => {
            let password = text("password").unwrap_or_default();
            format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))
        }
        (None, None) => return Ok(None),
    };
    let mut value = HeaderValue::try_from(line).map_err(|error| wrong(file, error))?;
    value.set_sensitive(true);
    Ok(Some(value))
}

/// A file beside this one.
fn other_file(file: &Path, name: &str) -> Result<Vec<u8>, StartError> {
    let path = file.parent().unwrap_or(file).join(name);
    std::fs::read(&path).map_err(|error| wrong(&path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_name_the_server_and_the_credentials() {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let file = folder.path().join("webhook");
        std::fs::write(folder.path().join("ca.pem"), "bundle").expect("written");
        let text = "clusters:\n- {name: other, cluster: {server: 'http://other'}}\n- {name: a, cluster: {server: 'https://h:9/events', certificate-authority: ca.pem}}\nusers:\n- {name: u, user: {token: t, client-certificate-data: Yw==, client-key-data: aw==}}\ncontexts:\n- {name: c, context: {cluster: a, user: u}}\ncurrent-context: c\n";
        std::fs::write(&file, text).expect("written");
        let place = Place::read(&file).expect("valid");
        assert_eq!(place.uri, "https://h:9/events");
        assert_eq!(place.authorities, Authorities::Bundle(b"bundle".to_vec()));
        let identity = Identity { certificate: b"c".to_vec(), key: b"k".to_vec() };
        assert_eq!(place.identity, Some(identity));
        assert_eq!(place.authorization.expect("a token"), "Bearer t");
        std::fs::write(&file, "clusters: []\n").expect("written");
        assert!(Place::read(&file).expect_err("no server").to_string().contains("names no server"));
    }
}
