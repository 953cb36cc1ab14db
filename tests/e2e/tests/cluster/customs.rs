//! Kinds that users define, as they meet them with kubectl.

use plimsoll_e2e::{Namespace, Outcome};
use serde_json::json;

use crate::Shared;

/// A definition with everything that kubectl shows: columns, a short name, categories, subresources, rules.
const SHIPS: &str = r#"apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: GROUPED}
spec:
  group: GROUP
  scope: Namespaced
  names: {plural: ships, singular: ship, kind: Ship, shortNames: [SHORT], categories: [all, fleet]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources:
      status: {}
      scale: {specReplicasPath: .spec.crew, statusReplicasPath: .status.crew}
    additionalPrinterColumns:
    - {name: Crew, type: integer, jsonPath: .spec.crew}
    - {name: Port, type: string, jsonPath: .spec.port, priority: 1}
    - {name: Age, type: date, jsonPath: .metadata.creationTimestamp}
    selectableFields: [{jsonPath: .spec.port}]
    schema:
      openAPIV3Schema:
        type: object
        description: A ship of the fleet.
        properties:
          spec:
            type: object
            description: What the owner wants.
            required: [crew]
            x-kubernetes-validations:
            - {rule: "!has(self.limit) || self.crew <= self.limit", message: more crew than the ship holds}
            properties:
              crew: {type: integer, minimum: 1, description: How many sail.}
              limit: {type: integer}
              port: {type: string, default: hamburg, enum: [hamburg, oslo]}
              holds:
                type: array
                x-kubernetes-list-type: map
                x-kubernetes-list-map-keys: [name]
                items: {type: object, required: [name], properties: {name: {type: string}, tons: {type: integer}}}
          status: {type: object, properties: {crew: {type: integer}, phase: {type: string}}}
  - name: v1beta1
    served: true
    storage: false
    deprecated: true
    schema:
      openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}
"#;

/// Ships of a group of its own, so that cases do not meet.
struct Fleet<'a> {
    space: Namespace<'a>,
    group: String,
}

impl<'a> Fleet<'a> {
    /// Defines ships, which have `short` as their short name.
    fn new(shared: &'a Shared, short: &str) -> Self {
        let cluster = shared.cluster();
        let group = format!("{short}.example.com");
        let definition = format!("ships.{group}");
        let text = SHIPS.replace("GROUPED", &definition).replace("GROUP", &group).replace("SHORT", short);
        assert_eq!(
            cluster.manifests(&["apply"], &text).ok().trim(),
            format!("customresourcedefinition.apiextensions.k8s.io/{definition} created")
        );
        let name = format!("crd/{definition}");
        cluster.kubectl(&["wait", &name, "--for=condition=Established", "--timeout=30s"]).ok();
        Self { space: cluster.namespace(short), group }
    }

    fn ship(&self, arguments: &[&str], name: &str, spec: &str) -> Outcome {
        let text = format!(
            "apiVersion: {}/v1\nkind: Ship\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n",
            self.group
        );
        self.space.manifests(arguments, &text)
    }
}

impl Drop for Fleet<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.space.cluster().kubectl(&[
                "delete",
                "crd",
                &format!("ships.{}", self.group),
                "--wait=false",
            ]);
        }
    }
}

