//! Access reviews: questions about what somebody may do, asked of this server or by it of a webhook
//! (pkg/apis/authorization/validation and apiserver: plugin/pkg/authorizer/webhook, v1.37).

use plimsoll_admission::rbac::Attributes;
use plimsoll_meta::field::{FieldError, Path};
use plimsoll_meta::selector::{FieldRequirement, Fields, Labels, Operator, Requirement};
use serde_json::{Map, Value, json};

use crate::document::{list, text, texts};
use crate::{Decision, User};

/// What is asked about, apart from who.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    verb: String,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
    path: String,
    fields: Vec<FieldRequirement>,
    labels: Vec<Requirement>,
    /// What could not be read and was left out; the answer tells of it.
    pub flaws: Vec<String>,
}

impl Question {
    /// Reads the attributes of a review's specification that [`check`] has nothing against.
    pub fn read(spec: &Value) -> Self {
        let (resource, other) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
        let mut question = Self::default();
        if !resource.is_object() {
            question.verb = text(other, "verb").unwrap_or_default();
            question.path = text(other, "path").unwrap_or_default();
            return question;
        }
        let part = |field: &str| text(resource, field).unwrap_or_default();
        question.verb = part("verb");
        question.group = part("group");
        question.version = part("version");
        question.resource = part("resource");
        question.subresource = part("subresource");
        question.namespace = part("namespace");
        question.name = part("name");
        question.read_fields(&resource["fieldSelector"]);
        question.read_labels(&resource["labelSelector"]);
        question
    }

    fn read_fields(&mut self, selector: &Value) {
        if let Some(raw) = text(selector, "rawSelector") {
            match Fields::parse(&raw) {
                Ok(fields) => self.fields = fields.0,
                Err(error) => self.flaws.push(error),
            }
        }
        for one in list(selector, "requirements") {
            let (field, values) = (text(one, "key").unwrap_or_default(), texts(&one["values"]));
            match (one["operator"].as_str(), &values[..]) {
                (Some(sign @ ("In" | "NotIn")), [value]) => {
                    self.fields.push(FieldRequirement { field, value: value.clone(), equal: sign == "In" });
                }
                (Some("In" | "NotIn"), _) => {
                    self.flaws.push(format!("fieldSelector: {field:?} must have exactly one value"));
                }
                (other, _) => self.flaws.push(format!(
                    "fieldSelector: {:?} is not a valid field selector operator",
                    other.unwrap_or_default()
                )),
            }
        }
    }

    fn read_labels(&mut self, selector: &Value) {
        if let Some(raw) = text(selector, "rawSelector") {
            match Labels::parse(&raw) {
                Ok(labels) => self.labels = labels.0,
                Err(error) => self.flaws.push(error),
            }
        }
        for one in list(selector, "requirements") {
            let (key, values) = (text(one, "key").unwrap_or_default(), texts(&one["values"]));
            let operator = match one["operator"].as_str() {
                Some("In") => Operator::In(values),
                Some("NotIn") => Operator::NotIn(values),
                Some("Exists") => Operator::Exists,
                Some("DoesNotExist") => Operator::DoesNotExist,
                other => {
                    let other = other.unwrap_or_default();
                    self.flaws
                        .push(format!("labelSelector: {other:?} is not a valid label selector operator"));
                    continue;
                }
            };
            self.labels.push(Requirement { key, operator });
        }
    }

    /// The question as authorizers take it.
    pub fn attributes(&self) -> Attributes<'_> {
        Attributes {
            verb: &self.verb,
            group: &self.group,
            version: &self.version,
            resource: &self.resource,
            subresource: &self.subresource,
            namespace: &self.namespace,
            name: &self.name,
            path: &self.path,
            fields: &self.fields,
            labels: &self.labels,
        }
    }
}

