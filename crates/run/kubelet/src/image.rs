//! Having an image present.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use plimsoll_podlife::image::record::Access;
use plimsoll_podlife::image::registry::{Entry, repository};
use plimsoll_podlife::image::{Pull, is_valid_name, pull};
use plimsoll_podlife::spec::Spec;
use plimsoll_podlife::{Event, ImageError};

use crate::agent::Agent;
use crate::container::image_spec;
use crate::engine::text;
use crate::logins::auth;
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
    let refuse = || {
        let message = format!("Container image \"{image}\" is not present with pull policy of Never");
        agent.tell(pod, &Event::warning("ErrImageNeverPull", message.clone(), path.clone()));
        Err(ImageError::NeverPull(message))
    };
    match (pull(policy, &image, present.is_some()), present) {
        (Pull::Use, Some(present)) => {
            let (may, credentials) = may_use(agent, pod, &image, &present.id).await;
            if may {
                let message = format!(
                    "Container image \"{image}\" already present on machine and can be accessed by the pod"
                );
                agent.tell(pod, &Event::normal("Pulled", message, path.clone()));
                return Ok(present.id);
            }
            // It is there, but not for this pod.
            if policy == Some("Never") {
                return refuse();
            }
            fetch(agent, pod, spec, &image, credentials).await
        }
        (Pull::Refuse, _) => refuse(),
        _ => fetch(agent, pod, spec, &image, None).await,
    }
}

/// Whether a pod may use an image that is there; its credentials, if they were looked up.
async fn may_use(agent: &Agent, pod: &Pod, image: &str, id: &str) -> (bool, Option<Vec<Entry>>) {
    match agent.records.access(image, id) {
        Access::Open => (true, None),
        Access::Closed => (false, None),
        Access::Credentials => {
            let credentials = agent.logins.of(agent, pod, &repository(image)).await;
            (agent.records.admits(image, id, &credentials), Some(credentials))
        }
    }
}

async fn fetch(
    agent: &Agent,
    pod: &Pod,
    spec: &Spec,
    image: &str,
    credentials: Option<Vec<Entry>>,
) -> Result<String, ImageError> {
    let path = Some(spec.field_path());
    let credentials = match credentials {
        Some(credentials) => credentials,
        None => agent.logins.of(agent, pod, &repository(image)).await,
    };
    agent.records.begin(image).map_err(|error| {
        ImageError::Pull(format!(
            "Failed to record image pull intent for container image \"{image}\": {error}"
        ))
    })?;
    agent.tell(pod, &Event::normal("Pulling", format!("Pulling image \"{image}\""), path.clone()));
    let begun = Instant::now();
    match pull_image(agent, pod, image, credentials).await {
        Ok(pulled) => {
            let (took, all) = (go_time(pulled.took), go_time(begun.elapsed()));
            agent.records.end(image, Some((&pulled.id, pulled.credentials.as_ref())));
            let size = pulled.size;
            agent.metrics.pulled(size, pulled.took);
            let message = format!(
                "Successfully pulled image \"{image}\" in {took} ({all} including waiting). Image size: {size} bytes."
            );
            agent.tell(pod, &Event::normal("Pulled", message, path));
            Ok(pulled.reference)
        }
        Err(why) => {
            agent.records.end(image, None);
            let message = format!("Failed to pull image \"{image}\": {why}");
            agent.tell(pod, &Event::warning("Failed", message, path));
            Err(ImageError::Pull(why))
        }
    }
}

/// An image that was pulled.
struct Pulled {
    /// What the engine answered.
    reference: String,
    /// What it calls the image.
    id: String,
    size: u64,
    /// The credentials that opened the registry, if it took any.
    credentials: Option<Entry>,
    /// How long it took when it was its turn.
    took: Duration,
}

/// Pulls with one login after the other; without any if there is none.
async fn pull_image(
    agent: &Agent,
    pod: &Pod,
    image: &str,
    credentials: Vec<Entry>,
) -> Result<Pulled, String> {
    let config = sandbox::config(agent, pod, 0)?;
    let _turn = agent.pulls.turn().await;
    let started = Instant::now();
    let mut failures: Vec<String> = Vec::new();
    let logins =
        if credentials.is_empty() { vec![None] } else { credentials.into_iter().map(Some).collect() };
    for login in logins {
        let spec = image_spec(image.to_owned(), String::new());
        let outcome = if agent.pulls.may() {
            let pulled = agent.engine.pull(spec.clone(), login.as_ref().map(auth), config.clone()).await;
            pulled.map_err(|status| text(&status))
        } else {
            Err("pull QPS exceeded".to_owned())
        };
        match outcome {
            Ok(reference) => {
                let found = agent.engine.image(spec).await.ok().flatten();
                let (id, size) = found.map_or((reference.clone(), 0), |image| (image.id, image.size));
                return Ok(Pulled { reference, id, size, credentials: login, took: started.elapsed() });
            }
            Err(why) if failures.contains(&why) => {}
            Err(why) => failures.push(why),
        }
    }
    match failures.as_slice() {
        [one] => Err(one.clone()),
        many => Err(format!("[{}]", many.join(", "))),
    }
}

/// A short time in Go's notation.
fn go_time(time: Duration) -> String {
    match time.as_millis() {
        millis @ 0..1000 => format!("{millis}ms"),
        millis @ 1000..60_000 => format!("{}.{:03}s", millis / 1000, millis % 1000),
        millis => format!("{}m{}.{:03}s", millis / 60_000, millis / 1000 % 60, millis % 1000),
    }
}
