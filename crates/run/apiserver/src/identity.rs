//! Who an object is: what a write may say of its name, namespace, version and end, and what only the server says.
//!
//! What enters are proposals; what leaves are the same with their identity settled, or why they are refused.

use plimsoll_meta::field::{ErrorKind, FieldError};
use plimsoll_meta::status::Status;
use plimsoll_store::Revision;
use serde_json::Value;

use crate::object::{self, deleting, meta, metadata_mut};
use crate::write::{WHATEVER, Write};

impl Write<'_> {
    /// The namespace of the request, and nothing of what only the server gives.
    pub(crate) fn settle_scope(&self, object: &mut Value) -> Result<(), Status> {
        self.same_namespace(object)?;
        let metadata = metadata_mut(object);
        if self.kind.namespaced {
            metadata.insert("namespace".to_owned(), self.namespace.into());
        } else {
            metadata.remove("namespace");
        }
        for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "resourceVersion"] {
            metadata.remove(field);
        }
        Ok(())
    }

    /// Name, uid and time of a new object.
    pub(crate) fn settle_identity(&self, object: &mut Value) {
        let metadata = metadata_mut(object);
        metadata.insert("uid".to_owned(), uuid::Uuid::new_v4().to_string().into());
        metadata.insert("creationTimestamp".to_owned(), object::time(self.now));
        let text = |field: &str| metadata.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        if text("name").is_empty() && !text("generateName").is_empty() {
            let name = generated(&text("generateName"));
            metadata.insert("name".to_owned(), name.into());
        }
    }

    fn same_namespace(&self, object: &Value) -> Result<(), Status> {
        let given = meta(object, "namespace");
        if self.kind.namespaced && !given.is_empty() && given != self.namespace {
            return Err(Status::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        Ok(())
    }

    /// Holds the proposal against the present object; true when it names the version it was made from.
    pub(crate) fn settle_update(
        &self,
        new: &mut Value,
        old: &Value,
        current: Revision,
    ) -> Result<bool, Status> {
        let (group, plural, name) = (self.kind.group, self.kind.plural, self.name);
        self.same_namespace(new)?;
        match meta(new, "name") {
            "" => {
                return Err(Status::bad_request(format!(
                    "the name of the object ({name} based on URL) was undeterminable: name must be provided"
                )));
            }
            given if given == name => {}
            given => {
                return Err(Status::bad_request(format!(
                    "the name of the object ({given}) does not match the name on the URL ({name})"
                )));
            }
        }
        let version = meta(new, "resourceVersion").to_owned();
        let insists = !version.is_empty() && version != "0";
        if insists && version.parse::<u64>().is_err() {
            return Err(Status::new(
                500,
                "",
                format!("strconv.ParseUint: parsing {version:?}: invalid syntax"),
            ));
        }
        if insists && version != current.to_string() {
            return Err(Status::modified(group, plural, name));
        }
        let is_whole = matches!(self.subresource, None | Some("status"));
        if !insists && !self.kind.unconditional_update && is_whole && version != WHATEVER {
            return Err(unconditional(group, plural, name));
        }
        let uid = meta(new, "uid").to_owned();
        if !uid.is_empty() && uid != meta(old, "uid") {
            let cause = format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                meta(old, "uid")
            );
            return Err(Status::conflict(group, plural, name, cause));
        }
        let keep = [
            "namespace",
            "uid",
            "creationTimestamp",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "resourceVersion",
            "selfLink",
        ];
        for field in keep {
            // A change of what is there is left to validation, which names it.
            let is_given = match field {
                "deletionTimestamp" => new["metadata"][field].is_string(),
                "deletionGracePeriodSeconds" => new["metadata"][field].is_i64(),
                _ => false,
            };
            if is_given {
                continue;
            }
            match old["metadata"].get(field) {
                Some(value) => drop(metadata_mut(new).insert(field.to_owned(), value.clone())),
                None => drop(metadata_mut(new).remove(field)),
            }
        }
        if deleting(old) {
            let known = object::finalizers(old);
            if let Some(added) = object::finalizers(new).into_iter().find(|one| !known.contains(one)) {
                let path = plimsoll_meta::field::Path::root("metadata").child("finalizers");
                let detail = format!(
                    "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{added:?}}}"
                );
                return Err(Status::invalid(
                    group,
                    self.kind.kind,
                    name,
                    &[FieldError::forbidden(&path, detail)],
                ));
            }
        }
        Ok(insists)
    }
}

/// A name that begins as wished and ends at random, as apimachinery's name generator makes it.
fn generated(prefix: &str) -> String {
    let mut end = prefix.len().min(63 - SUFFIX);
    while !prefix.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{}", &prefix[..end], random_suffix())
}

/// Letters at the end of a generated name.
const SUFFIX: usize = 5;

/// Letters that make no words.
pub(crate) fn random_suffix() -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    (0..SUFFIX).map(|_| char::from(LETTERS[rand::random_range(0..LETTERS.len())])).collect()
}

/// An update that does not say of which version it is, where that is needed. Upstream names the resource
/// in the place of the kind and the version as a number in hexadecimal.
fn unconditional(group: &str, plural: &str, name: &str) -> Status {
    let error = FieldError {
        kind: ErrorKind::Invalid,
        field: "metadata.resourceVersion".to_owned(),
        value: Some("0x0".to_owned()),
        detail: "must be specified for an update".to_owned(),
    };
    Status::invalid(group, plural, name, &[error])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_names_fit_a_label() {
        let long = "a".repeat(100);
        for prefix in ["web-", long.as_str()] {
            let name = generated(prefix);
            assert_eq!(name.len(), prefix.len().min(58) + 5);
            assert!(plimsoll_meta::name::is_dns1123_label(&name).is_ok(), "{name}");
        }
    }
}
