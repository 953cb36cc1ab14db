//! A proxy in front of the server that tells in headers who asks
//! (apiserver: pkg/authentication/request/headerrequest).

use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use crate::User;

/// Which proxies are believed, and in which headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrontProxy {
    /// Common names of the proxies' certificates; none means any that the authority signed.
    pub allowed_names: Vec<String>,
    /// Headers with the user's name, the first that is there counts.
    pub name_headers: Vec<String>,
    /// Headers with the user's id, the first that is there counts.
    pub uid_headers: Vec<String>,
    /// Headers with groups.
    pub group_headers: Vec<String>,
    /// Beginnings of headers with what else is known.
    pub extra_prefixes: Vec<String>,
}

impl Default for FrontProxy {
    fn default() -> Self {
        let one = |text: &str| vec![text.to_owned()];
        Self {
            allowed_names: one("front-proxy-client"),
            name_headers: one("X-Remote-User"),
            uid_headers: one("X-Remote-Uid"),
            group_headers: one("X-Remote-Group"),
            extra_prefixes: one("X-Remote-Extra-"),
        }
    }
}

impl FrontProxy {
    /// Whether a proxy of this name is believed.
    pub fn allows(&self, common_name: &str) -> bool {
        self.allowed_names.is_empty() || self.allowed_names.iter().any(|name| name == common_name)
    }

    /// The user that the headers name; `None` when they name none.
    pub fn user(&self, headers: &[(&str, &str)]) -> Option<User> {
        let values = |name: &str| -> Vec<String> {
            let named = headers.iter().filter(|(found, _)| found.eq_ignore_ascii_case(name));
            named.map(|(_, value)| (*value).to_owned()).filter(|value| !value.is_empty()).collect()
        };
        let first = |names: &[String]| names.iter().find_map(|name| values(name).into_iter().next());
        let mut user = User {
            name: first(&self.name_headers)?,
            uid: first(&self.uid_headers).unwrap_or_default(),
            groups: self.group_headers.iter().flat_map(|name| values(name)).collect(),
            ..User::default()
        };
        for prefix in &self.extra_prefixes {
            for (name, value) in headers {
                let Some(rest) = strip_prefix(name, prefix) else { continue };
                let key = percent_decode_str(&rest.to_ascii_lowercase()).decode_utf8_lossy().into_owned();
                user.extra.entry(key).or_default().push((*value).to_owned());
            }
        }
        Some(user.known())
    }

    /// `kube-system/extension-apiserver-authentication`, from which extension servers learn whom to
    /// believe; lists are JSON texts in it.
    pub fn published(&self, client_authority: &str, proxy_authority: Option<&str>) -> Value {
        let list = |values: &[String]| json!(json!(values).to_string());
        let mut data = json!({"client-ca-file": client_authority});
        if let Some(authority) = proxy_authority {
            data["requestheader-client-ca-file"] = json!(authority);
            data["requestheader-allowed-names"] = list(&self.allowed_names);
            data["requestheader-username-headers"] = list(&self.name_headers);
            data["requestheader-uid-headers"] = list(&self.uid_headers);
            data["requestheader-group-headers"] = list(&self.group_headers);
            data["requestheader-extra-headers-prefix"] = list(&self.extra_prefixes);
        }
        json!({
            "apiVersion": "v1", "kind": "ConfigMap", "data": data,
            "metadata": {"name": "extension-apiserver-authentication", "namespace": "kube-system"},
        })
    }
}

fn strip_prefix<'a>(name: &'a str, prefix: &str) -> Option<&'a str> {
    let head = name.get(..prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then(|| &name[prefix.len()..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_name_the_user() {
        let proxy = FrontProxy::default();
        let headers = [
            ("x-remote-user", "ann"),
            ("x-remote-uid", "7"),
            ("x-remote-group", "a"),
            ("x-remote-group", "b"),
            ("x-remote-extra-example.com%2fscope", "one"),
            ("x-remote-extra-example.com%2fscope", "two"),
            ("accept", "*/*"),
        ];
        let user = proxy.user(&headers).expect("named");
        assert_eq!((user.name.as_str(), user.uid.as_str()), ("ann", "7"));
        assert_eq!(user.groups, ["a", "b", "system:authenticated"]);
        assert_eq!(user.extra["example.com/scope"], ["one", "two"]);
        assert_eq!(proxy.user(&[("x-remote-group", "a")]), None);
    }

    #[test]
    fn only_named_proxies_are_believed() {
        let proxy = FrontProxy::default();
        assert!(proxy.allows("front-proxy-client") && !proxy.allows("ann"));
        assert!(FrontProxy { allowed_names: Vec::new(), ..proxy }.allows("ann"));
    }

    #[test]
    fn lists_are_published_as_texts() {
        let map = FrontProxy::default().published("CA", Some("PROXY"));
        assert_eq!(map["data"]["requestheader-allowed-names"], r#"["front-proxy-client"]"#);
        assert_eq!(map["data"]["requestheader-extra-headers-prefix"], r#"["X-Remote-Extra-"]"#);
        assert!(
            FrontProxy::default().published("CA", None)["data"]["requestheader-client-ca-file"].is_null()
        );
    }
}
