#![expect(clippy::unwrap_used, reason = "tests")]

use serde_json::{Value, json};

use super::*;
use crate::limits::Limits;

/// Backends are their names, limiters the names of their Ingresses.
#[derive(Debug)]
struct Names;

impl Links for Names {
    type Backend = String;
    type Limiter = String;
    type Meter = ();

    fn backend(&mut self, key: &BackendKey) -> String {
        format!("{}:{:?}", key.service, key.port)
    }

    fn limiter(&mut self, owner: &Owner, _: &Limits) -> String {
        owner.name.clone()
    }

    fn meter(&mut self, _: &Owner, _: &str, _: &str, _: &str) {}
}

fn backend(service: &str) -> Value {
    json!({"service": {"name": service, "port": {"number": 80}}})
}

fn rule(host: &str, paths: &[(&str, &str, &str)]) -> Value {
    let path = |(kind, path, service): &(&str, &str, &str)| json!({"path": path, "pathType": kind, "backend": backend(service)});
    let paths: Vec<Value> = paths.iter().map(path).collect();
    match host {
        "" => json!({"http": {"paths": paths}}),
        host => json!({"host": host, "http": {"paths": paths}}),
    }
}

/// An Ingress that was made in that second.
fn ingress(name: &str, second: u8, annotations: &[(&str, &str)], spec: Value) -> Arc<Draft> {
    let annotations: serde_json::Map<String, Value> = annotations
        .iter()
        .map(|(name, value)| (format!("nginx.ingress.kubernetes.io/{name}"), json!(value)))
        .collect();
    let object = json!({
        "metadata": {
            "namespace": "ns", "name": name, "uid": name, "annotations": annotations,
            "creationTimestamp": format!("2026-01-01T00:00:{second:02}Z"),
        },
        "spec": spec,
    });
    Arc::new(Draft::of(&serde_json::from_value(object).unwrap()))
}

fn assemble(drafts: &[Arc<Draft>]) -> Assembly<Names> {
    let mut assembler = Assembler::default();
    drafts.iter().for_each(|draft| assembler.put(draft.clone()));
    assembler.assemble(None, &mut Names)
}

fn found(assembly: &Assembly<Names>, host: &str, path: &str) -> String {
    let route = assembly.table.find(host, path);
    route.map_or("none".to_owned(), |route| format!("{}>{}", route.owner.name, route.service))
}

#[test]
fn hosts_paths_and_defaults() {
    let drafts = [
        ingress(
            "exact",
            1,
            &[],
            json!({"rules": [
                rule("foo.com", &[("Prefix", "/", "root"), ("Exact", "/foo", "exact"), ("Prefix", "/foo", "prefix")]),
            ]}),
        ),
        ingress(
            "wild",
            2,
            &[],
            json!({"rules": [rule("*.foo.com", &[("ImplementationSpecific", "/im", "start")])],
            "defaultBackend": backend("rest")}),
        ),
        ingress("any", 3, &[], json!({"rules": [rule("", &[("Prefix", "/any", "any")])]})),
        ingress("default", 4, &[], json!({"defaultBackend": backend("default")})),
    ];
    let assembly = assemble(&drafts);
    let table = [
        ("foo.com", "/foo", "exact>exact"),
        ("foo.com", "/foo/x", "exact>prefix"),
        ("foo.com", "/any", "exact>root"),
        ("a.foo.com", "/image", "wild>start"),
        ("a.foo.com", "/x", "wild>rest"),
        ("a.b.foo.com", "/image", "default>default"),
        ("bar.com", "/any", "any>any"),
        ("bar.com", "/x", "default>default"),
    ];
    for (host, path, expected) in table {
        assert_eq!(found(&assembly, host, path), expected, "{host}{path}");
    }
    assert!(assembly.notices.is_empty(), "{:?}", assembly.notices);
    assert_eq!(found(&assemble(&drafts[..3]), "bar.com", "/x"), "none");
}

