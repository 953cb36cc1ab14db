//! Connections to running things: logs, exec, attach, port-forward and proxies.

use std::net::{IpAddr, SocketAddr};

use http::{Request, Response};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use plimsoll_catalogue::Kind;
use plimsoll_meta::status::Status;
use plimsoll_store::Store;
use serde_json::Value;

use crate::admit::{Operation, chain, connection};
use crate::authenticate::stored;
use crate::body::{RequestBody, ResponseBody};
use crate::server::Api;
use crate::stages::Asked;
use crate::subresource;
use crate::target::ResourcePath;
use crate::tunnel::{self, Destination};
use crate::websocket::{Content, WebSocket};
use crate::{collection, proxied, registry};

/// What may stand in a query value or path segment as it is.
const PLAIN: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/').remove(b':');

pub(crate) async fn serve(
    api: &Api,
    asked: &Asked,
    kind: &'static Kind,
    target: &ResourcePath,
    request: Request<RequestBody>,
) -> Result<Response<ResponseBody>, Status> {
    if target.subresource == "log" {
        return logs_of(api, asked, kind, target, request).await;
    }
    let mut options = connection::options(kind, target, &asked.query);
    // What admission makes of the options is what happens.
    chain::action(api, asked, kind, target, Operation::Connect, &mut options).await?;
    let path = rest(options["path"].as_str().unwrap_or_default(), request.uri().query());
    let destination = match (kind.kind, target.subresource.as_str()) {
        ("Node", "proxy") => node(api, target, path)?,
        ("Pod", "proxy") => pod(api, target, path)?,
        ("Service", "proxy") => service(api, target, path)?,
        ("Pod", action) => running(api, kind, target, action, &options).await?,
        _ => return Err(Status::no_such_path()),
    };
    match kind.kind != "Node" && target.subresource == "proxy" {
        true => proxied::forward(&api.pods, target, destination, request).await,
        false => tunnel::forward(&api.agents, destination, request).await,
    }
}

/// What the agent of the pod's node has of a container's output.
async fn logs_of(
    api: &Api,
    asked: &Asked,
    kind: &'static Kind,
    target: &ResourcePath,
    mut request: Request<RequestBody>,
) -> Result<Response<ResponseBody>, Status> {
    let (pod, agent) = placed(api, kind, target).await?;
    let container = container(&pod, asked.query.get("container"), &target.name)?;
    let (namespace, name) = (&target.namespace, &target.name);
    let path = format!("/containerLogs/{namespace}/{name}/{container}{}", logs(asked));
    let websocket = WebSocket::wanted(&mut request, Content::Bytes)?;
    let response = tunnel::forward(&api.agents, tunnel::agent(&agent, path)?, request).await?;
    Ok(WebSocket::answer(websocket, response))
}

/// The agent of the pod's node, asked for one of its streams.
async fn running(
    api: &Api,
    kind: &'static Kind,
    target: &ResourcePath,
    action: &str,
    options: &Value,
) -> Result<Destination, Status> {
    let (pod, agent) = placed(api, kind, target).await?;
    let (namespace, name) = (&target.namespace, &target.name);
    let path = match action {
        "exec" | "attach" => {
            let wanted = options["container"].as_str().unwrap_or_default();
            let container = container(&pod, wanted, &target.name)?;
            format!("/{action}/{namespace}/{name}/{container}{}", streams(options))
        }
        _ => format!("/portForward/{namespace}/{name}{}", ports(options)),
    };
    tunnel::agent(&agent, path)
}

/// A pod and the node that it is on.
async fn placed(api: &Api, kind: &'static Kind, target: &ResourcePath) -> Result<(Value, Value), Status> {
    let pod = subresource::parent(api, kind, target).await?;
    let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
    if node.is_empty() {
        return Err(Status::bad_request(format!("pod {} does not have a host assigned", target.name)));
    }
    let agent = stored(api, "nodes", "", node).ok_or_else(|| Status::not_found("", "nodes", node))?;
    Ok((pod, agent))
}

/// The container that is meant: named, annotated, or the only one.
fn container(pod: &Value, wanted: &str, name: &str) -> Result<String, Status> {
    let names = |list: &str| -> Vec<String> {
        pod["spec"][list]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|one| one["name"].as_str())
            .map(str::to_owned)
            .collect()
    };
    let (main, inits, ephemeral) =
        (names("containers"), names("initContainers"), names("ephemeralContainers"));
    if !wanted.is_empty() {
        let known = [&main, &inits, &ephemeral].into_iter().flatten().any(|one| one == wanted);
        return match known {
            true => Ok(wanted.to_owned()),
            false => Err(Status::bad_request(format!("container {wanted} is not valid for pod {name}"))),
        };
    }
    if let Some(annotated) =
        pod["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"].as_str()
        && main.iter().any(|one| one == annotated)
    {
        return Ok(annotated.to_owned());
    }
    match (&main[..], inits.is_empty() && ephemeral.is_empty()) {
        ([only], true) => Ok(only.clone()),
        _ => {
            let mut message = format!(
                "a container name must be specified for pod {name}, choose one of: [{}]",
                main.join(" ")
            );
            if !inits.is_empty() {
                message.push_str(&format!(" or one of the init containers: [{}]", inits.join(" ")));
            }
            if !ephemeral.is_empty() {
                message.push_str(&format!(" or one of the ephemeral containers: [{}]", ephemeral.join(" ")));
            }
            Err(Status::bad_request(message))
        }
    }
}

