//! Labels that a node may give itself (kubelet: cmd/kubelet/app/options, ValidateKubeletFlags).

use std::collections::BTreeMap;

use plimsoll_meta::name;

/// Labels below the reserved domains that nodes may have.
const ALLOWED: &[&str] = &[
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];
/// Domains below the reserved ones in which all labels are allowed.
const DOMAINS: &[&str] = &["kubelet.kubernetes.io", "node.kubernetes.io"];

/// Reads `name=value` with commas between them.
///
/// # Errors
/// What is wrong, in upstream's words.
pub fn node_labels(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut labels = BTreeMap::new();
    for pair in text.split(',').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        labels.insert(key.trim().to_owned(), value.trim().to_owned());
    }
    let unknown: Vec<&str> = labels.keys().map(String::as_str).filter(|key| is_forbidden(key)).collect();
    if !unknown.is_empty() {
        return Err(format!(
            "unknown 'kubernetes.io' or 'k8s.io' labels specified with --node-labels: [{}]\n--node-labels in the \
             'kubernetes.io' namespace must begin with an allowed prefix ({}) or be in the specifically allowed set ({})",
            unknown.join(" "),
            DOMAINS.join(", "),
            ALLOWED.join(", ")
        ));
    }
    for (key, value) in &labels {
        if let Err(rules) = name::is_qualified_name(key) {
            return Err(format!("invalid label key {key:?}: {}", rules.join("; ")));
        }
        if let Err(rules) = name::is_label_value(value) {
            return Err(format!("invalid label value {value:?}: {}", rules.join("; ")));
        }
    }
    Ok(labels)
}

fn is_forbidden(key: &str) -> bool {
    let domain = key.split_once('/').map_or("", |(domain, _)| domain);
    let is_in = |parent: &str| domain == parent || domain.ends_with(&format!(".{parent}"));
    let is_reserved = is_in("kubernetes.io") || is_in("k8s.io");
    is_reserved && !ALLOWED.contains(&key) && !DOMAINS.iter().any(|allowed| is_in(allowed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_domains_are_reserved() {
        for (text, is_fine) in [
            ("a=b,example.com/c=d", true),
            ("node.kubernetes.io/pool=a,x.kubelet.kubernetes.io/y=z", true),
            ("topology.kubernetes.io/zone=a", true),
            ("node-role.kubernetes.io/master=", false),
            ("kubernetes.io/role=x", false),
            ("a.k8s.io/b=c", false),
            ("a b=c", false),
            ("a=b c", false),
        ] {
            assert_eq!(node_labels(text).is_ok(), is_fine, "{text}");
        }
    }
}
