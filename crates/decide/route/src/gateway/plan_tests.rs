#![expect(clippy::unwrap_used, reason = "tests")]

use k8s_openapi::api::core::v1::Service;

use super::*;
use crate::assembler::Assembler;
use crate::gateway::{Asked, Ending, Ports};
use crate::limits::Limits;
use crate::table::{Links, Table, Target};
use crate::{BackendKey, Owner};

/// A cluster in which all Services of the name `web` have port 80, and namespaces have their name as the label `name`.
#[derive(Default)]
struct Cluster {
    classes: Vec<Value>,
    gateways: Vec<Value>,
    routes: Vec<Value>,
    grants: Vec<Value>,
    /// Sound Secrets.
    secrets: Vec<&'static str>,
    closed: Vec<u16>,
    version: Option<&'static str>,
}

fn read<T: serde::de::DeserializeOwned>(values: &[Value]) -> Vec<Arc<T>> {
    values.iter().map(|value| Arc::new(serde_json::from_value(value.clone()).unwrap())).collect()
}

impl Cluster {
    fn new(listeners: Value, routes: Vec<Value>) -> Self {
        let class = json!({"metadata": {"name": "ours"}, "spec": {"controllerName": CONTROLLER}});
        let gateways = vec![gateway("gw", 0, listeners)];
        Self { classes: vec![class], gateways, routes, version: Some("v1.6.1"), ..Self::default() }
    }

    fn plan(&self) -> Plan {
        let routes = self.routes.iter().map(|value| {
            let value = value.clone();
            Arc::new(match value["kind"].as_str() {
                Some("GRPCRoute") => RouteDraft::of_grpc(&serde_json::from_value(value).unwrap()),
                Some("TLSRoute") => RouteDraft::of_tls(&serde_json::from_value(value).unwrap()),
                _ => RouteDraft::of_http(&serde_json::from_value(value).unwrap()),
            })
        });
        let service = |_: &str, name: &str| {
            let port = |number: u16, protocol: &str| json!({"port": number, "appProtocol": protocol});
            let kind = if name == "web-outside" { "ExternalName" } else { "ClusterIP" };
            let ports = [port(80, "http"), port(81, "kubernetes.io/h2c")];
            let read = || {
                serde_json::from_value::<Service>(
                    json!({"metadata": {}, "spec": {"ports": ports, "type": kind}}),
                )
            };
            name.starts_with("web").then(|| Arc::new(read().unwrap()))
        };
        plan(&World {
            classes: &read(&self.classes),
            definitions: &[("gateways", self.version)],
            gateways: &read(&self.gateways),
            routes: &routes.collect::<Vec<_>>(),
            grants: &read(&self.grants),
            labels: &|namespace| BTreeMap::from([("name".to_owned(), namespace.to_owned())]),
            service: &service,
            certificate: &|key| match self.secrets.contains(&key.name.as_str()) {
                true if key.name == "old" => Ok(Some("has no tls.key".to_owned())),
                true => Ok(None),
                false => Err("is not there".to_owned()),
            },
            port: &|port| Some(if self.closed.contains(&port) { Err("taken".to_owned()) } else { Ok(()) }),
            ingress: Ports { http: 80, https: 443 },
            addresses: &["10.0.0.1".to_owned()],
            now: "2026-01-01T00:00:00Z".parse().unwrap(),
        })
    }

    fn table(&self) -> Table<Names> {
        Assembler::default().assemble(Some(&self.plan()), &mut Names).table
    }
}

fn gateway(name: &str, second: u8, listeners: Value) -> Value {
    json!({
        "metadata": {"namespace": "ns", "name": name, "generation": 3,
            "creationTimestamp": format!("2026-01-01T00:00:{second:02}Z")},
        "spec": {"gatewayClassName": "ours", "listeners": listeners},
    })
}

fn route(name: &str, second: u8, spec: Value) -> Value {
    let mut spec = spec;
    if spec["parentRefs"].is_null() {
        spec["parentRefs"] = json!([{"name": "gw"}]);
    }
    let meta = json!({"namespace": "ns", "name": name, "generation": 2,
        "creationTimestamp": format!("2026-01-01T00:00:{second:02}Z")});
    json!({"kind": "HTTPRoute", "metadata": meta, "spec": spec})
}

fn backend(name: &str) -> Value {
    json!([{"name": name, "port": 80}])
}

