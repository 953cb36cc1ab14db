//! ConfigMaps and Secrets.

use serde_json::Value;

use super::stored;
use crate::access::{Access, Fill};
use crate::column::{self, Column};
use crate::kind::Kind;
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

impl Strategy for ConfigMap {}

struct Secret;

impl Strategy for Secret {
    fn default(&self, secret: &mut Value) {
        secret.fill_zero("type", "Opaque");
    }

    fn fields(&self, secret: &Value) -> Vec<(&'static str, String)> {
        vec![("type", secret.text("type").to_owned())]
    }
}
