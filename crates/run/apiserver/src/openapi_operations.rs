//! The paths of kinds with their operations, as OpenAPI documents describe them.
//!
//! Names, actions, tags and media types are upstream's, because generated clients are named after them.
//! Parameters stand where they are used; upstream's document keeps them aside under names made of hashes.

use plimsoll_catalogue::{Kind, Subresource, Verb};
use serde_json::{Map, Value, json};

use crate::openapi::{PATCH, STATUS, Style, list_name, object_name};

const WATCH_EVENT: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent";
const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";

const OBJECTS: [&str; 4] =
    ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf", "application/cbor"];
const STREAMS: [&str; 3] = [
    "application/json;stream=watch",
    "application/vnd.kubernetes.protobuf;stream=watch",
    "application/cbor-seq",
];
const PATCHES: [&str; 5] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
    "application/apply-patch+cbor",
];

/// (name, type, what it does).
type Parameter = (&'static str, &'static str, &'static str);

const DRY_RUN: Parameter = ("dryRun", "string", "`All` checks the request and changes nothing.");
const PRETTY: Parameter = ("pretty", "string", "`true` asks for an answer with line ends and indentation.");
const WRITE: [Parameter; 3] = [
    DRY_RUN,
    ("fieldManager", "string", "Name of the program or person that owns the fields that are written."),
    ("fieldValidation", "string", "What is done about unknown and doubled fields: Ignore, Warn or Strict."),
];
const FORCE: Parameter = ("force", "boolean", "Lets apply take over fields that others own.");
const DELETE: [Parameter; 5] = [
    DRY_RUN,
    ("gracePeriodSeconds", "integer", "Seconds until the object is gone; 0 is at once."),
    (
        "ignoreStoreReadErrorWithClusterBreakingPotential",
        "boolean",
        "Deletes an object that cannot be read any more.",
    ),
    ("orphanDependents", "boolean", "Older word for propagationPolicy."),
    ("propagationPolicy", "string", "What happens to dependents: Orphan, Background or Foreground."),
];
const LIST: [Parameter; 10] = [
    ("allowWatchBookmarks", "boolean", "Asks for events that tell how far a watch has come."),
    ("continue", "string", "Where the list before this one ended."),
    ("fieldSelector", "string", "Selects objects by fields."),
    ("labelSelector", "string", "Selects objects by labels."),
    ("limit", "integer", "Most objects in one answer."),
    ("resourceVersion", "string", "State that the answer must not be older than, or begin at."),
    ("resourceVersionMatch", "string", "How resourceVersion is meant: Exact or NotOlderThan."),
    ("sendInitialEvents", "boolean", "Begins a watch with the present objects."),
    ("timeoutSeconds", "integer", "Seconds after which the answer ends."),
    ("watch", "boolean", "Asks for changes instead of a list."),
];

/// The paths of these kinds.
pub(crate) fn paths(kinds: &[&Kind], style: Style) -> Map<String, Value> {
    let mut paths = Map::new();
    for kind in kinds {
        let operations = Operations { kind, style };
        operations.describe(&mut paths);
        for sub in kind.subresources {
            operations.describe_below(sub, &mut paths);
        }
    }
    paths
}

/// The operations of one kind.
struct Operations<'a> {
    kind: &'a Kind,
    style: Style,
}

/// What tells one operation from another.
struct Operation<'a> {
    method: &'static str,
    /// First word of its name.
    verb: &'a str,
    /// Rest of its name.
    subject: String,
    action: &'a str,
    description: String,
    identity: (&'a str, &'a str, &'a str),
    /// What is sent.
    body: Option<(&'a str, bool)>,
    /// What comes back; empty for text.
    answer: &'a str,
    codes: &'a [&'a str],
    consumes: &'a [&'a str],
    produces: Vec<&'a str>,
    parameters: Vec<Parameter>,
}

impl<'a> Operations<'a> {
    fn root(&self) -> String {
        match self.kind.group {
            "" => format!("/api/{}", self.kind.version),
            group => format!("/apis/{group}/{}", self.kind.version),
        }
    }

    fn collection(&self) -> String {
        let scope = if self.kind.namespaced { "/namespaces/{namespace}" } else { "" };
        format!("{}{scope}/{}", self.root(), self.kind.plural)
    }

    fn object(&self) -> String {
        // Namespaces are the one kind whose objects stand where other kinds have their namespace.
        format!("{}/{{name}}", self.collection())
    }

