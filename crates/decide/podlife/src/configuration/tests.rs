//! Documents, and what becomes of them.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::flags::{FLAGS, document};
use super::{Configuration, Span, VERSION, check, combine, cpu_set};

fn of(document: Value) -> Result<Configuration, String> {
    Configuration::of(&combine([&document])).map_err(|refused| refused.to_string())
}

fn checked(document: Value) -> Result<(), String> {
    check(&combine([&document])).map_err(|refused| refused.to_string())
}

#[test]
fn nothing_said_is_upstreams_defaults() {
    let it = of(json!({})).unwrap();
    assert_eq!(it, of(json!({"port": 0, "address": "", "syncFrequency": "0s", "featureGates": {}})).unwrap());
    assert_eq!((it.port, it.address.as_str(), it.max_pods, it.pod_pids_limit), (10250, "0.0.0.0", 110, -1));
    assert_eq!(it.eviction_hard.unwrap()["memory.available"], "100Mi");
    assert_eq!(it.node_status_report_frequency, Span::seconds(300));
    assert_eq!(it.enforce_node_allocatable, ["pods"]);
    assert_eq!(it.authentication.webhook.cache_ttl, Span::seconds(120));
    assert!(
        it.authentication.webhook.enabled && !it.authentication.anonymous.enabled && it.serialize_image_pulls
    );
}

#[test]
fn a_whole_document_is_read_as_it_was() {
    let it = of(json!({"maxPods": 7, "authentication": {"x509": {"clientCAFile": "/ca"}}})).unwrap();
    let document = it.document();
    assert_eq!((document["maxPods"].as_i64(), document["syncFrequency"].as_str()), (Some(7), Some("1m0s")));
    assert_eq!(Configuration::of(&document).unwrap(), Configuration { api_version: VERSION.into(), ..it });
    check(&document).unwrap();
}

