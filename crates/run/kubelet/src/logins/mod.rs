//! Credentials of registries for a pod's image.
//!
//! What enters: a pod, the repository of an image. What leaves: logins in the order in which they are tried: those of the
//! pod's Secrets, those that the node has (docker's configuration), those that programs know ([`plugin`]). Which login
//! is for which image is decided in `plimsoll-podlife`.

mod plugin;

use std::path::{Path, PathBuf};
use std::time::Instant;

use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::Api;
use plimsoll_cri::v1;
use plimsoll_podlife::image::record::Coordinates;
use plimsoll_podlife::image::registry::{Entry, Login, Source, docker_cfg, docker_config, lookup};

use crate::agent::Agent;
use crate::config::Config;
use plugin::Plugin;

/// Where logins come from beside pods.
pub(crate) struct Logins {
    plugins: Vec<Plugin>,
    /// Folders of docker's configuration, the first one that has any counts.
    folders: Vec<PathBuf>,
    start: Instant,
}

impl Logins {
    /// Reads which programs there are.
    ///
    /// # Errors
    /// Their configuration makes no sense, or one of them is not there.
    pub(crate) fn open(config: &Config) -> Result<Self, String> {
        let plugins = match &config.credential_providers {
            Some((file, folder)) => plugin::open(file, folder)
                .map_err(|why| format!("failed to register CRI auth plugins: {why}"))?,
            None => Vec::new(),
        };
        let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".docker"));
        let folders = [config.data_dir.clone()].into_iter().chain(home).collect();
        Ok(Self { plugins, folders, start: Instant::now() })
    }

    /// The logins for a repository that a pod may use.
    pub(crate) async fn of(&self, agent: &Agent, pod: &Pod, repository: &str) -> Vec<Entry> {
        let mut found = lookup(secrets(agent, pod).await, repository);
        let own = self.folders.iter().find_map(|folder| docker(folder)).unwrap_or_default();
        found.extend(lookup(own, repository));
        let mut known = Vec::new();
        for plugin in self.plugins.iter().filter(|plugin| plugin.serves(repository)) {
            match plugin.logins(agent, pod, repository, self.start).await {
                Ok(entries) => known.extend(entries),
                // The image may not need it.
                Err(why) => tracing::warn!(
                    repository,
                    why,
                    "Failed getting credential from external registry credential provider"
                ),
            }
        }
        found.extend(lookup(known, repository));
        found
    }
}

/// A login as the engine takes it.
pub(crate) fn auth(entry: &Entry) -> v1::AuthConfig {
    let Login { username, password, identity_token, registry_token } = entry.login.clone();
    let server_address = entry.place.clone();
    v1::AuthConfig { username, password, auth: String::new(), server_address, identity_token, registry_token }
}

/// What a pod's Secrets know.
async fn secrets(agent: &Agent, pod: &Pod) -> Vec<Entry> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let secrets = Api::<Secret>::namespaced(agent.client.clone(), namespace);
    let names = pod.spec.iter().flat_map(|spec| spec.image_pull_secrets.iter().flatten());
    let mut found = Vec::new();
    for name in names.map(|reference| &reference.name) {
        match secrets.get(name).await {
            Ok(secret) => found.extend(entries(&secret)),
            // The image may not need it.
            Err(error) => tracing::warn!(secret = name, namespace, %error, "image pull secret not used"),
        }
    }
    found
}

fn entries(secret: &Secret) -> Vec<Entry> {
    let data = |key: &str| secret.data.as_ref().and_then(|data| data.get(key));
    let parsed = match (data(".dockerconfigjson"), data(".dockercfg")) {
        (Some(bytes), _) => docker_config(&bytes.0),
        (None, Some(bytes)) => docker_cfg(&bytes.0),
        (None, None) => return Vec::new(),
    };
    let parsed = parsed.inspect_err(|error| {
        tracing::warn!(secret = secret.metadata.name, %error, "image pull secret cannot be read");
    });
    let at = Coordinates {
        namespace: secret.metadata.namespace.clone().unwrap_or_default(),
        name: secret.metadata.name.clone().unwrap_or_default(),
        uid: secret.metadata.uid.clone().unwrap_or_default(),
    };
    let logins = parsed.unwrap_or_default().into_iter();
    logins.map(|(place, login)| Entry { place, login, source: Source::Secret(at.clone()) }).collect()
}

/// What docker's configuration in a folder knows, if there is one.
fn docker(folder: &Path) -> Option<Vec<Entry>> {
    let read = |name: &str| std::fs::read(folder.join(name)).ok();
    let parsed = read("config.json").map(|bytes| docker_config(&bytes));
    let parsed = parsed.or_else(|| read(".dockercfg").map(|bytes| docker_cfg(&bytes)))?;
    let logins = parsed
        .inspect_err(|error| tracing::warn!(folder = %folder.display(), %error, "docker's configuration cannot be read"))
        .ok()?;
    let entry = |(place, login)| Entry { place, login, source: Source::Node };
    Some(logins.into_iter().map(entry).collect())
}
