//! The files of configMap, secret, downwardAPI and projected volumes.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    ConfigMap, ConfigMapProjection, DownwardAPIProjection, DownwardAPIVolumeFile, KeyToPath,
    PodCertificateProjection, PodSpec, Secret, SecretProjection, Volume, VolumeProjection,
};

use crate::certificate::{Bundle, Place};
use crate::env::References;
use crate::field::{FieldContext, field, resource};
use crate::trust;

/// The mode of files that name none.
const MODE: i32 = 0o644;
/// How long a token lives that does not say.
const HOUR: i64 = 3600;

/// One file of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its content.
    pub data: Vec<u8>,
    /// Its mode bits.
    pub mode: i32,
    /// Its owner, where it is not root.
    pub user: Option<i64>,
}

/// Files by path inside the volume.
pub type Files = BTreeMap<String, File>;

/// A service account token that a volume shows.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenRequest {
    /// Whom it is for; empty is the API server.
    pub audience: String,
    /// How long it is to live, in seconds.
    pub seconds: i64,
}

/// A volume that is made of files.
#[derive(Clone, Debug, PartialEq)]
pub struct Projection {
    volume: String,
    sources: Vec<VolumeProjection>,
    mode: i32,
    user: Option<i64>,
}

/// The projection that a volume is; none for volumes of other kinds.
#[must_use]
pub fn projection(volume: &Volume) -> Option<Projection> {
    let one = |source, mode: Option<i32>, user| {
        let volume = volume.name.clone();
        Some(Projection { volume, sources: vec![source], mode: mode.unwrap_or(MODE), user })
    };
    let mut source = VolumeProjection::default();
    if let Some(it) = volume.config_map.clone() {
        source.config_map =
            Some(ConfigMapProjection { items: it.items, name: it.name, optional: it.optional });
        return one(source, it.default_mode, it.default_user);
    }
    if let Some(it) = volume.secret.clone() {
        source.secret = Some(SecretProjection {
            items: it.items,
            name: it.secret_name.unwrap_or_default(),
            optional: it.optional,
        });
        return one(source, it.default_mode, it.default_user);
    }
    if let Some(it) = volume.downward_api.clone() {
        source.downward_api = Some(DownwardAPIProjection { items: it.items });
        return one(source, it.default_mode, it.default_user);
    }
    let it = volume.projected.clone()?;
    Some(Projection {
        volume: volume.name.clone(),
        sources: it.sources.unwrap_or_default(),
        mode: it.default_mode.unwrap_or(MODE),
        user: it.default_user,
    })
}

impl Projection {
    /// The names of the ConfigMaps in it.
    pub fn config_maps(&self) -> impl Iterator<Item = &str> {
        self.sources.iter().filter_map(|source| Some(source.config_map.as_ref()?.name.as_str()))
    }

