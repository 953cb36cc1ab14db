//! Having an image present.

use std::collections::HashMap;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::Api;
use plimsoll_cri::v1;
use plimsoll_podlife::image::{Pull, is_valid_name, pull};
use plimsoll_podlife::spec::Spec;
use plimsoll_podlife::{Event, ImageError};
use serde::Deserialize;

use crate::agent::Agent;
use crate::container::image_spec;
use crate::engine::text;
use crate::sandbox;
use crate::volume::volumes;

/// Has a container's image present, by its policy. Answers with the engine's id of it.
pub(crate) async fn ensure(agent: &Agent, pod: &Pod, spec: &Spec) -> Result<String, ImageError> {
    let result = everything(agent, pod, spec).await;
    if let Err(error) = &result {
        let message = format!("Error: {}", error.reason());
        agent.tell(pod, &Event::warning("Failed", message, Some(spec.field_path())));
    }
    result
}

/// The images that a container looks into, then its own.
async fn everything(agent: &Agent, pod: &Pod, spec: &Spec) -> Result<String, ImageError> {
    let mounted = |name: &str| spec.container.volume_mounts.iter().flatten().any(|mount| mount.name == name);
    for volume in volumes(pod).filter(|volume| mounted(&volume.name)) {
        if let Some(source) = &volume.image {
            let reference = source.reference.clone().unwrap_or_default();
            one(agent, pod, spec, reference, source.pull_policy.as_deref()).await?;
        }
    }
    let image = spec.container.image.clone().unwrap_or_default();
    one(agent, pod, spec, image, spec.container.image_pull_policy.as_deref()).await
}

async fn one(
    agent: &Agent,
    pod: &Pod,
    spec: &Spec,
    image: String,
    policy: Option<&str>,
) -> Result<String, ImageError> {
    let path = Some(spec.field_path());
    if !is_valid_name(&image) {
        let message = format!(
            "Failed to apply default image tag \"{image}\": couldn't parse image name \"{image}\": invalid reference format"
        );
        agent.tell(pod, &Event::warning("InspectFailed", message.clone(), path));
        return Err(ImageError::InvalidName(message));
    }
    let present = match agent.engine.image(image_spec(image.clone(), String::new())).await {
        Ok(present) => present,
        Err(status) => {
            let message = format!("Failed to inspect image \"{image}\": {}", text(&status));
            agent.tell(pod, &Event::warning("InspectFailed", message.clone(), path));
            return Err(ImageError::Inspect(message));
        }
    };
    match (pull(policy, &image, present.is_some()), present) {
        (Pull::Use, Some(present)) => {
            let message = format!(
                "Container image \"{image}\" already present on machine and can be accessed by the pod"
            );
            agent.tell(pod, &Event::normal("Pulled", message, path));
            Ok(present.id)
        }
        (Pull::Refuse, _) => {
            let message = format!("Container image \"{image}\" is not present with pull policy of Never");
            agent.tell(pod, &Event::warning("ErrImageNeverPull", message.clone(), path));
            Err(ImageError::NeverPull(message))
        }
        _ => fetch(agent, pod, spec, &image).await,
    }
}

async fn fetch(agent: &Agent, pod: &Pod, spec: &Spec, image: &str) -> Result<String, ImageError> {
    let path = Some(spec.field_path());
    agent.tell(pod, &Event::normal("Pulling", format!("Pulling image \"{image}\""), path.clone()));
    let begun = Instant::now();
    let config = sandbox::config(agent, pod, 0).map_err(ImageError::Pull)?;
    let turn = agent.pulls.turn().await;
    let started = Instant::now();
    let mut failure = None;
    // With credentials first, then without, as the registry may serve everybody.
    let credentials = credentials(agent, pod, image).await;
    for auth in credentials.into_iter().map(Some).chain([None]) {
        if !agent.pulls.may() {
            failure.get_or_insert("pull QPS exceeded".to_owned());
            break;
        }
        match agent.engine.pull(image_spec(image.to_owned(), String::new()), auth, config.clone()).await {
            Ok(reference) => {
                let size = size(agent, image).await;
                let (took, all) = (go_time(started.elapsed()), go_time(begun.elapsed()));
                drop(turn);
                let message = format!(
                    "Successfully pulled image \"{image}\" in {took} ({all} including waiting). Image size: {size} bytes."
                );
                agent.tell(pod, &Event::normal("Pulled", message, path));
                return Ok(reference);
            }
            Err(status) => failure.get_or_insert(text(&status)),
        };
    }
    let why = failure.unwrap_or_default();
    let message = format!("Failed to pull image \"{image}\": {why}");
    agent.tell(pod, &Event::warning("Failed", message, path));
    Err(ImageError::Pull(why))
}

