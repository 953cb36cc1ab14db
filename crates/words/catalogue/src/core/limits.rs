//! Limits of namespaces: LimitRange and ResourceQuota.

use serde_json::{Map, Value};

use plimsoll_meta::field::{FieldError, Path};
use plimsoll_meta::name;
use plimsoll_meta::quantity::Quantity;

use super::stored;
use crate::access::{Access, Fill};
use crate::column::{self, Column};
use crate::kind::{Kind, Subresource};
use crate::pod_spec::resources;
use crate::quantities;
use crate::report::{IMMUTABLE, Report};
use crate::strategy::Strategy;

pub(super) const LIMIT_RANGE: Kind = Kind {
    kind: "LimitRange",
    plural: "limitranges",
    singular: "limitrange",
    short_names: &["limits"],
    definition: "io.k8s.api.core.v1.LimitRange",
    storage: stored("/registry/limitranges"),
    create_on_update: true,
    strategy: &LimitRange,
    ..Kind::BASE
};

pub(super) const RESOURCE_QUOTA: Kind = Kind {
    kind: "ResourceQuota",
    plural: "resourcequotas",
    singular: "resourcequota",
    short_names: &["quota"],
    subresources: &[Subresource::status("ResourceQuota")],
    definition: "io.k8s.api.core.v1.ResourceQuota",
    storage: stored("/registry/resourcequotas"),
    columns: &[
        column::NAME,
        Column::text("Request", "used and allowed, but for limits", |quota, _| usage(quota, false).into()),
        Column::text("Limit", "used and allowed limits", |quota, _| usage(quota, true).into()),
        column::AGE,
    ],
    strategy: &ResourceQuota,
    ..Kind::BASE
};

struct LimitRange;

