//! The objects that stand for connections: `PodExecOptions` and the like.

use plimsoll_catalogue::Kind;
use serde_json::{Value, json};

use crate::query::Query;
use crate::target::ResourcePath;

/// What a request for a connection asks for, as webhooks and policies see it.
pub(crate) fn options(kind: &Kind, path: &ResourcePath, query: &Query) -> Value {
    let body = kind.subresource(&path.subresource).map(|sub| sub.kind).unwrap_or_default();
    let mut options = json!({"kind": body, "apiVersion": "v1"});
    match path.subresource.as_str() {
        "exec" | "attach" => {
            for flag in ["stdin", "stdout", "stderr", "tty"].into_iter().filter(|flag| query.flag(flag)) {
                options[flag] = json!(true);
            }
            text(&mut options, "container", query.get("container"));
            let command: Vec<&str> = query.all("command").collect();
            if path.subresource == "exec" {
                options["command"] = if command.is_empty() { Value::Null } else { json!(command) };
            }
        }
        "portforward" => {
            let ports: Vec<i64> = query
                .all("ports")
                .flat_map(|ports| ports.split(','))
                .filter_map(|port| port.parse().ok())
                .collect();
            if !ports.is_empty() {
                options["ports"] = json!(ports);
            }
        }
        _ => text(&mut options, "path", &path.rest),
    }
    options
}

fn text(options: &mut Value, field: &str, value: &str) {
    if !value.is_empty() {
        options[field] = json!(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_described_by_their_options() {
        for (plural, subresource, query, expected) in [
            (
                "pods",
                "exec",
                "command=ls&command=-l&stdin=true&container=c",
                json!({"kind": "PodExecOptions", "apiVersion": "v1", "stdin": true, "container": "c", "command": ["ls", "-l"]}),
            ),
            (
                "pods",
                "attach",
                "tty=true",
                json!({"kind": "PodAttachOptions", "apiVersion": "v1", "tty": true}),
            ),
            (
                "pods",
                "portforward",
                "ports=80,81",
                json!({"kind": "PodPortForwardOptions", "apiVersion": "v1", "ports": [80, 81]}),
            ),
            (
                "services",
                "proxy",
                "",
                json!({"kind": "ServiceProxyOptions", "apiVersion": "v1", "path": "/a/b"}),
            ),
        ] {
            let kind = plimsoll_catalogue::find("", "v1", plural).expect("a kind");
            let rest = if subresource == "proxy" { "/a/b" } else { "" };
            let path = ResourcePath {
                subresource: subresource.to_owned(),
                rest: rest.to_owned(),
                ..ResourcePath::default()
            };
            assert_eq!(options(kind, &path, &Query::parse(Some(query))), expected);
        }
    }
}
