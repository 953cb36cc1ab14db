//! FlowSchemas: which requests belong together.

use serde_json::Value;

/// What a schema looks at.
#[derive(Clone, Copy, Debug, Default)]
pub struct Digest<'a> {
    /// Name of the user.
    pub user: &'a str,
    /// The groups of the user.
    pub groups: &'a [String],
    /// `get`, `list`, …; the method in lower case for paths that are no resources.
    pub verb: &'a str,
    /// API group.
    pub group: &'a str,
    /// Plural name; empty for paths that are no resources.
    pub resource: &'a str,
    /// Empty for none.
    pub subresource: &'a str,
    /// Empty for what has none.
    pub namespace: &'a str,
    /// The whole path.
    pub path: &'a str,
}

/// What makes two requests of a schema different flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Distinguisher {
    /// All requests are one flow.
    #[default]
    None,
    /// The user's name.
    User,
    /// The namespace.
    Namespace,
}

/// A FlowSchema that can be matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    /// Its name.
    pub name: String,
    /// Its uid; empty when it is not stored.
    pub uid: String,
    /// The name of the priority level.
    pub level: String,
    /// Low numbers are looked at first.
    pub precedence: i64,
    /// What makes flows of the requests.
    pub distinguisher: Distinguisher,
    rules: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    subjects: Vec<Subject>,
    resources: Vec<ResourceRule>,
    paths: Vec<PathRule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Subject {
    Any,
    User(String),
    Group(String),
    /// The name of an account begins with this.
    Accounts(String),
}

/// A list in which `*` alone stands for everything.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Names {
    All,
    These(Vec<String>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct ResourceRule {
    verbs: Names,
    groups: Names,
    resources: Names,
    namespaces: Names,
    cluster_scope: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct PathRule {
    verbs: Names,
    paths: Vec<String>,
}

impl Schema {
    /// Reads an object that validation has let pass.
    pub fn read(object: &Value) -> Self {
        let (metadata, spec) = (&object["metadata"], &object["spec"]);
        Self {
            name: text(&metadata["name"]),
            uid: text(&metadata["uid"]),
            level: text(&spec["priorityLevelConfiguration"]["name"]),
            precedence: spec["matchingPrecedence"].as_i64().unwrap_or(1000),
            distinguisher: match spec["distinguisherMethod"]["type"].as_str() {
                Some("ByUser") => Distinguisher::User,
                Some("ByNamespace") => Distinguisher::Namespace,
                _ => Distinguisher::None,
            },
            rules: list(&spec["rules"]).iter().map(Rule::read).collect(),
        }
    }

    /// Is the request one of this schema?
    pub fn matches(&self, request: &Digest<'_>) -> bool {
        self.rules.iter().any(|rule| rule.matches(request))
    }

    /// The name of the request's flow within the schema.
    pub fn flow<'a>(&self, request: &Digest<'a>) -> &'a str {
        match self.distinguisher {
            Distinguisher::None => "",
            Distinguisher::User => request.user,
            Distinguisher::Namespace => request.namespace,
        }
    }

    /// Sorts schemas into the order in which they are looked at.
    pub fn order(&self, other: &Self) -> std::cmp::Ordering {
        (self.precedence, &self.name).cmp(&(other.precedence, &other.name))
    }
}

impl Rule {
    fn read(rule: &Value) -> Self {
        Self {
            subjects: list(&rule["subjects"]).iter().filter_map(Subject::read).collect(),
            resources: list(&rule["resourceRules"])
                .iter()
                .map(|rule| ResourceRule {
                    verbs: Names::read(&rule["verbs"]),
                    groups: Names::read(&rule["apiGroups"]),
                    resources: Names::read(&rule["resources"]),
                    namespaces: Names::read(&rule["namespaces"]),
                    cluster_scope: rule["clusterScope"].as_bool().unwrap_or_default(),
                })
                .collect(),
            paths: list(&rule["nonResourceRules"])
                .iter()
                .map(|rule| PathRule {
                    verbs: Names::read(&rule["verbs"]),
                    paths: list(&rule["nonResourceURLs"]).iter().map(text).collect(),
                })
                .collect(),
        }
    }

    fn matches(&self, request: &Digest<'_>) -> bool {
        self.subjects.iter().any(|subject| subject.matches(request))
            && match request.resource.is_empty() {
                true => self.paths.iter().any(|rule| rule.matches(request)),
                false => self.resources.iter().any(|rule| rule.matches(request)),
            }
    }
}

impl Subject {
    fn read(subject: &Value) -> Option<Self> {
        let name = |kind: &str| subject[kind]["name"].as_str().map(str::to_owned);
        Some(match subject["kind"].as_str()? {
            "User" => match name("user")? {
                all if all == "*" => Self::Any,
                user => Self::User(user),
            },
            "Group" => match name("group")? {
                all if all == "*" => Self::Any,
                group => Self::Group(group),
            },
            "ServiceAccount" => {
                let namespace = text(&subject["serviceAccount"]["namespace"]);
                match name("serviceAccount")? {
                    all if all == "*" => Self::Accounts(format!("system:serviceaccount:{namespace}:")),
                    account => Self::User(format!("system:serviceaccount:{namespace}:{account}")),
                }
            }
            _ => return None,
        })
    }

    fn matches(&self, request: &Digest<'_>) -> bool {
        match self {
            Self::Any => true,
            Self::User(name) => name == request.user,
            Self::Group(name) => request.groups.contains(name),
            Self::Accounts(prefix) => request.user.starts_with(prefix),
        }
    }
}

impl ResourceRule {
    fn matches(&self, request: &Digest<'_>) -> bool {
        self.verbs.has(request.verb)
            && self.resources.has_resource(request.resource, request.subresource)
            && self.groups.has(request.group)
            && match request.namespace {
                "" => self.cluster_scope,
                namespace => self.namespaces.has(namespace),
            }
    }
}

impl PathRule {
    fn matches(&self, request: &Digest<'_>) -> bool {
        self.verbs.has(request.verb)
            && self.paths.iter().any(|rule| {
                let below = rule.strip_suffix('*').unwrap_or(rule);
                let below = below.strip_suffix('/').unwrap_or(below);
                rule == "*"
                    || rule == request.path
                    || request.path.strip_prefix(below).is_some_and(|rest| rest.starts_with('/'))
            })
    }
}

impl Names {
    fn read(names: &Value) -> Self {
        match list(names) {
            [all] if all == "*" => Self::All,
            names => Self::These(names.iter().map(text).collect()),
        }
    }

    fn has(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::These(names) => names.iter().any(|one| one == name),
        }
    }

    fn has_resource(&self, resource: &str, subresource: &str) -> bool {
        match self {
            Self::All => true,
            Self::These(names) => names.iter().any(|one| match (subresource, one.split_once('/')) {
                ("", _) => one == resource,
                (_, None) => false,
                (_, Some(parts)) => parts == (resource, subresource),
            }),
        }
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
