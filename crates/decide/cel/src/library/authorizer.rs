//! Authorization checks (apiserver: pkg/cel/library/authz.go). Whether something is allowed is the
//! caller's answer.

use std::rc::Rc;

use super::{bool, fail};
use crate::evaluate::Evaluated;
use crate::types::{Opaque, Type, Value};

pub(super) const TABLE: &str = "
authorizer_path path member kubernetes.authorization.Authorizer,string kubernetes.authorization.PathCheck
authorizer_group group member kubernetes.authorization.Authorizer,string kubernetes.authorization.GroupCheck
authorizer_serviceaccount serviceAccount member kubernetes.authorization.Authorizer,string,string kubernetes.authorization.Authorizer
groupcheck_resource resource member kubernetes.authorization.GroupCheck,string kubernetes.authorization.ResourceCheck
resourcecheck_subresource subresource member kubernetes.authorization.ResourceCheck,string kubernetes.authorization.ResourceCheck
resourcecheck_namespace namespace member kubernetes.authorization.ResourceCheck,string kubernetes.authorization.ResourceCheck
resourcecheck_name name member kubernetes.authorization.ResourceCheck,string kubernetes.authorization.ResourceCheck
authorizer_fieldselector fieldSelector member kubernetes.authorization.ResourceCheck,string kubernetes.authorization.ResourceCheck
authorizer_labelselector labelSelector member kubernetes.authorization.ResourceCheck,string kubernetes.authorization.ResourceCheck
pathcheck_check check member kubernetes.authorization.PathCheck,string kubernetes.authorization.Decision
resourcecheck_check check member kubernetes.authorization.ResourceCheck,string kubernetes.authorization.Decision
decision_errored errored member kubernetes.authorization.Decision bool
decision_error error member kubernetes.authorization.Decision string
decision_allowed allowed member kubernetes.authorization.Decision bool
decision_reason reason member kubernetes.authorization.Decision string
";

/// Answers checks.
pub trait Authorizer {
    /// Whether the check's request is allowed.
    fn authorize(&self, check: &Check) -> Decision;
}

/// What an expression asks: for whom, and what.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Check {
    /// Namespace and name of a service account; none for the user of the request.
    pub service_account: Option<(String, String)>,
    /// The path of a request for no resource; none for a request for a resource.
    pub path: Option<String>,
    /// API group.
    pub group: String,
    /// Resource.
    pub resource: String,
    /// Subresource.
    pub subresource: String,
    /// Namespace.
    pub namespace: String,
    /// Name of the object.
    pub name: String,
    /// Text of the field and label selectors; empty if there are none.
    pub selector: Selector,
    /// Verb.
    pub verb: String,
}

/// Selectors of a check as they were written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selector {
    /// Field selector.
    pub fields: String,
    /// Label selector.
    pub labels: String,
}

/// The answer to a check.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// Whether the request is allowed.
    pub allowed: bool,
    /// Why.
    pub reason: String,
    /// What went wrong, if something did.
    pub error: Option<String>,
}

/// An authorizer, or a check that is being built with one.
#[derive(Clone)]
pub struct AuthorizerValue<'a> {
    authorizer: Rc<dyn Authorizer + 'a>,
    check: Check,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq)]
enum Stage {
    Authorizer,
    Path,
    Group,
    Resource,
}

impl PartialEq for AuthorizerValue<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.stage == other.stage
            && self.check == other.check
            && Rc::ptr_eq(&self.authorizer, &other.authorizer)
    }
}

impl AuthorizerValue<'_> {
    pub(crate) fn type_name(&self) -> &'static str {
        match self.stage {
            Stage::Authorizer => "kubernetes.authorization.Authorizer",
            Stage::Path => "kubernetes.authorization.PathCheck",
            Stage::Group => "kubernetes.authorization.GroupCheck",
            Stage::Resource => "kubernetes.authorization.ResourceCheck",
        }
    }
}

impl Type {
    /// The type of the variable `authorizer`.
    pub const AUTHORIZER: Self = Self::Opaque("kubernetes.authorization.Authorizer");
    /// The type of the variable `authorizer.requestResource`.
    pub const RESOURCE_CHECK: Self = Self::Opaque("kubernetes.authorization.ResourceCheck");
}