impl Strategy for LimitRange {
    fn default(&self, object: &mut Value) {
        for item in object.elements("spec.limits") {
            if item.text("type") == "Container" {
                container_defaults(item);
            }
            for list in AMOUNTS {
                quantities::canonicalize(item.inside(list));
            }
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut report = Report::new();
        let path = Path::root("spec").child("limits");
        let items = object.list("spec.limits");
        for (at, item) in items.iter().enumerate() {
            check_item(item, &path.index(at), &mut report);
            let kind = item.text("type");
            if items[..at].iter().any(|other| other.text("type") == kind) {
                report.duplicate(&path.index(at).child("type"), kind);
            }
        }
        report.into_errors()
    }
}

struct ResourceQuota;

impl Strategy for ResourceQuota {
    fn default(&self, object: &mut Value) {
        for list in ["spec.hard", "status.hard", "status.used"] {
            quantities::canonicalize(object.inside(list));
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut report = Report::new();
        let path = Path::root("spec");
        check_quota_amounts(object.map("spec.hard"), &path.child("hard"), &mut report);
        check_scopes(object, &path.child("scopes"), &mut report);
        check_scope_selector(object, &path.child("scopeSelector").child("matchExpressions"), &mut report);
        report.into_errors()
    }

    fn validate_update(&self, new: &Value, old: &Value, subresource: Option<&str>) -> Vec<FieldError> {
        let mut report = Report::new();
        if subresource == Some("status") {
            for list in ["hard", "used"] {
                let amounts = new.map(&format!("status.{list}"));
                check_quota_amounts(amounts, &Path::root("status").child(list), &mut report);
            }
            return report.into_errors();
        }
        report.extend(self.validate(new));
        let sorted = |object: &Value| {
            let mut scopes: Vec<String> =
                object.texts("spec.scopes").into_iter().map(str::to_owned).collect();
            scopes.sort_unstable();
            scopes.dedup();
            scopes
        };
        if sorted(new) != sorted(old) {
            report.invalid(&Path::root("spec").child("scopes"), new.list("spec.scopes").to_vec(), IMMUTABLE);
        }
        report.into_errors()
    }
}

/// A maximum is the default limit, the default limit the default request, else the minimum.
fn container_defaults(item: &mut Value) {
    for (target, source) in [("default", "max"), ("defaultRequest", "default"), ("defaultRequest", "min")] {
        let from: Map<String, Value> = item.map(source).clone();
        if from.is_empty() {
            continue;
        }
        if let Some(object) = item.object(target) {
            for (name, amount) in from {
                object.fill(&name, amount);
            }
        }
    }
}

fn usage(quota: &Value, limits: bool) -> String {
    let hard = quota.map("status.hard");
    let used = quota.map("status.used");
    let mut names: Vec<&String> = hard.keys().filter(|name| name.starts_with("limits.") == limits).collect();
    names.sort_unstable();
    let shown = |name: &str| {
        format!("{name}: {}/{}", quantities::shown(used.get(name)), quantities::shown(hard.get(name)))
    };
    names.into_iter().map(|name| shown(name)).collect::<Vec<_>>().join(", ")
}

const AMOUNTS: [&str; 5] = ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"];

fn check_item(item: &Value, path: &Path, report: &mut Report) {
    let kind = item.text("type");
    let before = report.errors().len();
    report.rule(&path.child("type"), kind, name::is_qualified_name(kind));
    let is_standard = matches!(kind, "Pod" | "Container" | "PersistentVolumeClaim");
    if report.errors().len() == before && !kind.contains('/') && !is_standard {
        report.invalid(&path.child("type"), kind, "must be a standard limit type or fully qualified");
    }
    for list in AMOUNTS {
        if kind == "Pod" && list.starts_with("default") {
            if !item.map(list).is_empty() {
                report.forbidden(&path.child(list), "may not be specified when `type` is 'Pod'");
            }
            continue;
        }
        for resource in item.map(list).keys() {
            let at = path.child(list).key(resource);
            match kind {
                "Pod" | "Container" => resources::check_container_name(resource, &at, report),
                _ => resources::check_name(resource, &at, report),
            }
        }
    }
    if kind == "PersistentVolumeClaim"
        && ["min", "max"].iter().all(|list| !item.map(list).contains_key("storage"))
    {
        let message = "either minimum or maximum storage value is required, but neither was provided";
        report.required(&path.child("limits"), message);
    }
    let mut names: Vec<&String> = AMOUNTS.iter().flat_map(|list| item.map(list).keys()).collect();
    names.sort_unstable();
    names.dedup();
    for resource in names {
        check_order(item, resource, path, report);
    }
}

/// Minimum, default request, default and maximum go up in this order.
fn check_order(item: &Value, resource: &str, path: &Path, report: &mut Report) {
    let amount = |list: &str| quantities::parse(item.map(list).get(resource));
    let mut check = |low: (&str, &str), high: (&str, &str), at: &str, shown_low: bool| {
        if let (Some(small), Some(big)) = (amount(low.0), amount(high.0))
            && small > big
        {
            let shown = if shown_low { &small } else { &big };
            let message = format!("{} value {small} is greater than {} value {big}", low.1, high.1);
            report.invalid(&path.child(at).key(resource), shown.to_string(), message);
        }
    };
    let (min, max) = (("min", "min"), ("max", "max"));
    let (request, limit) = (("defaultRequest", "default request"), ("default", "default"));
    check(min, max, "min", true);
    check(min, request, "defaultRequest", false);
    check(request, max, "defaultRequest", true);
    check(request, ("default", "default limit"), "defaultRequest", true);
    check(min, limit, "default", true);
    check(limit, max, "default", false);
    if let Some(ratio) = amount("maxLimitRequestRatio") {
        check_ratio(
            &ratio,
            amount("min"),
            amount("max"),
            &path.child("maxLimitRequestRatio").key(resource),
            report,
        );
    }
    if let (false, Some(limit), Some(request)) =
        (resources::may_overcommit(resource), amount("default"), amount("defaultRequest"))
        && limit != request
    {
        let message =
            format!("default value {limit} must equal to defaultRequest value {request} in {resource}");
        report.invalid(&path.child("defaultRequest").key(resource), request.to_string(), message);
    }
}

fn check_ratio(
    ratio: &Quantity,
    min: Option<Quantity>,
    max: Option<Quantity>,
    path: &Path,
    report: &mut Report,
) {
    if ratio.milli() < 1000 {
        report.invalid(path, ratio.to_string(), format!("ratio {ratio} is less than 1"));
    }
    if let (Some(min), Some(max)) = (min, max) {
        let limit = max.as_f64() / min.as_f64();
        if ratio.as_f64() > limit {
            report.invalid(
                path,
                ratio.to_string(),
                format!("ratio {ratio} is greater than max/min = {limit:.6}"),
            );
        }
    }
}

fn check_quota_amounts(amounts: &Map<String, Value>, path: &Path, report: &mut Report) {
    for (resource, amount) in amounts {
        let at = path.key(resource);
        resources::check_name(resource, &at, report);
        let is_known = resources::is_standard(resource) && resource != "storage";
        if !resource.contains('/') && !is_known {
            report.invalid(&at, resource.as_str(), "must be a standard resource for quota");
        }
        resources::check_amount(resource, amount, &at, report);
    }
}

const SCOPES: [&str; 7] = [
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "CrossNamespacePodAffinity",
    "VolumeAttributesClass",
];

/// Scopes choose pods, so they limit only what pods use; those of claims only claims.
fn fits(scope: &str, resource: &str) -> bool {
    let is_of_pods = matches!(
        resource,
        "pods" | "cpu" | "memory" | "limits.cpu" | "limits.memory" | "requests.cpu" | "requests.memory"
    );
    match scope {
        _ if !resources::is_standard(resource) => true,
        "BestEffort" => resource == "pods",
        "VolumeAttributesClass" => matches!(resource, "persistentvolumeclaims" | "requests.storage"),
        _ => is_of_pods,
    }
}

fn check_scopes(object: &Value, path: &Path, report: &mut Report) {
    let scopes = object.texts("spec.scopes");
    let shown = || object.list("spec.scopes").to_vec();
    for scope in &scopes {
        if !SCOPES.contains(scope) {
            report.invalid(path, shown(), "unsupported scope");
        } else if object.map("spec.hard").keys().any(|resource| !fits(scope, resource)) {
            report.invalid(path, shown(), "unsupported scope applied to resource");
        }
    }
    for pair in [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]] {
        if pair.iter().all(|scope| scopes.contains(scope)) {
            report.invalid(path, shown(), "conflicting scopes");
        }
    }
}

fn check_scope_selector(object: &Value, path: &Path, report: &mut Report) {
    for expression in object.list("spec.scopeSelector.matchExpressions") {
        let (scope, operator) = (expression.text("scopeName"), expression.text("operator"));
        if !SCOPES.contains(&scope) {
            report.invalid(&path.child("scopeName"), scope, "unsupported scope");
        } else if object.map("spec.hard").keys().any(|resource| !fits(scope, resource)) {
            let shown = object["spec"]["scopeSelector"].clone();
            report.invalid(path, shown, "unsupported scope applied to resource");
        }
        if !matches!(scope, "PriorityClass" | "VolumeAttributesClass")
            && SCOPES.contains(&scope)
            && operator != "Exists"
        {
            report.invalid(
                &path.child("operator"),
                operator,
                "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, \
                 ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity",
            );
        }
        let values = expression.list("values");
        match operator {
            "In" | "NotIn" if values.is_empty() => report.required(
                &path.child("values"),
                "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
            ),
            "Exists" | "DoesNotExist" if !values.is_empty() => report.invalid(
                &path.child("values"),
                values.to_vec(),
                "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector",
            ),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => report.invalid(&path.child("operator"), other, "not a valid selector operator"),
        }
    }
}
