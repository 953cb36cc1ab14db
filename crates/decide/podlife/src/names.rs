//! What a pod is called, and whom it asks for names: hostname, `/etc/hosts`, `resolv.conf`.

use std::fmt::Write as _;

use k8s_openapi::api::core::v1::Pod;

use crate::spec::{host_network, pod_spec};

/// What goes into a `resolv.conf`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolver {
    /// Addresses of name servers.
    pub servers: Vec<String>,
    /// Domains that short names are tried in.
    pub searches: Vec<String>,
    /// Options such as `ndots:5`.
    pub options: Vec<String>,
}

/// The longest host name that Linux takes.
const LONGEST: usize = 64;

/// Name servers that a C library asks.
const MOST_SERVERS: usize = 3;
/// Domains that short names are tried in, the characters of one, and those of all together.
const MOST_SEARCHES: usize = 32;
const LONGEST_SEARCH: usize = 253;
const LONGEST_SEARCHES: usize = 2048;

/// A pod's short host name and, when it has one, its full name.
///
/// # Errors
/// When the full name has to be the host name and is too long.
pub fn hostname(pod: &Pod, domain: &str) -> Result<(String, Option<String>), String> {
    let spec = pod_spec(pod);
    if let Some(name) = spec.hostname_override.clone().filter(|name| !name.is_empty()) {
        return Ok((name, None));
    }
    let named = spec.hostname.as_deref().filter(|name| !name.is_empty());
    let short = named.or(pod.metadata.name.as_deref()).unwrap_or_default();
    let cut = &short[..short.len().min(63)];
    let short = cut.trim_end_matches(['-', '.']).to_owned();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let subdomain = spec.subdomain.as_deref().filter(|name| !name.is_empty());
    let full = subdomain.map(|subdomain| format!("{short}.{subdomain}.{namespace}.svc.{domain}"));
    match full {
        Some(full) if spec.set_hostname_as_fqdn == Some(true) => {
            if full.len() > LONGEST {
                return Err(format!(
                    "failed to construct FQDN from pod hostname and cluster domain, FQDN {full} is too long \
                     ({LONGEST} characters is the max, {} characters requested)",
                    full.len()
                ));
            }
            Ok((full.clone(), Some(full)))
        }
        full => Ok((short, full)),
    }
}

/// The content of a pod's `/etc/hosts`. `node` is that of the node, for pods in its network.
#[must_use]
pub fn hosts(pod: &Pod, ips: &[String], domain: &str, node: &str) -> String {
    let mut text = String::new();
    if host_network(pod) {
        text.push_str("# Kubernetes-managed hosts file (host network).\n");
        text.push_str(node);
    } else {
        text.push_str(
            "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n\
             ::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\n\
             fe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
        );
        let (short, full) = hostname(pod, domain).unwrap_or_default();
        for ip in ips {
            text.push_str(ip);
            if let Some(full) = &full {
                text.extend(["\t", full]);
            }
            if full.as_ref() != Some(&short) {
                text.extend(["\t", &short]);
            }
            text.push('\n');
        }
    }
    let mut aliases = pod_spec(pod).host_aliases.iter().flatten().peekable();
    if aliases.peek().is_some() {
        text.push_str("\n# Entries added by HostAliases.\n");
    }
    for alias in aliases {
        let names = alias.hostnames.clone().unwrap_or_default().join("\t");
        writeln!(text, "{}\t{names}", alias.ip).expect("strings take all");
    }
    text
}

/// A pod's resolver (kubelet: pkg/kubelet/network/dns). `servers` and `domain` are the cluster's,
/// `node` is the node's own resolver.
#[must_use]
pub fn resolver(pod: &Pod, servers: &[String], domain: &str, node: &Resolver) -> Resolver {
    let spec = pod_spec(pod);
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let mut resolver = match asks_cluster(pod) {
        None => Resolver::default(),
        Some(true) if !servers.is_empty() => {
            let own = [format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.to_owned()];
            let searches = own.into_iter().chain(node.searches.iter().cloned()).collect();
            Resolver {
                servers: servers.to_vec(),
                searches: unique(searches),
                options: vec!["ndots:5".into()],
            }
        }
        Some(_) => node.clone(),
    };
    if let Some(config) = &spec.dns_config {
        resolver.servers.extend(config.nameservers.clone().unwrap_or_default());
        resolver.searches.extend(config.searches.clone().unwrap_or_default());
        for option in config.options.iter().flatten() {
            let name = option.name.as_deref().unwrap_or_default();
            resolver.options.retain(|known| known.split(':').next() != Some(name));
            let value = option.value.as_deref().filter(|value| !value.is_empty());
            resolver.options.push(value.map_or(name.to_owned(), |value| format!("{name}:{value}")));
        }
    }
    Resolver {
        servers: unique(resolver.servers),
        searches: unique(resolver.searches),
        options: resolver.options,
    }
}

