//! Pods and templates of pods.

use plimsoll_meta::field::Path;
use serde_json::Value;

use super::{labels, storage};
use crate::access::Access;

/// Annotations that fields have replaced.
const ANNOTATIONS: [(&str, &str); 3] = [
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    ("security.alpha.kubernetes.io/sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
    (
        "security.alpha.kubernetes.io/unsafe-sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
];
const SECCOMP: &str = "seccomp.security.alpha.kubernetes.io/pod";
const CONTAINER_SECCOMP: &str = "container.seccomp.security.alpha.kubernetes.io/";
const APPARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const NOBODY: &str = "a null labelSelector results in matching no pod";

/// A pod, or a template at `place`.
pub(super) fn warn(pod: &Value, place: Option<&Path>, told: &mut Vec<String>) {
    let under = |name: &str| place.map_or_else(|| Path::root(name), |place| place.child(name));
    let (at, notes) = (under("spec"), under("metadata").child("annotations"));
    let (spec, annotations) = (&pod["spec"], &pod["metadata"]["annotations"]);
    nodes(spec, &at, told);
    for (key, message) in ANNOTATIONS.iter().filter(|(key, _)| annotations.get(key).is_some()) {
        told.push(format!("{}: {message}", notes.key(key)));
    }
    volumes(spec, &at, told);
    twice(spec, &at, told);
    for resource in ["memory", "ephemeral-storage"] {
        storage::whole(&spec["overhead"], resource, &at.child("overhead"), told);
    }
    let replaced = "non-functional in v1.27+; use the \"seccompProfile\" field instead";
    if annotations.get(SECCOMP).is_some() && !spec.has("securityContext.seccompProfile") {
        told.push(format!("{}: {replaced}", notes.key(SECCOMP)));
    }
    let armored = spec.has("securityContext.appArmorProfile");
    for (container, path) in containers(spec, &at) {
        let key = format!("{CONTAINER_SECCOMP}{}", container.text("name"));
        if annotations.get(&key).is_some() && !container.has("securityContext.seccompProfile") {
            told.push(format!("{}: {replaced}", notes.key(&key)));
        }
        let key = format!("{APPARMOR}{}", container.text("name"));
        let armored = armored || container.has("securityContext.appArmorProfile");
        if place.is_some() && annotations.get(&key).is_some() && !armored {
            told.push(format!(
                "{}: deprecated since v1.30; use the \"appArmorProfile\" field instead",
                notes.key(&key)
            ));
        }
        amounts(container, &path, told);
        variables(container, &path, told);
    }
    ports(spec, &at, told);
    if spec["terminationGracePeriodSeconds"].as_i64().is_some_and(|seconds| seconds < 0) {
        told.push(format!(
            "{}: must be >= 0; negative values are invalid and will be treated as 1",
            at.child("terminationGracePeriodSeconds")
        ));
    }
    affinity(spec, &at, told);
}

/// Init containers, containers and ephemeral ones, each with its path.
fn containers<'p>(spec: &'p Value, at: &Path) -> Vec<(&'p Value, Path)> {
    let of = |list: &'static str| {
        let root = at.child(list);
        spec.list(list).iter().enumerate().map(move |(place, one)| (one, root.index(place)))
    };
    of("initContainers").chain(of("containers")).chain(of("ephemeralContainers")).collect()
}

fn nodes(spec: &Value, at: &Path, told: &mut Vec<String>) {
    for label in labels::keys(&spec["nodeSelector"]) {
        if let Some(message) = labels::old(label) {
            told.push(format!("{}: {message}", at.child("nodeSelector").key(label)));
        }
    }
    let root = at.child("affinity").child("nodeAffinity");
    let needed = root.child("requiredDuringSchedulingIgnoredDuringExecution").child("nodeSelectorTerms");
    let list = "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";
    for (place, term) in spec.list(list).iter().enumerate() {
        labels::expressions(term, &needed.index(place), told);
    }
    let liked = root.child("preferredDuringSchedulingIgnoredDuringExecution");
    let list = "affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution";
    for (place, term) in spec.list(list).iter().enumerate() {
        labels::expressions(&term["preference"], &liked.index(place).child("preference"), told);
    }
    for (place, spread) in spec.list("topologySpreadConstraints").iter().enumerate() {
        let at = at.child("topologySpreadConstraints").index(place);
        let key = spread.text("topologyKey");
        if let Some(message) = labels::old(key) {
            told.push(format!("{}: {key} is {message}", at.child("topologyKey")));
        }
        if !spread.has("labelSelector") {
            told.push(format!("{}: {NOBODY}", at.child("labelSelector")));
        }
    }
}

