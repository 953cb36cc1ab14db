//! Wires the controllers of roles and tokens.

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::api::rbac::v1::ClusterRole;
use plimsoll_client::{Filter, Informer};
use plimsoll_reconcile::{bootstrap_signer, bootstrap_token, cluster_role_aggregation};

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

/// Expired bootstrap tokens.
pub(crate) fn tokens(context: &Context, unit: Unit) -> Result<Unit, Error> {
    let tokens = bootstrap_tokens(context);
    let unit = unit.input(&tokens, |token| vec![Key::of(token)]);
    Ok(unit.decide(move |key, now| {
        tokens
            .get(&key.namespace, &key.name)
            .map(|token| bootstrap_token::decide(&token, now))
            .unwrap_or_default()
    }))
}

/// Signatures of `cluster-info`.
pub(crate) fn signatures(context: &Context, unit: Unit) -> Result<Unit, Error> {
    let (namespace, name) = bootstrap_signer::PLACE;
    let tokens = bootstrap_tokens(context);
    let infos = context.informers.filtered::<ConfigMap>(Filter {
        namespace: Some(namespace.to_owned()),
        fields: Some(format!("metadata.name={name}")),
        labels: None,
    });
    let unit = unit
        .input(&infos, |info| vec![Key::of(info)])
        .input(&tokens, move |_| vec![Key::new(namespace, name)]);
    Ok(unit.decide(move |key, now| {
        let Some(info) = infos.get(&key.namespace, &key.name) else { return Vec::new() };
        bootstrap_signer::decide(&info, &tokens.list(), now)
    }))
}

/// Only these Secrets are watched, not everybody's.
fn bootstrap_tokens(context: &Context) -> Informer<Secret> {
    context.informers.filtered(Filter {
        namespace: Some("kube-system".to_owned()),
        fields: Some(format!("type={}", bootstrap_token::TYPE)),
        labels: None,
    })
}
