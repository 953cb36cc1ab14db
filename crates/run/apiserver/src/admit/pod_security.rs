//! PodSecurity: holds pods and what makes them against the policy of their namespace.

use std::time::{Duration, Instant};

use plimsoll_admission::plugins::Plugin;
use plimsoll_admission::pod_security::{self, Operation, Review, Verdict};
use plimsoll_meta::status::Status;
use serde_json::Value;

use super::{on, one};
use crate::object::meta;
use crate::registry;
use crate::write::Write;

/// How long the pods of a namespace are looked at when its policy becomes stricter.
const EXISTING_PODS: Duration = Duration::from_secs(1);

/// Refuses, warns and notes.
pub(super) fn validate(write: &mut Write<'_>, object: &Value, old: Option<&Value>) -> Result<(), Status> {
    if !on(write, Plugin::PodSecurity) || write.kind.is_custom() {
        return Ok(());
    }
    let verdict = match (write.kind.group, write.kind.plural) {
        ("", "namespaces") if write.subresource.is_none() => namespace(write, object, old),
        ("", "pods") => review(write, object, old),
        (group, plural) if pod_security::template(group, plural, object).is_some() => {
            review(write, object, old)
        }
        _ => return Ok(()),
    };
    for (key, value) in verdict.annotations {
        crate::audit::annotate(key, value);
    }
    write.warnings.extend(verdict.warnings);
    verdict.refusal.map_or(Ok(()), Err)
}

fn operation(old: Option<&Value>) -> Operation<'_> {
    old.map_or(Operation::Create, Operation::Update)
}

fn review(write: &Write<'_>, object: &Value, old: Option<&Value>) -> Verdict {
    let Some(namespace) = one(write, "", "namespaces", "", write.namespace) else {
        let cause = format!("failed to lookup namespace {:?}", write.namespace);
        let refusal = (write.kind.plural == "pods").then(|| Status::internal(cause));
        return Verdict { refusal, ..Verdict::default() };
    };
    let request = Review {
        group: write.kind.group,
        resource: write.kind.plural,
        subresource: write.subresource.unwrap_or_default(),
        name: meta(object, "name"),
        namespace: write.namespace,
        user: &write.user.name,
        operation: operation(old),
        object,
    };
    write.api.admission.pod_security.review(&request, &namespace["metadata"]["labels"])
}

fn namespace(write: &Write<'_>, object: &Value, old: Option<&Value>) -> Verdict {
    let pods = || {
        let kind = plimsoll_catalogue::find("", "v1", "pods");
        let found = kind.and_then(|kind| Some((kind, registry::prefix(kind, meta(object, "name")).ok()?)));
        let Some((kind, prefix)) = found else { return Vec::new() };
        let page = write.api.store.range(&prefix, None, 0, None);
        let entries = page.map(|page| page.entries).unwrap_or_default();
        entries.iter().filter_map(|entry| registry::served(kind, entry).ok()).collect()
    };
    let begun = Instant::now();
    let in_time = || begun.elapsed() < EXISTING_PODS;
    write.api.admission.pod_security.review_namespace(object, operation(old), pods, in_time)
}