fn http() -> Value {
    json!([{"name": "http", "port": 80, "protocol": "HTTP"}])
}

struct Names;

impl Links for Names {
    type Backend = String;
    type Limiter = ();
    type Meter = ();

    fn backend(&mut self, key: &BackendKey) -> String {
        format!("{}/{}", key.namespace, key.service)
    }

    fn limiter(&mut self, _: &Owner, _: &Limits) {}

    fn meter(&mut self, _: &Owner, _: &str, _: &str, _: &str) {}
}

fn told<'a>(plan: &'a Plan, kind: &str) -> &'a Value {
    let mut all = plan.statuses.iter().filter(|told| told.kind == kind);
    &all.next_back().unwrap_or_else(|| panic!("nothing is told of a {kind}")).status
}

/// `Type=Status/Reason` of all conditions.
fn short(conditions: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let one =
        |one: &Value| format!("{}={}/{}", text(&one["type"]), text(&one["status"]), text(&one["reason"]));
    conditions.as_array().unwrap().iter().map(one).collect::<Vec<_>>().join(" ")
}

#[test]
fn classes_are_accepted_and_others_left_alone() {
    let mut cluster = Cluster::new(http(), Vec::new());
    let theirs = json!({"metadata": {"name": "theirs"}, "spec": {"controllerName": "example.com/other"}});
    cluster.classes.push(theirs);
    let mut other = gateway("other", 0, http());
    other["spec"]["gatewayClassName"] = json!("theirs");
    cluster.gateways.push(other);
    let plan = cluster.plan();
    let kinds: Vec<_> = plan.statuses.iter().map(|told| (told.kind, told.owner.name.as_str())).collect();
    assert_eq!(kinds, [("GatewayClass", "ours"), ("Gateway", "gw")]);
    let status = told(&plan, "GatewayClass");
    let expected = "Accepted=True/Accepted SupportedVersion=True/SupportedVersion";
    assert_eq!(short(&status["conditions"]), expected);
    cluster.version = Some("v9.0.0");
    let plan = cluster.plan();
    let other = told(&plan, "GatewayClass")["conditions"][1].clone();
    assert_eq!(short(&json!([other])), "SupportedVersion=False/UnsupportedVersion");
    assert!(status["supportedFeatures"].as_array().unwrap().contains(&json!({"name": "HTTPRoute"})));
    let sorted = FEATURES.is_sorted();
    assert!(sorted, "as upstream sorts them");
}

