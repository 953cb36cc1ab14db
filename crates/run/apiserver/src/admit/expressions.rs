//! What expressions see of a request, and who answers their authorization checks.
//!
//! Expressions run to their end without waiting. A check whose answer is not known yet is noted, answered
//! afterwards, and the expressions run again: they have no effects.

use std::cell::RefCell;

use plimsoll_admission::matching::{Kind as KindName, Resource, Surroundings};
use plimsoll_admission::policy::Input;
use plimsoll_admission::rbac;
use plimsoll_cel::{Authorizer, Check, Decision};
use plimsoll_meta::selector::{Fields, Labels};
use plimsoll_meta::status::Status;
use serde_json::{Value, json};

use super::seen::Seen;
use super::subject::Subject;
use crate::user::User;

static NULL: Value = Value::Null;

/// The values of the variables that do not change while a request is judged.
#[derive(Debug)]
pub(crate) struct Scene {
    request: Value,
    namespace: Value,
    check: Check,
}

impl Scene {
    /// The request as a judge sees it; its namespace is looked up when `whole`.
    pub(crate) fn new(
        subject: &Subject<'_>,
        seen: &Seen,
        object: Option<&Value>,
        old: Option<&Value>,
    ) -> Self {
        let attributes = subject.attributes(object, old);
        let kind =
            |name: KindName<'_>| json!({"group": name.group, "version": name.version, "kind": name.kind});
        let resource = |name: Resource<'_>| json!({"group": name.group, "version": name.version, "resource": name.resource});
        let mut request = json!({
            "uid": "",
            "kind": kind(seen.target.kind), "resource": resource(seen.target.resource),
            "requestKind": kind(attributes.target.kind), "requestResource": resource(attributes.target.resource),
            "operation": attributes.operation.name(), "userInfo": user_info(subject.user),
            "object": null, "oldObject": null, "dryRun": subject.dry_run, "options": subject.options,
        });
        for (field, text) in [
            ("subResource", attributes.subresource),
            ("requestSubResource", attributes.subresource),
            ("name", attributes.name),
            ("namespace", attributes.namespace),
        ] {
            if !text.is_empty() {
                request[field] = json!(text);
            }
        }
        let check = Check {
            group: attributes.target.resource.group.to_owned(),
            resource: attributes.target.resource.resource.to_owned(),
            subresource: attributes.subresource.to_owned(),
            namespace: attributes.namespace.to_owned(),
            name: attributes.name.to_owned(),
            ..Check::default()
        };
        Self { request, namespace: Value::Null, check }
    }

    /// Adds the namespace of the request; a Namespace is in none.
    ///
    /// # Errors
    /// A 404 when there is no such namespace.
    pub(crate) fn with_namespace(mut self, subject: &Subject<'_>) -> Result<Self, Status> {
        let is_namespace = (subject.target.kind.group, subject.target.kind.kind) == ("", "Namespace");
        if !subject.namespace.is_empty() && !is_namespace {
            self.namespace = Surroundings::namespace(subject, subject.namespace)?.clone();
        }
        Ok(self)
    }

    /// All variables.
    pub(crate) fn input<'a>(
        &'a self,
        object: Option<&'a Value>,
        old: Option<&'a Value>,
        params: &'a Value,
        authorizer: &'a dyn Authorizer,
    ) -> Input<'a> {
        Input {
            object: object.unwrap_or(&NULL),
            old: old.unwrap_or(&NULL),
            params,
            request: &self.request,
            namespace: &self.namespace,
            authorizer,
            check: &self.check,
        }
    }
}

fn user_info(user: &User) -> Value {
    let mut info = json!({"username": user.name, "groups": user.groups});
    if !user.uid.is_empty() {
        info["uid"] = json!(user.uid);
    }
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra);
    }
    info
}

/// Answers that are known, and questions that are not answered yet.
struct Answers<'a> {
    known: &'a [(Check, Decision)],
    open: RefCell<Vec<Check>>,
}

impl Authorizer for Answers<'_> {
    fn authorize(&self, check: &Check) -> Decision {
        if let Some((_, answer)) = self.known.iter().find(|(known, _)| known == check) {
            return answer.clone();
        }
        self.open.borrow_mut().push(check.clone());
        Decision::default()
    }
}

/// Evaluates expressions until all their checks are answered.
pub(crate) async fn answered<T: Send>(subject: &Subject<'_>, run: impl Fn(&dyn Authorizer) -> T + Sync) -> T {
    let mut known: Vec<(Check, Decision)> = Vec::new();
    loop {
        let open = {
            let answers = Answers { known: &known, open: RefCell::default() };
            let outcome = run(&answers);
            let open = answers.open.into_inner();
            if open.is_empty() {
                return outcome;
            }
            open
        };
        for check in open {
            let answer = decide(subject, &check).await;
            known.push((check, answer));
        }
    }
}

async fn decide(subject: &Subject<'_>, check: &Check) -> Decision {
    let account = check.service_account.as_ref().map(|(namespace, name)| {
        User::authenticated(
            &format!("system:serviceaccount:{namespace}:{name}"),
            &["system:serviceaccounts", &format!("system:serviceaccounts:{namespace}")],
        )
    });
    // Who writes a selector that cannot be read asks about everything.
    let fields = Fields::parse(&check.selector.fields).unwrap_or_default();
    let labels = Labels::parse(&check.selector.labels).unwrap_or_default();
    let wanted = rbac::Attributes {
        verb: &check.verb,
        group: &check.group,
        resource: &check.resource,
        subresource: &check.subresource,
        namespace: &check.namespace,
        name: &check.name,
        path: check.path.as_deref().unwrap_or_default(),
        fields: &fields.0,
        labels: &labels.0,
        version: "*",
    };
    let answer = subject.api.authorizers.decide(account.as_ref().unwrap_or(subject.user), &wanted).await;
    let allowed = answer.is_allowed();
    let (plimsoll_access::Decision::Allow(reason)
    | plimsoll_access::Decision::Deny(reason)
    | plimsoll_access::Decision::NoOpinion(reason)) = answer.decision;
    Decision { allowed, reason, error: None }
}