/// Whether a pod asks the cluster's name servers, or the node's; none when it names its own only.
fn asks_cluster(pod: &Pod) -> Option<bool> {
    match pod_spec(pod).dns_policy.as_deref() {
        Some("None") => None,
        Some("Default") => Some(false),
        Some("ClusterFirstWithHostNet") => Some(true),
        _ => Some(!host_network(pod)),
    }
}

/// The message of an event when a pod wants the cluster's name servers and there are none.
#[must_use]
pub fn lacks_servers(pod: &Pod, servers: &[String]) -> Option<String> {
    if asks_cluster(pod) != Some(true) || !servers.is_empty() {
        return None;
    }
    let meta = &pod.metadata;
    let part = |text: &Option<String>| text.clone().unwrap_or_default();
    Some(format!(
        "pod: \"{}_{}({})\". kubelet does not have ClusterDNS IP configured and cannot create Pod using \
         \"ClusterFirst\" policy. Falling back to \"Default\" policy.",
        part(&meta.name),
        part(&meta.namespace),
        part(&meta.uid)
    ))
}

/// What a C library takes of a resolver, and the message of an event for each thing that it does not
/// (kubelet: pkg/kubelet/network/dns, `formDNSConfigFitsLimits`).
#[must_use]
pub fn within_limits(mut resolver: Resolver) -> (Resolver, Vec<String>) {
    let mut told = Vec::new();
    if resolver.servers.len() > MOST_SERVERS {
        resolver.servers.truncate(MOST_SERVERS);
        told.push(format!(
            "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: {}",
            resolver.servers.join(" ")
        ));
    }
    let asked = resolver.searches.len();
    resolver.searches.truncate(MOST_SEARCHES);
    resolver.searches.retain(|domain| domain.len() <= LONGEST_SEARCH);
    while resolver.searches.join(" ").len() > LONGEST_SEARCHES {
        resolver.searches.pop();
    }
    if resolver.searches.len() < asked {
        told.push(format!(
            "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: {}",
            resolver.searches.join(" ")
        ));
    }
    (resolver, told)
}

/// Reads a `resolv.conf`.
#[must_use]
pub fn parse_resolver(text: &str) -> Resolver {
    let mut resolver = Resolver::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some(word) = words.next() else { continue };
        let words = words.map(str::to_owned);
        match word {
            "nameserver" => resolver.servers.extend(words.take(1)),
            // The last one counts.
            "search" => resolver.searches = words.filter(|word| word != ".").collect(),
            "options" => resolver.options.extend(words),
            _ => {}
        }
    }
    resolver
}

