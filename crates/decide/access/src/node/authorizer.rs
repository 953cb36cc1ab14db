//! What the agent of a node may do (plugin/pkg/auth/authorizer/node/node_authorizer.go, v1.37).

use plimsoll_admission::rbac::{Attributes, Rule};
use plimsoll_meta::selector::Operator;
use plimsoll_volume::local;

use super::{Graph, Identity, Vertex, identify};
use crate::{Decision, User};

const LEASES: &str = "kube-node-lease";
const NO_RELATION: &str = "no relationship found between node";

/// Decides about a request of a node agent; others are none of this authorizer's business.
/// `rules` are those of `system:node`, for what needs no look into the graph.
pub fn authorize(graph: &Graph, rules: &[Rule], user: &User, wanted: &Attributes<'_>) -> Decision {
    let node = match identify(user) {
        Identity::Other => return Decision::NoOpinion(String::new()),
        Identity::Unknown => return no(format!("unknown node for user {:?}", user.name)),
        Identity::Node(node) => node,
    };
    let asked = Asked { graph, node, wanted };
    match (wanted.group, wanted.resource) {
        ("", "secrets") => asked.read_one(Vertex::Secret),
        ("", "configmaps") => asked.read_one(Vertex::ConfigMap),
        ("", "persistentvolumeclaims") if wanted.subresource == "status" => {
            asked.update_status(Vertex::Claim)
        }
        ("", "persistentvolumeclaims") => asked.get(Vertex::Claim),
        ("", "persistentvolumes") => asked.volume(),
        ("resource.k8s.io", "resourceclaims") => asked.get(Vertex::ResourceClaim),
        ("storage.k8s.io", "volumeattachments") => asked.get(Vertex::Attachment),
        // For providers of image pull credentials.
        ("", "serviceaccounts") if wanted.verb == "get" && wanted.subresource.is_empty() => {
            asked.get(Vertex::ServiceAccount)
        }
        ("", "serviceaccounts") => asked.create_token(),
        ("coordination.k8s.io", "leases") => asked.lease(),
        ("storage.k8s.io", "csinodes") => asked.csi_node(),
        ("resource.k8s.io", "resourceslices") => asked.slice(),
        ("certificates.k8s.io", "podcertificaterequests") => asked.pod_certificate(),
        ("", "nodes") => asked.node(),
        ("", "pods") => asked.pod(),
        _ if rules.iter().any(|rule| rule.allows(wanted)) => yes(),
        _ => Decision::NoOpinion(String::new()),
    }
}

fn yes() -> Decision {
    Decision::Allow(String::new())
}

fn no(reason: impl Into<String>) -> Decision {
    Decision::NoOpinion(reason.into())
}

struct Asked<'a> {
    graph: &'a Graph,
    node: &'a str,
    wanted: &'a Attributes<'a>,
}

