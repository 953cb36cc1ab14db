use super::super::operations;
use super::*;

#[test]
fn every_reference_leads_somewhere() {
    for style in [Style::V2, Style::V3] {
        let all = builtin(style);
        let mut wanted = Vec::new();
        all.values().for_each(|definition| references(definition, &mut wanted));
        references(
            &Value::Object(operations::paths(&plimsoll_catalogue::kinds().iter().collect::<Vec<_>>(), style)),
            &mut wanted,
        );
        wanted.sort();
        wanted.dedup();
        let missing: Vec<&String> = wanted.iter().filter(|name| !all.contains_key(*name)).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
}

#[test]
fn definitions_carry_what_clients_merge_by() {
    let all = builtin(Style::V3);
    let containers = &all["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(containers["x-kubernetes-list-type"], "map");
    assert_eq!(all["io.k8s.api.core.v1.Pod"]["x-kubernetes-group-version-kind"][0]["kind"], "Pod");
    assert!(all["io.k8s.api.core.v1.Pod"]["properties"]["spec"]["allOf"][0]["$ref"].is_string());
}
