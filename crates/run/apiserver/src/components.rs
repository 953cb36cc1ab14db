//! ComponentStatus: what the API server sees of the control plane, looked at when somebody asks.
//!
//! It sees its store. Who else belongs to the control plane comes to it as an ordinary client.

use std::sync::{Arc, OnceLock};

use plimsoll_catalogue::Kind;
use plimsoll_store::{Entry, Revision};
use serde_json::json;

use crate::encode;
use crate::server::Api;

/// The components as entries like those of the store; `None` for every other kind.
pub(crate) fn entries(api: &Api, kind: &Kind) -> Option<Vec<Arc<Entry>>> {
    (kind.kind == "ComponentStatus").then(|| vec![Arc::new(store(api.store.is_healthy()))])
}

fn store(well: bool) -> Entry {
    let condition = if well {
        json!({"type": "Healthy", "status": "True", "message": "ok"})
    } else {
        json!({"type": "Healthy", "status": "False", "message": "the store takes no writes"})
    };
    let object = json!({
        "kind": "ComponentStatus", "apiVersion": "v1", "metadata": {"name": "etcd-0"}, "conditions": [condition]
    });
    Entry {
        key: Arc::from("componentstatuses/etcd-0"),
        value: encode::object(&object),
        create: Revision::default(),
        modified: Revision::default(),
        version: 0,
        expires: None,
        lease: 0,
        memo: OnceLock::new(),
    }
}