#[test]
fn shapes_are_checked_with_paths() {
    for (document, expected) in [
        (json!({"maxpods": 5}), r#"unknown field "maxpods""#),
        (
            json!({"authentication": {"webhook": {"enable": true}}}),
            r#"unknown field "authentication.webhook.enable""#,
        ),
        (
            json!({"registerWithTaints": [{"key": "a", "effects": "b"}]}),
            r#"unknown field "registerWithTaints[0].effects""#,
        ),
        (
            json!({"maxPods": "5"}),
            "json: cannot unmarshal string into Go struct field KubeletConfiguration.maxPods of type int32",
        ),
        (
            json!({"maxPods": 5_000_000_000_i64}),
            "json: cannot unmarshal number 5000000000 into Go struct field KubeletConfiguration.maxPods of type int32",
        ),
        (
            json!({"evictionPressureTransitionPeriod": "5x"}),
            "evictionPressureTransitionPeriod: time: unknown unit \"x\" in duration \"5x\"",
        ),
        (
            json!({"authentication": [], "clusterDNS": [1]}),
            "json: cannot unmarshal array into Go struct field KubeletConfiguration.authentication of type struct, json: \
             cannot unmarshal number into Go struct field KubeletConfiguration.clusterDNS[0] of type string",
        ),
    ] {
        assert_eq!(checked(document), Err(format!("strict decoding error: {expected}")));
    }
    let other = json!({"apiVersion": "v1", "kind": "Pod"});
    assert_eq!(
        check(&other).unwrap_err().to_string(),
        "expected KubeletConfiguration of kubelet.config.k8s.io/v1beta1, got \"Pod\" of \"v1\""
    );
}

#[test]
fn values_are_checked_in_upstreams_words() {
    for (document, expected) in [
        (
            json!({"imageGCHighThresholdPercent": 50, "imageGCLowThresholdPercent": 60}),
            "imageGCLowThresholdPercent (--image-gc-low-threshold) 60 must be less than imageGCHighThresholdPercent \
             (--image-gc-high-threshold) 50",
        ),
        (
            json!({"imageMinimumGCAge": "1h", "imageMaximumGCAge": "10m"}),
            "imageMaximumGCAge 10m0s must be greater than imageMinimumGCAge 1h0m0s",
        ),
        (json!({"maxPods": -1}), "maxPods (--max-pods) -1 must not be a negative number"),
        (json!({"port": 70000}), "port (--port) 70000 must be between 1 and 65535, inclusive"),
        (
            json!({"cpuCFSQuotaPeriod": "50ms"}),
            "cpuCFSQuotaPeriod (--cpu-cfs-quota-period) 50ms requires feature gate CustomCPUCFSQuotaPeriod",
        ),
        (
            json!({"enforceNodeAllocatable": ["kube-reserved"]}),
            "kubeReservedCgroup (--kube-reserved-cgroup) must be specified when \"kube-reserved\" or \
             \"kube-reserved-compressible\" included in enforceNodeAllocatable (--enforce-node-allocatable)",
        ),
        (
            json!({"enforceNodeAllocatable": ["pods", "none"]}),
            "enforceNodeAllocatable (--enforce-node-allocatable) may not contain additional enforcements when \"none\" \
             is specified",
        ),
        (
            json!({"topologyManagerPolicy": "best"}),
            "topologyManagerPolicy (--topology-manager-policy) \"best\" must be one of: [\"none\" \"best-effort\" \
             \"restricted\" \"single-numa-node\"]",
        ),
        (
            json!({"shutdownGracePeriod": "10s", "shutdownGracePeriodCriticalPods": "20s"}),
            "shutdownGracePeriodCriticalPods 20s must be <= shutdownGracePeriod 10s",
        ),
        (
            json!({"memorySwap": {"swapBehavior": "UnlimitedSwap"}}),
            "memorySwap.swapBehavior \"UnlimitedSwap\" must be one of: \"\", \"LimitedSwap\" or \"NoSwap\"",
        ),
        (
            json!({"reservedSystemCPUs": "3-1"}),
            "unable to parse reservedSystemCPUs (--reserved-cpus) 3-1, error: invalid range \"3-1\" (3 > 1)",
        ),
        (
            json!({"reservedMemory": [{"numaNode": 1, "limits": {"cpu": "1"}}]}),
            "the limit type \"cpu\" for NUMA node 1 is not supported, only [memory hugepages-<HugePageSize>] is accepted",
        ),
        (json!({"podLogsDir": "/var//log"}), "pod logs path \"/var//log\" must be normalized"),
        (
            json!({"runOnce": true}),
            "runOnce (--runOnce) true, Runonce mode has been deprecated and should not be set",
        ),
    ] {
        let found = of(document.clone()).unwrap_err();
        assert!(found.contains(&format!("invalid configuration: {expected}")), "{document}: {found}");
    }
    let taint = json!({"registerWithTaints": [{"key": "a b", "effect": "NoSchedule"}]});
    assert_eq!(of(taint).unwrap_err(), "invalid taint: {a b  NoSchedule <nil>}");
}

#[test]
fn gates_are_known() {
    for (gates, expected) in [
        (json!({"Nonsense": true}), Some("unrecognized feature gate: Nonsense")),
        (
            json!({"SidecarContainers": false}),
            Some("cannot set feature gate SidecarContainers to false, feature is locked to true"),
        ),
        (json!({"SidecarContainers": true, "EventedPLEG": false}), None),
        (json!({"CPUManagerPolicyAlphaOptions": true, "CSIVolumeHealth": true, "MemoryQoS": true}), None),
        (
            json!({"EventedPLEG": true}),
            Some(
                "invalid configuration: featureGates[EventedPLEG] is not used by this node agent and must be left at \
                 its default",
            ),
        ),
    ] {
        assert_eq!(of(json!({"featureGates": gates})).err().as_deref(), expected);
    }
}

#[test]
fn what_nothing_acts_upon_is_refused() {
    let unused = |field: &str| {
        format!(
            "invalid configuration: {field} is not used by this node agent and must be left at its default"
        )
    };
    assert_eq!(of(json!({"podCIDR": "10.0.0.0/8"})).unwrap_err(), unused("podCIDR"));
    let crash = json!({
        "crashLoopBackOff": {"maxContainerRestartPeriod": "10s"},
        "featureGates": {"KubeletCrashLoopBackOffMax": true},
    });
    assert!(of(crash).is_ok());
    assert!(
        of(json!({"syncFrequency": "10s", "logging": {"verbosity": 4, "flushFrequency": 5_000_000}})).is_ok()
    );
    assert!(of(json!({"logging": {"format": "json"}})).is_ok());
    let odd = json!({"logging": {"format": "xml", "vmodule": [{"filePattern": "a", "verbosity": 1}]}});
    assert_eq!(
        of(odd).unwrap_err(),
        "logging.format: Invalid value: \"xml\": Unsupported log format, logging.vmodule: Forbidden: Only supported for \
         text log format"
    );
    assert_eq!(of(json!({"tracing": {"endpoint": "localhost:4317"}})).unwrap_err(), unused("tracing"));
}

#[test]
fn later_documents_win_field_by_field() {
    let base =
        json!({"maxPods": 50, "evictionHard": {"memory.available": "1Gi"}, "clusterDNS": ["10.0.0.10"]});
    let dropin =
        json!({"evictionHard": {"nodefs.available": "5%"}, "clusterDNS": ["10.0.0.11"], "maxPods": null});
    let it = Configuration::of(&combine([&base, &dropin])).unwrap();
    assert_eq!(it.max_pods, 110);
    assert_eq!(it.cluster_dns, ["10.0.0.11"]);
    let hard = it.eviction_hard.unwrap();
    assert_eq!(hard.keys().collect::<Vec<_>>(), ["memory.available", "nodefs.available"]);
    let merged = json!({"mergeDefaultEvictionSettings": true});
    let it = Configuration::of(&combine([&base, &merged])).unwrap();
    let hard = it.eviction_hard.unwrap();
    assert_eq!((hard.len(), hard["memory.available"].as_str()), (5, "1Gi"));
}

#[test]
fn flags_are_documents() {
    for (name, values, expected) in [
        ("max-pods", vec!["5"], json!({"maxPods": 5})),
        ("fail-swap-on", vec![""], json!({"failSwapOn": true})),
        ("fail-swap-on", vec!["F"], json!({"failSwapOn": false})),
        ("anonymous-auth", vec!["true"], json!({"authentication": {"anonymous": {"enabled": true}}})),
        (
            "cluster-dns",
            vec!["10.0.0.1,10.0.0.2", "10.0.0.3"],
            json!({"clusterDNS": ["10.0.0.1", "10.0.0.2", "10.0.0.3"]}),
        ),
        (
            "kube-reserved",
            vec!["cpu=100m, memory=1Gi"],
            json!({"kubeReserved": {"cpu": "100m", "memory": "1Gi"}}),
        ),
        (
            "eviction-hard",
            vec!["memory.available<1Gi,nodefs.available<10%"],
            json!({"evictionHard": {"memory.available": "1Gi", "nodefs.available": "10%"}}),
        ),
        ("feature-gates", vec!["A=true,B=0"], json!({"featureGates": {"A": true, "B": false}})),
        (
            "register-with-taints",
            vec!["a=b:NoSchedule,c:NoExecute"],
            json!({"registerWithTaints": [
                {"key": "a", "value": "b", "effect": "NoSchedule"},
                {"key": "c", "value": "", "effect": "NoExecute"},
            ]}),
        ),
        ("manifest-url-header", vec!["a:1,a:2"], json!({"staticPodURLHeader": {"a": ["1", "2"]}})),
    ] {
        let flag = FLAGS.iter().find(|flag| flag.name == name).unwrap();
        assert_eq!(document(flag, &values), Ok(expected), "{name}");
    }
    for (name, value, expected) in [
        ("max-pods", "x", "strconv.ParseInt: parsing \"x\": invalid syntax"),
        ("eviction-hard", "a=b", "malformed pair, expect string<string"),
        ("register-with-taints", "a=b:Never", "invalid taint effect: Never, unsupported taint effect"),
        ("register-with-taints", "a=b", "invalid taint spec: a=b"),
    ] {
        let flag = FLAGS.iter().find(|flag| flag.name == name).unwrap();
        assert_eq!(document(flag, &[value]), Err(expected.to_owned()), "{name}");
    }
}

#[test]
fn flags_are_of_fields_that_there_are() {
    let mut names = BTreeSet::new();
    for flag in FLAGS {
        assert!(names.insert(flag.name), "{} is there twice", flag.name);
        let top = flag.field.split('.').next().unwrap();
        assert!(Configuration::USES.iter().any(|(name, _)| *name == top), "{}", flag.field);
    }
}

#[test]
fn processors_are_numbers_and_ranges() {
    assert_eq!(cpu_set("0-2,5").unwrap().into_iter().collect::<Vec<_>>(), [0, 1, 2, 5]);
    assert_eq!(cpu_set("").unwrap().len(), 0);
    assert_eq!(cpu_set("a").unwrap_err(), "strconv.Atoi: parsing \"a\": invalid syntax");
}
