//! ConfigMaps and Secrets.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use plimsoll_meta::field::{FieldError, Path};
use plimsoll_meta::name;

use super::stored;
use crate::access::{self, Access, Fill};
use crate::column::{self, Column};
use crate::kind::Kind;
use crate::report::Report;
use crate::strategy::Strategy;

pub(super) const CONFIG_MAP: Kind = Kind {
    kind: "ConfigMap",
    plural: "configmaps",
    singular: "configmap",
    short_names: &["cm"],
    definition: "io.k8s.api.core.v1.ConfigMap",
    storage: stored("/registry/configmaps"),
    columns: &[
        column::NAME,
        Column::text("Data", "number of entries", |object, _| {
            (object.map("data").len() + object.map("binaryData").len()).into()
        }),
        column::AGE,
    ],
    strategy: &ConfigMap,
    ..Kind::BASE
};

pub(super) const SECRET: Kind = Kind {
    kind: "Secret",
    plural: "secrets",
    singular: "secret",
    definition: "io.k8s.api.core.v1.Secret",
    storage: stored("/registry/secrets"),
    columns: &[
        column::NAME,
        Column::text("Type", "what the secret is for", |object, _| object.text("type").into()),
        Column::text("Data", "number of entries", |object, _| object.map("data").len().into()),
        column::AGE,
    ],
    strategy: &Secret,
    ..Kind::BASE
};

struct ConfigMap;

impl Strategy for ConfigMap {
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut report = Report::new();
        let (data, binary) = (object.map("data"), object.map("binaryData"));
        let mut size = 0;
        for (key, value) in data {
            check_key(key, "data", &mut report);
            if binary.contains_key(key) {
                let at = Path::root("data").key(key);
                report.invalid(&at, key.as_str(), "duplicate of key present in binaryData");
            }
            size += value.as_str().map_or(0, str::len);
        }
        for (key, value) in binary {
            check_key(key, "binaryData", &mut report);
            size += decoded_size(value);
        }
        if size > MOST_BYTES {
            report.push(FieldError::too_long(&Path::root("[]"), MOST_BYTES));
        }
        report.into_errors()
    }

    fn validate_update(&self, new: &Value, old: &Value, _subresource: Option<&str>) -> Vec<FieldError> {
        let mut report = Report::new();
        check_frozen(new, old, &["data", "binaryData"], &mut report);
        report.extend(self.validate(new));
        report.into_errors()
    }
}

struct Secret;

impl Strategy for Secret {
    fn default(&self, secret: &mut Value) {
        secret.fill_zero("type", "Opaque");
        merge_text(secret);
    }

    fn validate(&self, secret: &Value) -> Vec<FieldError> {
        let mut report = Report::new();
        let data = secret.map("data");
        for key in data.keys() {
            check_key(key, "data", &mut report);
        }
        if data.values().map(decoded_size).sum::<usize>() > MOST_BYTES {
            report.push(FieldError::too_long(&Path::root("data"), MOST_BYTES));
        }
        check_type(secret, data, &mut report);
        report.into_errors()
    }

    fn validate_update(&self, new: &Value, old: &Value, _subresource: Option<&str>) -> Vec<FieldError> {
        let mut report = Report::new();
        report.immutable(new, old, "type");
        check_frozen(new, old, &["data"], &mut report);
        report.extend(self.validate(new));
        report.into_errors()
    }

    fn fields(&self, secret: &Value) -> Vec<(&'static str, String)> {
        vec![("type", secret.text("type").to_owned())]
    }

    fn warnings(&self, secret: &Value) -> Vec<String> {
        match secret.text("type") {
            "kubernetes.io/tls" => missing_pem(secret).into_iter().collect(),
            _ => Vec::new(),
        }
    }
}

/// Certificate and key are PEM, or TLS will not work with them.
fn missing_pem(secret: &Value) -> Option<String> {
    let has_block = |key: &str| {
        let text = secret.map("data").get(key).and_then(Value::as_str).unwrap_or("");
        let bytes = STANDARD.decode(text).unwrap_or_default();
        String::from_utf8_lossy(&bytes).contains("-----BEGIN ")
    };
    let missing =
        [("tls.crt", "certificate"), ("tls.key", "key")].into_iter().find(|(key, _)| !has_block(key));
    missing.map(|(_, noun)| format!("tls: failed to find any PEM data in {noun} input"))
}

/// All values of an object together.
const MOST_BYTES: usize = 1 << 20;

fn check_key(key: &str, field: &str, report: &mut Report) {
    report.rule(&Path::root(field).key(key), key, name::is_config_key(key));
}

/// Bytes behind base64 text.
fn decoded_size(value: &Value) -> usize {
    value.as_str().map_or(0, |text| text.trim_end_matches('=').len() * 3 / 4)
}

/// An immutable object stays as it is, and immutable.
fn check_frozen(new: &Value, old: &Value, fields: &[&str], report: &mut Report) {
    const MESSAGE: &str = "field is immutable when `immutable` is set";
    if !old.flag("immutable") {
        return;
    }
    if !new.flag("immutable") {
        report.forbidden(&Path::root("immutable"), MESSAGE);
    }
    for field in fields.iter().filter(|field| !access::same(new.at(field), old.at(field))) {
        report.forbidden(&Path::root(field), MESSAGE);
    }
}

/// `stringData` is a way to write values as text: they become `data`.
fn merge_text(secret: &mut Value) {
    let text: Map<String, Value> = secret.map("stringData").clone();
    secret.drop_key("stringData");
    if text.is_empty() {
        return;
    }
    if let Some(data) = secret.object("data") {
        for (key, value) in text {
            data.put(&key, STANDARD.encode(value.as_str().unwrap_or("")));
        }
    }
}

/// Secrets of a known type have the values that the type is for.
fn check_type(secret: &Value, data: &Map<String, Value>, report: &mut Report) {
    let path = Path::root("data");
    let mut need = |key: &str| match data.get(key) {
        Some(value) => Some(value.clone()),
        None => {
            report.required(&path.key(key), "");
            None
        }
    };
    let json_in = |value: Option<Value>| -> Option<String> {
        let bytes = STANDARD.decode(value?.as_str().unwrap_or("")).ok()?;
        serde_json::from_slice::<Map<String, Value>>(&bytes).err().map(|error| error.to_string())
    };
    match secret.text("type") {
        "kubernetes.io/service-account-token" => {
            const ACCOUNT: &str = "kubernetes.io/service-account.name";
            let account = secret.map("metadata.annotations").get(ACCOUNT);
            if account.and_then(Value::as_str).is_none_or(str::is_empty) {
                report.required(&Path::root("metadata").child("annotations").key(ACCOUNT), "");
            }
        }
        kind @ ("kubernetes.io/dockercfg" | "kubernetes.io/dockerconfigjson") => {
            let key = if kind.ends_with("cfg") { ".dockercfg" } else { ".dockerconfigjson" };
            if let Some(error) = json_in(need(key)) {
                report.invalid(&path.key(key), "<secret contents redacted>", error);
            }
        }
        "kubernetes.io/basic-auth" if !data.contains_key("username") && !data.contains_key("password") => {
            need("username");
            need("password");
        }
        "kubernetes.io/ssh-auth" if data.get("ssh-privatekey").map_or(0, decoded_size) == 0 => {
            report.required(&path.key("ssh-privatekey"), "");
        }
        "kubernetes.io/tls" => {
            need("tls.crt");
            need("tls.key");
        }
        _ => {}
    }
}
