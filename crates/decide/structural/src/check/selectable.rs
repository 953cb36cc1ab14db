//! `selectableFields`: paths to scalar fields outside of metadata.

use plimsoll_meta::field::{FieldError, Path};
use serde_json::Value;

const FIELDS: &str = "selectableFields";

/// Most fields that a version may offer to selectors.
const MOST: usize = 8;

pub(super) fn check(versions: &[Value]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let same = |version: &Value| version[FIELDS].is_array() && version[FIELDS] == versions[0][FIELDS];
    let shared = versions.iter().all(same);
    for (at, version) in versions.iter().enumerate().take(if shared { 1 } else { versions.len() }) {
        let path = match shared {
            true => Path::root("spec").child(FIELDS),
            false => Path::root("spec").child("versions").index(at).child(FIELDS),
        };
        let fields = version[FIELDS].as_array().map_or(&[][..], Vec::as_slice);
        check_version(fields, &version["schema"]["openAPIV3Schema"], &path, &mut errors);
    }
    errors
}

fn check_version(fields: &[Value], props: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    let mut seen: Vec<String> = Vec::new();
    for (at, field) in fields.iter().enumerate() {
        let (at, shown) = (path.index(at).child("jsonPath"), &field["jsonPath"]);
        let text = shown.as_str().unwrap_or_default();
        if text.is_empty() {
            errors.push(FieldError::required(&at, ""));
            continue;
        }
        let (names, found) = match crate::path::resolve_fields(text, props) {
            Ok(found) => found,
            Err(why) => {
                errors.push(FieldError::invalid(&at, shown, format!("is an invalid path: {why}")));
                continue;
            }
        };
        if names.first().is_some_and(|first| first == "metadata") {
            errors.push(FieldError::invalid(&at, shown, "must not point to fields in metadata"));
        }
        if !matches!(found["type"].as_str(), Some("string" | "boolean" | "integer")) {
            let detail = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.";
            errors.push(FieldError::invalid(&at, shown, detail));
        }
        let name = names.join(".");
        match seen.contains(&name) {
            true => errors.push(FieldError::duplicate(&at, shown)),
            false => seen.push(name),
        }
    }
    if seen.len() > MOST {
        errors.push(FieldError::too_many(path, seen.len(), MOST));
    }
}