    /// The names of the Secrets in it.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        self.sources.iter().filter_map(|source| Some(source.secret.as_ref()?.name.as_str()))
    }

    /// The tokens in it.
    pub fn tokens(&self) -> impl Iterator<Item = TokenRequest> {
        self.sources.iter().filter_map(|source| {
            let token = source.service_account_token.as_ref()?;
            Some(TokenRequest {
                audience: token.audience.clone().unwrap_or_default(),
                seconds: token.expiration_seconds.unwrap_or(HOUR),
            })
        })
    }

    /// The certificates of the pod's own in it, each with its place.
    pub fn certificates(&self) -> impl Iterator<Item = (Place, &PodCertificateProjection)> {
        let sources = self.sources.iter().enumerate();
        sources.filter_map(|(index, source)| {
            Some(((self.volume.clone(), index), source.pod_certificate.as_ref()?))
        })
    }

    /// Whether it shows trust anchors.
    #[must_use]
    pub fn shows_trust(&self) -> bool {
        self.sources.iter().any(|source| source.cluster_trust_bundle.is_some())
    }

    /// Whether its content follows the pod's own metadata.
    #[must_use]
    pub fn follows_pod(&self) -> bool {
        self.sources.iter().any(|source| source.downward_api.is_some())
    }

    /// The files that the volume ought to hold. Later sources win over earlier ones.
    ///
    /// # Errors
    /// What is missing, as the event `FailedMount` tells it.
    pub fn files(
        &self,
        context: &FieldContext<'_>,
        references: &References,
        tokens: &BTreeMap<TokenRequest, String>,
    ) -> Result<Files, String> {
        let mut files = Files::new();
        for (index, source) in self.sources.iter().enumerate() {
            if let Some(it) = &source.config_map {
                let all = references.config_maps.get(&it.name).map(|map| config_map_data(map));
                let what = Kind { object: "configmap", key: "config", optional: it.optional == Some(true) };
                self.take(&mut files, &it.name, all, it.items.as_deref(), &what)?;
            }
            if let Some(it) = &source.secret {
                let all = references.secrets.get(&it.name).map(|secret| secret_data(secret));
                let what = Kind { object: "secret", key: "secret", optional: it.optional == Some(true) };
                self.take(&mut files, &it.name, all, it.items.as_deref(), &what)?;
            }
            for item in source.downward_api.iter().flat_map(|it| it.items.iter().flatten()) {
                let data = downward(item, context)?.into_bytes();
                let file = File { data, mode: item.mode.unwrap_or(self.mode), user: item.user.or(self.user) };
                files.insert(item.path.clone(), file);
            }
            if let Some(it) = &source.service_account_token {
                let request = TokenRequest {
                    audience: it.audience.clone().unwrap_or_default(),
                    seconds: it.expiration_seconds.unwrap_or(HOUR),
                };
                let token = tokens.get(&request).ok_or("the service account token is not there")?;
                let token = token.as_bytes().to_vec();
                files.insert(it.path.clone(), self.own(context, token, it.user));
            }
            if let Some(it) = &source.cluster_trust_bundle {
                let data = trust::anchors(it, &references.trust_bundles)?;
                files.insert(it.path.clone(), self.own(context, data, it.user));
            }
            if let Some(it) = &source.pod_certificate {
                let found = references.certificates.get(&(self.volume.clone(), index));
                let Bundle { key, chain } = found.ok_or("credential bundle is not issued yet")?;
                let both = format!("{key}{chain}");
                let paths = [&it.credential_bundle_path, &it.key_path, &it.certificate_chain_path];
                for (path, text) in paths.into_iter().zip([&both, key, chain]) {
                    if let Some(path) = path.as_ref().filter(|path| !path.is_empty()) {
                        let file = self.own(context, text.clone().into_bytes(), it.user);
                        files.insert(path.clone(), file);
                    }
                }
            }
        }
        Ok(files)
    }

    /// What is the pod's own is readable by its user alone where the pod says who that is.
    fn own(&self, context: &FieldContext<'_>, data: Vec<u8>, user: Option<i64>) -> File {
        let spec = crate::spec::pod_spec(context.pod);
        let owner = user.or(self.user).or_else(|| common_user(spec));
        let group = spec.security_context.as_ref().and_then(|it| it.fs_group);
        let mode = if owner.is_some() || group.is_some() { 0o600 } else { self.mode };
        File { data, mode, user: owner }
    }

    fn take(
        &self,
        files: &mut Files,
        name: &str,
        all: Option<BTreeMap<String, Vec<u8>>>,
        items: Option<&[KeyToPath]>,
        what: &Kind,
    ) -> Result<(), String> {
        let Some(all) = all else {
            return if what.optional { Ok(()) } else { Err(format!("{} \"{name}\" not found", what.object)) };
        };
        let Some(items) = items.filter(|items| !items.is_empty()) else {
            let whole = |(path, data)| (path, File { data, mode: self.mode, user: self.user });
            files.extend(all.into_iter().map(whole));
            return Ok(());
        };
        for item in items {
            match all.get(&item.key).cloned() {
                Some(data) => {
                    let (mode, user) = (item.mode.unwrap_or(self.mode), item.user.or(self.user));
                    files.insert(item.path.clone(), File { data, mode, user });
                }
                None if what.optional => {}
                None => return Err(format!("references non-existent {} key: {}", what.key, item.key)),
            }
        }
        Ok(())
    }
}

struct Kind {
    object: &'static str,
    key: &'static str,
    optional: bool,
}

fn config_map_data(map: &ConfigMap) -> BTreeMap<String, Vec<u8>> {
    let text = map.data.iter().flatten().map(|(key, value)| (key.clone(), value.clone().into_bytes()));
    let bytes = map.binary_data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone()));
    text.chain(bytes).collect()
}

fn secret_data(secret: &Secret) -> BTreeMap<String, Vec<u8>> {
    secret.data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone())).collect()
}

fn downward(item: &DownwardAPIVolumeFile, context: &FieldContext<'_>) -> Result<String, String> {
    match (&item.field_ref, &item.resource_field_ref) {
        (Some(selector), _) => field(context, &selector.field_path),
        (None, Some(selector)) => resource(context, selector, None),
        (None, None) => Ok(String::new()),
    }
}

