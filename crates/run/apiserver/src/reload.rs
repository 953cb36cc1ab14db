//! Who is trusted and who decides can change while the server runs: the files of
//! `--authentication-config` and `--authorization-config`, and those with the keys of tokens are followed.
//!
//! What enters are the files' changes; what leaves are other issuers in [`crate::authenticators`], other
//! keys in [`crate::accounts`] and other authorizers in [`crate::authorizers`]. A file that means nothing
//! leaves things as they are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use plimsoll_access::authentication_config::AuthenticationConfig;
use plimsoll_access::authorization_config::AuthorizationConfig;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::file_changes::Changes;
use crate::metrics::{ConfigFile, Metrics};
use crate::safeguards::{document, wrong};
use crate::server::{Api, StartError};

/// Follows the files that the configuration names.
pub(crate) fn follow(
    api: &Arc<Api>,
    config: &Config,
    shutdown: &CancellationToken,
) -> Result<(), StartError> {
    let metrics = || Arc::clone(&api.metrics);
    if let Some(file) = &config.authentication.file {
        let own = config.authentication.accounts.issuers.clone();
        let api = Arc::clone(api);
        let apply = move |document: Value| {
            let (api, own) = (Arc::clone(&api), own.clone());
            async move {
                // Who may be anonymous is settled at the start.
                let config = AuthenticationConfig::read(&document, &own)?;
                api.authenticators.trust(config.issuers);
                Ok(())
            }
        };
        spawn((Followed::of(file, ConfigFile::Authentication)?, metrics()), apply, shutdown.clone());
    }
    if let Some(file) = &config.authorization_file {
        let (first, api) = (config.authorization.clone(), Arc::clone(api));
        let apply = move |document: Value| {
            let (api, first) = (Arc::clone(&api), first.clone());
            async move {
                let config = AuthorizationConfig::read(&document)?;
                config.replaces(&first)?;
                api.authorizers
                    .replace(&config, &api.store, &api.rbac, &api.metrics)
                    .await
                    .map_err(|error| error.to_string())
            }
        };
        spawn((Followed::of(file, ConfigFile::Authorization)?, metrics()), apply, shutdown.clone());
    }
    follow_keys(api, shutdown)
}

/// Takes other keys of service accounts' tokens as their files change.
fn follow_keys(api: &Arc<Api>, shutdown: &CancellationToken) -> Result<(), StartError> {
    // Changes are those of a folder: one file of each is enough.
    let files = api.authenticators.accounts.key_files();
    let folders: BTreeMap<Option<&Path>, &PathBuf> = files.map(|file| (file.parent(), file)).collect();
    for file in folders.into_values() {
        let mut changes = Changes::of(file).map_err(|error| wrong(file, error))?;
        let (api, shutdown) = (Arc::clone(api), shutdown.clone());
        tokio::spawn(async move {
            while let Some(Ok(())) = shutdown.run_until_cancelled(changes.next()).await {
                match api.authenticators.accounts.read_again() {
                    Ok(true) => tracing::info!("keys of service accounts' tokens read again"),
                    Ok(false) => {}
                    Err(error) => tracing::error!(%error, "keys of service accounts' tokens not changed"),
                }
            }
        });
    }
    // What changed between the start and now.
    api.authenticators.accounts.read_again().map(drop).map_err(StartError::from)
}

struct Followed {
    file: PathBuf,
    what: ConfigFile,
    changes: Changes,
    last: Value,
}

impl Followed {
    fn of(file: &Path, what: ConfigFile) -> Result<Self, StartError> {
        let changes = Changes::of(file).map_err(|error| wrong(file, error))?;
        Ok(Self { file: file.to_owned(), what, changes, last: document(file)? })
    }

    /// What the file says when it says something else than before; none: it cannot be watched any more.
    async fn next(&mut self) -> Option<Result<Value, String>> {
        loop {
            self.changes.next().await.ok()?;
            match document(&self.file) {
                Ok(document) if document == self.last => {}
                Ok(document) => {
                    self.last = document.clone();
                    return Some(Ok(document));
                }
                Err(error) => return Some(Err(error.to_string())),
            }
        }
    }
}

fn spawn<F>(
    (mut followed, metrics): (Followed, Arc<Metrics>),
    apply: impl Fn(Value) -> F + Send + 'static,
    shutdown: CancellationToken,
) where
    F: Future<Output = Result<(), String>> + Send,
{
    tokio::spawn(async move {
        loop {
            let document = tokio::select! {
                next = followed.next() => match next {
                    Some(document) => document,
                    None => return,
                },
                () = shutdown.cancelled() => return,
            };
            let outcome = match document {
                Ok(document) => apply(document).await,
                Err(error) => Err(error),
            };
            metrics.reloaded(followed.what, outcome.is_ok());
            let file = followed.file.display();
            match outcome {
                Ok(()) => tracing::info!(%file, "configuration read again"),
                Err(error) => tracing::error!(%file, error, "configuration not changed"),
            }
        }
    });
}