fn logs(asked: &Asked) -> String {
    let known = [
        "follow",
        "limitBytes",
        "previous",
        "sinceSeconds",
        "sinceTime",
        "stream",
        "tailLines",
        "timestamps",
    ];
    query(known.into_iter().filter(|name| asked.query.has(name)).map(|name| (name, asked.query.get(name))))
}

/// PodExecOptions in the words of the agent's API.
fn streams(options: &Value) -> String {
    let flags = [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")];
    let flags = flags.into_iter().filter(|(name, _)| options[*name] == true).map(|(_, theirs)| (theirs, "1"));
    let command = options["command"].as_array().into_iter().flatten().filter_map(Value::as_str);
    query(command.map(|part| ("command", part)).chain(flags))
}

/// PodPortForwardOptions in the same.
fn ports(options: &Value) -> String {
    let ports: Vec<String> =
        options["ports"].as_array().into_iter().flatten().map(ToString::to_string).collect();
    query(ports.iter().map(|port| ("port", port.as_str())))
}

fn query<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let parts: Vec<String> =
        pairs.map(|(key, value)| format!("{key}={}", utf8_percent_encode(value, PLAIN))).collect();
    if parts.is_empty() { String::new() } else { format!("?{}", parts.join("&")) }
}

/// A path behind a proxy, and the query as the client sent it.
fn rest(path: &str, query: Option<&str>) -> String {
    let path = match path.strip_prefix('/') {
        Some(_) => utf8_percent_encode(path, PLAIN).to_string(),
        None => format!("/{}", utf8_percent_encode(path, PLAIN)),
    };
    match query {
        Some(query) => format!("{path}?{query}"),
        None => path,
    }
}

fn node(api: &Api, target: &ResourcePath, path: String) -> Result<Destination, Status> {
    let name = target.name.split(':').next().unwrap_or_default();
    let node = stored(api, "nodes", "", name).ok_or_else(|| Status::not_found("", "nodes", name))?;
    tunnel::agent(&node, path)
}

/// `[SCHEME:]NAME[:PORT]`.
fn parts(name: &str) -> Option<(&str, &str, &str)> {
    match name.split(':').collect::<Vec<_>>()[..] {
        [name] => Some(("", name, "")),
        [name, port] => Some(("", name, port)),
        [scheme @ ("http" | "https" | ""), name, port] => Some((scheme, name, port)),
        _ => None,
    }
}

fn pod(api: &Api, target: &ResourcePath, path: String) -> Result<Destination, Status> {
    let invalid = || Status::bad_request(format!("invalid pod request {:?}", target.name));
    let (scheme, name, port) = parts(&target.name).ok_or_else(invalid)?;
    let pod =
        stored(api, "pods", &target.namespace, name).ok_or_else(|| Status::not_found("", "pods", name))?;
    let address: IpAddr = pod["status"]["podIP"]
        .as_str()
        .and_then(|text| text.parse().ok())
        .filter(|address| pod["spec"]["hostNetwork"] == true || may_be_asked(*address))
        .ok_or_else(|| Status::bad_request("address not allowed"))?;
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let mut ports = containers.flat_map(|container| container["ports"].as_array().into_iter().flatten());
    let port = match port.parse() {
        Ok(port) => port,
        Err(_) if port.is_empty() => {
            ports.next().and_then(|port| number(&port["containerPort"])).unwrap_or(80)
        }
        Err(_) => ports
            .find(|one| one["name"] == port)
            .and_then(|one| number(&one["containerPort"]))
            .ok_or_else(invalid)?,
    };
    Ok(Destination { address: SocketAddr::new(address, port), tls: tls(scheme, address), path })
}

/// Whether an address is that of a pod and not, by a false status, of something near this server
/// (k8s.io/apimachinery/pkg/util/proxy and pkg/proxy/util: IsProxyableIP).
fn may_be_asked(address: IpAddr) -> bool {
    let is_near = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !(is_near || address.is_loopback() || address.is_unspecified() || address.is_multicast())
}

fn tls(scheme: &str, address: IpAddr) -> Option<String> {
    (scheme == "https").then(|| address.to_string())
}

fn number(value: &Value) -> Option<u16> {
    value.as_u64().and_then(|number| u16::try_from(number).ok())
}

