//! Subresources that are connections: exec, attach, port-forward and proxy.

use plimsoll_catalogue::{Kind, Subresource};
use serde_json::{Map, Value};

use super::Operations;
use super::names::capital;
use super::operation::Operation;
use super::parameters::{EXEC, Parameter};

impl Operations<'_> {
    pub(super) fn describe_connection(
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
                consumes: vec!["*/*"],
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
}
