//! Who reaches whom under NetworkPolicies, tried by each.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use plimsoll_e2e::{Namespace, get};
use serde_json::{Value, json};

use crate::Shared;
use crate::pods::{STAY, pod};

/// Serves on ports 80, which is named, and 81.
const SERVE: &str =
    "mkdir -p /tmp; echo yes > /tmp/index.html; httpd -p 80 -h /tmp; exec httpd -f -p 81 -h /tmp";

const PORTS: &str = "    ports: [{name: web, containerPort: 80}]
    readinessProbe: {httpGet: {port: web, path: /index.html}, periodSeconds: 1, failureThreshold: 1}";

/// Port 8000 leads to the server's port 80.
const SERVICE: &str = "apiVersion: v1
kind: Service
metadata: {name: server}
spec: {selector: {app: server}, ports: [{port: 8000, targetPort: web}]}
---
";

/// What is tried from each pod: the server's ports, the Service, and the resolver.
const TRIED: [&str; 4] = ["80", "81", "service", "dns"];

struct Pods<'a> {
    space: Namespace<'a>,
    far: Namespace<'a>,
    server: String,
    service: String,
}

impl<'a> Pods<'a> {
    fn start(shared: &'a Shared) -> Self {
        let (space, far) =
            (shared.cluster().namespace("policies"), shared.cluster().namespace("policies-far"));
        let clients = format!("{}---\n{}", pod("friend", STAY, "", ""), pod("stranger", STAY, "", ""));
        space.apply(&format!("{SERVICE}{}---\n{clients}", pod("server", SERVE, PORTS, "")));
        far.apply(&pod("friend", STAY, "", ""));
        ["friend", "stranger"].iter().for_each(|name| drop(space.wait_ready(name)));
        far.wait_ready("friend");
        let server = space.wait_ready("server")["status"]["podIP"].as_str().unwrap().to_owned();
        let service =
            space.object("services/server").unwrap()["spec"]["clusterIP"].as_str().unwrap().to_owned();
        Self { space, far, server, service }
    }

    /// What each client reaches, of [`TRIED`].
    fn reached(&self) -> BTreeMap<&'static str, Vec<String>> {
        let (server, service) = (&self.server, &self.service);
        let ask = |name: &str, url: &str| {
            format!("(timeout 1 wget -q -O /dev/null http://{url}/index.html && echo {name}) & ")
        };
        let dns = "(timeout 1 nslookup kubernetes.default.svc.cluster.local > /dev/null 2>&1 && echo dns) & ";
        let script = [
            ask("80", &format!("{server}:80")),
            ask("81", &format!("{server}:81")),
            ask("service", &format!("{service}:8000")),
            format!("{dns} wait"),
        ]
        .concat();
        let clients = [
            ("friend", &self.space, "friend"),
            ("stranger", &self.space, "stranger"),
            ("far", &self.far, "friend"),
        ];
        thread::scope(|scope| {
            let script = &script;
            let asked = clients.map(|(who, space, pod)| {
                scope.spawn(move || {
                    let text = space.kubectl(&["exec", pod, "--", "sh", "-c", script]).stdout;
                    let reached = |what: &&&str| text.lines().any(|line| line == **what);
                    (who, TRIED.iter().filter(reached).map(|what| (*what).to_owned()).collect())
                })
            });
            asked.into_iter().map(|asked| asked.join().unwrap()).collect()
        })
    }

    fn apply(&self, name: &str, spec: &Value) {
        let policy = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name}, "spec": spec,
        });
        self.space.apply(&policy.to_string());
    }

    /// Waits until each client reaches this and nothing else.
    fn expect(&self, what: &str, [friend, stranger, far]: [&str; 3]) {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let expected =
            BTreeMap::from([("friend", words(friend)), ("stranger", words(stranger)), ("far", words(far))]);
        let mut last = BTreeMap::new();
        self.space.wait(&format!("{what}: {expected:?}"), || {
            last = self.reached();
            (last == expected).then_some(())
        });
    }
}

const ALL: &str = "80 81 service dns";

