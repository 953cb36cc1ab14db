//! The decision about one request.

use plimsoll_meta::field::FieldError;
use plimsoll_meta::status::Status;
use serde_json::Value;

use super::config::Configuration;
use super::level::{Level, LevelVersion, Policy};
use super::pod::{Pod, Violation, items, text};
use super::{existing, registry};

/// What the request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation<'a> {
    /// Something new.
    Create,
    /// Another state of this object.
    Update(&'a Value),
}

/// A request about a pod, or about something that makes pods.
#[derive(Clone, Copy, Debug)]
pub struct Review<'a> {
    /// Resource group.
    pub group: &'a str,
    /// Plural name of the resource.
    pub resource: &'a str,
    /// Empty for the object itself.
    pub subresource: &'a str,
    /// Name of the object.
    pub name: &'a str,
    /// Namespace of the object.
    pub namespace: &'a str,
    /// Who asks.
    pub user: &'a str,
    /// What happens to the object.
    pub operation: Operation<'a>,
    /// The object as it would be stored.
    pub object: &'a Value,
}

/// What came out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// Why the request may not happen.
    pub refusal: Option<Status>,
    /// Sentences for the user.
    pub warnings: Vec<String>,
    /// Key and value of notes for the audit log.
    pub annotations: Vec<(&'static str, String)>,
}

const ENFORCED: &str = "pod-security.kubernetes.io/enforce-policy";
const VIOLATIONS: &str = "pod-security.kubernetes.io/audit-violations";
const EXEMPT: &str = "pod-security.kubernetes.io/exempt";
const ERROR: &str = "pod-security.kubernetes.io/error";

/// Subresources of pods that change nothing a policy is about.
const IGNORED: &[&str] = &["exec", "attach", "binding", "eviction", "log", "portforward", "proxy", "status"];

/// Where an object of this resource keeps the template of its pods; none for other resources.
pub fn template<'a>(group: &str, resource: &str, object: &'a Value) -> Option<&'a Value> {
    match (group, resource) {
        ("", "podtemplates") => Some(&object["template"]),
        ("", "replicationcontrollers")
        | ("apps", "replicasets" | "deployments" | "statefulsets" | "daemonsets")
        | ("batch", "jobs") => Some(&object["spec"]["template"]),
        ("batch", "cronjobs") => Some(&object["spec"]["jobTemplate"]["spec"]["template"]),
        _ => None,
    }
}

impl Configuration {
    /// Decides about a pod or what makes pods; `labels` are those of its namespace.
    pub fn review(&self, request: &Review<'_>, labels: &Value) -> Verdict {
        let is_pod = request.group.is_empty() && request.resource == "pods";
        let ignored =
            if is_pod { IGNORED.contains(&request.subresource) } else { !request.subresource.is_empty() };
        let holder = if is_pod {
            Some(request.object)
        } else {
            template(request.group, request.resource, request.object)
        };
        let Some(holder) = holder.filter(|_| !ignored) else { return Verdict::default() };
        if let Some(reason) = self.exempt(request.namespace, request.user) {
            return Verdict::noting(EXEMPT, reason);
        }
        let (policy, errors) = Policy::of(labels, self.defaults);
        if errors.is_empty() && is_pod && policy.fully_privileged() {
            return Verdict::noting(ENFORCED, "privileged:latest");
        }
        let silent = policy.warn.level == Level::Privileged && policy.audit.level == Level::Privileged;
        if (errors.is_empty() && !is_pod && silent) || !holder.is_object() {
            return Verdict::default();
        }
        if let (true, Operation::Update(old)) = (is_pod, request.operation)
            && !significant(request.object, old)
        {
            return Verdict::default();
        }
        let class = text(&holder["spec"]["runtimeClassName"]);
        if !class.is_empty() && self.exemptions.runtime_classes.iter().any(|one| one == class) {
            return Verdict::noting(EXEMPT, "runtimeClass");
        }
        evaluate(request, policy, &errors, Pod::of(holder), is_pod)
    }