    /// `Namespaced` or nothing.
    fn scope(&self) -> &'static str {
        if self.kind.namespaced { "Namespaced" } else { "" }
    }

    fn identity(&self) -> (&'a str, &'a str, &'a str) {
        (self.kind.group, self.kind.version, self.kind.kind)
    }

    fn describe(&self, paths: &mut Map<String, Value>) {
        let Kind { kind, .. } = *self.kind;
        let (list, object) = (list_name(self.kind), object_name(self.kind));
        let allows = |verb| self.kind.allows(verb, None);
        let mut collection = Vec::new();
        if allows(Verb::List) {
            collection.push(self.listing("list", format!("{}{kind}", self.scope()), &list));
        }
        if allows(Verb::Create) {
            let answer = Operation {
                verb: "create",
                subject: format!("{}{kind}", self.scope()),
                description: format!("create {} {kind}", article(kind)),
                ..self.write("post", &object)
            };
            collection.push(answer);
        }
        if allows(Verb::DeleteCollection) {
            let mut parameters = DELETE.to_vec();
            parameters.extend(LIST.iter().filter(|one| !["allowWatchBookmarks", "watch"].contains(&one.0)));
            collection.push(Operation {
                verb: "delete",
                subject: format!("Collection{}{kind}", self.scope()),
                action: "deletecollection",
                description: format!("delete collection of {kind}"),
                answer: STATUS,
                codes: &["200"],
                parameters,
                ..self.deletion(STATUS)
            });
        }
        self.add(paths, self.collection(), collection, &[PRETTY]);
        self.describe_object(&object, paths);
        if allows(Verb::List) && self.kind.namespaced {
            let everywhere = self.listing("list", format!("{kind}ForAllNamespaces"), &list);
            let path = format!("{}/{}", self.root(), self.kind.plural);
            let mut parameters = LIST.to_vec();
            parameters.push(PRETTY);
            self.add(paths, path, vec![Operation { parameters: Vec::new(), ..everywhere }], &parameters);
        }
        if allows(Verb::Watch) {
            self.describe_watches(paths);
        }
    }

    fn describe_object(&self, object: &str, paths: &mut Map<String, Value>) {
        let Kind { kind, .. } = *self.kind;
        let allows = |verb| self.kind.allows(verb, None);
        let subject = || format!("{}{kind}", self.scope());
        let mut single = Vec::new();
        if allows(Verb::Get) {
            let description = format!("read the specified {kind}");
            single.push(Operation { subject: subject(), description, ..self.reading(object) });
        }
        for (verb, method, word) in [(Verb::Update, "put", "replace"), (Verb::Patch, "patch", "patch")] {
            if allows(verb) {
                single.push(Operation {
                    verb: word,
                    subject: subject(),
                    description: match verb {
                        Verb::Update => format!("replace the specified {kind}"),
                        _ => format!("partially update the specified {kind}"),
                    },
                    ..self.write(method, object)
                });
            }
        }
        if allows(Verb::Delete) {
            let told = DELETED_ANSWERS
                .iter()
                .any(|(group, kinds)| *group == self.kind.group && kinds.contains(&kind));
            let answer = if told { object } else { STATUS };
            single.push(Operation {
                subject: subject(),
                description: format!("delete {} {kind}", article(kind)),
                ..self.deletion(answer)
            });
        }
        self.add(paths, self.object(), single, &[PRETTY]);
    }

    fn describe_watches(&self, paths: &mut Map<String, Value>) {
        let Kind { kind, .. } = *self.kind;
        let watched = self.root() + "/watch";
        let below = |path: String| path.replacen(&self.root(), &watched, 1);
        let mut parameters = LIST.to_vec();
        parameters.push(PRETTY);
        let list = |subject: String| Operation {
            action: "watchlist",
            description: format!(
                "watch individual changes to a list of {kind}. deprecated: use the 'watch' parameter with a list operation instead."
            ),
            answer: WATCH_EVENT,
            parameters: Vec::new(),
            ..self.listing("watch", subject, WATCH_EVENT)
        };
        let of_namespace = list(format!("{}{kind}List", self.scope()));
        self.add(paths, below(self.collection()), vec![of_namespace], &parameters);
        if self.kind.namespaced {
            let path = format!("{watched}/{}", self.kind.plural);
            self.add(paths, path, vec![list(format!("{kind}ListForAllNamespaces"))], &parameters);
        }
        if self.kind.allows(Verb::Get, None) {
            let one = Operation {
                action: "watch",
                description: format!(
                    "watch changes to an object of kind {kind}. deprecated: use the 'watch' parameter with a list operation instead, filtered to a single item with the 'fieldSelector' parameter."
                ),
                ..list(format!("{}{kind}", self.scope()))
            };
            self.add(paths, below(self.object()), vec![one], &parameters);
        }
    }

    fn describe_below(&self, sub: &'a Subresource, paths: &mut Map<String, Value>) {
        let Kind { kind, .. } = *self.kind;
        let path = format!("{}/{}", self.object(), sub.name);
        let subject = format!("{}{kind}{}", self.scope(), capital(sub.name));
        if CONNECTIONS.contains(&sub.name) {
            return self.describe_connection(sub, &subject, path, paths);
        }
        let (group, version) = if sub.version.is_empty() {
            (self.kind.group, self.kind.version)
        } else {
            (sub.group, sub.version)
        };
        let identity = (group, version, sub.kind);
        let spoken = match sub.kind == kind {
            true => object_name(self.kind),
            false => plimsoll_catalogue::by_kind(group, version, sub.kind)
                .map_or_else(|| format!("io.k8s.api.{}.{version}.{}", package(group), sub.kind), object_name),
        };
        let mut operations = Vec::new();
        if sub.verbs.contains(Verb::Get) {
            let text = sub.name == "log";
            let mut produces = OBJECTS.to_vec();
            if text {
                produces.insert(0, "text/plain");
            }
            operations.push(Operation {
                subject: subject.clone(),
                description: format!("read {} of the specified {kind}", sub.name),
                identity,
                produces,
                ..self.reading(if text { "" } else { &spoken })
            });
        }
        for (verb, method, word) in [
            (Verb::Create, "post", "create"),
            (Verb::Update, "put", "replace"),
            (Verb::Patch, "patch", "patch"),
        ] {
            if sub.verbs.contains(verb) {
                operations.push(Operation {
                    verb: word,
                    subject: subject.clone(),
                    description: match verb {
                        Verb::Create => format!("create {} of {} {kind}", sub.name, article(kind)),
                        Verb::Update => format!("replace {} of the specified {kind}", sub.name),
                        _ => format!("partially update {} of the specified {kind}", sub.name),
                    },
                    identity,
                    ..self.write(method, &spoken)
                });
            }
        }
        let mut parameters = if sub.name == "log" { LOG.to_vec() } else { Vec::new() };
        parameters.push(PRETTY);
        self.add(paths, path, operations, &parameters);
    }

    fn describe_connection(
        &self,
        sub: &Subresource,
        subject: &str,
        path: String,
        paths: &mut Map<String, Value>,
    ) {
        let Kind { kind, version, .. } = *self.kind;
        let options = match sub.name {
            "portforward" => format!("{kind}PortForwardOptions"),
            name => format!("{kind}{}Options", capital(name)),
        };
        let methods: &[&'static str] = if sub.name == "proxy" {
            &["get", "put", "post", "delete", "options", "head", "patch"]
        } else {
            &["get", "post"]
        };
        let connected = |suffix: &str| {
            let one = |method: &&'static str| Operation {
                method,
                verb: "connect",
                subject: format!("{}{subject}{suffix}", capital(method)),
                action: "connect",
                description: format!("connect {} requests to {} of {kind}", method.to_uppercase(), sub.name),
                identity: ("", version, &options),
                body: None,
                answer: "",
                codes: &["200"],
                consumes: &["*/*"],
                produces: vec!["*/*"],
                parameters: Vec::new(),
            };
            methods.iter().map(one).collect::<Vec<_>>()
        };
        let parameters: &[Parameter] = match sub.name {
            "exec" => &EXEC,
            "attach" => &EXEC[1..],
            "portforward" => &[("ports", "integer", "Ports to forward.")],
            _ => &[("path", "string", "What of the object's own server is asked for.")],
        };
        if sub.name == "proxy" {
            self.add(paths, format!("{path}/{{path}}"), connected("WithPath"), parameters);
        }
        self.add(paths, path, connected(""), parameters);
    }

    fn listing(&self, verb: &'a str, subject: String, answer: &'a str) -> Operation<'a> {
        let mut produces = OBJECTS.to_vec();
        produces.extend(STREAMS);
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

    fn reading(&self, answer: &'a str) -> Operation<'a> {
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
            consumes: &["*/*"],
            produces: OBJECTS.to_vec(),
            parameters: Vec::new(),
        }
    }

    fn write(&self, method: &'static str, object: &'a str) -> Operation<'a> {
        let patch = method == "patch";
        let mut parameters = WRITE.to_vec();
        parameters.extend(patch.then_some(FORCE));
        Operation {
            method,
            action: method,
            body: Some((if patch { PATCH } else { object }, true)),
            codes: if method == "post" { &["200", "201", "202"] } else { &["200", "201"] },
            consumes: if patch { &PATCHES } else { &["*/*"] },
            parameters,
            ..self.reading(object)
        }
    }

    fn deletion(&self, answer: &'a str) -> Operation<'a> {
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

    fn add(
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
            .map(|(name, text)| self.parameter((name, "string", &text), "path"))
            .collect();
        parameters.extend(shared.iter().map(|one| self.parameter(*one, "query")));
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
            one.parameters.iter().map(|parameter| self.parameter(*parameter, "query")).collect();
        let answer = match one.answer {
            "" => json!({"type": "string"}),
            name => json!({"$ref": self.style.reference(name)}),
        };
        let mut responses = Map::new();
        for code in one.codes {
            let description = match *code {
                "201" => "Created",
                "202" => "Accepted",
                _ => "OK",
            };
            let response = match self.style {
                Style::V2 => json!({"description": description, "schema": answer}),
                Style::V3 => {
                    let media =
                        one.produces.iter().map(|media| ((*media).to_owned(), json!({"schema": answer})));
                    json!({"description": description, "content": Value::Object(media.collect())})
                }
            };
            responses.insert((*code).to_owned(), response);
        }
        responses.insert("401".to_owned(), json!({"description": "Unauthorized"}));
        if let Some((body, required)) = one.body {
            let schema = json!({"$ref": self.style.reference(body)});
            match self.style {
                Style::V2 => {
                    let mut parameter = json!({"name": "body", "in": "body", "schema": schema});
                    if required {
                        parameter["required"] = json!(true);
                    }
                    parameters.push(parameter);
                }
                Style::V3 => {
                    let media =
                        one.consumes.iter().map(|media| ((*media).to_owned(), json!({"schema": schema})));
                    value["requestBody"] = json!({"content": Value::Object(media.collect())});
                    if required {
                        value["requestBody"]["required"] = json!(true);
                    }
                }
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
        value["responses"] = Value::Object(responses);
        value
    }

    fn parameter(&self, (name, kind, text): (&str, &str, &str), place: &str) -> Value {
        let mut parameter = json!({"name": name, "in": place, "description": text});
        if place == "path" {
            parameter["required"] = json!(true);
        }
        match self.style {
            Style::V2 => {
                parameter["type"] = json!(kind);
                parameter["uniqueItems"] = json!(true);
            }
            Style::V3 => parameter["schema"] = json!({"type": kind, "uniqueItems": true}),
        }
        parameter
    }
}

/// Kinds whose deletion answers with the object, by group.
const DELETED_ANSWERS: [(&str, &[&str]); 3] = [
    (
        "",
        &[
            "PersistentVolume",
            "PersistentVolumeClaim",
            "Pod",
            "PodTemplate",
            "ResourceQuota",
            "Service",
            "ServiceAccount",
        ],
    ),
    ("resource.k8s.io", &["DeviceClass", "ResourceClaim", "ResourceClaimTemplate", "ResourceSlice"]),
    (
        "storage.k8s.io",
        &["CSIDriver", "CSINode", "StorageClass", "VolumeAttachment", "VolumeAttributesClass"],
    ),
];

/// Subresources that are connections.
const CONNECTIONS: [&str; 4] = ["attach", "exec", "portforward", "proxy"];

const EXEC: [Parameter; 6] = [
    ("command", "string", "The program and its arguments."),
    ("container", "string", "Which container; the first if there is one."),
    ("stderr", "boolean", "Carries the standard error."),
    ("stdin", "boolean", "Carries the standard input."),
    ("stdout", "boolean", "Carries the standard output."),
    ("tty", "boolean", "Gives the program a terminal."),
];

const LOG: [Parameter; 9] = [
    ("container", "string", "Which container; the first if there is one."),
    ("follow", "boolean", "Goes on while the container runs."),
    ("insecureSkipTLSVerifyBackend", "boolean", "Does not check the node's certificate."),
    ("limitBytes", "integer", "Most bytes of the answer."),
    ("previous", "boolean", "The log of the run before."),
    ("sinceSeconds", "integer", "Only what is younger."),
    ("stream", "string", "All, Stdout or Stderr."),
    ("tailLines", "integer", "Only the last lines."),
    ("timestamps", "boolean", "Begins each line with its time."),
];

fn article(kind: &str) -> &'static str {
    if kind.starts_with(['A', 'E', 'I', 'O', 'U']) { "an" } else { "a" }
}

/// `rbac.authorization.k8s.io` → `rbacAuthorization`; the core group is `core`.
fn group_words(group: &str) -> String {
    if group.is_empty() {
        return "core".to_owned();
    }
    let mut words = group.strip_suffix(".k8s.io").unwrap_or(group).split('.');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |name, word| name + &capital(word))
}

/// Where upstream keeps the types of a group.
fn package(group: &str) -> &str {
    match group.split('.').next() {
        None | Some("") => "core",
        Some(first) => first,
    }
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
#[path = "openapi_operations/tests.rs"]
mod tests;
