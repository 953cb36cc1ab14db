//! The objects that a binding names as parameters.

use plimsoll_admission::policy::{Binding, ParamKind, Params, Policy};
use plimsoll_catalogue::Kind;
use serde_json::Value;

use super::subject::Subject;
use crate::{present, registry};

/// The parameters of a policy, each of which judges by itself; null stands for none.
///
/// # Errors
/// What is wrong with the binding, or that its parameters are missing.
pub(crate) async fn collect(
    subject: &Subject<'_>,
    policy: &Policy,
    binding: &Binding,
    request_namespace: &str,
) -> Result<Vec<Value>, String> {
    let (Some(wanted), Some(reference)) = (&policy.param_kind, &binding.params) else {
        return Ok(vec![Value::Null]);
    };
    let kind = find(subject, wanted).ok_or_else(|| {
        let ParamKind { api_version, kind } = wanted;
        format!("paramKind kind `&ParamKind{{APIVersion:{api_version},Kind:{kind},}}` not known")
    })?;
    let namespace = match (kind.namespaced, reference.namespace.as_str()) {
        (true, "") if request_namespace.is_empty() => {
            return Err(
                "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources"
                    .to_owned(),
            );
        }
        (true, "") => request_namespace,
        (true, given) => given,
        (false, "") => "",
        (false, _) => {
            return Err("paramRef.namespace must not be provided for a cluster-scoped `paramKind`".to_owned());
        }
    };
    let found = match &reference.params {
        Params::Named(name) => named(subject, kind, namespace, name).await?.into_iter().collect(),
        Params::Selected(labels) => {
            let mut all = all(subject, kind, namespace).await?;
            all.retain(|object| labels.matches(|key| object["metadata"]["labels"][key].as_str()));
            all
        }
    };
    if found.is_empty() && reference.required {
        return Err("no params found for policy binding with `Deny` parameterNotFoundAction".to_owned());
    }
    Ok(found)
}

/// Whether the kind of a policy's parameters is served.
///
/// # Errors
/// What the policy is refused with, whatever its bindings say.
pub(crate) fn known(subject: &Subject<'_>, policy: &Policy) -> Result<(), String> {
    let Some(wanted) = &policy.param_kind else { return Ok(()) };
    match find(subject, wanted) {
        Some(_) => Ok(()),
        None => {
            let (group, version) = wanted.api_version.split_once('/').unwrap_or(("", &wanted.api_version));
            let kind = &wanted.kind;
            Err(format!("failed to find resource referenced by paramKind: '{group}/{version}, Kind={kind}'"))
        }
    }
}

/// The row of a kind of parameters.
pub(crate) fn find(subject: &Subject<'_>, wanted: &ParamKind) -> Option<&'static Kind> {
    registry::kinds(subject.api)
        .into_iter()
        .find(|kind| kind.kind == wanted.kind && kind.is_stored() && kind.api_version() == wanted.api_version)
}

async fn named(
    subject: &Subject<'_>,
    kind: &'static Kind,
    namespace: &str,
    name: &str,
) -> Result<Option<Value>, String> {
    let Some(entry) = kind.key(namespace, name).and_then(|key| subject.api.store.get(&key)) else {
        return Ok(None);
    };
    present::object(subject.api, kind, &entry).await.map(Some).map_err(|status| status.message)
}

async fn all(subject: &Subject<'_>, kind: &'static Kind, namespace: &str) -> Result<Vec<Value>, String> {
    let prefix = registry::prefix(kind, namespace).map_err(|status| status.message)?;
    let page = subject.api.store.range(&prefix, None, usize::MAX, None).map_err(|error| error.to_string())?;
    let mut objects = Vec::with_capacity(page.entries.len());
    for entry in &page.entries {
        objects.push(present::object(subject.api, kind, entry).await.map_err(|status| status.message)?);
    }
    Ok(objects)
}
