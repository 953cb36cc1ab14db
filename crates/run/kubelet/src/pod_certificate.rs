//! Keys of a pod and their certificates: asked for at signers through the API, renewed before they end.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{PodCertificateRequest, PodCertificateRequestSpec};
use k8s_openapi::api::core::v1::{Node, Pod, PodCertificateProjection, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Api;
use kube::api::PostParams;
use plimsoll_pki::PodKey;
use plimsoll_podlife::certificate::{Bundle, Issuance, Place};
use plimsoll_podlife::projection::projection;

use crate::agent::Agent;
use crate::references::Watches;
use crate::volume::volumes;

/// At most so long is waited more than one has to, so that not all pods ask at once.
const JITTER: SignedDuration = SignedDuration::from_mins(5);

/// The certificates of one pod.
#[derive(Default)]
pub(crate) struct Certificates {
    all: BTreeMap<Place, Issuance>,
}

impl Certificates {
    /// Those that the pod's volumes show. What is missing is asked for.
    pub(crate) async fn get(
        &mut self,
        agent: &Agent,
        pod: &Pod,
        watches: &Watches,
    ) -> Result<BTreeMap<Place, Bundle>, String> {
        let shown: Vec<_> = volumes(pod).filter_map(projection).collect();
        let mut found = BTreeMap::new();
        let mut failure = None;
        for (place, wanted) in shown.iter().flat_map(|projection| projection.certificates()) {
            let issuance = self.all.entry(place.clone()).or_default();
            attend(issuance, agent, pod, watches, wanted).await?;
            match issuance.bundle() {
                Ok(bundle) => drop(found.insert(place, bundle)),
                // The others are asked for all the same.
                Err(why) => drop(failure.get_or_insert(why)),
            }
        }
        failure.map_or(Ok(found), Err)
    }

    /// When the first is to be looked at again.
    pub(crate) fn renewal(&self) -> Option<Timestamp> {
        self.all.values().filter_map(Issuance::renewal).min()
    }
}

async fn attend(
    issuance: &mut Issuance,
    agent: &Agent,
    pod: &Pod,
    watches: &Watches,
    wanted: &PodCertificateProjection,
) -> Result<(), String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let known = match issuance.pending() {
        Some(name) => watches.certificate_request(namespace, name).await,
        None => None,
    };
    for event in issuance.look(known.as_deref(), Timestamp::now(), jitter()) {
        agent.tell(pod, &event);
    }
    if !issuance.wants(Timestamp::now()) {
        return Ok(());
    }
    match ask(agent, pod, wanted).await {
        Ok((key, name)) => {
            issuance.asked(key, name, Timestamp::now(), jitter());
            Ok(())
        }
        // The old one still counts for a while.
        Err(why) if issuance.bundle().is_ok() => {
            tracing::warn!(pod = pod.metadata.name, why, "certificate of a pod not renewed");
            issuance.failed(Timestamp::now());
            Ok(())
        }
        Err(why) => Err(why),
    }
}

fn jitter() -> SignedDuration {
    SignedDuration::from_secs_f64(rand::random::<f64>() * JITTER.as_secs_f64())
}

/// Makes a key and asks for its certificate: the key, and the name of the request.
async fn ask(
    agent: &Agent,
    pod: &Pod,
    wanted: &PodCertificateProjection,
) -> Result<(String, String), String> {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let namespace = text(&pod.metadata.namespace);
    let account = text(&pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone()));
    let accounts = Api::<ServiceAccount>::namespaced(agent.client.clone(), &namespace);
    let found = accounts.get(&account).await;
    let found = found.map_err(|error| format!("while fetching service account: {error}"))?;
    let node = Api::<Node>::all(agent.client.clone()).get(&agent.config.node_name).await;
    let node = node.map_err(|error| format!("while getting node object from local cache: {error}"))?;
    let kind = wanted.key_type.clone();
    // Keys of RSA take their time.
    let made = tokio::task::spawn_blocking(move || PodKey::generate(&kind)).await;
    let made = made.map_err(|error| error.to_string())?;
    let key = made.map_err(|error| format!("while generating keypair: {error}"))?;
    let mut request = PodCertificateRequest {
        spec: PodCertificateRequestSpec {
            signer_name: wanted.signer_name.clone(),
            pod_name: text(&pod.metadata.name),
            pod_uid: text(&pod.metadata.uid),
            service_account_name: account,
            service_account_uid: text(&found.metadata.uid),
            node_name: agent.config.node_name.clone(),
            node_uid: text(&node.metadata.uid),
            max_expiration_seconds: wanted.max_expiration_seconds,
            stub_pkc_s10_request: ByteString(key.request),
            unverified_user_annotations: wanted.user_annotations.clone(),
        },
        ..PodCertificateRequest::default()
    };
    request.metadata.namespace = Some(namespace.clone());
    request.metadata.generate_name = Some("req-".into());
    request.metadata.owner_references = Some(vec![OwnerReference {
        api_version: "v1".into(),
        kind: "Pod".into(),
        name: text(&pod.metadata.name),
        uid: text(&pod.metadata.uid),
        ..OwnerReference::default()
    }]);
    let requests = Api::<PodCertificateRequest>::namespaced(agent.client.clone(), &namespace);
    let made = requests.create(&PostParams::default(), &request).await;
    let made = made.map_err(|error| format!("while creating on API: {error}"))?;
    Ok((key.private, text(&made.metadata.name)))
}
