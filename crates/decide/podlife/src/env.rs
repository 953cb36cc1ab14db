//! A container's environment (kubelet: pkg/kubelet/kubelet_pods.go, makeEnvironmentVariables).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVar, EnvVarSource, FileKeySelector, Secret};

use crate::env_file::lookup;
use crate::field::{FieldContext, field, resource};

/// The ConfigMaps and Secrets of a pod's namespace that it refers to.
#[derive(Clone, Debug, Default)]
pub struct References {
    /// ConfigMaps by name; absent ones do not exist.
    pub config_maps: BTreeMap<String, std::sync::Arc<ConfigMap>>,
    /// Secrets by name; absent ones do not exist.
    pub secrets: BTreeMap<String, std::sync::Arc<Secret>>,
    /// Files of variables by volume and path, see [`file_names`]; absent ones do not exist.
    pub files: BTreeMap<(String, String), String>,
    /// Trust anchors; only looked at for pods that show some.
    pub trust_bundles: Vec<std::sync::Arc<k8s_openapi::api::certificates::v1::ClusterTrustBundle>>,
    /// Keys and certificates of the pod's own.
    pub certificates: BTreeMap<crate::certificate::Place, crate::certificate::Bundle>,
}

/// Variables in the order of their declaration. `services` are those of [`crate::service_links`]: they
/// give way to what the container declares itself.
///
/// # Errors
/// The message of a `CreateContainerConfigError`.
pub fn environment(
    container: &Container,
    context: &FieldContext<'_>,
    references: &References,
    services: &BTreeMap<String, String>,
) -> Result<Vec<(String, String)>, String> {
    let mut env = Environment::default();
    env.take_sources(container, references)?;
    for variable in container.env.iter().flatten() {
        if let Some(value) = value(variable, container, context, references, services, &env)? {
            env.set(&variable.name, value);
        }
    }
    for (name, value) in services {
        if env.get(name).is_none() {
            env.set(name, value.clone());
        }
    }
    Ok(env.list)
}

/// Replaces `$(NAME)` by the variable's value; `$$` is one dollar sign; unknown names stay as they are.
#[must_use]
pub fn expand<'a>(text: &str, lookup: impl Fn(&str) -> Option<&'a str>) -> String {
    replace(text, lookup).0
}

/// The names in a text that [`expand`] leaves as they are, because nothing is known of them.
#[must_use]
pub fn unknown_names<'a, 't>(text: &'t str, lookup: impl Fn(&str) -> Option<&'a str>) -> Vec<&'t str> {
    replace(text, lookup).1
}

fn replace<'a, 't>(text: &'t str, lookup: impl Fn(&str) -> Option<&'a str>) -> (String, Vec<&'t str>) {
    let mut unknown = Vec::new();
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        let (before, from) = rest.split_at(dollar);
        result.push_str(before);
        let after = &from[1..];
        if let Some(tail) = after.strip_prefix('$') {
            result.push('$');
            rest = tail;
        } else if let Some((name, tail)) = after.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match lookup(name) {
                Some(value) => result.push_str(value),
                None => {
                    unknown.push(name);
                    result.extend(["$(", name, ")"]);
                }
            }
            rest = tail;
        } else {
            result.push('$');
            rest = after;
        }
    }
    result.push_str(rest);
    (result, unknown)
}

#[derive(Default)]
struct Environment {
    list: Vec<(String, String)>,
}

impl Environment {
    fn get(&self, name: &str) -> Option<&str> {
        self.list.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn set(&mut self, name: &str, value: String) {
        match self.list.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = value,
            None => self.list.push((name.to_owned(), value)),
        }
    }

    fn take_sources(&mut self, container: &Container, references: &References) -> Result<(), String> {
        for source in container.env_from.iter().flatten() {
            let prefix = source.prefix.as_deref().unwrap_or_default();
            if let Some(reference) = &source.config_map_ref {
                let Some(map) = references.config_maps.get(&reference.name) else {
                    missing(reference.optional, "configmap", &reference.name)?;
                    continue;
                };
                let data = map.data.iter().flatten();
                data.for_each(|(key, value)| self.set(&format!("{prefix}{key}"), value.clone()));
            }
            if let Some(reference) = &source.secret_ref {
                let Some(secret) = references.secrets.get(&reference.name) else {
                    missing(reference.optional, "secret", &reference.name)?;
                    continue;
                };
                let data = secret.data.iter().flatten();
                data.for_each(|(key, value)| {
                    self.set(&format!("{prefix}{key}"), String::from_utf8_lossy(&value.0).into_owned());
                });
            }
        }
        Ok(())
    }
}

fn missing(optional: Option<bool>, kind: &str, name: &str) -> Result<(), String> {
    if optional == Some(true) { Ok(()) } else { Err(format!("{kind} \"{name}\" not found")) }
}

