//! Helm with a chart of our own: hooks, a CRD, a subchart, `lookup`, capabilities, tests.

use plimsoll_e2e::{Namespace, Outcome, found, run, skip};
use serde_json::Value;
use std::path::Path;

use crate::{BUSYBOX, PATIENCE, Shared};

const DEFINITION: &str = "boats.fleet.example.com";

/// Helm in a namespace, with the chart.
struct Helm<'a> {
    space: &'a Namespace<'a>,
    chart: String,
}

impl<'a> Helm<'a> {
    fn new(space: &'a Namespace<'a>) -> Self {
        let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/fleet");
        Self { space, chart: chart.to_string_lossy().into_owned() }
    }

    /// `helm LINE --namespace …`; `CHART` is the path of the chart.
    fn run(&self, line: &str) -> Outcome {
        let mut command = self.space.cluster().client("helm");
        command.args(line.split(' ').map(|word| if word == "CHART" { &self.chart } else { word }));
        run(command.args(["--namespace", self.space.name()]), b"", PATIENCE)
    }

    #[track_caller]
    fn ok(&self, line: &str) -> String {
        self.run(line).ok()
    }

    #[track_caller]
    fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.ok(&format!("{line} --output json"))).expect("JSON")
    }

    /// (revision, state) of a release's history.
    #[track_caller]
    fn history(&self) -> Vec<(u64, String)> {
        let history = self.json("history web");
        let entry = |one: &Value| {
            (
                one["revision"].as_u64().unwrap_or_default(),
                one["status"].as_str().unwrap_or_default().to_owned(),
            )
        };
        history.as_array().unwrap().iter().map(entry).collect()
    }

    fn config(&self) -> Value {
        self.space.object("configmaps/web-config").unwrap()["data"].clone()
    }
}

pub(crate) fn a_release_lives_from_install_to_uninstall(shared: &Shared) {
    if found("helm").is_none() {
        skip("no helm in PATH");
    }
    let space = shared.cluster().namespace("charts");
    let helm = Helm::new(&space);
    space.kubectl(&["create", "configmap", "harbour", "--from-literal=name=kiel"]).ok();
    installs(&helm);
    upgrades(&helm);
    fails_and_goes_back(&helm);
    helm.ok("rollback web 1 --wait --timeout 60s");
    let states: Vec<String> = helm.history().into_iter().map(|(_, state)| state).collect();
    assert_eq!(states, ["superseded", "superseded", "failed", "superseded", "deployed"]);
    assert_eq!((&helm.config()["greeting"], &helm.config()["revision"]), (&"ahoy".into(), &"1".into()));
    goes(&helm);
}

fn installs(helm: &Helm<'_>) {
    let space = helm.space;
    helm.ok(&format!("install web CHART --set busybox={BUSYBOX} --wait --timeout 60s"));
    // What the chart saw of the cluster when it was rendered.
    let seen = helm.config();
    let version = seen["kubernetes"].as_str().unwrap_or_default();
    assert!(version.starts_with("v1.37."), "{seen}");
    assert_eq!((&seen["policies"], &seen["harbour"]), (&"true".into(), &"kiel".into()), "{seen}");
    assert_eq!(space.object("configmaps/web-anchor").unwrap()["data"]["depth"], "12");
    assert_eq!(space.object("fleet.example.com/v1/boats/web").unwrap()["spec"]["crew"], 1);
    assert_eq!(space.ready_pods("web").len(), 1);
    for hook in ["pre-install", "post-install"] {
        assert_eq!(space.kubectl(&["logs", &format!("job/web-{hook}")]).ok(), format!("{hook} 1\n"));
    }
    let list = helm.json("list");
    assert_eq!((&list[0]["name"], &list[0]["status"]), (&"web".into(), &"deployed".into()), "{list}");
    assert!(helm.ok("status web").contains("ahoy from revision 1"));
    assert!(helm.ok("get manifest web").contains("# Source: fleet/charts/anchor/templates/config.yaml"));
    assert!(helm.ok("get hooks web").contains("helm.sh/hook: pre-upgrade"));
    let text = helm.ok("test web --logs");
    assert!(text.contains("Phase:          Succeeded") && text.contains("pod: web-"), "{text}");
    let text = helm.run("install web CHART").refused();
    assert!(text.contains("cannot reuse a name that is still in use"), "{text}");
}

fn upgrades(helm: &Helm<'_>) {
    let text = helm.ok("upgrade web CHART --reuse-values --set replicas=2 --dry-run=server");
    assert!(text.contains("crew: 2") && text.contains("harbour: \"kiel\""), "{text}");
    assert_eq!(helm.history().len(), 1, "dry runs leave nothing");
    helm.ok("upgrade web CHART --reuse-values --set replicas=2,greeting=hello --wait --timeout 60s");
    assert_eq!(helm.space.ready_pods("web").len(), 2);
    assert_eq!(helm.config()["greeting"], "hello");
    assert_eq!(helm.space.object("fleet.example.com/v1/boats/web").unwrap()["spec"]["crew"], 2);
    assert_eq!(helm.space.kubectl(&["logs", "job/web-pre-upgrade"]).ok(), "pre-upgrade 2\n");
    assert_eq!(helm.json("get values web")["greeting"], "hello");
}

fn fails_and_goes_back(helm: &Helm<'_>) {
    let line = "upgrade web CHART --reuse-values --set command={/nope} --rollback-on-failure --timeout 4s";
    let text = helm.run(line).refused();
    assert!(text.contains("has been rolled back due to rollback-on-failure being set"), "{text}");
    let states: Vec<String> = helm.history().into_iter().map(|(_, state)| state).collect();
    assert_eq!(states, ["superseded", "superseded", "failed", "deployed"]);
    let web = helm.space.object("apps/v1/deployments/web").unwrap();
    assert_eq!(web["spec"]["template"]["spec"]["containers"][0]["command"], Value::Null);
}

fn goes(helm: &Helm<'_>) {
    helm.ok("uninstall web --wait --timeout 60s");
    assert_eq!(helm.json("list"), serde_json::json!([]));
    let space = helm.space;
    for path in
        ["apps/v1/deployments/web", "services/web", "fleet.example.com/v1/boats/web", "configmaps/web-anchor"]
    {
        assert!(space.object(path).is_none(), "{path} is still there");
    }
    // Definitions of a chart stay, since other releases may use them.
    space.cluster().kubectl(&["delete", "crd", DEFINITION]).ok();
}