/// What is wrong with the specification of a review about a named user or about oneself.
pub fn check(spec: &Value, names_user: bool) -> Vec<FieldError> {
    let path = Path::root("spec");
    let (resource, other) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    let mut errors = Vec::new();
    match (resource.is_object(), other.is_object()) {
        (true, true) => {
            let at = path.child("nonResourceAttributes");
            let detail = "cannot be specified in combination with resourceAttributes";
            errors.push(FieldError::invalid(&at, other, detail));
        }
        (false, false) => {
            let at = path.child("resourceAttributes");
            let detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            errors.push(FieldError::invalid(&at, &Value::Null, detail));
        }
        _ => {}
    }
    if names_user && text(spec, "user").is_none() && list(spec, "groups").is_empty() {
        let detail = "at least one of user or group must be specified";
        errors.push(FieldError::invalid(&path.child("user"), &json!(""), detail));
    }
    for field in ["fieldSelector", "labelSelector"] {
        let (selector, at) = (&resource[field], path.child("resourceAttributes").child(field));
        if !selector.is_object() {
            continue;
        }
        let requirements = list(selector, "requirements");
        match (text(selector, "rawSelector"), requirements.is_empty()) {
            (Some(raw), false) => errors.push(FieldError::invalid(
                &at.child("rawSelector"),
                &json!(raw),
                "may not specified at the same time as requirements",
            )),
            (None, true) => errors.push(FieldError::required(
                &at.child("requirements"),
                format!("when {at} is specified, requirements or rawSelector is required"),
            )),
            _ => {}
        }
        for (index, one) in requirements.iter().enumerate() {
            let at = at.child("requirements").index(index);
            let values = list(one, "values");
            if text(one, "key").is_none() {
                errors.push(FieldError::required(&at.child("key"), "must be specified"));
            }
            match one["operator"].as_str().unwrap_or_default() {
                "In" | "NotIn" if values.is_empty() => errors.push(FieldError::required(
                    &at.child("values"),
                    "must be specified when `operator` is 'In' or 'NotIn'",
                )),
                "Exists" | "DoesNotExist" if !values.is_empty() => errors.push(FieldError::forbidden(
                    &at.child("values"),
                    "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                )),
                "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
                other => {
                    let detail = "not a valid selector operator";
                    errors.push(FieldError::invalid(&at.child("operator"), &json!(other), detail));
                }
            }
        }
    }
    errors
}

/// The specification of a review that asks a webhook about a request.
pub fn specification(user: &User, wanted: &Attributes<'_>) -> Value {
    let mut spec = json!({"user": user.name, "groups": user.groups});
    if !user.uid.is_empty() {
        spec["uid"] = json!(user.uid);
    }
    if !user.extra.is_empty() {
        spec["extra"] = json!(user.extra);
    }
    if wanted.resource.is_empty() {
        spec["nonResourceAttributes"] = json!({"path": wanted.path, "verb": wanted.verb});
        return spec;
    }
    let mut resource = Map::new();
    for (field, value) in [
        ("namespace", wanted.namespace),
        ("verb", wanted.verb),
        ("group", wanted.group),
        ("version", wanted.version),
        ("resource", wanted.resource),
        ("subresource", wanted.subresource),
        ("name", wanted.name),
    ] {
        if !value.is_empty() {
            resource.insert(field.to_owned(), json!(value));
        }
    }
    if !wanted.fields.is_empty() {
        let requirements: Vec<Value> = wanted.fields.iter().map(field_requirement).collect();
        resource.insert("fieldSelector".to_owned(), json!({ "requirements": requirements }));
    }
    if !wanted.labels.is_empty() {
        let requirements: Vec<Value> = wanted.labels.iter().filter_map(label_requirement).collect();
        resource.insert("labelSelector".to_owned(), json!({ "requirements": requirements }));
    }
    spec["resourceAttributes"] = Value::Object(resource);
    spec
}

fn field_requirement(one: &FieldRequirement) -> Value {
    json!({"key": one.field, "operator": if one.equal { "In" } else { "NotIn" }, "values": [one.value]})
}

/// Comparisons by size have no form in reviews; they are left out, which asks for more.
fn label_requirement(one: &Requirement) -> Option<Value> {
    Some(match &one.operator {
        Operator::In(values) => json!({"key": one.key, "operator": "In", "values": values}),
        Operator::NotIn(values) => json!({"key": one.key, "operator": "NotIn", "values": values}),
        Operator::Exists => json!({"key": one.key, "operator": "Exists"}),
        Operator::DoesNotExist => json!({"key": one.key, "operator": "DoesNotExist"}),
        Operator::GreaterThan(_) | Operator::LessThan(_) => return None,
    })
}

/// The body of a question to a webhook.
pub fn review(version: &str, spec: &Value) -> Value {
    let mut review = json!({"kind": "SubjectAccessReview", "apiVersion": format!("authorization.k8s.io/{version}"),
        "metadata": {"creationTimestamp": null}, "spec": spec, "status": {"allowed": false}});
    // The old version calls groups by another name.
    if let (true, Some(spec)) = (version == "v1beta1", review["spec"].as_object_mut())
        && let Some(groups) = spec.remove("groups")
    {
        spec.insert("group".to_owned(), groups);
    }
    review
}

/// What a webhook answered.
pub fn answer(review: &Value) -> Decision {
    let status = &review["status"];
    let reason = text(status, "reason").unwrap_or_default();
    match (status["denied"] == true, status["allowed"] == true) {
        (true, _) => Decision::Deny(reason),
        (false, true) => Decision::Allow(reason),
        (false, false) => Decision::NoOpinion(reason),
    }
}

/// Answers to questions with odd long parts are not kept: they would fill memory.
pub fn is_worth_keeping(wanted: &Attributes<'_>) -> bool {
    let parts = [
        wanted.namespace,
        wanted.verb,
        wanted.version,
        wanted.resource,
        wanted.subresource,
        wanted.name,
        wanted.path,
        wanted.group,
    ];
    parts.iter().map(|part| part.len()).sum::<usize>() < 10_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_come_back_as_they_were_asked() {
        let user = User::authenticated("ann", &["dev"]);
        for spec in [
            json!({"resourceAttributes": {"verb": "list", "group": "apps", "version": "v1", "resource": "deployments",
                "namespace": "a", "fieldSelector": {"requirements": [{"key": "metadata.name", "operator": "In", "values": ["x"]}]},
                "labelSelector": {"requirements": [{"key": "app", "operator": "Exists"}]}}}),
            json!({"nonResourceAttributes": {"verb": "get", "path": "/livez"}}),
        ] {
            assert!(check(&spec, false).is_empty());
            let question = Question::read(&spec);
            let mut expected = spec;
            expected["user"] = json!("ann");
            expected["groups"] = json!(["dev", "system:authenticated"]);
            assert_eq!(specification(&user, &question.attributes()), expected);
        }
    }

    #[test]
    fn incomplete_questions_are_refused_with_the_field() {
        let resource = |selector: Value| json!({"user": "a", "resourceAttributes": {"verb": "get", "labelSelector": selector}});
        for (spec, expected) in [
            (
                json!({"user": "a"}),
                "spec.resourceAttributes: Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be specified",
            ),
            (
                json!({"resourceAttributes": {"verb": "get"}}),
                "spec.user: Invalid value: \"\": at least one of user or group must be specified",
            ),
            (
                resource(json!({"rawSelector": "a", "requirements": [{"key": "a", "operator": "Exists"}]})),
                "spec.resourceAttributes.labelSelector.rawSelector: Invalid value: \"a\": may not specified at the same time as requirements",
            ),
            (
                resource(json!({})),
                "spec.resourceAttributes.labelSelector.requirements: Required value: when spec.resourceAttributes.labelSelector is specified, requirements or rawSelector is required",
            ),
        ] {
            let errors = check(&spec, true);
            assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), [expected]);
        }
    }

    #[test]
    fn answers_are_read() {
        for (status, expected) in [
            (json!({"allowed": true, "reason": "r"}), Decision::Allow("r".to_owned())),
            (json!({"allowed": false, "reason": "r"}), Decision::NoOpinion("r".to_owned())),
            (json!({"allowed": false, "denied": true}), Decision::Deny(String::new())),
            (json!({"allowed": true, "denied": true}), Decision::Deny(String::new())),
            (json!({}), Decision::NoOpinion(String::new())),
        ] {
            assert_eq!(answer(&json!({ "status": status })), expected);
        }
    }

    #[test]
    fn the_old_version_names_groups_in_its_way() {
        let spec = json!({"user": "a", "groups": ["b"]});
        assert_eq!(review("v1beta1", &spec)["spec"], json!({"user": "a", "group": ["b"]}));
        assert_eq!(review("v1", &spec)["spec"], spec);
    }
}
