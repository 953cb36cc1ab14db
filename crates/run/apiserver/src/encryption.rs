//! Encryption at rest: the store's values go to disk as an `EncryptionConfiguration` says.
//!
//! What enters are the file and its changes; what leaves is the store's [`Transform`]. Values in memory,
//! and so everything that is served, are never encrypted.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use plimsoll_catalogue::Storage;
use plimsoll_encryption::Rules;
use plimsoll_store::{Opened, Transform};
use tokio_util::sync::CancellationToken;

use crate::file_changes::Changes;
use crate::safeguards::{EncryptionOptions, Reload, document, wrong};
use crate::server::StartError;

/// The rules as of now.
#[derive(Debug)]
pub(crate) struct Encryption {
    file: PathBuf,
    reload: Reload,
    rules: RwLock<Arc<Rules>>,
    /// Group and resource of each key prefix of the built-in kinds.
    resources: HashMap<&'static str, (&'static str, &'static str)>,
}

impl Encryption {
    /// Reads the configuration.
    pub(crate) fn load(options: &EncryptionOptions) -> Result<Arc<Self>, StartError> {
        let file = options.configuration.clone();
        let rules = RwLock::new(Arc::new(read(&file)?));
        Ok(Arc::new(Self { file, reload: options.reload, rules, resources: built_in() }))
    }

    /// Reads the file again whenever it changes, if that is wanted. A file that means nothing leaves
    /// the rules as they are.
    pub(crate) fn follow(self: Arc<Self>, shutdown: CancellationToken) -> Result<(), StartError> {
        if self.reload == Reload::AtStart {
            return Ok(());
        }
        let mut changes = Changes::of(&self.file).map_err(|error| wrong(&self.file, error))?;
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    changed = changes.next() => if changed.is_err() { return },
                    () = shutdown.cancelled() => return,
                }
                match read(&self.file) {
                    Ok(rules) => {
                        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
                        tracing::info!(file = %self.file.display(), "encryption configuration read again");
                    }
                    Err(error) => {
                        tracing::error!(%error, "encryption configuration not changed");
                    }
                }
            }
        });
        Ok(())
    }

    fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Group and resource of a key: `/registry/secrets/a/b`, `/registry/apps/…`, or for custom
    /// resources `/registry/GROUP/PLURAL/…`.
    fn resource<'k>(&self, key: &'k str) -> (&'k str, &'k str) {
        let mut ends = key.match_indices('/').map(|(at, _)| at).skip(2);
        let (short, long) = (ends.next(), ends.next());
        let known = [short, long].into_iter().flatten().find_map(|end| self.resources.get(&key[..end]));
        if let Some((group, resource)) = known {
            return (group, resource);
        }
        let mut parts = key.split('/').skip(2);
        (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
    }
}

impl Transform for Encryption {
    fn seal(&self, key: &str, value: &[u8]) -> Option<Vec<u8>> {
        let (group, resource) = self.resource(key);
        self.rules().of(group, resource).seal(key, value, &mut |bytes| rand::fill(bytes))
    }

    fn open(&self, key: &str, stored: &[u8]) -> Result<Opened, String> {
        let (group, resource) = self.resource(key);
        let opened = self.rules().of(group, resource).open(key, stored);
        opened
            .map(|opened| Opened { value: opened.plain, stale: opened.stale })
            .map_err(|error| error.to_string())
    }
}

fn read(file: &std::path::Path) -> Result<Rules, StartError> {
    Rules::read(&document(file)?).map_err(|error| wrong(file, error))
}

fn built_in() -> HashMap<&'static str, (&'static str, &'static str)> {
    let stored = plimsoll_catalogue::kinds().iter().filter_map(|kind| match kind.storage {
        // Kinds that share a storage are known by the group that is stored.
        Storage::Stored { prefix, group, .. } if group == kind.group => Some((prefix, (group, kind.plural))),
        _ => None,
    });
    stored.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_tell_their_resource() {
        let document = serde_json::json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration",
            "resources": [{"resources": ["secrets"], "providers": [{"identity": {}}]}]});
        let rules = Rules::read(&document).expect("valid");
        let encryption = Encryption {
            file: PathBuf::new(),
            reload: Reload::AtStart,
            rules: RwLock::new(Arc::new(rules)),
            resources: built_in(),
        };
        for kind in plimsoll_catalogue::kinds().iter().filter(|kind| kind.is_stored()) {
            let stored = kind.storage_kind();
            let key = kind.key("a", "b").expect("stored");
            assert_eq!(encryption.resource(&key), (stored.group, stored.plural), "{key}");
        }
        assert_eq!(encryption.resource("/registry/example.com/pandas/a/b"), ("example.com", "pandas"));
    }
}