#[test]
fn the_oldest_wins_and_the_other_is_told() {
    let same = |service| {
        json!({"rules": [rule("foo.com", &[("Prefix", "/a/", service)])],
        "tls": [{"hosts": ["foo.com"], "secretName": service}]})
    };
    let drafts = [ingress("young", 9, &[], same("young")), ingress("old", 1, &[], same("old"))];
    let assembly = assemble(&drafts);
    assert_eq!(found(&assembly, "foo.com", "/a"), "old>old");
    assert_eq!(assembly.table.certificate(443, true, "foo.com").unwrap().name, "old");
    let told: Vec<_> = assembly.notices.iter().map(|notice| (&*notice.owner.name, notice.reason)).collect();
    assert_eq!(told, [("young", "CertificateConflict"), ("young", "PathConflict")]);
    assert_eq!(
        assembly.notices[1].message,
        r#"path "/a/" of host "foo.com" is served by Ingress ns/old, which is older"#
    );
}

#[test]
fn certificates_by_name() {
    let drafts = [
        ingress(
            "a",
            1,
            &[],
            json!({"tls": [{"hosts": ["*.foo.com"], "secretName": "wild"}, {"hosts": ["plain.com"]}],
            "rules": [rule("a.foo.com", &[("Prefix", "/", "s")]), rule("plain.com", &[("Prefix", "/", "s")]),
                rule("bar.com", &[("Prefix", "/", "s")])]}),
        ),
        ingress(
            "b",
            2,
            &[],
            json!({"tls": [{"hosts": ["x.foo.com"], "secretName": "exact"}],
            "rules": [rule("x.foo.com", &[("Prefix", "/", "s")])]}),
        ),
    ];
    let assembly = assemble(&drafts);
    let name = |host| assembly.table.certificate(443, true, host).map(|secret| secret.name.as_str());
    let names = ["a.foo.com", "x.foo.com", "plain.com", "bar.com"].map(name);
    assert_eq!(names, [Some("wild"), Some("exact"), None, None]);
    let certified = |host| assembly.table.find(host, "/").unwrap().certified;
    assert_eq!(["a.foo.com", "plain.com", "bar.com"].map(certified), [true, true, false]);
    assert_eq!(drafts[0].secrets().count(), 1);
}

#[test]
fn canaries_join_the_path_of_others() {
    let spec = |path, service| json!({"rules": [rule("foo.com", &[("Prefix", path, service)])]});
    let canary = [("canary", "true"), ("canary-weight", "10")];
    let drafts = [
        ingress("first", 1, &canary, spec("/", "new")),
        ingress("main", 2, &[("limit-rps", "5")], spec("/", "old")),
        ingress("second", 3, &canary, spec("/", "newer")),
        ingress("lost", 4, &canary, spec("/x", "new")),
    ];
    let assembly = assemble(&drafts);
    let route = assembly.table.find("foo.com", "/x").unwrap();
    let Target::One(backend, canary) = &route.target else { panic!("no backend") };
    assert_eq!(
        (&*route.owner.name, &**backend, route.limiter.as_deref()),
        ("main", "old:Number(80)", Some("main"))
    );
    assert_eq!(canary.as_ref().unwrap().1, "new:Number(80)");
    let told: Vec<_> = assembly.notices.iter().map(|notice| (&*notice.owner.name, notice.reason)).collect();
    assert_eq!(told, [("second", "PathConflict"), ("lost", "CanaryWithoutMain")]);
}

