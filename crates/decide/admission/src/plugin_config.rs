//! `AdmissionConfiguration`: which plugin is configured where.

use serde::Deserialize;
use serde_json::Value;

/// The configuration of one plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginConfig {
    /// Upstream's name of the plugin.
    pub name: String,
    /// Where its configuration is.
    pub source: Source,
}

/// Where a configuration is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// In the same document.
    Inline(Value),
    /// In a file; a relative path counts from the folder of the document.
    Path(String),
}

/// Why a document is refused.
#[derive(Debug, thiserror::Error)]
pub enum PluginConfigError {
    /// It is another document.
    #[error("expected AdmissionConfiguration of apiserver.config.k8s.io/v1, got {0}")]
    Kind(String),
    /// It has a wrong shape.
    #[error("invalid AdmissionConfiguration: {0}")]
    Shape(#[from] serde_json::Error),
    /// A plugin has no configuration, or two.
    #[error("plugin {0:?} needs either path or configuration")]
    Source(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Document {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(default)]
    plugins: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    #[serde(default)]
    path: String,
    #[serde(default)]
    configuration: Value,
}

/// Reads a document that was decoded from YAML or JSON.
///
/// # Errors
/// When it is no `AdmissionConfiguration`.
pub fn read(document: &Value) -> Result<Vec<PluginConfig>, PluginConfigError> {
    let (version, kind) = (&document["apiVersion"], &document["kind"]);
    let known = version == "apiserver.config.k8s.io/v1" || version == "apiserver.k8s.io/v1alpha1";
    if !known || kind != "AdmissionConfiguration" {
        return Err(PluginConfigError::Kind(format!("{version} {kind}")));
    }
    let entry = |entry: Entry| {
        let source = match (entry.path.is_empty(), entry.configuration) {
            (false, Value::Null) => Source::Path(entry.path),
            (true, configuration) if !configuration.is_null() => Source::Inline(configuration),
            _ => return Err(PluginConfigError::Source(entry.name)),
        };
        Ok(PluginConfig { name: entry.name, source })
    };
    Document::deserialize(document)?.plugins.into_iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn document(plugins: Value) -> Value {
        json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AdmissionConfiguration", "plugins": plugins})
    }

    #[test]
    fn plugins_are_configured_in_place_or_in_files() {
        let read = read(&document(json!([
            {"name": "PodSecurity", "configuration": {"kind": "X"}}, {"name": "ResourceQuota", "path": "quota.yaml"}])));
        let expected = [
            ("PodSecurity", Source::Inline(json!({"kind": "X"}))),
            ("ResourceQuota", Source::Path("quota.yaml".to_owned())),
        ]
        .map(|(name, source)| PluginConfig { name: name.to_owned(), source });
        assert_eq!(read.expect("valid"), expected);
    }

    #[test]
    fn other_documents_are_refused() {
        for (given, part) in [
            (json!({"kind": "Pod"}), "expected AdmissionConfiguration"),
            (document(json!([{"name": "PodSecurity"}])), "needs either path or configuration"),
            (document(json!([{"nam": "x"}])), "unknown field"),
        ] {
            let error = read(&given).expect_err(part).to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
