//! One operation: what tells it from others, and how a document says it.

use serde_json::{Map, Value, json};

use super::super::Style;
use super::super::definitions::{DELETE_OPTIONS, PATCH};
use super::Operations;
use super::names::{capital, group_words};
use super::parameters::{DELETE, FORCE, LIST, OBJECTS, PATCHES, Parameter, STREAMS, WRITE};

/// What tells one operation from another.
pub(super) struct Operation<'a> {
    pub(super) method: &'static str,
    /// First word of its name.
    pub(super) verb: &'a str,
    /// Rest of its name.
    pub(super) subject: String,
    pub(super) action: &'a str,
    pub(super) description: String,
    pub(super) identity: (&'a str, &'a str, &'a str),
    /// What is sent.
    pub(super) body: Option<(&'a str, bool)>,
    /// What comes back; empty for text.
    pub(super) answer: &'a str,
    pub(super) codes: &'a [&'a str],
    pub(super) consumes: Vec<&'a str>,
    pub(super) produces: Vec<&'a str>,
    pub(super) parameters: Vec<Parameter>,
}

impl<'a> Operations<'a> {
    /// Media types of objects: custom ones have no protobuf.
    pub(super) fn objects(&self) -> Vec<&'a str> {
        OBJECTS[..if self.kind.is_custom() { 2 } else { OBJECTS.len() }].to_vec()
    }

    /// Media types of what is written: strategic patches are for built-in kinds.
    fn sent(&self, patch: bool) -> Vec<&'a str> {
        match (patch, self.kind.is_custom()) {
            (true, false) => PATCHES.to_vec(),
            (true, true) => vec![PATCHES[0], PATCHES[1], PATCHES[3]],
            (false, false) => vec!["*/*"],
            (false, true) => self.objects(),
        }
    }

    pub(super) fn listing(&self, verb: &'a str, subject: String, answer: &'a str) -> Operation<'a> {
        let mut produces = self.objects();
        if !self.kind.is_custom() {
            produces.extend(STREAMS);
        }
        Operation {
            verb,
            subject,
            action: "list",
            description: format!("list or watch objects of kind {}", self.kind.kind),
            produces,
            parameters: LIST.to_vec(),
            ..self.reading(answer)
        }
    }

    pub(super) fn reading(&self, answer: &'a str) -> Operation<'a> {
        Operation {
            method: "get",
            verb: "read",
            subject: String::new(),
            action: "get",
            description: String::new(),
            identity: self.identity(),
            body: None,
            answer,
            codes: &["200"],
            consumes: vec!["*/*"],
            produces: self.objects(),
            parameters: Vec::new(),
        }
    }

    pub(super) fn write(&self, method: &'static str, object: &'a str) -> Operation<'a> {
        let patch = method == "patch";
        let mut parameters = WRITE.to_vec();
        parameters.extend(patch.then_some(FORCE));
        Operation {
            method,
            action: method,
            body: Some((if patch { PATCH } else { object }, true)),
            codes: if method == "post" { &["200", "201", "202"] } else { &["200", "201"] },
            consumes: self.sent(patch),
            parameters,
            ..self.reading(object)
        }
    }

    pub(super) fn deletion(&self, answer: &'a str) -> Operation<'a> {
        Operation {
            method: "delete",
            verb: "delete",
            action: "delete",
            body: Some((DELETE_OPTIONS, false)),
            codes: &["200", "202"],
            parameters: DELETE.to_vec(),
            ..self.reading(answer)
        }
    }

    pub(super) fn add(
        &self,
        paths: &mut Map<String, Value>,
        path: String,
        operations: Vec<Operation<'_>>,
        shared: &[Parameter],
    ) {
        if operations.is_empty() {
            return;
        }
        let mut item: Map<String, Value> =
            operations.iter().map(|one| (one.method.to_owned(), self.operation(one))).collect();
        let named = [
            ("name", format!("name of the {}", operations[0].identity.2)),
            ("namespace", "object name and auth scope, such as for teams and projects".to_owned()),
            ("path", "path to the resource".to_owned()),
        ];
        let mut parameters: Vec<Value> = named
            .into_iter()
            .filter(|(name, _)| path.contains(&format!("{{{name}}}")))
            .map(|(name, text)| parameter(self.style, (name, "string", &text), "path"))
            .collect();
        parameters.extend(shared.iter().map(|one| parameter(self.style, *one, "query")));
        item.insert("parameters".to_owned(), Value::Array(parameters));
        paths.insert(path, Value::Object(item));
    }

    fn operation(&self, one: &Operation<'_>) -> Value {
        let (group, version, kind) = one.identity;
        let name = group_words(self.kind.group);
        let mut value = json!({
            "description": one.description,
            "operationId": format!("{}{}{}{}", one.verb, capital(&name), capital(self.kind.version), one.subject),
            "tags": [format!("{name}_{}", self.kind.version)],
            "x-kubernetes-action": one.action,
            "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": kind},
        });
        let mut parameters: Vec<Value> =
            one.parameters.iter().map(|one| parameter(self.style, *one, "query")).collect();
        if let Some((body, required)) = one.body {
            let schema = json!({"$ref": self.style.reference(body)});
            let mut sent = match self.style {
                Style::V2 => json!({"name": "body", "in": "body", "schema": schema}),
                Style::V3 => json!({"content": content(&one.consumes, &schema)}),
            };
            if required {
                sent["required"] = json!(true);
            }
            match self.style {
                Style::V2 => parameters.push(sent),
                Style::V3 => value["requestBody"] = sent,
            }
        }
        if self.style == Style::V2 {
            value["consumes"] = json!(one.consumes);
            value["produces"] = json!(one.produces);
            value["schemes"] = json!(["https"]);
        }
        if !parameters.is_empty() {
            value["parameters"] = Value::Array(parameters);
        }
        value["responses"] = self.responses(one);
        value
    }

    fn responses(&self, one: &Operation<'_>) -> Value {
        let answer = match one.answer {
            "" => json!({"type": "string"}),
            name => json!({"$ref": self.style.reference(name)}),
        };
        let response = |code: &&str| {
            let description = match *code {
                "201" => "Created",
                "202" => "Accepted",
                _ => "OK",
            };
            let response = match self.style {
                Style::V2 => json!({"description": description, "schema": answer}),
                Style::V3 => {
                    json!({"description": description, "content": content(&one.produces, &answer)})
                }
            };
            ((*code).to_owned(), response)
        };
        let mut responses: Map<String, Value> = one.codes.iter().map(response).collect();
        responses.insert("401".to_owned(), json!({"description": "Unauthorized"}));
        Value::Object(responses)
    }
}

/// A parameter of a path or query.
pub(in super::super) fn parameter(
    style: Style,
    (name, kind, text): (&str, &str, &str),
    place: &str,
) -> Value {
    let mut parameter = json!({"name": name, "in": place, "description": text});
    if place == "path" {
        parameter["required"] = json!(true);
    }
    match style {
        Style::V2 => {
            parameter["type"] = json!(kind);
            parameter["uniqueItems"] = json!(true);
        }
        Style::V3 => parameter["schema"] = json!({"type": kind, "uniqueItems": true}),
    }
    parameter
}

/// The same schema in each of these media types.
pub(in super::super) fn content(media: &[&str], schema: &Value) -> Value {
    Value::Object(media.iter().map(|media| ((*media).to_owned(), json!({"schema": schema}))).collect())
}