pub(crate) fn policies_say_who_reaches_whom(shared: &Shared) {
    let pods = Pods::start(shared);
    pods.expect("no policy", [ALL; 3]);
    let friend = json!({"matchLabels": {"app": "friend"}});
    let far = json!({"matchLabels": {"kubernetes.io/metadata.name": pods.far.name()}});
    let address = |space: &Namespace<'_>, pod: &str| {
        format!("{}/32", space.object(&format!("pods/{pod}")).unwrap()["status"]["podIP"].as_str().unwrap())
    };
    let block = json!({"cidr": "0.0.0.0/0", "except": [address(&pods.space, "friend")]});
    let ingress = |rules: Value| json!({"podSelector": {"matchLabels": {"app": "server"}}, "ingress": rules});
    // What the server receives; what the friend, the stranger, and the friend of another namespace reach.
    let table = [
        ("nothing", json!([]), ["dns", "dns", "dns"]),
        ("from pods of its namespace", json!([{"from": [{"podSelector": {}}]}]), [ALL, ALL, "dns"]),
        ("by the port's name", json!([{"ports": [{"port": "web"}]}]), ["80 service dns"; 3]),
        (
            "by a range",
            json!([{"from": [{"podSelector": friend}], "ports": [{"port": 81, "endPort": 90}]}]),
            ["81 dns", "dns", "dns"],
        ),
        ("from a namespace", json!([{"from": [{"namespaceSelector": far}]}]), ["dns", "dns", ALL]),
        (
            "from friends wherever they are, and on one port from all",
            json!([{"from": [{"namespaceSelector": {}, "podSelector": friend}]}, {"ports": [{"port": 80, "protocol": "TCP"}]}]),
            [ALL, "80 service dns", ALL],
        ),
        (
            "by other protocols",
            json!([{"ports": [{"port": 80, "protocol": "UDP"}, {"protocol": "SCTP"}]}]),
            ["dns"; 3],
        ),
        ("from a block with a hole", json!([{"from": [{"ipBlock": block}]}]), ["dns", ALL, ALL]),
    ];
    for (what, rules, reached) in table {
        pods.apply("server", &ingress(rules));
        pods.expect(what, reached);
        let server = format!("{}:80", pods.server).parse().unwrap();
        assert!(
            get(server, "/index.html", Duration::from_secs(2)).is_ok(),
            "{what}: the node reaches its pods"
        );
        let probed = pods.space.object("pods/server").unwrap();
        assert_eq!(probed["status"]["containerStatuses"][0]["ready"], true, "{what}: probes pass");
    }

    let itself = format!("timeout 5 wget -q -O - http://{}:8000/index.html", pods.service);
    assert_eq!(pods.space.sh("server", &itself).trim(), "yes", "the server reaches itself by its Service");

    // Policies add up; what is deleted isolates nobody.
    pods.apply("friends", &ingress(json!([{"from": [{"podSelector": friend}]}])));
    pods.expect("the two together", [ALL; 3]);
    pods.space.kubectl(&["delete", "networkpolicy", "server", "friends"]).ok();

    let egress = |rules: Value| json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": rules});
    let dns = json!({"to": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}], "ports": [{"port": 53, "protocol": "UDP"}]});
    let table = [
        ("they send nothing", json!([]), ["", "", ALL]),
        ("they ask for names", json!([dns]), ["dns", "dns", ALL]),
        (
            "they send to a named port",
            json!([{"to": [{"podSelector": {}}], "ports": [{"port": "web"}]}]),
            ["80 service", "80 service", ALL],
        ),
    ];
    for (what, rules, reached) in table {
        pods.apply("all", &egress(rules));
        pods.expect(what, reached);
    }

    // A pod that is made now is isolated from its first packet on.
    pods.apply("all", &egress(json!([])));
    pods.expect("they send nothing again", ["", "", ALL]);
    let script =
        format!("timeout 1 wget -q -O /dev/null http://{}:80/index.html && exit 7; exit 0", pods.server);
    pods.space.apply(&pod("late", &script, "", "  restartPolicy: Never"));
    assert_eq!(pods.space.wait_ended("late")["status"]["phase"], "Succeeded");
}