impl Asked<'_> {
    fn related(&self, vertex: Vertex) -> Decision {
        let Attributes { namespace, name, .. } = self.wanted;
        match name.is_empty() {
            true => no("No Object name found"),
            false if self.graph.leads(vertex, namespace, name, self.node) => yes(),
            false => no(format!("{NO_RELATION} '{}' and this object", self.node)),
        }
    }

    fn read_one(&self, vertex: Vertex) -> Decision {
        if !matches!(self.wanted.verb, "get" | "list" | "watch") {
            return no("can only read resources of this type");
        }
        if !self.wanted.subresource.is_empty() {
            return no("cannot read subresource");
        }
        if self.wanted.namespace.is_empty() {
            return no("can only read namespaced object of this type");
        }
        self.related(vertex)
    }

    fn get(&self, vertex: Vertex) -> Decision {
        match (self.wanted.verb, self.wanted.subresource) {
            ("get", "") => self.related(vertex),
            ("get", _) => no("cannot get subresource"),
            _ => no("can only get individual resources of this type"),
        }
    }

    fn update_status(&self, vertex: Vertex) -> Decision {
        match self.wanted.verb {
            "update" | "patch" => self.related(vertex),
            _ => no("can only get/update/patch this type"),
        }
    }

    /// Beside the volumes of its pods an agent sees those whose folders are its own; admission limits what it
    /// changes of them.
    fn volume(&self) -> Decision {
        match (self.wanted.verb, self.wanted.subresource) {
            ("list" | "watch", "") if self.wants_own_folders() => yes(),
            ("patch", "") => yes(),
            _ => self.get(Vertex::Volume),
        }
    }

    fn wants_own_folders(&self) -> bool {
        let own = |values: &[String]| matches!(values, [one] if one == self.node);
        self.wanted
            .labels
            .iter()
            .any(|one| matches!(&one.operator, Operator::In(values) if one.key == local::NODE && own(values)))
    }

    fn create_token(&self) -> Decision {
        let Attributes { verb, name, subresource, .. } = self.wanted;
        if *verb != "create" || name.is_empty() {
            return no("can only create tokens for individual service accounts");
        }
        if *subresource != "token" {
            return no("can only create token subresource of serviceaccount");
        }
        self.related(Vertex::ServiceAccount)
    }

    /// A new object's name is not known yet; admission holds it against the node.
    fn own(&self, thing: &str) -> Decision {
        match self.wanted.verb == "create" || self.wanted.name == self.node {
            true => yes(),
            false => no(format!("can only access {thing} with the same name as the requesting node")),
        }
    }

    fn lease(&self) -> Decision {
        if !matches!(self.wanted.verb, "get" | "create" | "update" | "patch" | "delete") {
            return no("can only get, create, update, patch, or delete a node lease");
        }
        if self.wanted.namespace != LEASES {
            return no(format!("can only access leases in the {LEASES:?} system namespace"));
        }
        self.own("node lease")
    }

    fn csi_node(&self) -> Decision {
        if !matches!(self.wanted.verb, "get" | "create" | "update" | "patch" | "delete") {
            return no("can only get, create, update, patch, or delete a CSINode");
        }
        if !self.wanted.subresource.is_empty() {
            return no("cannot authorize CSINode subresources");
        }
        self.own("CSINode")
    }

    fn selects(&self, field: &str) -> bool {
        self.wanted.fields.iter().any(|one| one.equal && one.field == field && one.value == self.node)
    }

    fn slice(&self) -> Decision {
        if !self.wanted.subresource.is_empty() {
            return no("cannot authorize ResourceSlice subresources");
        }
        match self.wanted.verb {
            "create" => yes(),
            "get" | "update" | "patch" | "delete" => self.related(Vertex::Slice),
            "watch" | "list" | "deletecollection" if self.selects("spec.nodeName") => yes(),
            "watch" | "list" | "deletecollection" => {
                no("can only list/watch/deletecollection resourceslices with nodeName field selector")
            }
            _ => no(
                "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, delete, deletecollection",
            ),
        }
    }

    /// Admission holds new ones against the node.
    fn pod_certificate(&self) -> Decision {
        if !self.wanted.subresource.is_empty() {
            return no("cannot authorize PodCertificateRequest subresources");
        }
        match self.wanted.verb {
            "create" => yes(),
            "get" | "list" | "watch" if self.selects("spec.nodeName") => yes(),
            "get" | "list" | "watch" => {
                no("can only get/list/watch podcertificaterequests with nodeName field selector")
            }
            _ => no(
                "only the following verbs are allowed for a PodCertificateRequest: create, get, list, watch",
            ),
        }
    }

    /// Admission limits writes to the agent's own node.
    fn node(&self) -> Decision {
        match (self.wanted.subresource, self.wanted.verb, self.wanted.name) {
            ("", "create" | "update" | "patch", _) | ("status", "update" | "patch", _) => yes(),
            ("", "get" | "list" | "watch", name) if name == self.node => yes(),
            ("", "get" | "list" | "watch", "") => {
                no(format!("node '{}' cannot read all nodes, only its own Node object", self.node))
            }
            ("", "get" | "list" | "watch", name) => {
                no(format!("node '{}' cannot read '{name}', only its own Node object", self.node))
            }
            _ => Decision::NoOpinion(String::new()),
        }
    }

    /// Admission limits writes to mirror pods and to pods of the agent's own node.
    fn pod(&self) -> Decision {
        match (self.wanted.subresource, self.wanted.verb) {
            ("", "get") => self.get(Vertex::Pod),
            ("", "list" | "watch") if self.selects("spec.nodeName") => yes(),
            ("", "list" | "watch") if !self.wanted.name.is_empty() => self.related(Vertex::Pod),
            ("", "list" | "watch") => no("can only list/watch pods with spec.nodeName field selector"),
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => yes(),
            _ => Decision::NoOpinion(String::new()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plimsoll_meta::selector::Fields;
    use serde_json::json;

    fn graph() -> Graph {
        let mut graph = Graph::default();
        graph.put(&json!({"kind": "Pod", "metadata": {"namespace": "a", "name": "p"}, "spec": {
            "nodeName": "n", "serviceAccountName": "sa", "volumes": [{"configMap": {"name": "c"}}]}}));
        graph
    }

    /// `verb group/resource/subresource namespace name [field selector]`
    fn decide(user: &User, request: &str) -> Decision {
        let parts: Vec<&str> = request.split(' ').collect();
        let (mut path, fields) = (parts[1].split('/'), Fields::parse(parts.get(4).unwrap_or(&"")));
        let fields = fields.expect("selector");
        let plain = |part: &'static str| part;
        let none = plain("-");
        let or = |part: Option<&'_ str>| part.filter(|part| *part != none).unwrap_or_default().to_owned();
        let (group, resource, sub) = (or(path.next()), or(path.next()), or(path.next()));
        let (namespace, name) = (or(Some(parts[2])), or(Some(parts[3])));
        let wanted = Attributes {
            verb: parts[0],
            group: &group,
            resource: &resource,
            subresource: &sub,
            namespace: &namespace,
            name: &name,
            fields: &fields.0,
            ..Attributes::default()
        };
        let rule = json!({"verbs": ["create"], "apiGroups": [""], "resources": ["events"]});
        authorize(&graph(), &[Rule::read(&rule)], user, &wanted)
    }

    #[test]
    fn agents_reach_what_their_pods_need() {
        let agent = User::authenticated("system:node:n", &["system:nodes"]);
        let none = "no relationship found between node 'n' and this object";
        for (request, refusal) in [
            ("get -/configmaps a c", None),
            ("watch -/configmaps a c", None),
            ("list -/configmaps a -", Some("No Object name found")),
            ("list -/configmaps - -", Some("can only read namespaced object of this type")),
            ("update -/configmaps a c", Some("can only read resources of this type")),
            ("get -/configmaps a d", Some(none)),
            ("get -/secrets a c", Some(none)),
            ("list -/persistentvolumes - -", Some("can only get individual resources of this type")),
            ("get -/persistentvolumeclaims/status a c", Some("can only get/update/patch this type")),
            ("create -/serviceaccounts/token a sa", None),
            ("create -/serviceaccounts/token a other", Some(none)),
            ("get -/serviceaccounts a sa", None),
            ("list -/serviceaccounts a sa", Some("can only create tokens for individual service accounts")),
            ("update coordination.k8s.io/leases kube-node-lease n", None),
            (
                "update coordination.k8s.io/leases kube-node-lease m",
                Some("can only access node lease with the same name as the requesting node"),
            ),
            (
                "update coordination.k8s.io/leases a n",
                Some("can only access leases in the \"kube-node-lease\" system namespace"),
            ),
            ("get storage.k8s.io/csinodes - n", None),
            (
                "get storage.k8s.io/csinodes - m",
                Some("can only access CSINode with the same name as the requesting node"),
            ),
            ("get -/nodes - n", None),
            ("get -/nodes - m", Some("node 'n' cannot read 'm', only its own Node object")),
            ("list -/nodes - -", Some("node 'n' cannot read all nodes, only its own Node object")),
            ("delete -/nodes - n", Some("")),
            ("list -/pods - - spec.nodeName=n", None),
            (
                "list -/pods - - spec.nodeName=m",
                Some("can only list/watch pods with spec.nodeName field selector"),
            ),
            ("get -/pods a p", None),
            ("get -/pods a q", Some(none)),
            ("patch -/pods/status a p", None),
            ("patch -/pods a p", Some("")),
            ("create -/events a e", None),
            ("delete -/events a e", Some("")),
            ("list resource.k8s.io/resourceslices - - spec.nodeName=n", None),
        ] {
            let expected = refusal.map_or_else(yes, no);
            assert_eq!(decide(&agent, request), expected, "{request}");
        }
    }

    #[test]
    fn agents_look_after_their_own_folders() {
        let agent = User::authenticated("system:node:n", &["system:nodes"]);
        let ask = |verb: &str, labels: &str| {
            let labels = plimsoll_meta::selector::Labels::parse(labels).expect("selector");
            let wanted = Attributes {
                verb,
                resource: "persistentvolumes",
                labels: &labels.0,
                ..Attributes::default()
            };
            authorize(&graph(), &[], &agent, &wanted)
        };
        let single = no("can only get individual resources of this type");
        for (verb, labels, expected) in [
            ("list", "plimsoll.io/node=n", yes()),
            ("watch", "plimsoll.io/node=n,a=b", yes()),
            ("watch", "plimsoll.io/node=m", single.clone()),
            ("watch", "plimsoll.io/node in (n,m)", single.clone()),
            ("watch", "plimsoll.io/node", single.clone()),
            ("delete", "plimsoll.io/node=n", single.clone()),
            ("list", "", single),
            ("patch", "", yes()),
        ] {
            assert_eq!(ask(verb, labels), expected, "{verb} {labels}");
        }
    }

    #[test]
    fn others_are_left_to_others() {
        let lost = User::authenticated("system:node:", &["system:nodes"]);
        assert_eq!(decide(&lost, "get -/pods a p"), no("unknown node for user \"system:node:\""));
        assert_eq!(decide(&User::authenticated("ann", &[]), "get -/pods a p"), no(""));
    }
}
