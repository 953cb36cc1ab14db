//! The upgrade from client-side apply: the fields in kubectl's last-applied annotation are
//! kubectl's own, so that its first server-side apply does not conflict with itself.

use serde_json::Value;

use super::{Request, attempt};
use crate::compare::compare;
use crate::fields::field_set;
use crate::paths::Set;
use crate::{ApplyError, Conflict, Typed};

const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Largest sum of all annotations (apimachinery: TotalAnnotationSizeLimitB).
const MAX_ANNOTATIONS: usize = 256 * 1024;

/// Takes over the conflicting fields if all were applied by kubectl before; else reports
/// those that were not.
pub(super) fn settle(
    live: Option<&Value>,
    conflicts: Vec<Conflict>,
    request: &Request<'_>,
    typed: Typed<'_>,
    ignored: &Set,
) -> Result<Value, ApplyError> {
    let allowed = (request.writer.manager == "kubectl")
        .then(|| live.and_then(|live| applied_before(live, request, typed)));
    let Some(allowed) = allowed.flatten() else { return Err(ApplyError::Conflicts(conflicts)) };
    let left: Vec<Conflict> =
        conflicts.into_iter().filter(|conflict| !allowed.contains(&conflict.steps)).collect();
    if !left.is_empty() {
        return Err(ApplyError::Conflicts(left));
    }
    attempt(live, &Request { force: true, ..*request }, typed, ignored)
}

/// Fields of the annotation that still have the value applied then.
fn applied_before(live: &Value, request: &Request<'_>, typed: Typed<'_>) -> Option<Set> {
    let before: Value = serde_json::from_str(annotation(live)?).ok()?;
    if before["apiVersion"].as_str() != Some(request.writer.api_version) {
        return None;
    }
    let comparison = compare(Some(&before), live, typed);
    Some(field_set(&before, typed).difference(&comparison.changed).difference(&comparison.removed))
}

/// Keeps the annotation in step when kubectl applies, for people who go back to client-side apply.
pub(super) fn refresh(object: &mut Value, request: &Request<'_>) {
    if request.writer.manager != "kubectl" || annotation(object).is_none_or(str::is_empty) {
        return;
    }
    let mut config = request.config.clone();
    if let Some(Value::Object(annotations)) = config.pointer_mut("/metadata/annotations") {
        annotations.remove(ANNOTATION);
    }
    let Some(Value::Object(annotations)) = object.pointer_mut("/metadata/annotations") else { return };
    annotations.insert(ANNOTATION.to_owned(), Value::String(format!("{config}\n")));
    let size: usize =
        annotations.iter().map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum();
    if size > MAX_ANNOTATIONS {
        annotations.remove(ANNOTATION);
    }
}

fn annotation(object: &Value) -> Option<&str> {
    object.get("metadata")?.get("annotations")?.get(ANNOTATION)?.as_str()
}