fn value(
    variable: &EnvVar,
    container: &Container,
    context: &FieldContext<'_>,
    references: &References,
    services: &BTreeMap<String, String>,
    env: &Environment,
) -> Result<Option<String>, String> {
    let plain = variable.value.as_deref().unwrap_or_default();
    match &variable.value_from {
        Some(source) if plain.is_empty() => from(source, container, context, references),
        _ => {
            let lookup = |name: &str| env.get(name).or_else(|| services.get(name).map(String::as_str));
            Ok(Some(expand(plain, lookup)))
        }
    }
}

/// The value that a variable takes from elsewhere; none when an optional source is absent.
fn from(
    source: &EnvVarSource,
    container: &Container,
    context: &FieldContext<'_>,
    references: &References,
) -> Result<Option<String>, String> {
    let namespace = context.pod.metadata.namespace.as_deref().unwrap_or_default();
    if let Some(selector) = &source.field_ref {
        return field(context, &selector.field_path).map(Some);
    }
    if let Some(selector) = &source.resource_field_ref {
        return resource(context, selector, Some(container)).map(Some);
    }
    if let Some(selector) = &source.config_map_key_ref {
        let Some(map) = references.config_maps.get(&selector.name) else {
            return missing(selector.optional, "configmap", &selector.name).map(|()| None);
        };
        let value = map.data.as_ref().and_then(|data| data.get(&selector.key)).cloned();
        return match value {
            None if selector.optional != Some(true) => {
                Err(format!("couldn't find key {} in ConfigMap {namespace}/{}", selector.key, selector.name))
            }
            value => Ok(value),
        };
    }
    if let Some(selector) = &source.secret_key_ref {
        let Some(secret) = references.secrets.get(&selector.name) else {
            return missing(selector.optional, "secret", &selector.name).map(|()| None);
        };
        let value = secret.data.as_ref().and_then(|data| data.get(&selector.key));
        return match value {
            None if selector.optional != Some(true) => {
                Err(format!("couldn't find key {} in Secret {namespace}/{}", selector.key, selector.name))
            }
            value => Ok(value.map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned())),
        };
    }
    if let Some(selector) = &source.file_key_ref {
        return from_file(selector, references);
    }
    Ok(Some(String::new()))
}

fn from_file(selector: &FileKeySelector, references: &References) -> Result<Option<String>, String> {
    let FileKeySelector { key, path, volume_name, optional } = selector;
    let missing = || match optional {
        Some(true) => Ok(None),
        _ => Err(format!("environment variable key \"{key}\" not found in file \"{path}\"")),
    };
    let Some(text) = references.files.get(&(volume_name.clone(), path.clone())) else { return missing() };
    match lookup(text, key) {
        Ok(Some(value)) => Ok(Some(value)),
        Ok(None) => missing(),
        // What stands there may be secret.
        Err(line) => Err(format!("couldn't parse env file \"{path}\": line {line} is no declaration")),
    }
}

/// The volumes and paths of the files that a container's environment needs.
pub fn file_names(container: &Container) -> impl Iterator<Item = (&str, &str)> {
    let sources = container.env.iter().flatten().filter_map(|it| it.value_from.as_ref());
    let selectors = sources.filter_map(|source| source.file_key_ref.as_ref());
    selectors.map(|selector| (selector.volume_name.as_str(), selector.path.as_str()))
}

/// The names of ConfigMaps that a container's environment needs.
pub fn config_map_names(container: &Container) -> impl Iterator<Item = &str> {
    let whole =
        container.env_from.iter().flatten().filter_map(|it| Some(it.config_map_ref.as_ref()?.name.as_str()));
    let keys = container
        .env
        .iter()
        .flatten()
        .filter_map(|it| Some(it.value_from.as_ref()?.config_map_key_ref.as_ref()?.name.as_str()));
    whole.chain(keys)
}