pub(crate) fn kinds_of_users_look_like_others(shared: &Shared) {
    let fleet = Fleet::new(shared, "sha");
    let space = &fleet.space;
    fleet.ship(&["create"], "ada", "crew: 3").ok();
    let column = |text: String| -> Vec<String> {
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    };
    assert_eq!(column(space.kubectl(&["get", "sha"]).ok())[0], "NAME CREW AGE");
    let wide = column(space.kubectl(&["get", "ships.sha.example.com", "-o", "wide"]).ok());
    assert_eq!(wide[0], "NAME CREW PORT AGE");
    assert!(wide[1].starts_with("ada 3 hamburg "), "{wide:?}");
    // arguments, what is in the answer
    let table: [(&[&str], &str); 8] = [
        (&["get", "all"], "ship.sha.example.com/ada"),
        (&["get", "sha", "--field-selector=spec.port=hamburg", "-o", "name"], "ship.sha.example.com/ada"),
        (&["api-resources", "--api-group=sha.example.com"], "sha.example.com/v1   true         Ship"),
        (&["explain", "sha"], "A ship of the fleet."),
        (&["explain", "sha.spec.crew"], "FIELD: crew <integer>"),
        (&["explain", "sha.spec", "--recursive"], "name\t<string> -required-"),
        (&["describe", "sha", "ada"], "Port:  hamburg"),
        (
            &["get", "ships.v1beta1.sha.example.com", "ada", "-o", "yaml"],
            "apiVersion: sha.example.com/v1beta1",
        ),
    ];
    for (arguments, part) in table {
        let text = space.kubectl(arguments).ok();
        assert!(text.contains(part), "{arguments:?}: no {part:?} in\n{text}");
    }
    let old = space.kubectl(&["get", "ships.v1beta1.sha.example.com", "ada"]);
    let warning = "Warning: sha.example.com/v1beta1 Ship is deprecated; use sha.example.com/v1 Ship";
    assert_eq!(old.stderr.trim(), warning);
    let text = space.kubectl(&["get", "sha", "--field-selector=spec.crew=3"]).refused();
    assert!(text.contains("field label not supported: spec.crew"), "{text}");

    space.kubectl(&["scale", "sha", "ada", "--replicas=5"]).ok();
    let patch = r#"{"spec":{"crew":1},"status":{"crew":4,"phase":"Sailing"}}"#;
    space.kubectl(&["patch", "sha", "ada", "--subresource=status", "--type=merge", "-p", patch]).ok();
    space.kubectl(&["wait", "sha/ada", "--for=jsonpath={.status.phase}=Sailing", "--timeout=10s"]).ok();
    let ship = space.object("sha.example.com/v1/ships/ada").unwrap();
    assert_eq!((&ship["spec"]["crew"], &ship["status"]["crew"]), (&json!(5), &json!(4)), "{ship}");
    let scale =
        ["get", "sha", "ada", "--subresource=scale", "-o", "jsonpath={.spec.replicas} {.status.replicas}"];
    assert_eq!(space.kubectl(&scale).ok(), "5 4");
}

pub(crate) fn objects_of_users_are_checked(shared: &Shared) {
    let fleet = Fleet::new(shared, "shb");
    // spec, what kubectl says
    let table = [
        ("crew: 0", "spec.crew: Invalid value: 0: spec.crew in body should be greater than or equal to 1"),
        ("crew: 9, limit: 2", "more crew than the ship holds"),
        (
            "crew: 9, port: rome",
            "spec.port: Unsupported value: \"rome\": supported values: \"hamburg\", \"oslo\"",
        ),
        ("port: oslo", "spec.crew: Required value"),
        ("crew: many", "spec.crew: Invalid value: \"string\": spec.crew in body must be of type integer"),
        ("crew: 2, color: red", "strict decoding error: unknown field \"spec.color\""),
        ("crew: 2, holds: [{name: a}, {name: a}]", "spec.holds[1]: Duplicate value: {\"name\":\"a\"}"),
    ];
    for (spec, words) in table {
        let text = fleet.ship(&["create"], "bad", spec).refused();
        assert!(text.contains(words), "{spec} says\n{text}not\n{words}");
    }
    // What is unknown is dropped when nobody asks for strictness.
    fleet.ship(&["create", "--validate=ignore"], "odd", "crew: 2, color: red").ok();
    let warned = fleet.ship(&["create", "--validate=warn"], "warned", "crew: 2, color: red");
    assert_eq!(warned.stderr.trim(), "Warning: unknown field \"spec.color\"");
    let odd = fleet.space.object("shb.example.com/v1/ships/odd").unwrap();
    assert_eq!(odd["spec"], json!({"crew": 2, "port": "hamburg"}));
}

