//! Encryption at rest: the store's values go to disk as an `EncryptionConfiguration` says.
//!
//! What enters are the file and its changes; what leaves is the store's [`Transform`]. Values in memory,
//! and so everything that is served, are never encrypted.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use plimsoll_catalogue::Storage;
use plimsoll_encryption::Rules;
use plimsoll_encryption::kms::{Seeds, Service};
use plimsoll_store::{Opened, Transform};
use tokio_util::sync::CancellationToken;

use crate::file_changes::Changes;
use crate::kms::Kms;
use crate::safeguards::{EncryptionOptions, Reload, document, wrong};
use crate::server::StartError;

/// The rules as of now.
#[derive(Debug)]
pub(crate) struct Encryption {
    file: PathBuf,
    reload: Reload,
    rules: RwLock<Arc<Read>>,
    /// Group and resource of each key prefix of the built-in kinds.
    resources: HashMap<&'static str, (&'static str, &'static str)>,
}

/// A configuration that was read, and the services it names.
#[derive(Debug)]
struct Read {
    rules: Rules,
    services: Vec<Arc<Kms>>,
}

impl Encryption {
    /// Reads the configuration.
    pub(crate) fn load(options: &EncryptionOptions) -> Result<Arc<Self>, StartError> {
        let file = options.configuration.clone();
        let rules = RwLock::new(Arc::new(Read::of(&file, &[])?));
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
                let this = Arc::clone(&self);
                // Services are waited for.
                let read = tokio::task::spawn_blocking(move || Read::of(&this.file, &this.rules().services));
                match read.await.unwrap_or_else(|error| Err(wrong(&self.file, error))) {
                    Ok(read) => {
                        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(read);
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

    /// Whether the key management services are well, by the names of the checks.
    pub(crate) fn checks(&self) -> Vec<(String, bool)> {
        let read = self.rules();
        let mut each = read.services.iter().map(|service| service.health().is_ok()).enumerate();
        match self.reload {
            Reload::AtStart => each.map(|(at, fine)| (format!("kms-provider-{at}"), fine)).collect(),
            Reload::Automatic => vec![("kms-providers".to_owned(), each.all(|(_, fine)| fine))],
        }
    }

    fn rules(&self) -> Arc<Read> {
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
        self.rules().rules.of(group, resource).seal(key, value, &mut |bytes| rand::fill(bytes))
    }

    fn open(&self, key: &str, stored: &[u8]) -> Result<Opened, String> {
        let (group, resource) = self.resource(key);
        let opened = self.rules().rules.of(group, resource).open(key, stored);
        opened
            .map(|opened| Opened { value: opened.plain, stale: opened.stale })
            .map_err(|error| error.to_string())
    }
}

impl Read {
    /// Reads the file; services that are known already stay connected.
    fn of(file: &std::path::Path, known: &[Arc<Kms>]) -> Result<Self, StartError> {
        let mut services: Vec<Arc<Kms>> = Vec::new();
        let mut connect = |wanted: &Service| {
            let found = services.iter().chain(known).find(|one| one.service == *wanted).cloned();
            let found = found.map_or_else(|| Kms::start(wanted), Ok)?;
            if !services.iter().any(|one| Arc::ptr_eq(one, &found)) {
                services.push(Arc::clone(&found));
            }
            Ok(found as Arc<dyn Seeds>)
        };
        let rules = Rules::read(&document(file)?, &mut connect).map_err(|error| wrong(file, error))?;
        Ok(Self { rules, services })
    }
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
        let rules = Rules::read(&document, &mut |_| Err(String::new())).expect("valid");
        let encryption = Encryption {
            file: PathBuf::new(),
            reload: Reload::AtStart,
            rules: RwLock::new(Arc::new(Read { rules, services: Vec::new() })),
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