/// The names of Secrets that a container's environment needs.
pub fn secret_names(container: &Container) -> impl Iterator<Item = &str> {
    let whole =
        container.env_from.iter().flatten().filter_map(|it| Some(it.secret_ref.as_ref()?.name.as_str()));
    let keys = container
        .env
        .iter()
        .flatten()
        .filter_map(|it| Some(it.value_from.as_ref()?.secret_key_ref.as_ref()?.name.as_str()));
    whole.chain(keys)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use serde_json::json;
    use std::sync::Arc;

    #[test]
    fn expansion() {
        let cases = [
            ("plain", "plain"),
            ("$(A)", "1"),
            ("$(A)$(B)x", "12x"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$(MISSING)", "$(MISSING)"),
            ("$(A", "$(A"),
            ("$A $", "$A $"),
            ("$()", "$()"),
            ("$(A)) é $(B)", "1) é 2"),
        ];
        for (text, expected) in cases {
            let lookup = |name: &str| match name {
                "A" => Some("1"),
                "B" => Some("2"),
                _ => None,
            };
            assert_eq!(expand(text, lookup), expected, "{text}");
        }
    }

    #[test]
    fn sources_give_way_to_variables_and_services_to_both() {
        let container: Container = serde_json::from_value(json!({
            "name": "c",
            "resources": {"limits": {"cpu": "1500m", "memory": "64Mi"}},
            "envFrom": [{"prefix": "P_", "configMapRef": {"name": "m"}}, {"secretRef": {"name": "no", "optional": true}}],
            "env": [
                {"name": "P_a", "value": "own"},
                {"name": "COPY", "value": "$(P_b)/$(SVC)/$(LATER)"},
                {"name": "LATER", "value": "x"},
                {"name": "KEY", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "a"}}},
                {"name": "NONE", "valueFrom": {"secretKeyRef": {"name": "s", "key": "zz", "optional": true}}},
                {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
                {"name": "LABEL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app.io/x']"}}},
                {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
                {"name": "MEM", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
            ],
        }))
        .unwrap();
        let pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "ns", "labels": {"app.io/x": "web"}},
            "spec": {"nodeName": "n1", "containers": []},
        }))
        .unwrap();
        let ips = ["10.0.0.5".to_owned()];
        let context = FieldContext { pod: &pod, pod_ips: &ips, host_ips: &[], allocatable: &BTreeMap::new() };
        let mut references = References::default();
        let map = serde_json::from_value(json!({"data": {"a": "1", "b": "2"}})).unwrap();
        references.config_maps.insert("m".into(), Arc::new(map));
        let secret = serde_json::from_value(json!({"data": {"k": "c2VjcmV0"}})).unwrap();
        references.secrets.insert("s".into(), Arc::new(secret));
        let services = [("SVC", "svc"), ("LATER", "service")];
        let services = services.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let env = environment(&container, &context, &references, &services).unwrap();
        let lines: Vec<_> = env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            lines,
            [
                "P_a=own",
                "P_b=2",
                "COPY=2/svc/service",
                "LATER=x",
                "KEY=1",
                "SECRET=secret",
                "NODE=n1",
                "LABEL=web",
                "IP=10.0.0.5",
                "CPU=2",
                "MEM=64",
                "SVC=svc"
            ]
        );
    }

    #[test]
    fn variables_from_files() {
        let variable = |key: &str, optional: bool| {
            let selector = json!({"volumeName": "v", "path": "a.env", "key": key, "optional": optional});
            json!({"name": "A", "valueFrom": {"fileKeyRef": selector}})
        };
        let missing = "environment variable key \"NO\" not found in file \"a.env\"";
        let broken = "couldn't parse env file \"a.env\": line 2 is no declaration";
        let cases = [
            (Some("KEY='1'"), variable("KEY", false), Ok(vec![("A".to_owned(), "1".to_owned())])),
            (Some("KEY='1'"), variable("NO", true), Ok(Vec::new())),
            (Some("KEY='1'"), variable("NO", false), Err(missing.to_owned())),
            (None, variable("NO", true), Ok(Vec::new())),
            (None, variable("NO", false), Err(missing.to_owned())),
            (Some("KEY='1'\nx"), variable("KEY", true), Err(broken.to_owned())),
        ];
        for (text, variable, expected) in cases {
            let container = serde_json::from_value(json!({"name": "c", "env": [variable]})).unwrap();
            let pod = serde_json::from_value(
                json!({"metadata": {"name": "p", "namespace": "ns"}, "spec": {"containers": []}}),
            )
            .unwrap();
            let context =
                FieldContext { pod: &pod, pod_ips: &[], host_ips: &[], allocatable: &BTreeMap::new() };
            let mut references = References::default();
            for (volume, path) in file_names(&container) {
                let text = text.map(str::to_owned);
                references.files.extend(text.map(|text| ((volume.to_owned(), path.to_owned()), text)));
            }
            let result = environment(&container, &context, &references, &BTreeMap::new());
            assert_eq!(result, expected, "{text:?} {variable}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let cases = [
            (json!({"envFrom": [{"configMapRef": {"name": "x"}}]}), "configmap \"x\" not found"),
            (json!({"envFrom": [{"secretRef": {"name": "x"}}]}), "secret \"x\" not found"),
            (
                json!({"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}}]}),
                "couldn't find key k in ConfigMap ns/m",
            ),
        ];
        for (mut container, message) in cases {
            container["name"] = json!("c");
            let container = serde_json::from_value(container).unwrap();
            let pod = serde_json::from_value(
                json!({"metadata": {"name": "p", "namespace": "ns"}, "spec": {"containers": []}}),
            )
            .unwrap();
            let context =
                FieldContext { pod: &pod, pod_ips: &[], host_ips: &[], allocatable: &BTreeMap::new() };
            let mut references = References::default();
            references.config_maps.insert("m".into(), Arc::default());
            let result = environment(&container, &context, &references, &BTreeMap::new());
            assert_eq!(result.unwrap_err(), message);
        }
    }
}
