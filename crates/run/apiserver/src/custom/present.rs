//! How long a definition is what it is: who watches its objects lists them again after that.

use std::future::pending;
use std::sync::Arc;

use plimsoll_catalogue::Kind;
use serde_json::Value;
use tokio::sync::watch;

use super::Customs;

/// A definition as it was once, and news of it.
pub(crate) struct Present {
    customs: Customs,
    name: String,
    definition: Option<Arc<Value>>,
    changes: watch::Receiver<()>,
}

impl Present {
    /// That of a kind now; built-in kinds stay what they are.
    pub(crate) fn of(customs: &Customs, kind: &Kind) -> Option<Self> {
        if !kind.is_custom() {
            return None;
        }
        let changes = customs.0.turned.subscribe();
        let name = format!("{}.{}", kind.plural, kind.group);
        Some(Self { customs: customs.clone(), definition: customs.stored(&name), name, changes })
    }

    /// Returns when the definition has another specification or other names, or is gone.
    pub(crate) async fn is_past(&mut self) {
        while self.changes.changed().await.is_ok() {
            let now = self.customs.stored(&self.name);
            if !same(self.definition.as_deref(), now.as_deref()) {
                return;
            }
            self.definition = now;
        }
        pending().await
    }
}

fn same(before: Option<&Value>, now: Option<&Value>) -> bool {
    let parts = |object: &Value| (object["spec"].clone(), object["status"]["acceptedNames"].clone());
    match (before, now) {
        (Some(before), Some(now)) => std::ptr::eq(before, now) || parts(before) == parts(now),
        _ => false,
    }
}
