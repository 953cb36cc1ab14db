//! How a pod resolves names.

use serde_json::Value;

use plimsoll_meta::field::Path;
use plimsoll_meta::name;

use crate::access::Access;
use crate::report::Report;

const NAMESERVERS: usize = 3;
const SEARCHES: usize = 32;
const SEARCH_CHARACTERS: usize = 2048;

pub(super) fn check(spec: &Value, path: &Path, report: &mut Report) {
    let policy = spec.text("dnsPolicy");
    let policies = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    report.choice(&path.child("dnsPolicy"), policy, &policies);
    check_config(spec, policy, &path.child("dnsConfig"), report);
    spec.list("hostAliases").iter().for_each(|alias| check_alias(alias, &path.child("hostAliases"), report));
}

fn check_config(spec: &Value, policy: &str, path: &Path, report: &mut Report) {
    let Some(config) = spec.at("dnsConfig") else {
        if policy == "None" {
            report.required(path, "must provide `dnsConfig` when `dnsPolicy` is None");
        }
        return;
    };
    let servers = config.list("nameservers");
    if policy == "None" && servers.is_empty() {
        let message = "must provide at least one DNS nameserver when `dnsPolicy` is None";
        report.required(&path.child("nameservers"), message);
        return;
    }
    if servers.len() > NAMESERVERS {
        let message = format!("must not have more than {NAMESERVERS} nameservers");
        report.invalid(&path.child("nameservers"), servers.to_vec(), message);
    }
    for (at, server) in servers.iter().enumerate() {
        if server.as_str().is_none_or(|text| text.parse::<std::net::IpAddr>().is_err()) {
            report.invalid(&path.child("nameservers").index(at), server.clone(), "must be valid IP address");
        }
    }
    check_searches(config, &path.child("searches"), report);
    for (at, option) in config.list("options").iter().enumerate() {
        if option.text("name").is_empty() {
            report.required(&path.child("options").index(at), "must not be empty");
        }
    }
}

fn check_searches(config: &Value, path: &Path, report: &mut Report) {
    let searches = config.texts("searches");
    if searches.len() > SEARCHES {
        report.invalid(path, searches.clone(), format!("must not have more than {SEARCHES} search paths"));
    }
    if searches.join(" ").len() > SEARCH_CHARACTERS {
        let message = format!(
            "must not have more than {SEARCH_CHARACTERS} characters (including spaces) in the search list"
        );
        report.invalid(path, searches.clone(), message);
    }
    for (at, search) in searches.iter().enumerate() {
        // A dot alone is the root; underscores are allowed in search paths.
        let domain = search.strip_suffix('.').unwrap_or(search).replace('_', "a");
        if *search != "." {
            report.rule(&path.index(at), search, name::is_dns1123_subdomain(&domain));
        }
    }
}

/// Upstream names no index here.
fn check_alias(alias: &Value, path: &Path, report: &mut Report) {
    if alias.text("ip").parse::<std::net::IpAddr>().is_err() {
        report.invalid(&path.child("ip"), alias.text("ip"), "must be valid IP address");
    }
    for host in alias.texts("hostnames") {
        report.rule(&path.child("hostnames"), host, name::is_dns1123_subdomain(host));
    }
}