#[test]
fn listeners_say_what_is_wrong_with_them() {
    let tls = |name: &str| json!({"certificateRefs": [{"name": name}]});
    let far = json!({"certificateRefs": [{"name": "good", "namespace": "far"}]});
    let kinds = json!({"kinds": [{"kind": "HTTPRoute"}, {"kind": "TCPRoute"}]});
    let good = "Accepted=True/Accepted Conflicted=False/NoConflicts ResolvedRefs=True/ResolvedRefs Programmed=True/Programmed";
    let refs = |reason: &str| {
        format!(
            "Accepted=True/Accepted Conflicted=False/NoConflicts ResolvedRefs=False/{reason} Programmed=False/Invalid"
        )
    };
    let conflict = |reason: &str| {
        format!(
            "Accepted=False/{reason} Conflicted=True/{reason} ResolvedRefs=True/ResolvedRefs Programmed=False/Invalid"
        )
    };
    // Listeners, conditions of the Gateway and of the first listener.
    let fine = "Accepted=True/Accepted Programmed=True/Programmed";
    let bad = "Accepted=False/ListenersNotValid Programmed=False/Invalid";
    let some = "Accepted=True/ListenersNotValid Programmed=True/Programmed";
    let one = |name: &str, port: u16, protocol: &str, more: Value| {
        let mut one = json!({"name": name, "port": port, "protocol": protocol});
        one.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        one
    };
    let no = || json!({});
    let table = [
        (json!([one("a", 80, "HTTP", no())]), fine, good.to_owned()),
        (json!([one("a", 443, "HTTPS", json!({"tls": tls("good")}))]), fine, good.to_owned()),
        (
            json!([one("a", 443, "HTTPS", json!({"tls": tls("old")}))]),
            fine,
            good.replace("True/ResolvedRefs", "False/InvalidCertificateRef"),
        ),
        (json!([one("a", 443, "HTTPS", json!({"tls": tls("bad")}))]), bad, refs("InvalidCertificateRef")),
        (json!([one("a", 443, "HTTPS", json!({"tls": far}))]), bad, refs("RefNotPermitted")),
        (
            json!([one("a", 80, "HTTP", json!({"allowedRoutes": kinds}))]),
            fine,
            good.replace("True/ResolvedRefs", "False/InvalidRouteKinds"),
        ),
        (
            json!([one("a", 90, "TCP", no()), one("b", 80, "HTTP", no())]),
            some,
            good.replace("True/Accepted", "False/UnsupportedProtocol")
                .replace("True/Programmed", "False/Invalid"),
        ),
        (json!([one("a", 80, "HTTP", no()), one("b", 80, "HTTP", no())]), bad, conflict("HostnameConflict")),
        (
            json!([one("a", 80, "HTTP", no()), one("b", 80, "HTTP", json!({"hostname": "b.com"}))]),
            fine,
            good.to_owned(),
        ),
        (
            json!([one("a", 90, "HTTP", no()), one("b", 90, "HTTPS", json!({"tls": tls("good")}))]),
            bad,
            conflict("ProtocolConflict"),
        ),
        (json!([one("a", 443, "HTTP", no())]), bad, conflict("ProtocolConflict")),
        (
            json!([one("a", 91, "HTTP", no())]),
            bad,
            good.replace("True/Accepted", "False/PortUnavailable")
                .replace("True/Programmed", "False/Invalid"),
        ),
    ];
    for (listeners, gateway, listener) in table {
        let cluster = Cluster {
            secrets: vec!["good", "old"],
            closed: vec![91],
            ..Cluster::new(listeners.clone(), Vec::new())
        };
        let plan = cluster.plan();
        let status = told(&plan, "Gateway");
        assert_eq!(short(&status["conditions"]), gateway, "{listeners}");
        assert_eq!(short(&status["listeners"][0]["conditions"]), listener, "{listeners}");
        assert_eq!(status["listeners"][0]["conditions"][0]["observedGeneration"], 3);
        assert_eq!(status["addresses"], json!([{"type": "IPAddress", "value": "10.0.0.1"}]));
    }
    // What is told once is told no more.
    let mut cluster = Cluster::new(http(), Vec::new());
    cluster.gateways[0]["status"] = told(&cluster.plan(), "Gateway").clone();
    assert!(cluster.plan().statuses.iter().all(|told| told.kind != "Gateway"));
}

#[test]
fn the_older_gateway_has_a_host_and_addresses_must_be_the_nodes() {
    let mut cluster = Cluster::new(http(), Vec::new());
    cluster.gateways.push(gateway("younger", 1, http()));
    let mut asking = gateway("asking", 2, json!([{"name": "a", "port": 81, "protocol": "HTTP"}]));
    asking["spec"]["addresses"] = json!([{"type": "IPAddress", "value": "10.9.9.9"}]);
    cluster.gateways.push(asking.clone());
    asking["spec"]["addresses"][0]["type"] = json!("example.com/name");
    asking["spec"]["listeners"][0]["port"] = json!(82);
    asking["metadata"]["name"] = json!("strange");
    cluster.gateways.push(asking);
    let mut set = gateway("set", 3, json!([{"name": "a", "port": 83, "protocol": "HTTP"}]));
    set["spec"]["infrastructure"] =
        json!({"parametersRef": {"group": "example.com", "kind": "A", "name": "a"}});
    cluster.gateways.push(set);
    let plan = cluster.plan();
    let of = |name: &str| {
        let told = plan.statuses.iter().find(|told| told.owner.name == name).unwrap();
        short(&told.status["conditions"])
    };
    assert_eq!(of("gw"), "Accepted=True/Accepted Programmed=True/Programmed");
    assert_eq!(of("set"), "Accepted=False/InvalidParameters Programmed=False/Invalid");
    assert_eq!(of("younger"), "Accepted=False/ListenersNotValid Programmed=False/Invalid");
    assert_eq!(of("asking"), "Accepted=True/Accepted Programmed=False/AddressNotUsable");
    assert_eq!(of("strange"), "Accepted=False/UnsupportedAddress Programmed=False/Invalid");
}