    /// Decides about the labels of a namespace. `pods` lists those it has; `in_time` is asked after
    /// each whether there is time for another.
    pub fn review_namespace(
        &self,
        namespace: &Value,
        operation: Operation<'_>,
        pods: impl FnOnce() -> Vec<Value>,
        in_time: impl FnMut() -> bool,
    ) -> Verdict {
        let name = text(&namespace["metadata"]["name"]);
        let labels = &namespace["metadata"]["labels"];
        let (policy, errors) = Policy::of(labels, self.defaults);
        let invalid = || Verdict {
            refusal: Some(Status::invalid("", "Namespace", name, &errors)),
            ..Verdict::default()
        };
        let exempt = self.exemptions.namespaces.iter().any(|one| one == name);
        match operation {
            Operation::Create if !errors.is_empty() => invalid(),
            Operation::Create if exempt => self.exempt_namespace(name, &policy, labels),
            Operation::Create => Verdict::default(),
            Operation::Update(old) => {
                let (before, known) = Policy::of(&old["metadata"]["labels"], self.defaults);
                if !errors.is_empty() && errors != known {
                    return invalid();
                }
                if !stricter(policy.enforce, before.enforce) {
                    return Verdict::default();
                }
                if exempt {
                    return self.exempt_namespace(name, &policy, labels);
                }
                let warnings = existing::warnings(name, &pods(), policy.enforce, &self.exemptions, in_time);
                Verdict { warnings, ..Verdict::default() }
            }
        }
    }

    fn exempt(&self, namespace: &str, user: &str) -> Option<&'static str> {
        let has = |list: &[String], name: &str| !name.is_empty() && list.iter().any(|one| one == name);
        if has(&self.exemptions.namespaces, namespace) {
            return Some("namespace");
        }
        has(&self.exemptions.usernames, user).then_some("user")
    }

    fn exempt_namespace(&self, name: &str, policy: &Policy, labels: &Value) -> Verdict {
        if policy.fully_privileged() || policy.equivalent(&self.defaults) {
            return Verdict::default();
        }
        let warning = format!(
            "namespace {name:?} is exempt from Pod Security, and the policy ({}) will be ignored",
            policy.labelled(labels)
        );
        Verdict { warnings: vec![warning], ..Verdict::default() }
    }
}

impl Verdict {
    fn noting(key: &'static str, value: impl Into<String>) -> Self {
        Self { annotations: vec![(key, value.into())], ..Self::default() }
    }
}

fn evaluate(
    request: &Review<'_>,
    policy: Policy,
    errors: &[FieldError],
    pod: Pod<'_>,
    enforce: bool,
) -> Verdict {
    let mut verdict = Verdict::default();
    if !errors.is_empty() {
        verdict.annotations.push((ERROR, format!("Failed to parse policy: {}", aggregate(errors))));
    }
    let would = |mode: LevelVersion, violations: &[Violation]| {
        format!("would violate PodSecurity \"{mode}\": {}", registry::details(violations))
    };
    if enforce {
        let mode = policy.enforce;
        verdict.annotations.push((ENFORCED, mode.to_string()));
        let violations = registry::evaluate(mode, pod);
        if !violations.is_empty() {
            let cause = format!("violates PodSecurity \"{mode}\": {}", registry::details(&violations));
            verdict.refusal = Some(Status::forbidden(request.group, request.resource, request.name, cause));
        }
    }
    let audited = registry::evaluate(policy.audit, pod);
    if !audited.is_empty() {
        verdict.annotations.push((VIOLATIONS, would(policy.audit, &audited)));
    }
    // A refused request is told its reason already.
    if verdict.refusal.is_none() {
        let warned = registry::evaluate(policy.warn, pod);
        if !warned.is_empty() {
            verdict.warnings.push(would(policy.warn, &warned));
        }
    }
    verdict
}

/// Errors as one text, the way upstream joins them.
fn aggregate(errors: &[FieldError]) -> String {
    let texts: Vec<String> = errors.iter().map(FieldError::to_string).collect();
    if texts.len() == 1 { texts[0].clone() } else { format!("[{}]", texts.join(", ")) }
}