fn volumes(spec: &Value, at: &Path, told: &mut Vec<String>) {
    for (place, volume) in spec.list("volumes").iter().enumerate() {
        let at = at.child("volumes").index(place);
        storage::source(volume, &at, told);
        if volume.has("ephemeral.volumeClaimTemplate") {
            let at = at.child("ephemeral").child("volumeClaimTemplate").child("spec");
            storage::claim(&volume["ephemeral"]["volumeClaimTemplate"]["spec"], &at, told);
        }
    }
}

/// What stands twice in a list whose entries are known by name.
fn twice(spec: &Value, at: &Path, told: &mut Vec<String>) {
    for (list, field) in [("hostAliases", "ip"), ("imagePullSecrets", "name")] {
        let mut seen: Vec<&str> = Vec::new();
        for (place, item) in spec.list(list).iter().enumerate() {
            let name = item.text(field);
            if seen.contains(&name) {
                let at = at.child(list).index(place).child(field);
                told.push(format!("{at}: duplicate {field} {name:?}"));
            }
            seen.push(name);
        }
    }
    for (place, item) in spec.list("imagePullSecrets").iter().enumerate() {
        if item.text("name").is_empty() {
            let at = at.child("imagePullSecrets").index(place).child("name");
            told.push(format!("{at}: invalid empty name \"\""));
        }
    }
}

fn amounts(container: &Value, at: &Path, told: &mut Vec<String>) {
    for resource in ["memory", "ephemeral-storage"] {
        for part in ["limits", "requests"] {
            let root = at.child("resources").child(part);
            storage::whole(&container["resources"][part], resource, &root, told);
        }
    }
}

/// A variable may stand twice if the second takes in the first.
fn variables(container: &Value, at: &Path, told: &mut Vec<String>) {
    let mut seen: Vec<&str> = Vec::new();
    for (place, variable) in container.list("env").iter().enumerate() {
        let (name, value) = (variable.text("name"), variable.text("value"));
        if !seen.contains(&name) {
            seen.push(name);
            continue;
        }
        let reference = format!("$({name})");
        if variable.has("valueFrom") || value == reference || !value.contains(&reference) {
            let at = at.child("env").index(place);
            told.push(format!(
                "{at}: hides previous definition of {name:?}, which may be dropped when using apply"
            ));
        }
    }
}

/// A port of a container with its place.
struct Port<'p> {
    at: Path,
    number: i64,
    protocol: &'p str,
    host: i64,
    address: &'p str,
}

fn ports(spec: &Value, at: &Path, told: &mut Vec<String>) {
    let mut seen: Vec<Port<'_>> = Vec::new();
    for (container, path) in containers(spec, at) {
        for (place, port) in container.list("ports").iter().enumerate() {
            let number = |field: &str| port[field].as_i64().unwrap_or_default();
            let new = Port {
                at: path.child("ports").index(place),
                number: number("containerPort"),
                protocol: port.text("protocol"),
                host: number("hostPort"),
                address: port.text("hostIP"),
            };
            if !new.address.is_empty() && new.host == 0 {
                told.push(format!(
                    "{}: hostIP set without hostPort: {{Name:{} HostPort:0 ContainerPort:{} Protocol:{} HostIP:{}}}",
                    new.at,
                    port.text("name"),
                    new.number,
                    new.protocol,
                    new.address
                ));
            }
            let same = |other: &&Port<'_>| other.number == new.number && other.protocol == new.protocol;
            told.extend(seen.iter().filter(same).filter_map(|other| clash(&new, other)));
            seen.push(new);
        }
    }
}

fn clash(new: &Port<'_>, other: &Port<'_>) -> Option<String> {
    let how = if new.address == other.address && new.host == other.host {
        "duplicate"
    } else if new.host == 0 || other.host == 0 {
        "overlapping"
    } else if new.host == other.host && new.address.is_empty() != other.address.is_empty() {
        "dangerously ambiguous"
    } else {
        return None;
    };
    Some(format!("{}: {how} port definition with {}", new.at, other.at))
}

fn affinity(spec: &Value, at: &Path, told: &mut Vec<String>) {
    for kind in ["podAffinity", "podAntiAffinity"] {
        let (terms, root) = (&spec["affinity"][kind], at.child("affinity").child(kind));
        for (list, below) in [
            ("requiredDuringSchedulingIgnoredDuringExecution", None),
            ("preferredDuringSchedulingIgnoredDuringExecution", Some("podAffinityTerm")),
        ] {
            for (place, term) in terms.list(list).iter().enumerate() {
                let at = root.child(list).index(place);
                let (term, at) = match below {
                    Some(below) => (&term[below], at.child(below)),
                    None => (term, at),
                };
                if !term.has("labelSelector") {
                    told.push(format!("{}: {NOBODY}", at.child("labelSelector")));
                }
            }
        }
    }
}