fn service(api: &Api, target: &ResourcePath, path: String) -> Result<Destination, Status> {
    let invalid = || Status::bad_request(format!("invalid service request {:?}", target.name));
    let (scheme, name, port) = parts(&target.name).ok_or_else(invalid)?;
    let service = stored(api, "services", &target.namespace, name)
        .ok_or_else(|| Status::not_found("", "services", name))?;
    let ports: Vec<&Value> = service["spec"]["ports"].as_array().into_iter().flatten().collect();
    let wanted = match (port, &ports[..]) {
        ("", [only]) => *only,
        ("", _) => ports
            .iter()
            .copied()
            .find(|one| one["name"].as_str().is_none_or(str::is_empty))
            .ok_or_else(invalid)?,
        _ => ports
            .iter()
            .copied()
            .find(|one| one["name"] == port || one["port"].as_u64() == port.parse().ok())
            .ok_or_else(|| {
                Status::unavailable(format!("no service port {port:?} found for service {name:?}"))
            })?,
    };
    let none = || Status::unavailable(format!("no endpoints available for service {:?}", target.name));
    let ends = endpoints(&api.store, &target.namespace, name, wanted["name"].as_str().unwrap_or_default())?;
    let chosen = if ends.is_empty() { return Err(none()) } else { ends[rand::random_range(0..ends.len())] };
    Ok(Destination { address: chosen, tls: tls(scheme, chosen.ip()), path })
}

/// Ready endpoints of a Service's port.
pub(crate) fn endpoints(
    store: &Store,
    namespace: &str,
    service: &str,
    port: &str,
) -> Result<Vec<SocketAddr>, Status> {
    let kind = plimsoll_catalogue::find("discovery.k8s.io", "v1", "endpointslices")
        .ok_or_else(|| Status::internal("no slices"))?;
    let slices = collection::select(store, kind, namespace, &Default::default(), &Default::default())?;
    let mut found = Vec::new();
    for slice in slices.entries.iter().filter_map(|entry| registry::served(kind, entry).ok()) {
        if slice["metadata"]["labels"]["kubernetes.io/service-name"] != service {
            continue;
        }
        let ports = slice["ports"].as_array().into_iter().flatten();
        let matching = |one: &&Value| one["name"].as_str().unwrap_or_default() == port;
        let Some(number) = ports.into_iter().find(matching).and_then(|one| number(&one["port"])) else {
            continue;
        };
        for endpoint in slice["endpoints"].as_array().into_iter().flatten() {
            if endpoint["conditions"]["ready"] == false {
                continue;
            }
            let addresses = endpoint["addresses"].as_array().into_iter().flatten().filter_map(Value::as_str);
            found.extend(
                addresses
                    .filter_map(|text| text.parse().ok())
                    .map(|address| SocketAddr::new(address, number)),
            );
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_meant_container_is_found_or_asked_for() {
        let pod = |main: &[&str], init: &[&str], annotation: Option<&str>| {
            let list =
                |names: &[&str]| -> Vec<Value> { names.iter().map(|name| json!({"name": name})).collect() };
            let mut pod = json!({"spec": {"containers": list(main), "initContainers": list(init)}});
            if let Some(annotation) = annotation {
                pod["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"] = json!(annotation);
            }
            pod
        };
        for (pod, wanted, expected) in [
            (pod(&["a"], &[], None), "", Ok("a")),
            (pod(&["a", "b"], &[], Some("b")), "", Ok("b")),
            (pod(&["a"], &["i"], None), "i", Ok("i")),
            (
                pod(&["a", "b"], &[], None),
                "",
                Err("a container name must be specified for pod p, choose one of: [a b]"),
            ),
            (pod(&["a"], &[], None), "x", Err("container x is not valid for pod p")),
        ] {
            let found = container(&pod, wanted, "p").map_err(|status| status.message);
            assert_eq!(found.as_deref().map_err(String::as_str), expected);
        }
    }

    #[test]
    fn what_happens_is_what_the_options_say() {
        let exec = json!({"command": ["sh", "-c", "a b"], "stdin": true, "stdout": false, "tty": true});
        assert_eq!(streams(&exec), "?command=sh&command=-c&command=a%20b&input=1&tty=1");
        assert_eq!(ports(&json!({"ports": [80, 81]})), "?port=80&port=81");
        for (path, query, expected) in
            [("/a b", Some("q=1"), "/a%20b?q=1"), ("", None, "/"), ("status", None, "/status")]
        {
            assert_eq!(rest(path, query), expected);
        }
    }

    #[test]
    fn proxied_names_have_up_to_three_parts() {
        for (name, expected) in [
            ("web", Some(("", "web", ""))),
            ("web:80", Some(("", "web", "80"))),
            ("https:web:tls", Some(("https", "web", "tls"))),
            ("ftp:web:1", None),
            ("a:b:c:d", None),
        ] {
            assert_eq!(parts(name), expected);
        }
    }
}