#[test]
fn routes_attach_where_they_may() {
    let listeners = json!([
        {"name": "same", "port": 80, "protocol": "HTTP", "hostname": "*.a.com"},
        {"name": "some", "port": 81, "protocol": "HTTP", "allowedRoutes": {"namespaces":
            {"from": "Selector", "selector": {"matchLabels": {"name": "far"}}}}},
        {"name": "grpc", "port": 82, "protocol": "HTTP", "allowedRoutes": {"kinds": [{"kind": "GRPCRoute"}]}},
    ]);
    let grant = |kind: &str| {
        json!({"metadata": {"namespace": "far"}, "spec": {"from": [{"group": GROUP, "kind": kind, "namespace": "ns"}],
            "to": [{"group": "", "kind": "Service"}]}})
    };
    let to = |backends: Value| json!({"rules": [{"backendRefs": backends}]});
    let parent = |more: Value| {
        let mut parent = json!({"name": "gw", "namespace": "ns"});
        parent.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"parentRefs": [parent]})
    };
    // Spec, namespace, grants, conditions, routes attached to each listener.
    let fine = "Accepted=True/Accepted ResolvedRefs=True/ResolvedRefs";
    let not = |reason: &str| format!("Accepted=False/{reason} ResolvedRefs=True/ResolvedRefs");
    let refs = |reason: &str| format!("Accepted=True/Accepted ResolvedRefs=False/{reason}");
    let far = json!([{"name": "web", "namespace": "far", "port": 80}]);
    let table = [
        (to(backend("web")), "ns", vec![], fine.to_owned(), [1, 0, 0]),
        (json!({"hostnames": ["x.a.com"]}), "ns", vec![], fine.to_owned(), [1, 0, 0]),
        (json!({"hostnames": ["b.com"]}), "ns", vec![], not("NoMatchingListenerHostname"), [0, 0, 0]),
        (parent(json!({"sectionName": "none"})), "ns", vec![], not("NoMatchingParent"), [0, 0, 0]),
        (parent(json!({"port": 99})), "ns", vec![], not("NoMatchingParent"), [0, 0, 0]),
        (parent(json!({"port": 80})), "ns", vec![], fine.to_owned(), [1, 0, 0]),
        (parent(json!({"sectionName": "grpc"})), "ns", vec![], not("NotAllowedByListeners"), [0, 0, 0]),
        (parent(json!({"sectionName": "same"})), "far", vec![], not("NotAllowedByListeners"), [0, 0, 0]),
        (parent(json!({})), "far", vec![], fine.to_owned(), [0, 1, 0]),
        (to(backend("none")), "ns", vec![], refs("BackendNotFound"), [1, 0, 0]),
        (to(json!([{"name": "web", "port": 9}])), "ns", vec![], refs("BackendNotFound"), [1, 0, 0]),
        (
            to(json!([{"name": "web", "kind": "Pod", "port": 80}])),
            "ns",
            vec![],
            refs("InvalidKind"),
            [1, 0, 0],
        ),
        (to(backend("web-outside")), "ns", vec![], refs("InvalidKind"), [1, 0, 0]),
        (to(far.clone()), "ns", vec![], refs("RefNotPermitted"), [1, 0, 0]),
        (to(far.clone()), "ns", vec![grant("GRPCRoute")], refs("RefNotPermitted"), [1, 0, 0]),
        (to(far), "ns", vec![grant("HTTPRoute")], fine.to_owned(), [1, 0, 0]),
        (
            json!({"rules": [{"matches": [{"path": {"type": "RegularExpression", "value": "("}}]}]}),
            "ns",
            vec![],
            not("UnsupportedValue"),
            [0, 0, 0],
        ),
        (
            json!({"rules": [{"filters": [{"type": "ExtensionRef"}]}]}),
            "ns",
            vec![],
            not("UnsupportedValue"),
            [0, 0, 0],
        ),
    ];
    for (spec, namespace, grants, conditions, attached) in table {
        let mut one = route("r", 0, spec.clone());
        one["metadata"]["namespace"] = json!(namespace);
        let cluster = Cluster { grants, ..Cluster::new(listeners.clone(), vec![one]) };
        let plan = cluster.plan();
        let parents = &told(&plan, "HTTPRoute")["parents"];
        assert_eq!(short(&parents[0]["conditions"]), conditions, "{spec}");
        assert_eq!(
            (&parents[0]["controllerName"], &parents[0]["conditions"][0]["observedGeneration"]),
            (&json!(CONTROLLER), &json!(2))
        );
        let found =
            [0, 1, 2].map(|place| told(&plan, "Gateway")["listeners"][place]["attachedRoutes"].clone());
        assert_eq!(found, attached.map(|count| json!(count)), "{spec}");
    }
}