pub(crate) fn objects_of_users_are_applied(shared: &Shared) {
    let fleet = Fleet::new(shared, "shc");
    let space = &fleet.space;
    let spec =
        |name: &str| space.object(&format!("shc.example.com/v1/ships/{name}")).unwrap()["spec"].clone();
    assert_eq!(
        fleet.ship(&["apply"], "ada", "crew: 3, limit: 9").ok().trim(),
        "ship.shc.example.com/ada created"
    );
    let diff = fleet.ship(&["diff"], "ada", "crew: 4");
    assert!(
        diff.code == 1 && diff.stdout.contains("+  crew: 4") && diff.stdout.contains("-  limit: 9"),
        "{diff:?}"
    );
    let text = fleet.ship(&["apply"], "ada", "crew: 4").ok();
    assert_eq!(text.trim(), "ship.shc.example.com/ada configured");
    assert_eq!(spec("ada"), json!({"crew": 4, "port": "hamburg"}));
    assert_eq!(fleet.ship(&["apply"], "ada", "crew: 4").ok().trim(), "ship.shc.example.com/ada unchanged");
    let text = space.kubectl(&["patch", "shc", "ada", "-p", r#"{"spec":{"crew":5}}"#]).refused();
    assert!(
        text.contains("application/strategic-merge-patch+json is not supported by shc.example.com/v1"),
        "{text}"
    );

    let apply = |manager: &str, spec: &str, more: &[&str]| {
        let manager = format!("--field-manager={manager}");
        fleet.ship(&[&["apply", "--server-side", manager.as_str()], more].concat(), "ssa", spec)
    };
    apply("one", "crew: 2, holds: [{name: aft, tons: 1}]", &[]).ok();
    apply("two", "holds: [{name: fore, tons: 2}]", &[]).ok();
    let text = apply("two", "crew: 3, holds: [{name: aft, tons: 2}]", &[]).refused();
    for line in [
        "Apply failed with 2 conflicts: conflicts with \"one\":",
        "- .spec.crew",
        "- .spec.holds[name=\"aft\"].tons",
    ] {
        assert!(text.contains(line), "no {line} in\n{text}");
    }
    apply("two", "crew: 3, holds: [{name: fore, tons: 2}]", &["--force-conflicts"]).ok();
    // The first no longer sends its hold, and goes on owning nothing.
    apply("one", "limit: 9", &[]).ok();
    assert_eq!(
        spec("ssa"),
        json!({"crew": 3, "limit": 9, "port": "hamburg", "holds": [{"name": "fore", "tons": 2}]})
    );
}

pub(crate) fn bad_definitions_are_refused(shared: &Shared) {
    let cluster = shared.cluster();
    let with = |from: &str, to: &str| {
        let text = SHIPS.replace("GROUPED", "ships.bad.example.com").replace("GROUP", "bad.example.com");
        let text = text.replace("SHORT", "shx");
        assert!(text.contains(from), "no {from} to replace");
        cluster.manifests(&["create"], &text.replace(from, to)).refused()
    };
    // what is changed, what kubectl says
    let table = [
        (
            "{name: ships.bad",
            "{name: boats.bad",
            "metadata.name: Invalid value: \"boats.bad.example.com\": must be spec.names.plural+\".\"+spec.group",
        ),
        ("storage: true", "storage: false", "spec.versions: Invalid value:"),
        ("{type: integer, minimum: 1,", "{type: number8, minimum: 1,", "Unsupported value: \"number8\""),
        ("self.crew <= self.limit", "self.sailors <= self.limit", "undefined field 'sailors'"),
        (
            "crew: {type: integer}, phase",
            "crew: {}, phase",
            "Required value: must not be empty for specified object fields",
        ),
    ];
    for (from, to, words) in table {
        let text = with(from, to);
        assert!(text.contains(words), "{to} says\n{text}not\n{words}");
    }
}
