//! The record of a request, as it is written.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::policy::{Level, Stage};

/// `Event` of audit.k8s.io/v1.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    kind: &'static str,
    api_version: &'static str,
    /// How much is recorded.
    pub level: Level,
    /// Unique id of the request, the same in all its events.
    #[serde(rename = "auditID")]
    pub audit_id: String,
    /// When the event was made.
    pub stage: Stage,
    /// Path and query as the client sent them.
    #[serde(rename = "requestURI")]
    pub request_uri: String,
    /// Verb, as authorization knows it.
    pub verb: String,
    /// Who asked.
    pub user: UserInfo,
    /// In whose name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub impersonated_user: Option<UserInfo>,
    /// How it was permitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authentication_metadata: Option<AuthenticationMetadata>,
    /// Where the request came from, the client first.
    #[serde(rename = "sourceIPs", skip_serializing_if = "Vec::is_empty")]
    pub source_ips: Vec<String>,
    /// The client's program, as it says.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user_agent: String,
    /// The object that the request is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object_ref: Option<ObjectReference>,
    /// How it ended: a `Status`, often with its code alone.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub response_status: Value,
    /// Body of the request, from level Request on.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub request_object: Value,
    /// Body of the response, at level RequestResponse.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub response_object: Value,
    /// When the request came, with microseconds.
    pub request_received_timestamp: String,
    /// When this event was made, with microseconds.
    pub stage_timestamp: String,
    /// What the stages of the request have to say.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// How somebody was permitted to ask in another's name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthenticationMetadata {
    /// The verb of constrained impersonation that permitted it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub impersonation_constraint: String,
}

/// A user, as events name one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct UserInfo {
    /// Name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub username: String,
    /// Unique id.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Groups.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// What else is known.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, Vec<String>>,
}

/// An object, as events name one. Absent parts are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectReference {
    /// Plural name of its resource.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource: String,
    /// Its namespace.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Its name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its uid.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// API group of its resource.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_group: String,
    /// API version of its resource.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_version: String,
    /// Its version.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    /// The part of it that the request is about.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subresource: String,
}

impl Event {
    /// The same without bodies, and a note of that.
    pub fn truncated(&self) -> Self {
        let mut short = Self { request_object: Value::Null, response_object: Value::Null, ..self.clone() };
        short.annotations.insert("audit.k8s.io/truncated".to_owned(), "true".to_owned());
        short
    }

    /// The first event of a request; `received` is the time in the form of the API.
    pub fn received(level: Level, audit_id: String, user: UserInfo, received: String) -> Self {
        Self {
            kind: "Event",
            api_version: "audit.k8s.io/v1",
            level,
            audit_id,
            stage: Stage::RequestReceived,
            request_uri: String::new(),
            verb: String::new(),
            user,
            impersonated_user: None,
            authentication_metadata: None,
            source_ips: Vec::new(),
            user_agent: String::new(),
            object_ref: None,
            response_status: Value::Null,
            request_object: Value::Null,
            response_object: Value::Null,
            request_received_timestamp: received.clone(),
            stage_timestamp: received,
            annotations: BTreeMap::new(),
        }
    }

    /// Fills in what the object of the request knows better than its path.
    pub fn refer(&mut self, object: &Value) {
        let reference = self.object_ref.get_or_insert_default();
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        for (known, field) in [
            (&mut reference.namespace, "namespace"),
            (&mut reference.name, "name"),
            (&mut reference.uid, "uid"),
            (&mut reference.resource_version, "resourceVersion"),
        ] {
            if known.is_empty() {
                *known = text(field);
            }
        }
    }
}

/// How long a user agent may be.
const USER_AGENT: usize = 1024;

/// A user agent, cut to what is recorded of it.
pub fn user_agent(text: &str) -> String {
    if text.len() <= USER_AGENT {
        return text.to_owned();
    }
    let mut end = USER_AGENT;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}...TRUNCATED", &text[..end])
}

/// A body without the managed fields of its object, or of the items of its list or table.
pub fn without_managed_fields(mut body: Value) -> Value {
    let forget = |object: &mut Value| {
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
    };
    forget(&mut body);
    for item in body.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten() {
        forget(item);
    }
    for row in body.get_mut("rows").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(object) = row.get_mut("object") {
            forget(object);
        }
    }
    body
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn events_read_as_upstream_writes_them() {
        let user = UserInfo { username: "ann".into(), groups: vec!["dev".into()], ..UserInfo::default() };
        let mut event =
            Event::received(Level::Metadata, "id".into(), user, "2026-01-01T00:00:00.000001Z".into());
        event.request_uri = "/api/v1/namespaces/a/secrets".into();
        event.verb = "create".into();
        event.object_ref = Some(ObjectReference {
            resource: "secrets".into(),
            namespace: "a".into(),
            api_version: "v1".into(),
            ..ObjectReference::default()
        });
        event.refer(&json!({"metadata": {"name": "s", "namespace": "b", "uid": "u"}}));
        event.response_status = json!({"metadata": {}, "code": 201});
        event.annotations.insert("authorization.k8s.io/decision".into(), "allow".into());
        assert_eq!(
            serde_json::to_string(&event).expect("encodes"),
            r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"id","stage":"RequestReceived","requestURI":"/api/v1/namespaces/a/secrets","verb":"create","user":{"username":"ann","groups":["dev"]},"objectRef":{"resource":"secrets","namespace":"a","name":"s","uid":"u","apiVersion":"v1"},"responseStatus":{"code":201,"metadata":{}},"requestReceivedTimestamp":"2026-01-01T00:00:00.000001Z","stageTimestamp":"2026-01-01T00:00:00.000001Z","annotations":{"authorization.k8s.io/decision":"allow"}}"#
        );
    }

    #[test]
    fn managed_fields_are_left_out() {
        let object = || json!({"metadata": {"name": "a", "managedFields": [1]}});
        let plain = json!({"metadata": {"name": "a"}});
        assert_eq!(without_managed_fields(object()), plain);
        assert_eq!(without_managed_fields(json!({"items": [object()]})), json!({"items": [plain]}));
        assert_eq!(
            without_managed_fields(json!({"rows": [{"object": object()}]})),
            json!({"rows": [{"object": plain}]})
        );
    }

    #[test]
    fn user_agents_are_cut() {
        assert_eq!(user_agent("kubectl"), "kubectl");
        let cut = user_agent(&"é".repeat(1000));
        assert_eq!((cut.len(), cut.ends_with("...TRUNCATED")), (1024 + 12, true));
    }
}