fn unique(mut list: Vec<String>) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    list.retain(|item| seen.insert(item.clone()));
    list
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(spec: Value) -> Pod {
        let mut spec = spec;
        spec["containers"] = json!([]);
        serde_json::from_value(json!({"metadata": {"name": "web-1", "namespace": "ns"}, "spec": spec}))
            .unwrap()
    }

    #[test]
    fn host_names() {
        let long = "x".repeat(60);
        let cases = [
            (json!({}), Ok(("web-1", None))),
            (json!({"hostname": "h"}), Ok(("h", None))),
            (json!({"hostname": "h", "subdomain": "s"}), Ok(("h", Some("h.s.ns.svc.c.l")))),
            (
                json!({"subdomain": "s", "setHostnameAsFQDN": true}),
                Ok(("web-1.s.ns.svc.c.l", Some("web-1.s.ns.svc.c.l"))),
            ),
            (json!({"hostnameOverride": "o.example"}), Ok(("o.example", None))),
            (json!({"hostname": long, "subdomain": "s", "setHostnameAsFQDN": true}), Err(())),
        ];
        for (spec, expected) in cases {
            let name = hostname(&pod(spec.clone()), "c.l");
            let name = name.as_ref().map(|(short, full)| (short.as_str(), full.as_deref())).map_err(|_| ());
            assert_eq!(name, expected, "{spec}");
        }
    }

    #[test]
    fn hosts_files() {
        let aliases = json!({"hostname": "h", "subdomain": "s",
            "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b.c"]}]});
        let text = hosts(&pod(aliases), &["10.0.0.9".into()], "c.l", "");
        assert!(text.starts_with("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost"));
        assert!(text.ends_with(
            "fe00::2\tip6-allrouters\n10.0.0.9\th.s.ns.svc.c.l\th\n\n# Entries added by HostAliases.\n1.2.3.4\ta\tb.c\n"
        ));
        let text = hosts(&pod(json!({"hostNetwork": true})), &[], "c.l", "127.0.0.1 localhost\n");
        assert_eq!(text, "# Kubernetes-managed hosts file (host network).\n127.0.0.1 localhost\n");
    }

    #[test]
    fn resolvers() {
        let node = parse_resolver("# x\nnameserver 9.9.9.9\nsearch corp.example .\noptions timeout:2\n");
        let cluster = "10.96.0.10 | ns.svc.c.l svc.c.l c.l corp.example | ndots:5";
        let own = "9.9.9.9 | corp.example | timeout:2";
        let config = json!({"nameservers": ["1.1.1.1"], "searches": ["x.y"], "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]});
        let cases = [
            (json!({}), cluster),
            (json!({"dnsPolicy": "ClusterFirst"}), cluster),
            (json!({"dnsPolicy": "Default"}), own),
            (json!({"dnsPolicy": "ClusterFirst", "hostNetwork": true}), own),
            (json!({"dnsPolicy": "ClusterFirstWithHostNet", "hostNetwork": true}), cluster),
            (json!({"dnsPolicy": "None", "dnsConfig": config}), "1.1.1.1 | x.y | ndots:2 edns0"),
            (
                json!({"dnsConfig": config}),
                "10.96.0.10 1.1.1.1 | ns.svc.c.l svc.c.l c.l corp.example x.y | ndots:2 edns0",
            ),
        ];
        for (spec, expected) in cases {
            let it = resolver(&pod(spec.clone()), &["10.96.0.10".into()], "c.l", &node);
            let text = [it.servers.join(" "), it.searches.join(" "), it.options.join(" ")].join(" | ");
            assert_eq!(text, expected, "{spec}");
        }
    }

    #[test]
    fn who_lacks_the_clusters_servers() {
        let message = "pod: \"p_ns(u)\". kubelet does not have ClusterDNS IP configured and cannot create Pod \
                       using \"ClusterFirst\" policy. Falling back to \"Default\" policy.";
        let there = ["10.96.0.10".to_owned()];
        for (policy, host, servers, lacks) in [
            ("ClusterFirst", false, &[][..], true),
            ("ClusterFirst", true, &[][..], false),
            ("ClusterFirstWithHostNet", true, &[][..], true),
            ("Default", false, &[][..], false),
            ("None", false, &[][..], false),
            ("ClusterFirst", false, &there[..], false),
        ] {
            let pod = serde_json::from_value(json!({
                "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
                "spec": {"containers": [], "dnsPolicy": policy, "hostNetwork": host},
            }));
            let told = lacks_servers(&pod.unwrap(), servers);
            assert_eq!(told.as_deref(), lacks.then_some(message), "{policy} {host}");
        }
    }

    #[test]
    fn resolvers_keep_to_the_limits() {
        let list = |count: usize, text: &str| (0..count).map(|it| format!("{text}{it}")).collect::<Vec<_>>();
        let ask = |servers: usize, searches: Vec<String>| {
            let resolver = Resolver { servers: list(servers, "s"), searches, options: Vec::new() };
            let (resolver, told) = within_limits(resolver);
            (resolver.servers.len(), resolver.searches.len(), told)
        };
        let servers = "Nameserver limits were exceeded, some nameservers have been omitted, the applied \
                       nameserver line is: s0 s1 s2";
        assert_eq!(ask(3, list(32, "d")), (3, 32, Vec::new()));
        assert_eq!(ask(4, list(1, "d")), (3, 1, vec![servers.to_owned()]));
        let search = "Search Line limits were exceeded, some search paths have been omitted, the applied search \
                      line is: ";
        let applied = format!("{search}{}", list(32, "d").join(" "));
        assert_eq!(ask(1, list(33, "d")), (1, 32, vec![applied]));
        let long = vec!["a".into(), "x".repeat(254), "b".into()];
        assert_eq!(ask(1, long), (1, 2, vec![format!("{search}a b")]));
        let many = list(9, &"x".repeat(249));
        let (_, count, told) = ask(1, many);
        assert_eq!((count, told.len()), (8, 1));
    }
}
