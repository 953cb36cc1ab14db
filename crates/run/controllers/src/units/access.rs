//! Wires the controllers of roles and tokens.

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::rbac::v1::ClusterRole;
use plimsoll_client::Filter;
use plimsoll_reconcile::{bootstrap_token, cluster_role_aggregation};

use crate::unit::{Key, Unit};
use crate::{Context, Error};

/// ClusterRoles made of others.
pub(crate) fn roles(context: &Context, unit: Unit) -> Result<Unit, Error> {
    let roles = context.informers.informer::<ClusterRole>();
    let all = roles.clone();
    let unit = unit.input(&roles, move |changed| {
        let gathers = |role: &ClusterRole| role.aggregation_rule.is_some();
        // A role that says of nobody's rules anything is of no interest to those that gather.
        if changed.metadata.labels.is_none() && !gathers(changed) {
            return Vec::new();
        }
        all.list().iter().filter(|role| gathers(role)).map(|role| Key::of(&**role)).collect()
    });
    Ok(unit.decide(move |key, _| {
        let Some(role) = roles.get("", &key.name).filter(|role| role.aggregation_rule.is_some()) else {
            return Vec::new();
        };
        cluster_role_aggregation::decide(&role, &roles.list())
    }))
}

/// Expired bootstrap tokens. Only these Secrets are watched, not everybody's.
pub(crate) fn tokens(context: &Context, unit: Unit) -> Result<Unit, Error> {
    let filter = Filter {
        namespace: Some("kube-system".to_owned()),
        fields: Some(format!("type={}", bootstrap_token::TYPE)),
        labels: None,
    };
    let tokens = context.informers.filtered::<Secret>(filter);
    let unit = unit.input(&tokens, |token| vec![Key::of(token)]);
    Ok(unit.decide(move |key, now| {
        tokens
            .get(&key.namespace, &key.name)
            .map(|token| bootstrap_token::decide(&token, now))
            .unwrap_or_default()
    }))
}
