//! Wires what every namespace has from the start.

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use plimsoll_client::Filter;
use plimsoll_reconcile::service_account::{self, ACCOUNT, AUTHORITY};

use crate::unit::{Key, Unit};
use crate::{Context, Error};

/// The default account.
pub(crate) fn account(context: &Context, unit: Unit) -> Result<Unit, Error> {
    let namespaces = context.informers.informer::<Namespace>();
    let accounts = context.informers.informer::<ServiceAccount>();
    let unit = unit.input(&namespaces, |namespace| vec![Key::of(namespace)]).input(&accounts, |account| {
        of_default(account.metadata.name.as_deref(), account.metadata.namespace.as_deref(), ACCOUNT)
    });
    Ok(unit.decide(move |key, _| {
        let Some(namespace) = namespaces.get("", &key.name) else { return Vec::new() };
        service_account::account(&namespace, accounts.get(&key.name, ACCOUNT).as_deref())
    }))
}

/// The authority's certificate. Only these ConfigMaps are watched, not everybody's.
pub(crate) fn authority(context: &Context, unit: Unit) -> Result<Unit, Error> {
    let certificate = context.config.ca_certificate_pem.clone();
    let namespaces = context.informers.informer::<Namespace>();
    let filter = Filter { fields: Some(format!("metadata.name={AUTHORITY}")), ..Filter::default() };
    let maps = context.informers.filtered::<ConfigMap>(filter);
    let unit = unit.input(&namespaces, |namespace| vec![Key::of(namespace)]).input(&maps, |map| {
        of_default(map.metadata.name.as_deref(), map.metadata.namespace.as_deref(), AUTHORITY)
    });
    Ok(unit.decide(move |key, _| {
        let Some(namespace) = namespaces.get("", &key.name).filter(|_| !certificate.is_empty()) else {
            return Vec::new();
        };
        service_account::authority(&namespace, maps.get(&key.name, AUTHORITY).as_deref(), &certificate)
    }))
}

fn of_default(name: Option<&str>, namespace: Option<&str>, wanted: &str) -> Vec<Key> {
    if name == Some(wanted) { vec![Key::new("", namespace.unwrap_or_default())] } else { Vec::new() }
}
