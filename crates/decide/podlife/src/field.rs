//! The downward API: a pod's own fields and resources as text.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};
use plimsoll_meta::quantity::Quantity;

use crate::qos::amount;
use crate::spec::{pod_spec, specs};

/// What fields are read from. Addresses are given apart: the sandbox has them before the API does.
#[derive(Clone, Copy, Debug)]
pub struct FieldContext<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// Its addresses.
    pub pod_ips: &'a [String],
    /// Its node's addresses.
    pub host_ips: &'a [String],
    /// What the node gives to pods: the limit of those that have none.
    pub allocatable: &'a BTreeMap<String, Quantity>,
}

/// The text of a field such as `metadata.labels['app']`.
///
/// # Errors
/// When there is no such field.
pub fn field(context: &FieldContext<'_>, path: &str) -> Result<String, String> {
    let (pod, meta) = (context.pod, &context.pod.metadata);
    let text = |value: &Option<String>| Ok(value.clone().unwrap_or_default());
    if let Some((map, key)) = path.strip_suffix("']").and_then(|path| path.split_once("['")) {
        let map = match map {
            "metadata.labels" => &meta.labels,
            "metadata.annotations" => &meta.annotations,
            _ => return Err(unsupported(path)),
        };
        return Ok(map.as_ref().and_then(|map| map.get(key)).cloned().unwrap_or_default());
    }
    match path {
        "metadata.name" => text(&meta.name),
        "metadata.namespace" => text(&meta.namespace),
        "metadata.uid" => text(&meta.uid),
        "metadata.labels" => Ok(lines(meta.labels.as_ref())),
        "metadata.annotations" => Ok(lines(meta.annotations.as_ref())),
        "spec.nodeName" => text(&pod_spec(pod).node_name),
        "spec.serviceAccountName" => text(&pod_spec(pod).service_account_name),
        "status.hostIP" => Ok(context.host_ips.first().cloned().unwrap_or_default()),
        "status.hostIPs" => Ok(context.host_ips.join(",")),
        "status.podIP" => Ok(context.pod_ips.first().cloned().unwrap_or_default()),
        "status.podIPs" => Ok(context.pod_ips.join(",")),
        _ => Err(unsupported(path)),
    }
}

fn unsupported(path: &str) -> String {
    format!("unsupported fieldPath: {path}")
}

/// One line `key="value"` for each entry, values quoted as Go does.
fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let lines = map.into_iter().flatten().map(|(key, value)| {
        let quoted = serde_json::to_string(value).expect("text is always JSON");
        format!("{key}={quoted}")
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// A container's request or limit in units of the divisor, rounded up.
///
/// # Errors
/// When there is no such container or resource.
pub fn resource(
    context: &FieldContext<'_>,
    selector: &ResourceFieldSelector,
    own: Option<&Container>,
) -> Result<String, String> {
    let named = selector.container_name.as_deref().filter(|name| !name.is_empty());
    let all = specs(context.pod);
    let container = match (named, own) {
        (None, Some(own)) => own,
        (name, _) => {
            let name = name.unwrap_or_default();
            let found = all.iter().find(|spec| spec.name() == name);
            &found.ok_or_else(|| format!("container {name} not found"))?.container
        }
    };
    let (list, name) = selector
        .resource
        .split_once('.')
        .ok_or_else(|| format!("unsupported container resource : {}", selector.resource))?;
    let resources = container.resources.as_ref();
    let quantity = match list {
        "limits" => amount(resources.and_then(|it| it.limits.as_ref()), name)
            .filter(|limit| !limit.is_zero())
            .or_else(|| context.allocatable.get(name).copied()),
        "requests" => amount(resources.and_then(|it| it.requests.as_ref()), name),
        _ => return Err(format!("unsupported container resource : {}", selector.resource)),
    };
    let divisor = selector.divisor.as_ref().and_then(|text| text.0.parse::<Quantity>().ok());
    let divisor = divisor.filter(|divisor| !divisor.is_zero()).unwrap_or_else(|| Quantity::from_units(1));
    let quantity = quantity.unwrap_or_default();
    let (dividend, divisor) = match name {
        "cpu" => (quantity.milli(), divisor.milli()),
        _ => (quantity.value(), divisor.value()),
    };
    Ok((i128::from(dividend) + i128::from(divisor) - 1).div_euclid(i128::from(divisor)).to_string())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_and_resources() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "uid": "u", "annotations": {"b": "say \"hi\"", "a": "x\ny"}},
            "spec": {"serviceAccountName": "sa", "containers": [
                {"name": "c", "resources": {"requests": {"cpu": "250m"}, "limits": {"memory": "100M"}}},
            ]},
        }))
        .unwrap();
        let ips = ["10.0.0.1".to_owned(), "fd00::1".to_owned()];
        let allocatable = BTreeMap::from([("cpu".to_owned(), Quantity::from_units(2))]);
        let context =
            FieldContext { pod: &pod, pod_ips: &ips, host_ips: &ips[..1], allocatable: &allocatable };
        let fields = [
            ("metadata.name", "p"),
            ("metadata.uid", "u"),
            ("metadata.annotations", "a=\"x\\ny\"\nb=\"say \\\"hi\\\"\""),
            ("metadata.annotations['b']", "say \"hi\""),
            ("metadata.labels['none']", ""),
            ("spec.serviceAccountName", "sa"),
            ("status.podIPs", "10.0.0.1,fd00::1"),
            ("status.hostIP", "10.0.0.1"),
        ];
        for (path, expected) in fields {
            assert_eq!(field(&context, path).unwrap(), expected, "{path}");
        }
        assert_eq!(field(&context, "spec.x").unwrap_err(), "unsupported fieldPath: spec.x");
        let resources = [
            ("requests.cpu", "1m", "250"),
            ("requests.cpu", "0", "1"),
            ("limits.cpu", "1", "2"),
            ("limits.memory", "1Mi", "96"),
            ("limits.memory", "0", "100000000"),
            ("requests.memory", "1", "0"),
        ];
        for (name, divisor, expected) in resources {
            let selector =
                serde_json::from_value(json!({"containerName": "c", "resource": name, "divisor": divisor}))
                    .unwrap();
            assert_eq!(resource(&context, &selector, None).unwrap(), expected, "{name} {divisor}");
        }
    }
}