async fn size(agent: &Agent, image: &str) -> u64 {
    let found = agent.engine.image(image_spec(image.to_owned(), String::new())).await;
    found.ok().flatten().map_or(0, |image| image.size)
}

/// A short time in Go's notation.
fn go_time(time: std::time::Duration) -> String {
    match time.as_millis() {
        millis @ 0..1000 => format!("{millis}ms"),
        millis @ 1000..60_000 => format!("{}.{:03}s", millis / 1000, millis % 1000),
        millis => format!("{}m{}.{:03}s", millis / 60_000, millis / 1000 % 60, millis % 1000),
    }
}

/// The part of a docker configuration that has credentials.
#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: HashMap<String, Entry>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    username: String,
    password: String,
    auth: String,
    identitytoken: String,
    registrytoken: String,
}

/// The credentials for an image among the pod's pull secrets, the closest match first.
async fn credentials(agent: &Agent, pod: &Pod, image: &str) -> Vec<v1::AuthConfig> {
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
    let mut fitting: Vec<_> = found.into_iter().filter(|(registry, _)| fits(registry, image)).collect();
    fitting.sort_by_key(|(registry, _)| std::cmp::Reverse(registry.len()));
    fitting.into_iter().map(|(registry, entry)| auth(registry, entry)).collect()
}

fn entries(secret: &Secret) -> Vec<(String, Entry)> {
    let data = |key: &str| secret.data.as_ref().and_then(|data| data.get(key));
    let parsed = match (data(".dockerconfigjson"), data(".dockercfg")) {
        (Some(bytes), _) => serde_json::from_slice::<DockerConfig>(&bytes.0).map(|config| config.auths),
        (None, Some(bytes)) => serde_json::from_slice(&bytes.0),
        (None, None) => return Vec::new(),
    };
    let parsed = parsed.inspect_err(|error| {
        tracing::warn!(secret = secret.metadata.name, %error, "image pull secret cannot be read");
    });
    parsed.unwrap_or_default().into_iter().collect()
}

/// Whether credentials for `registry` are for this image: the same host, and a path it is below of.
fn fits(registry: &str, image: &str) -> bool {
    let bare = registry.trim_start_matches("https://").trim_start_matches("http://");
    let bare =
        bare.trim_end_matches('/').trim_end_matches("/v2").trim_end_matches("/v1").trim_end_matches('/');
    let (first, _) = image.split_once('/').unwrap_or(("", image));
    let named = first.contains(['.', ':']) || first == "localhost";
    let full = if named { image.to_owned() } else { format!("docker.io/{image}") };
    let bare = if bare == "index.docker.io" { "docker.io" } else { bare };
    full.strip_prefix(bare).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', ':', '@']))
}

fn auth(registry: String, entry: Entry) -> v1::AuthConfig {
    let decoded = STANDARD.decode(&entry.auth).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let pair = decoded.as_deref().and_then(|text| text.split_once(':'));
    let (user, password) = pair.unwrap_or((&entry.username, &entry.password));
    v1::AuthConfig {
        username: user.to_owned(),
        password: password.to_owned(),
        auth: String::new(),
        server_address: registry,
        identity_token: entry.identitytoken,
        registry_token: entry.registrytoken,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_fit_their_registry() {
        let cases = [
            ("https://index.docker.io/v1/", "nginx", true),
            ("registry.example", "registry.example/a/b:1", true),
            ("registry.example/a", "registry.example/a/b:1", true),
            ("registry.example/c", "registry.example/a/b:1", false),
            ("registry.example", "registry.example.org/a", false),
            ("localhost:5000", "localhost:5000/x", true),
            ("other", "nginx", false),
        ];
        for (registry, image, expected) in cases {
            assert_eq!(fits(registry, image), expected, "{registry} {image}");
        }
    }

    #[test]
    fn both_ways_of_writing_a_password() {
        let plain = Entry { username: "u".into(), password: "p".into(), ..Entry::default() };
        let encoded = Entry { auth: "dTpwOng=".into(), ..Entry::default() };
        let pair = |entry| {
            let auth = auth("r".into(), entry);
            (auth.username, auth.password)
        };
        assert_eq!(pair(plain), ("u".into(), "p".into()));
        assert_eq!(pair(encoded), ("u".into(), "p:x".into()));
    }
}
