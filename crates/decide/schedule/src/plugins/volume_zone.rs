//! Volumes whose labels name a zone or region are used there only.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::PersistentVolume;

use crate::diagnosis::Reason;
use crate::node::Node;

/// Labels that name places, and what they are called today.
const PLACES: [(&str, &str); 4] = [
    ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"),
    ("topology.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("topology.kubernetes.io/region", "topology.kubernetes.io/region"),
];
/// Stands between several zones in a label.
const BETWEEN: &str = "__";

/// A label of a volume, and its values.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    label: &'static str,
    /// What the label is called today.
    now: &'static str,
    values: Vec<String>,
}

impl Place {
    /// The places that a volume's labels name.
    pub(crate) fn of(volume: &PersistentVolume) -> Vec<Self> {
        let none = BTreeMap::new();
        let labels = volume.metadata.labels.as_ref().unwrap_or(&none);
        let named = PLACES.iter().filter_map(|(label, now)| Some((*label, *now, labels.get(*label)?)));
        let values =
            |text: &str| text.split(BETWEEN).map(|value| value.trim().to_owned()).collect::<Vec<_>>();
        let places = named.map(|(label, now, text)| Place { label, now, values: values(text) });
        // A label that cannot be read says nothing.
        places.filter(|place| place.values.iter().all(|value| !value.is_empty())).collect()
    }
}

pub(crate) fn filter<'p>(
    mut places: impl Iterator<Item = &'p Place>,
    node: &Node,
) -> Result<(), Reason<'static>> {
    // Nodes that say nothing of places are all in one.
    if !PLACES.iter().any(|(label, _)| node.labels.contains_key(*label)) {
        return Ok(());
    }
    let fits = |place: &Place| {
        let value = node.labels.get(place.label).or_else(|| node.labels.get(place.now));
        value.is_some_and(|value| place.values.contains(value))
    };
    if places.all(fits) { Ok(()) } else { Err(Reason::VolumeZone) }
}