/// The user that every container of the pod runs as, when they agree.
fn common_user(spec: &PodSpec) -> Option<i64> {
    let pod = spec.security_context.as_ref().and_then(|it| it.run_as_user);
    let of = |container: &k8s_openapi::api::core::v1::Container| {
        container.security_context.as_ref().and_then(|it| it.run_as_user).or(pod)
    };
    let mut users = spec.init_containers.iter().flatten().chain(&spec.containers).map(of);
    let first = users.next()??;
    users.all(|user| user == Some(first)).then_some(first)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn project(volume: Value, spec: Value) -> Result<Vec<String>, String> {
        let volume: Volume = serde_json::from_value(volume).unwrap();
        let pod =
            serde_json::from_value(json!({"metadata": {"name": "p", "labels": {"a": "b"}}, "spec": spec}))
                .unwrap();
        let allocatable = BTreeMap::new();
        let context = FieldContext { pod: &pod, pod_ips: &[], host_ips: &[], allocatable: &allocatable };
        let mut references = References::default();
        let map = json!({"data": {"x": "1", "y": "2"}, "binaryData": {"z": "AAE="}});
        references.config_maps.insert("m".into(), Arc::new(serde_json::from_value(map).unwrap()));
        let secret = json!({"data": {"k": "c2VjcmV0"}});
        references.secrets.insert("s".into(), Arc::new(serde_json::from_value(secret).unwrap()));
        let bundle = Bundle { key: "key ".into(), chain: "chain".into() };
        references.certificates.insert(("v".into(), 1), bundle);
        let request = TokenRequest { audience: String::new(), seconds: 3607 };
        let tokens = BTreeMap::from([(request, "tok".to_owned())]);
        let files = projection(&volume).unwrap().files(&context, &references, &tokens)?;
        let line = |(path, file): (&String, &File)| {
            let user = file.user.map(|user| format!(" {user}")).unwrap_or_default();
            format!("{path} {:o}{user} {}", file.mode, String::from_utf8_lossy(&file.data))
        };
        Ok(files.iter().map(line).collect())
    }

    #[test]
    fn volumes_of_files() {
        let plain = json!({"containers": [{"name": "c"}]});
        let user = json!({"securityContext": {"runAsUser": 1000}, "containers": [{"name": "c"}]});
        let group = json!({"securityContext": {"fsGroup": 7}, "containers": [{"name": "c"}]});
        let token = json!({"name": "v", "projected": {"sources": [
            {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
            {"configMap": {"name": "m", "items": [{"key": "x", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.name"}}]}},
        ]}});
        let own = json!({"name": "v", "projected": {"sources": [
            {"configMap": {"name": "m", "items": [{"key": "x", "path": "x"}]}},
            {"podCertificate": {"signerName": "s/s", "keyType": "ED25519",
                "credentialBundlePath": "all.pem", "keyPath": "key.pem", "certificateChainPath": "chain.pem"}},
        ]}});
        let cases: Vec<(Value, &Value, &[&str])> = vec![
            (
                own.clone(),
                &plain,
                &["all.pem 644 key chain", "chain.pem 644 chain", "key.pem 644 key ", "x 644 1"],
            ),
            (
                own,
                &user,
                &[
                    "all.pem 600 1000 key chain",
                    "chain.pem 600 1000 chain",
                    "key.pem 600 1000 key ",
                    "x 644 1",
                ],
            ),
            (
                json!({"name": "v", "configMap": {"name": "m"}}),
                &plain,
                &["x 644 1", "y 644 2", "z 644 \0\u{1}"],
            ),
            (
                json!({"name": "v", "configMap": {"name": "m", "defaultMode": 256, "items": [
                    {"key": "y", "path": "d/e"}, {"key": "x", "path": "f", "mode": 511}]}}),
                &plain,
                &["d/e 400 2", "f 777 1"],
            ),
            (json!({"name": "v", "secret": {"secretName": "s"}}), &plain, &["k 644 secret"]),
            (json!({"name": "v", "secret": {"secretName": "none", "optional": true}}), &plain, &[]),
            (
                json!({"name": "v", "secret": {"secretName": "s", "optional": true, "items": [{"key": "q", "path": "q"}]}}),
                &plain,
                &[],
            ),
            (
                json!({"name": "v", "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}}),
                &plain,
                &["labels 644 a=\"b\""],
            ),
            (token.clone(), &plain, &["ca.crt 644 1", "namespace 644 p", "token 644 tok"]),
            (token.clone(), &user, &["ca.crt 644 1", "namespace 644 p", "token 600 1000 tok"]),
            (token, &group, &["ca.crt 644 1", "namespace 644 p", "token 600 tok"]),
        ];
        for (volume, spec, expected) in cases {
            assert_eq!(project(volume.clone(), spec.clone()).unwrap(), expected, "{volume}");
        }
    }

    #[test]
    fn what_is_missing() {
        let spec = json!({"containers": []});
        let cases = [
            (json!({"name": "v", "configMap": {"name": "none"}}), "configmap \"none\" not found"),
            (json!({"name": "v", "secret": {"secretName": "none"}}), "secret \"none\" not found"),
            (
                json!({"name": "v", "configMap": {"name": "m", "items": [{"key": "q", "path": "q"}]}}),
                "references non-existent config key: q",
            ),
        ];
        for (volume, message) in cases {
            assert_eq!(project(volume, spec.clone()).unwrap_err(), message);
        }
    }
}
