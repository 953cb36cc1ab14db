//! What a webhook is sent: `AdmissionReview`.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::Value;

use crate::matching::{Attributes, Kind, Resource, Target};

/// Versions of the review, which differ in what of the answer is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReviewVersion {
    /// `admission.k8s.io/v1`.
    V1,
    /// `admission.k8s.io/v1beta1`.
    V1Beta1,
}

impl ReviewVersion {
    /// Reads an entry of `admissionReviewVersions`; `None` if it is not known here.
    pub fn read(value: &Value) -> Option<Self> {
        match value.as_str() {
            Some("v1") => Some(Self::V1),
            Some("v1beta1") => Some(Self::V1Beta1),
            _ => None,
        }
    }

    /// The last part of the name.
    pub fn name(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V1Beta1 => "v1beta1",
        }
    }

    /// As objects write it.
    pub fn api_version(self) -> &'static str {
        match self {
            Self::V1 => "admission.k8s.io/v1",
            Self::V1Beta1 => "admission.k8s.io/v1beta1",
        }
    }
}

/// Who made the request.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// User name.
    pub name: &'a str,
    /// May be empty.
    pub uid: &'a str,
    /// Groups.
    pub groups: &'a [String],
    /// What else the authenticator told.
    pub extra: &'a BTreeMap<String, Vec<String>>,
}

/// Both states of the object in the version that a judge wants to see.
#[derive(Clone, Copy, Debug)]
pub struct Versioned<'a> {
    /// The resource and kind in that version.
    pub target: Target<'a>,
    /// As it shall be.
    pub object: Option<&'a Value>,
    /// As it is.
    pub old: Option<&'a Value>,
}

/// One question to a webhook.
#[derive(Clone, Copy, Debug)]
pub struct Review<'a> {
    /// Names this question; the answer must repeat it.
    pub uid: &'a str,
    /// The request.
    pub attributes: &'a Attributes<'a>,
    /// The objects.
    pub versioned: Versioned<'a>,
    /// The sender.
    pub asker: Asker<'a>,
    /// Nothing will be stored.
    pub dry_run: bool,
    /// `CreateOptions`, `UpdateOptions` or `DeleteOptions`; null for connections.
    pub options: &'a Value,
}

impl Review<'_> {
    /// The bytes of the question.
    pub fn encode(&self, version: ReviewVersion) -> Vec<u8> {
        let whole = Envelope { kind: "AdmissionReview", api_version: version.api_version(), request: self };
        serde_json::to_vec(&whole).expect("JSON values have text keys and memory does not fail")
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a> {
    kind: &'a str,
    api_version: &'a str,
    request: &'a Review<'a>,
}

impl Serialize for Review<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { uid, attributes, versioned, asker, dry_run, options } = self;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("uid", uid)?;
        map.serialize_entry("kind", &KindName(versioned.target.kind))?;
        map.serialize_entry("resource", &ResourceName(versioned.target.resource))?;
        text(&mut map, "subResource", attributes.subresource)?;
        map.serialize_entry("requestKind", &KindName(attributes.target.kind))?;
        map.serialize_entry("requestResource", &ResourceName(attributes.target.resource))?;
        text(&mut map, "requestSubResource", attributes.subresource)?;
        text(&mut map, "name", attributes.name)?;
        text(&mut map, "namespace", attributes.namespace)?;
        map.serialize_entry("operation", attributes.operation.name())?;
        map.serialize_entry("userInfo", asker)?;
        map.serialize_entry("object", &versioned.object)?;
        map.serialize_entry("oldObject", &versioned.old)?;
        map.serialize_entry("dryRun", dry_run)?;
        map.serialize_entry("options", options)?;
        map.end()
    }
}

impl Serialize for Asker<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        text(&mut map, "username", self.name)?;
        text(&mut map, "uid", self.uid)?;
        if !self.groups.is_empty() {
            map.serialize_entry("groups", self.groups)?;
        }
        if !self.extra.is_empty() {
            map.serialize_entry("extra", self.extra)?;
        }
        map.end()
    }
}

/// Writes a text that is left out when empty.
fn text<M: SerializeMap>(map: &mut M, key: &str, value: &str) -> Result<(), M::Error> {
    if value.is_empty() { Ok(()) } else { map.serialize_entry(key, value) }
}

struct KindName<'a>(Kind<'a>);

impl Serialize for KindName<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Kind { group, version, kind } = self.0;
        serializer.collect_map([("group", group), ("version", version), ("kind", kind)])
    }
}

struct ResourceName<'a>(Resource<'a>);

impl Serialize for ResourceName<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Resource { group, version, resource } = self.0;
        serializer.collect_map([("group", group), ("version", version), ("resource", resource)])
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::matching::Operation;

    #[test]
    fn a_review_tells_both_the_request_and_how_it_is_seen() {
        let target = |version| Target {
            resource: Resource { group: "apps", version, resource: "deployments" },
            kind: Kind { group: "apps", version, kind: "Deployment" },
        };
        let object = json!({"kind": "Deployment"});
        let attributes = Attributes {
            operation: Operation::Update,
            target: target("v1"),
            subresource: "status",
            namespace: "n",
            name: "web",
            object: Some(&object),
            old: None,
        };
        let review = Review {
            uid: "u-1",
            attributes: &attributes,
            versioned: Versioned { target: target("v1beta1"), object: Some(&object), old: None },
            asker: Asker {
                name: "jane",
                uid: "",
                groups: &["dev".to_owned()],
                extra: &BTreeMap::from([("scopes".to_owned(), vec!["a".to_owned()])]),
            },
            dry_run: true,
            options: &json!({"kind": "UpdateOptions"}),
        };
        let sent: Value = serde_json::from_slice(&review.encode(ReviewVersion::V1)).expect("JSON");
        assert_eq!(
            sent,
            json!({
                "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1",
                "request": {
                    "uid": "u-1",
                    "kind": {"group": "apps", "version": "v1beta1", "kind": "Deployment"},
                    "resource": {"group": "apps", "version": "v1beta1", "resource": "deployments"},
                    "subResource": "status",
                    "requestKind": {"group": "apps", "version": "v1", "kind": "Deployment"},
                    "requestResource": {"group": "apps", "version": "v1", "resource": "deployments"},
                    "requestSubResource": "status",
                    "name": "web", "namespace": "n", "operation": "UPDATE",
                    "userInfo": {"username": "jane", "groups": ["dev"], "extra": {"scopes": ["a"]}},
                    "object": {"kind": "Deployment"}, "oldObject": null, "dryRun": true,
                    "options": {"kind": "UpdateOptions"},
                },
            })
        );
    }
}