#[test]
fn other_controllers_keep_their_part_of_a_status() {
    let mut one = route("r", 0, json!({}));
    let theirs =
        json!({"parentRef": {"name": "other"}, "controllerName": "example.com/other", "conditions": []});
    let stale = json!({"parentRef": {"name": "gone"}, "controllerName": CONTROLLER, "conditions": []});
    one["status"] = json!({"parents": [stale, theirs]});
    let mut cluster = Cluster::new(http(), vec![one]);
    let parents = |cluster: &Cluster| -> Vec<String> {
        let plan = cluster.plan();
        let all = told(&plan, "HTTPRoute")["parents"].as_array().unwrap().clone();
        all.iter().map(|parent| parent["parentRef"]["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(parents(&cluster), ["other", "gw"]);
    cluster.gateways.clear();
    assert_eq!(parents(&cluster), ["other"]);
    cluster.routes[0]["status"] = json!({"parents": [cluster.routes[0]["status"]["parents"][1]]});
    assert!(cluster.plan().statuses.iter().all(|told| told.kind != "HTTPRoute"), "it is not ours");
}

#[test]
fn the_most_specific_rule_serves_a_request() {
    let rule = |name: &str, matching: Value| json!({"matches": [matching], "backendRefs": backend(name)});
    let prefix = |path: &str| json!({"path": {"type": "PathPrefix", "value": path}});
    let hosts = |host: &str, rules: Value| json!({"hostnames": [host], "rules": rules});
    let listeners = json!([
        {"name": "any", "port": 80, "protocol": "HTTP"},
        {"name": "a", "port": 80, "protocol": "HTTP", "hostname": "*.a.com"},
        {"name": "one", "port": 8080, "protocol": "HTTP"},
    ]);
    let section = |name: &str| json!([{"name": "gw", "sectionName": name}]);
    let mut grpc = route(
        "g",
        0,
        json!({"hostnames": ["g.com"], "parentRefs": section("one"), "rules": [
            {"matches": [{"method": {"service": "S", "method": "M"}}], "backendRefs": backend("web-exact")},
            {"matches": [{"method": {"service": "S"}}], "backendRefs": backend("web-service")},
        ]}),
    );
    grpc["kind"] = json!("GRPCRoute");
    let with = |mut spec: Value, parents: Value| {
        spec["parentRefs"] = parents;
        spec
    };
    let routes = vec![
        route(
            "b",
            1,
            hosts("*.com", json!([rule("web-wild", prefix("/")), rule("web-deep", prefix("/deep"))])),
        ),
        route(
            "c",
            1,
            with(
                hosts("x.com", json!([rule("web-exact", prefix("/")), rule("web-twice", prefix("/"))])),
                section("any"),
            ),
        ),
        route("d", 0, with(hosts("x.com", json!([rule("web-older", prefix("/same"))])), section("any"))),
        route("e", 1, with(hosts("x.com", json!([rule("web-younger", prefix("/same"))])), section("any"))),
        route("f", 2, with(hosts("only.com", json!([rule("web-only", prefix("/only"))])), section("any"))),
        route("s", 1, with(hosts("s.a.com", json!([rule("web-s", prefix("/s"))])), section("a"))),
        grpc,
    ];
    let table = Cluster::new(listeners, routes).table();
    // Port, host, path, backend.
    let rows = [
        (80, "y.com", "/", "web-wild"),
        (80, "z.y.com", "/deep/er", "web-deep"),
        (80, "x.com", "/", "web-exact"),
        (80, "x.com", "/deep", "web-exact"),
        (80, "x.com", "/same", "web-older"),
        (80, "only.com", "/only", "web-only"),
        (80, "only.com", "/", "web-wild"),
        (80, "s.a.com", "/s", "web-s"),
        (80, "s.a.com", "/", "web-wild"),
        (80, "y.org", "/", "none"),
        (8080, "x.com", "/", "web-wild"),
        (8080, "g.com", "/S/M", "web-exact"),
        (8080, "g.com", "/S/N", "web-service"),
        (8080, "g.com", "/T/N", "web-wild"),
        (9090, "x.com", "/", "none"),
    ];
    for (port, host, path, expected) in rows {
        let asked = Asked { host, path, query: None, method: "GET", headers: &|_| Vec::new() };
        let route = table.find_at(port, port == 80, &asked);
        let found = route.map_or("none", |route| match &route.target {
            Target::Shares(shares) => shares.all[0].to.as_ref().unwrap().0.strip_prefix("ns/").unwrap(),
            _ => "other",
        });
        assert_eq!(found, expected, "{port} {host} {path}");
    }
}

#[test]
fn shares_are_kept_and_broken_ones_fail() {
    let backends = json!([
        {"name": "web-1", "port": 80, "weight": 3}, {"name": "web-2", "port": 81}, {"name": "web-3", "port": 80, "weight": 0},
        {"name": "none", "port": 80, "weight": 2},
    ]);
    let only = json!([{"name": "web-1", "port": 80, "weight": 0}]);
    let rules =
        json!([{"backendRefs": backends}, {"matches": [{"path": {"value": "/0"}}], "backendRefs": only}]);
    let table = Cluster::new(http(), vec![route("r", 0, json!({ "rules": rules }))]).table();
    let find = |path| {
        let asked = Asked { host: "a.com", path, query: None, method: "GET", headers: &|_| Vec::new() };
        match &table.find_at(80, true, &asked).unwrap().target {
            Target::Shares(shares) => shares,
            _ => panic!("no shares"),
        }
    };
    let name = |draw| {
        let share = find("/").choose(draw).unwrap();
        share.to.as_ref().map_or("-".to_owned(), |(name, protocol)| format!("{name} {protocol:?}"))
    };
    let drawn: Vec<String> = (0..7).map(name).collect();
    assert_eq!(
        drawn,
        ["ns/web-1 Http", "ns/web-1 Http", "ns/web-1 Http", "ns/web-2 Grpc", "-", "-", "ns/web-1 Http"]
    );
    assert!(find("/0").choose(0).is_none());
}

#[test]
fn streams_and_requests_share_a_port_by_name() {
    let one = |name: &str, host: &str, protocol: &str, mode: &str| {
        let tls = json!({"mode": mode, "certificateRefs": [{"name": "good"}]});
        json!({"name": name, "port": 443, "protocol": protocol, "hostname": host, "tls": tls})
    };
    let listeners = json!([
        one("pass", "*.pass.com", "TLS", "Passthrough"),
        one("end", "end.com", "TLS", "Terminate"),
        one("web", "web.pass.com", "HTTPS", "Terminate"),
    ]);
    let tls = |name: &str, second: u8, hosts: Value, service: &str| {
        let mut one =
            route(name, second, json!({"hostnames": hosts, "rules": [{"backendRefs": backend(service)}]}));
        one["kind"] = json!("TLSRoute");
        one
    };
    let routes = vec![
        tls("younger", 2, json!(["x.pass.com", "y.pass.com"]), "web-2"),
        tls("older", 1, json!(["x.pass.com", "end.com"]), "web-1"),
        route("web", 0, json!({"rules": [{"backendRefs": backend("web")}]})),
    ];
    let cluster = Cluster { secrets: vec!["good"], ..Cluster::new(listeners, routes) };
    let plan = cluster.plan();
    let attached =
        [0, 1, 2].map(|place| told(&plan, "Gateway")["listeners"][place]["attachedRoutes"].clone());
    assert_eq!(attached, [2, 1, 1].map(|count| json!(count)));
    assert_eq!(
        short(&told(&plan, "TLSRoute")["parents"][0]["conditions"]),
        "Accepted=True/Accepted ResolvedRefs=True/ResolvedRefs"
    );
    let table = cluster.table();
    assert!(table.has_streams(443) && !table.has_streams(80));
    let rows = [
        ("x.pass.com", Some((Ending::Pod, "ns/web-1"))),
        ("y.pass.com", Some((Ending::Pod, "ns/web-2"))),
        ("z.pass.com", Some((Ending::Pod, "-"))),
        ("end.com", Some((Ending::Here, "ns/web-1"))),
        ("web.pass.com", None),
        ("other.com", None),
    ];
    for (name, expected) in rows {
        let stream = table.stream(443, true, name);
        let found = stream.as_ref().map(|stream| {
            let share = stream.shares.as_ref().and_then(|shares| shares.choose(0)?.to.as_ref());
            (stream.ending, share.map_or("-", |(name, _)| name.as_str()))
        });
        assert_eq!(found, expected, "{name}");
    }
}
