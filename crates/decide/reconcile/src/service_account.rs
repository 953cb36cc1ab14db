//! What every namespace has from the start: an account for its pods, and the authority they trust
//! (kube-controller-manager: pkg/controller/serviceaccount and pkg/controller/certificates/rootcacertpublisher).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;

use crate::action::Action;

/// The account of pods that name none.
pub const ACCOUNT: &str = "default";
/// The ConfigMap with the authority's certificate.
pub const AUTHORITY: &str = "kube-root-ca.crt";
const CERTIFICATE: &str = "ca.crt";
const DESCRIPTION: (&str, &str) = (
    "kubernetes.io/description",
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.",
);

/// Makes the default account where it is missing.
pub fn account(namespace: &Namespace, account: Option<&ServiceAccount>) -> Vec<Action> {
    if account.is_some() || ends(namespace) {
        return Vec::new();
    }
    let metadata = named(namespace, ACCOUNT);
    vec![Action::create(&ServiceAccount { metadata, ..ServiceAccount::default() }).into()]
}

/// Keeps the authority's certificate in its ConfigMap.
pub fn authority(namespace: &Namespace, present: Option<&ConfigMap>, certificate: &str) -> Vec<Action> {
    if ends(namespace) {
        return Vec::new();
    }
    let data = BTreeMap::from([(CERTIFICATE.to_owned(), certificate.to_owned())]);
    let description = BTreeMap::from([(DESCRIPTION.0.to_owned(), DESCRIPTION.1.to_owned())]);
    let Some(present) = present else {
        let metadata = ObjectMeta { annotations: Some(description), ..named(namespace, AUTHORITY) };
        return vec![
            Action::create(&ConfigMap { metadata, data: Some(data), ..ConfigMap::default() }).into(),
        ];
    };
    let described = present.metadata.annotations.as_ref().and_then(|all| all.get(DESCRIPTION.0));
    if present.data.as_ref() == Some(&data) && described.map(String::as_str) == Some(DESCRIPTION.1) {
        return Vec::new();
    }
    let others = present.data.iter().flatten().filter(|(key, _)| *key != CERTIFICATE);
    let mut change: serde_json::Map<_, _> = others.map(|(key, _)| (key.clone(), json!(null))).collect();
    change.insert(CERTIFICATE.to_owned(), json!(certificate));
    vec![Action::patch(present, json!({"metadata": {"annotations": description}, "data": change}))]
}

fn ends(namespace: &Namespace) -> bool {
    let phase = namespace.status.as_ref().and_then(|status| status.phase.as_deref());
    namespace.metadata.deletion_timestamp.is_some() || phase == Some("Terminating")
}

fn named(namespace: &Namespace, name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: namespace.metadata.name.clone(),
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{object, summary};

    #[test]
    fn each_living_namespace_gets_both() {
        let alive: Namespace = object(json!({"metadata": {"name": "ns"}, "status": {"phase": "Active"}}));
        let ending: Namespace =
            object(json!({"metadata": {"name": "ns"}, "status": {"phase": "Terminating"}}));
        assert_eq!(summary(&account(&alive, None)[0]), "create ServiceAccount default");
        assert!(account(&ending, None).is_empty());
        assert!(account(&alive, Some(&ServiceAccount::default())).is_empty());
        let actions = authority(&alive, None, "PEM");
        let Action::Create(create) = &actions[0] else { panic!("{actions:?}") };
        let made: ConfigMap = object(create.object.clone());
        assert!(authority(&alive, Some(&made), "PEM").is_empty());
        let changed = summary(&authority(&alive, Some(&made), "NEW")[0]);
        assert!(changed.contains(r#""data":{"ca.crt":"NEW"}"#), "{changed}");
        assert!(authority(&ending, None, "PEM").is_empty());
    }
}