impl<'a> Value<'a> {
    /// The variable `authorizer`.
    pub fn authorizer(authorizer: Rc<dyn Authorizer + 'a>) -> Self {
        made(AuthorizerValue { authorizer, check: Check::default(), stage: Stage::Authorizer })
    }

    /// The variable `authorizer.requestResource`: a check of the request's own resource.
    pub fn resource_check(authorizer: Rc<dyn Authorizer + 'a>, check: Check) -> Self {
        made(AuthorizerValue { authorizer, check, stage: Stage::Resource })
    }
}

fn made(value: AuthorizerValue<'_>) -> Value<'_> {
    Value::Opaque(Opaque::Authorizer(Rc::new(value)))
}

pub(super) fn apply<'a>(function: &str, args: &[Value<'a>]) -> Option<Evaluated<'a>> {
    match args {
        [Value::Opaque(Opaque::Decision(decision))] => of_decision(function, decision),
        [Value::Opaque(Opaque::Authorizer(value)), rest @ ..] => {
            let texts: Vec<&str> = rest.iter().map(Value::as_str).collect::<Option<_>>()?;
            built(function, value, &texts)
        }
        _ => None,
    }
}

fn of_decision<'a>(function: &str, decision: &Decision) -> Option<Evaluated<'a>> {
    Some(match function {
        "allowed" => bool(decision.allowed),
        "errored" => bool(decision.error.is_some()),
        "reason" => Ok(Value::text(decision.reason.as_str())),
        "error" => Ok(Value::text(decision.error.as_deref().unwrap_or_default())),
        _ => return None,
    })
}

fn built<'a>(function: &str, value: &AuthorizerValue<'a>, texts: &[&str]) -> Option<Evaluated<'a>> {
    let mut next = value.clone();
    match (value.stage, function, texts) {
        (Stage::Authorizer, "path", [path]) if path.trim().is_empty() => {
            return Some(fail("path must not be empty"));
        }
        (Stage::Authorizer, "path", [path]) => {
            next.check.path = Some((*path).to_owned());
            next.stage = Stage::Path;
        }
        (Stage::Authorizer, "group", [group]) => {
            next.check.group = (*group).to_owned();
            next.stage = Stage::Group;
        }
        (Stage::Authorizer, "serviceAccount", [namespace, name]) => {
            if !is_name(name, 253, true) {
                return Some(fail("Invalid service account name"));
            }
            if !is_name(namespace, 63, false) {
                return Some(fail("Invalid service account namespace"));
            }
            next.check.service_account = Some(((*namespace).to_owned(), (*name).to_owned()));
        }
        (Stage::Group, "resource", [name]) if name.trim().is_empty() => {
            return Some(fail("resource must not be empty"));
        }
        (Stage::Group, "resource", [name]) => {
            next.check.resource = (*name).to_owned();
            next.stage = Stage::Resource;
        }
        (Stage::Resource, field, [text]) if field != "check" => {
            *field_of(&mut next.check, field)? = (*text).to_owned()
        }
        (Stage::Resource | Stage::Path, "check", [verb]) => {
            next.check.verb = (*verb).to_owned();
            let decision = next.authorizer.authorize(&next.check);
            return Some(Ok(Value::Opaque(Opaque::Decision(Rc::new(decision)))));
        }
        _ => return None,
    }
    Some(Ok(made(next)))
}

fn field_of<'c>(check: &'c mut Check, function: &str) -> Option<&'c mut String> {
    Some(match function {
        "subresource" => &mut check.subresource,
        "namespace" => &mut check.namespace,
        "name" => &mut check.name,
        "fieldSelector" => &mut check.selector.fields,
        "labelSelector" => &mut check.selector.labels,
        _ => return None,
    })
}

/// Whether `text` is a DNS label, or a subdomain if it may have dots.
fn is_name(text: &str, longest: usize, dots: bool) -> bool {
    let label = |label: &str| {
        let inner = label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        inner && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
    };
    text.len() <= longest && if dots { text.split('.').all(label) } else { label(text) }
}