#[test]
fn rewriting_makes_patterns_of_paths() {
    let drafts = [
        ingress(
            "r",
            1,
            &[("rewrite-target", "/$2")],
            json!({"rules": [
                rule("foo.com", &[("ImplementationSpecific", "/app(/|$)(.*)", "app"), ("Prefix", "/(broken", "broken")]),
            ]}),
        ),
        ingress(
            "p",
            2,
            &[("use-regex", "true")],
            json!({"rules": [
                rule("foo.com", &[("Prefix", "/[0-9]+", "number"), ("Exact", "/1", "one")]),
            ]}),
        ),
    ];
    let assembly = assemble(&drafts);
    let route = assembly.table.find("foo.com", "/app/x").unwrap();
    assert_eq!(route.rewrite.as_ref().unwrap().apply("/app/x", None).as_deref(), Some("/x"));
    assert_eq!(found(&assembly, "foo.com", "/12/x"), "p>number");
    assert_eq!(found(&assembly, "foo.com", "/1"), "p>one");
    assert!(assembly.table.find("foo.com", "/12").unwrap().rewrite.is_none());
    let told: Vec<_> = drafts[0].notices.iter().map(|notice| notice.reason).collect();
    assert_eq!(told, ["InvalidPath"]);
}

/// Whatever came before, the table and what is told are those of the Ingresses that there are now.
#[test]
fn changes_lead_where_a_fresh_start_leads() {
    let of = |name, second, annotations: &[_], host: &str, path, secret: &str| {
        let tls = json!([{"hosts": [host], "secretName": secret}]);
        let tls = if secret.is_empty() { Value::Null } else { tls };
        let rules = json!([rule(host, &[("Prefix", path, name)])]);
        ingress(name, second, annotations, json!({"rules": rules, "tls": tls}))
    };
    let lone = |service| ingress("lone", 7, &[], json!({"defaultBackend": backend(service)}));
    let canary = [("canary", "true"), ("canary-weight", "10")];
    let gone = |name| Err(name);
    let steps: &[Result<Arc<Draft>, &str>] = &[
        Ok(of("a", 1, &[], "foo.com", "/", "")),
        Ok(of("b", 2, &[], "foo.com", "/", "s")),
        Ok(of("c", 3, &canary, "foo.com", "/", "")),
        Ok(of("d", 4, &[], "*.com", "/d", "t")),
        Ok(lone("one")),
        gone("a"),
        Ok(of("b", 2, &[], "foo.com", "/b", "s")),
        Ok(of("d", 4, &[], "*.com", "/e", "")),
        Ok(lone("two")),
        Ok(of("e", 5, &[], "*.com", "/e", "u")),
        gone("d"),
        Ok(of("b", 2, &[], "bar.com", "/", "")),
        gone("lone"),
        gone("nobody"),
        gone("e"),
    ];
    let (mut assembler, mut present) = (Assembler::default(), HashMap::new());
    for (index, step) in steps.iter().enumerate() {
        match step {
            Ok(draft) => {
                assembler.put(draft.clone());
                present.insert(draft.owner.name.clone(), draft.clone());
            }
            Err(name) => {
                assembler.remove("ns", name);
                present.remove(*name);
            }
        }
        let fresh = assemble(&present.values().cloned().collect::<Vec<_>>());
        let assembly = assembler.assemble(None, &mut Names);
        for (host, path) in
            [("foo.com", "/"), ("foo.com", "/b"), ("bar.com", "/d"), ("x.com", "/e"), ("y", "/")]
        {
            let all = |assembly: &Assembly<Names>| {
                let route = assembly.table.find(host, path);
                let canary = route.is_some_and(|route| matches!(route.target, Target::One(_, Some(_))));
                let certificate = assembly.table.certificate(443, true, host).cloned();
                (found(assembly, host, path), canary, route.map(|route| route.certified), certificate)
            };
            assert_eq!(all(&assembly), all(&fresh), "step {index}: {host}{path}");
        }
        let told = |assembly: &Assembly<Names>| {
            let mut told: Vec<String> =
                assembly.notices.iter().map(|notice| notice.message.clone()).collect();
            told.sort();
            told
        };
        assert_eq!(told(&assembly), told(&fresh), "step {index}");
    }
}