/// Pods that were fine may not be any more.
fn stricter(new: LevelVersion, old: LevelVersion) -> bool {
    let relaxed = new.version == old.version && new.level <= old.level;
    new != old && new.level != Level::Privileged && !relaxed
}

/// An update that a policy could have something against: other containers or images.
fn significant(new: &Value, old: &Value) -> bool {
    let list = |pod: &Value, field: &str| -> Vec<Value> { items(&pod["spec"][field]).cloned().collect() };
    for field in ["containers", "initContainers"] {
        let (new, old) = (list(new, field), list(old, field));
        if new.len() != old.len() || new.iter().zip(&old).any(|(new, old)| new["image"] != old["image"]) {
            return true;
        }
    }
    let before = list(old, "ephemeralContainers");
    items(&new["spec"]["ephemeralContainers"]).any(|container| {
        let known = before.iter().find(|old| old["name"] == container["name"]);
        known.is_none_or(|old| old["image"] != container["image"])
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(spec: Value) -> Value {
        json!({"metadata": {"name": "x", "namespace": "n"}, "spec": spec})
    }

    fn bad() -> Value {
        pod(json!({"hostPID": true, "containers": [{"name": "a", "image": "i"}]}))
    }

    fn review<'a>(object: &'a Value, operation: Operation<'a>, subresource: &'a str) -> Review<'a> {
        Review {
            group: "",
            resource: "pods",
            subresource,
            name: "x",
            namespace: "n",
            user: "u",
            operation,
            object,
        }
    }

    fn labels(pairs: &[(&str, &str)]) -> Value {
        pairs.iter().map(|(key, value)| (format!("pod-security.kubernetes.io/{key}"), json!(value))).collect()
    }

    #[test]
    fn pods_are_refused_with_upstreams_sentence() {
        let config = Configuration::default();
        let verdict = config.review(
            &review(&bad(), Operation::Create, ""),
            &labels(&[("enforce", "baseline"), ("audit", "restricted"), ("audit-version", "v1.7")]),
        );
        let refusal = verdict.refusal.expect("refused");
        assert_eq!(
            refusal.message,
            r#"pods "x" is forbidden: violates PodSecurity "baseline:latest": host namespaces (hostPID=true)"#
        );
        assert_eq!((refusal.code, &*refusal.reason), (403, "Forbidden"));
        assert!(verdict.warnings.is_empty());
        assert_eq!(
            verdict.annotations,
            [
                (ENFORCED, "baseline:latest".to_owned()),
                (VIOLATIONS, r#"would violate PodSecurity "restricted:v1.7": host namespaces (hostPID=true), runAsNonRoot != true (pod or container "a" must set securityContext.runAsNonRoot=true)"#.to_owned()),
            ]
        );
    }

    #[test]
    fn only_what_matters_is_looked_at() {
        let config = Configuration::default();
        let enforced = labels(&[("enforce", "baseline")]);
        let other_image = pod(json!({"hostPID": true, "containers": [{"name": "a", "image": "j"}]}));
        let debugged = pod(
            json!({"hostPID": true, "containers": [{"name": "a", "image": "i"}], "ephemeralContainers": [{"name": "d", "image": "i"}]}),
        );
        let labelled = json!({"metadata": {"labels": {"a": "b"}}, "spec": bad()["spec"]});
        for (object, old, subresource, refused) in [
            (&bad(), None, "", true),
            (&labelled, Some(bad()), "", false),
            (&other_image, Some(bad()), "", true),
            (&debugged, Some(bad()), "ephemeralcontainers", true),
            (&other_image, Some(bad()), "status", false),
            (&other_image, Some(bad()), "resize", true),
            (&bad(), None, "eviction", false),
        ] {
            let operation = old.as_ref().map_or(Operation::Create, Operation::Update);
            let verdict = config.review(&review(object, operation, subresource), &enforced);
            assert_eq!(verdict.refusal.is_some(), refused, "{subresource} {object}");
        }
    }

    #[test]
    fn what_makes_pods_is_only_warned_about() {
        let config = Configuration::default();
        let template = json!({"spec": {"template": bad()}});
        let cron = json!({"spec": {"jobTemplate": {"spec": {"template": bad()}}}});
        let all = labels(&[("enforce", "baseline")]);
        for (group, resource, object, warned) in [
            ("apps", "deployments", &template, true),
            ("apps", "replicasets", &template, true),
            ("apps", "statefulsets", &template, true),
            ("apps", "daemonsets", &template, true),
            ("batch", "jobs", &template, true),
            ("batch", "cronjobs", &cron, true),
            ("", "replicationcontrollers", &template, true),
            ("", "replicationcontrollers", &json!({"spec": {}}), false),
            ("", "podtemplates", &json!({"template": bad()}), true),
            ("", "configmaps", &template, false),
        ] {
            let request = Review { group, resource, ..review(object, Operation::Create, "") };
            let verdict = config.review(&request, &all);
            let expected: &[&str] = if warned {
                &[r#"would violate PodSecurity "baseline:latest": host namespaces (hostPID=true)"#]
            } else {
                &[]
            };
            assert_eq!(verdict.warnings, expected, "{resource}");
            assert!(verdict.refusal.is_none());
            assert!(config.review(&Review { subresource: "status", ..request }, &all).warnings.is_empty());
        }
    }

    #[test]
    fn exemptions_are_noted() {
        let mut config = Configuration::default();
        let enforced = labels(&[("enforce", "restricted")]);
        let object = pod(json!({"hostPID": true, "runtimeClassName": "kata", "containers": []}));
        let request = review(&object, Operation::Create, "");
        assert!(config.review(&request, &enforced).refusal.is_some());
        config.exemptions.runtime_classes = vec!["kata".into()];
        assert_eq!(config.review(&request, &enforced), Verdict::noting(EXEMPT, "runtimeClass"));
        config.exemptions.usernames = vec!["u".into()];
        assert_eq!(config.review(&request, &enforced), Verdict::noting(EXEMPT, "user"));
        config.exemptions.namespaces = vec!["n".into()];
        assert_eq!(config.review(&request, &enforced), Verdict::noting(EXEMPT, "namespace"));
    }

    #[test]
    fn labels_of_namespaces_are_checked_and_existing_pods_warned_about() {
        let mut config = Configuration::default();
        let namespace = |pairs: &[(&str, &str)]| json!({"metadata": {"name": "n", "labels": labels(pairs)}});
        let wrong = namespace(&[("enforce", "x")]);
        let strict = namespace(&[("enforce", "baseline")]);
        let open = namespace(&[]);
        let decide = |config: &Configuration, new: &Value, old: Option<&Value>| {
            let operation = old.map_or(Operation::Create, Operation::Update);
            config.review_namespace(new, operation, || vec![bad()], || true)
        };
        let refusal = decide(&config, &wrong, None).refusal.expect("refused");
        assert_eq!(
            refusal.message,
            r#"Namespace "n" is invalid: metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: "x": must be one of privileged, baseline, restricted"#
        );
        assert!(decide(&config, &wrong, Some(&open)).refusal.is_some());
        assert!(decide(&config, &wrong, Some(&wrong)).refusal.is_none(), "nothing about it changed");
        assert_eq!(decide(&config, &strict, None), Verdict::default());
        assert_eq!(
            decide(&config, &strict, Some(&open)).warnings,
            [
                r#"existing pods in namespace "n" violate the new PodSecurity enforce level "baseline:latest""#,
                "x: host namespaces",
            ]
        );
        assert_eq!(decide(&config, &open, Some(&strict)), Verdict::default());
        config.exemptions.namespaces = vec!["n".into()];
        let ignored = [
            r#"namespace "n" is exempt from Pod Security, and the policy (enforce=baseline:latest, warn=baseline:latest) will be ignored"#,
        ];
        let exempt = decide(&config, &namespace(&[("enforce", "baseline"), ("warn", "baseline")]), None);
        assert_eq!(exempt.warnings, ignored);
    }
}
