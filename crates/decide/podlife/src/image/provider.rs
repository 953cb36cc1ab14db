//! Programs that know credentials of registries: which there are, what they are asked and answer, and how long that
//! holds (kubelet: pkg/credentialprovider/plugin, v1.37).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use plimsoll_meta::name::is_qualified_name;
use serde::Deserialize;
use serde_json::{Value, json};

use super::record::Coordinates;
use super::registry::{Login, matches};
use crate::configuration::Span;

/// Versions of the protocol.
const VERSIONS: [&str; 3] = [
    "credentialprovider.kubelet.k8s.io/v1",
    "credentialprovider.kubelet.k8s.io/v1alpha1",
    "credentialprovider.kubelet.k8s.io/v1beta1",
];
/// Versions of the configuration.
const GROUP: &str = "kubelet.config.k8s.io/";
const TYPES: [&str; 2] = ["ServiceAccount", "Token"];

/// A program and when it is asked.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Provider {
    /// The program's name in its folder.
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    match_images: Vec<String>,
    default_cache_duration: Option<String>,
    /// The version of the protocol.
    #[serde(default)]
    pub api_version: String,
    /// What the program is called with.
    #[serde(default)]
    pub args: Vec<String>,
    /// What its environment has more.
    #[serde(default)]
    pub env: Vec<Variable>,
    /// Which token of a pod's account it gets.
    pub token_attributes: Option<TokenAttributes>,
}

/// A variable of an environment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// Which token of a pod's account a program gets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenAttributes {
    /// For whom the token is.
    #[serde(default)]
    pub service_account_token_audience: String,
    #[serde(default)]
    cache_type: String,
    require_service_account: Option<bool>,
    #[serde(default)]
    required_service_account_annotation_keys: Vec<String>,
    #[serde(default)]
    optional_service_account_annotation_keys: Vec<String>,
}

impl TokenAttributes {
    /// Whether pods without an account get nothing.
    #[must_use]
    pub fn requires_account(&self) -> bool {
        self.require_service_account == Some(true)
    }

    /// What the program is told of an account's annotations; nothing if it lacks one that it must have.
    #[must_use]
    pub fn annotations(&self, account: &BTreeMap<String, String>) -> Option<BTreeMap<String, String>> {
        let mut told = BTreeMap::new();
        for key in &self.required_service_account_annotation_keys {
            told.insert(key.clone(), account.get(key)?.clone());
        }
        let optional = self.optional_service_account_annotation_keys.iter();
        told.extend(optional.filter_map(|key| Some((key.clone(), account.get(key)?.clone()))));
        Some(told)
    }

    /// For which accounts an answer holds: those with the same key.
    #[must_use]
    pub fn key(&self, at: &Coordinates, annotations: &BTreeMap<String, String>, token: &str) -> String {
        let token = if self.cache_type == "Token" { token } else { "" };
        json!([at.namespace, at.name, at.uid, annotations, token]).to_string()
    }
}

impl Provider {
    /// Whether it is asked about a repository.
    #[must_use]
    pub fn serves(&self, repository: &str) -> bool {
        self.match_images.iter().any(|place| matches(place, repository))
    }

    /// What it is asked.
    #[must_use]
    pub fn request(&self, image: &str, token: &str, annotations: &BTreeMap<String, String>) -> String {
        let mut request =
            json!({"kind": "CredentialProviderRequest", "apiVersion": self.api_version, "image": image});
        if !token.is_empty() {
            request["serviceAccountToken"] = json!(token);
        }
        if !annotations.is_empty() {
            request["serviceAccountAnnotations"] = json!(annotations);
        }
        request.to_string()
    }

    /// Reads its answer.
    ///
    /// # Errors
    /// It is none. Nothing of it is told: it may be secret.
    pub fn answer(&self, bytes: &[u8]) -> Result<Answer, String> {
        let value: Value = serde_json::from_slice(bytes)
            .map_err(|_| "error reading GVK from response: it is no JSON object".to_owned())?;
        let version = value["apiVersion"].as_str().unwrap_or_default();
        if version != self.api_version {
            return Err(format!(
                "apiVersion from credential plugin response did not match expected apiVersion:{}, actual apiVersion:{version}",
                self.api_version
            ));
        }
        let undecoded = || "error decoding credential provider plugin response from stdout".to_owned();
        if value["kind"] != "CredentialProviderResponse" {
            return Err(undecoded());
        }
        let written: Written = serde_json::from_value(value).map_err(|_| undecoded())?;
        let usual = self.default_cache_duration.as_deref();
        let lasting = written.cache_duration.as_deref().or(usual).map_or(Ok(Span::default()), Span::parse);
        let about = match written.cache_key_type.as_str() {
            "Image" => About::Image,
            "Registry" => About::Registry,
            "Global" => About::Everything,
            other => {
                return Err(format!(
                    "credential provider plugin did not return a valid cacheKeyType: {other:?}"
                ));
            }
        };
        Ok(Answer { about, lasting: lasting.map_err(|_| undecoded())?.length(), logins: written.auth })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    #[serde(default)]
    cache_key_type: String,
    cache_duration: Option<String>,
    #[serde(default)]
    auth: BTreeMap<String, Login>,
}

/// What an answer is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// The image that was asked for.
    Image,
    /// All images of its registry.
    Registry,
    /// All images.
    Everything,
}

/// What a program knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What it is about.
    pub about: About,
    /// How long it holds; it is not kept when that is no time.
    pub lasting: Duration,
    /// Logins by place.
    pub logins: BTreeMap<String, Login>,
}

/// Answers that still hold.
#[derive(Debug, Default)]
pub struct Cache {
    /// By what they are about and the account's key.
    answers: HashMap<(String, String), (Duration, BTreeMap<String, Login>)>,
}

impl Cache {
    /// What is known about a repository for an account, now: a time since some beginning.
    pub fn get(&mut self, repository: &str, account: &str, now: Duration) -> Option<BTreeMap<String, Login>> {
        self.answers.retain(|_, (end, _)| now <= *end);
        let places = [About::Image, About::Registry, About::Everything];
        let mut keys = places.iter().map(|about| (about.key(repository), account.to_owned()));
        keys.find_map(|key| self.answers.get(&key)).map(|(_, logins)| logins.clone())
    }

    /// Keeps an answer.
    pub fn keep(&mut self, repository: &str, account: &str, answer: &Answer, now: Duration) {
        if !answer.lasting.is_zero() {
            let key = (answer.about.key(repository), account.to_owned());
            self.answers.insert(key, (now.saturating_add(answer.lasting), answer.logins.clone()));
        }
    }
}

impl About {
    fn key(self, repository: &str) -> String {
        match self {
            Self::Image => format!("image {repository}"),
            Self::Registry => format!("registry {}", repository.split('/').next().unwrap_or_default()),
            Self::Everything => "global".to_owned(),
        }
    }
}

/// Reads the documents of a `CredentialProviderConfig`, each with its file's name.
///
/// # Errors
/// Everything that is wrong with them, in upstream's words.
pub fn providers(documents: &[(String, Value)]) -> Result<Vec<Provider>, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Document {
        api_version: String,
        kind: String,
        #[serde(default)]
        providers: Vec<Provider>,
    }
    let mut all: Vec<Provider> = Vec::new();
    for (file, document) in documents {
        let undecoded = |why: String| format!("error decoding config {file:?}: {why}");
        let read: Document =
            serde_json::from_value(document.clone()).map_err(|error| undecoded(error.to_string()))?;
        if read.kind != "CredentialProviderConfig" {
            return Err(undecoded(format!("failed to decode {:?} (wrong Kind)", read.kind)));
        }
        let version = read.api_version.strip_prefix(GROUP);
        if !version.is_some_and(|version| matches!(version, "v1" | "v1beta1" | "v1alpha1")) {
            let version = &read.api_version;
            return Err(undecoded(format!(
                "no kind \"CredentialProviderConfig\" is registered for version {version:?}"
            )));
        }
        for provider in read.providers {
            if all.iter().any(|other| other.name == provider.name) {
                return Err(format!(
                    "duplicate provider name {:?} found in configuration file(s)",
                    provider.name
                ));
            }
            all.push(provider);
        }
    }
    let mut problems = Vec::new();
    if all.is_empty() {
        problems.push("providers: Required value: at least 1 item in plugins is required".to_owned());
    }
    for provider in &all {
        provider.check(&mut problems);
    }
    match problems.as_slice() {
        [] => Ok(all),
        [one] => Err(format!("failed to validate credential provider config: {one}")),
        many => Err(format!("failed to validate credential provider config: [{}]", many.join(", "))),
    }
}

impl Provider {
    fn check(&self, problems: &mut Vec<String>) {
        let name = &self.name;
        for (wrong, why) in [
            (name.contains('/'), "provider name cannot contain '/'"),
            (name.contains(' '), "provider name cannot contain spaces"),
            (name == ".", "provider name cannot be '.'"),
            (name == "..", "provider name cannot be '..'"),
        ] {
            problems.extend(wrong.then(|| format!("providers.name: Invalid value: {name:?}: {why}")));
        }
        let version = self.api_version.as_str();
        if version.is_empty() {
            problems.push("providers.apiVersion: Required value".into());
        } else if !VERSIONS.contains(&version) {
            problems.push(unsupported("providers.apiVersion", version, &VERSIONS));
        }
        if self.match_images.is_empty() {
            let why = "Required value: at least 1 item in matchImages is required";
            problems.push(format!("providers.matchImages: {why}"));
        }
        match self.default_cache_duration.as_deref().map(Span::parse) {
            None => problems.push("providers.defaultCacheDuration: Required value".into()),
            Some(Err(why)) => problems.push(format!("providers.defaultCacheDuration: Invalid value: {why}")),
            Some(Ok(span)) if span < Span::default() => problems.push(format!(
                "providers.defaultCacheDuration: Invalid value: \"{span}\": defaultCacheDuration must be greater than or equal to 0"
            )),
            Some(Ok(_)) => {}
        }
        if let Some(token) = &self.token_attributes {
            token.check(version, problems);
        }
    }
}

impl TokenAttributes {
    fn check(&self, version: &str, problems: &mut Vec<String>) {
        const AT: &str = "providers.tokenAttributes";
        if self.service_account_token_audience.is_empty() {
            problems.push(format!("{AT}.serviceAccountTokenAudience: Required value"));
        }
        if self.require_service_account.is_none() {
            problems.push(format!("{AT}.requireServiceAccount: Required value"));
        }
        if version != VERSIONS[0] {
            problems.push(format!(
                "{AT}: Forbidden: tokenAttributes is only supported for {} API version",
                VERSIONS[0]
            ));
        }
        let required = &self.required_service_account_annotation_keys;
        if self.require_service_account == Some(false) && !required.is_empty() {
            problems.push(format!(
                "{AT}.requiredServiceAccountAnnotationKeys: Forbidden: requireServiceAccount cannot be false when \
                 requiredServiceAccountAnnotationKeys is set"
            ));
        }
        let optional = &self.optional_service_account_annotation_keys;
        for (field, keys) in [("required", required), ("optional", optional)] {
            let mut seen = BTreeSet::new();
            for key in keys {
                let at = format!("{AT}.{field}ServiceAccountAnnotationKeys");
                for why in is_qualified_name(&key.to_lowercase()).err().into_iter().flatten() {
                    problems.push(format!("{at}: Invalid value: {key:?}: {why}"));
                }
                if !seen.insert(key) {
                    problems.push(format!("{at}: Duplicate value: {key:?}"));
                }
            }
        }
        let both: BTreeSet<_> = required.iter().filter(|key| optional.contains(key)).collect();
        if !both.is_empty() {
            problems.push(format!(
                "{AT}: Invalid value: {}: annotation keys cannot be both required and optional",
                json!(both)
            ));
        }
        let kind = self.cache_type.as_str();
        if kind.is_empty() {
            problems.push(format!(
                "{AT}.cacheType: Required value: cacheType is required to be set when tokenAttributes is specified. \
                 Supported values are: {}",
                TYPES.join(", ")
            ));
        } else if !TYPES.contains(&kind) {
            problems.push(unsupported(&format!("{AT}.cacheType"), kind, &TYPES));
        }
    }
}

fn unsupported(at: &str, value: &str, supported: &[&str]) -> String {
    let supported: Vec<_> = supported.iter().map(|one| format!("{one:?}")).collect();
    format!("{at}: Unsupported value: {value:?}: supported values: {}", supported.join(", "))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn config(providers: Value) -> Value {
        json!({"apiVersion": "kubelet.config.k8s.io/v1", "kind": "CredentialProviderConfig", "providers": providers})
    }

    fn read(providers: Value) -> Result<Vec<Provider>, String> {
        super::providers(&[("c.yaml".to_owned(), config(providers))])
    }

    fn provider() -> Value {
        json!({"name": "p", "matchImages": ["*.r.example"], "defaultCacheDuration": "10m",
            "apiVersion": "credentialprovider.kubelet.k8s.io/v1", "args": ["a"], "env": [{"name": "A", "value": "b"}],
            "tokenAttributes": {"serviceAccountTokenAudience": "r", "cacheType": "ServiceAccount",
                "requireServiceAccount": true, "requiredServiceAccountAnnotationKeys": ["a/b"],
                "optionalServiceAccountAnnotationKeys": ["c"]}})
    }

    #[test]
    fn a_provider_is_asked_about_its_images() {
        let it = read(json!([provider()])).unwrap().remove(0);
        assert!(it.serves("eu.r.example/a") && !it.serves("r.example/a"));
        let token = it.token_attributes.as_ref().unwrap();
        assert_eq!(token.annotations(&[("c".to_owned(), "1".to_owned())].into()), None);
        let account = ["a/b", "c", "d"].map(|key| (key.to_owned(), "1".to_owned())).into();
        let told = token.annotations(&account).unwrap();
        assert_eq!(told.keys().collect::<Vec<_>>(), ["a/b", "c"]);
        let request: Value = serde_json::from_str(&it.request("eu.r.example/a", "t", &told)).unwrap();
        assert_eq!(
            request,
            json!({"kind": "CredentialProviderRequest", "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
                "image": "eu.r.example/a", "serviceAccountToken": "t",
                "serviceAccountAnnotations": {"a/b": "1", "c": "1"}})
        );
    }

    #[test]
    fn answers_hold_for_what_they_are_about() {
        let it = read(json!([provider()])).unwrap().remove(0);
        let answer = |about: &str, lasting: Value| {
            let text = json!({"apiVersion": it.api_version, "kind": "CredentialProviderResponse",
                "cacheKeyType": about, "cacheDuration": lasting,
                "auth": {"eu.r.example": {"username": "u", "password": "p"}}});
            it.answer(text.to_string().as_bytes()).unwrap()
        };
        let second = Duration::from_secs;
        for (about, lasting, other, at, expected) in [
            ("Image", json!("1s"), "eu.r.example/a", 1, true),
            ("Image", json!("1s"), "eu.r.example/b", 1, false),
            ("Image", json!("1s"), "eu.r.example/a", 2, false),
            ("Registry", json!("1s"), "eu.r.example/b", 1, true),
            ("Registry", json!("1s"), "us.r.example/a", 1, false),
            ("Global", json!(null), "us.r.example/a", 600, true),
            ("Global", json!(null), "us.r.example/a", 601, false),
            ("Global", json!("0s"), "eu.r.example/a", 0, false),
        ] {
            let mut cache = Cache::default();
            cache.keep("eu.r.example/a", "k", &answer(about, lasting.clone()), second(0));
            let found = cache.get(other, "k", second(at));
            assert_eq!(found.is_some(), expected, "{about} {lasting} {other} {at}");
            assert_eq!(cache.get(other, "another", second(at)), None);
        }
    }

    #[test]
    fn answers_that_make_no_sense() {
        let it = read(json!([provider()])).unwrap().remove(0);
        for (answer, expected) in [
            (
                json!("secret"),
                "apiVersion from credential plugin response did not match expected apiVersion:credentialprovider.kubelet.k8s.io/v1, actual apiVersion:",
            ),
            (
                json!({"apiVersion": it.api_version, "kind": "Secret"}),
                "error decoding credential provider plugin response from stdout",
            ),
            (
                json!({"apiVersion": it.api_version, "kind": "CredentialProviderResponse"}),
                "credential provider plugin did not return a valid cacheKeyType: \"\"",
            ),
        ] {
            assert_eq!(it.answer(answer.to_string().as_bytes()).unwrap_err(), expected);
        }
        assert!(it.answer(b"x").is_err());
    }

    #[test]
    fn what_is_wrong_is_named() {
        let with = |pointer: &str, value: Value| {
            let mut it = json!({"p": [provider()]});
            *it.pointer_mut(&format!("/p/0{pointer}")).unwrap() = value;
            it["p"].take()
        };
        let failed = "failed to validate credential provider config: ";
        for (providers, expected) in [
            (json!([]), "providers: Required value: at least 1 item in plugins is required"),
            (
                with("/name", json!("a/b")),
                "providers.name: Invalid value: \"a/b\": provider name cannot contain '/'",
            ),
            (
                with("/apiVersion", json!("")),
                "[providers.apiVersion: Required value, providers.tokenAttributes: Forbidden: tokenAttributes is only supported for credentialprovider.kubelet.k8s.io/v1 API version]",
            ),
            (
                with("/matchImages", json!([])),
                "providers.matchImages: Required value: at least 1 item in matchImages is required",
            ),
            (with("/defaultCacheDuration", json!(null)), "providers.defaultCacheDuration: Required value"),
            (
                with("/defaultCacheDuration", json!("-1s")),
                "providers.defaultCacheDuration: Invalid value: \"-1s\": defaultCacheDuration must be greater than or equal to 0",
            ),
            (
                with("/tokenAttributes/cacheType", json!("x")),
                "providers.tokenAttributes.cacheType: Unsupported value: \"x\": supported values: \"ServiceAccount\", \"Token\"",
            ),
            (
                with("/tokenAttributes/optionalServiceAccountAnnotationKeys", json!(["a/b"])),
                "providers.tokenAttributes: Invalid value: [\"a/b\"]: annotation keys cannot be both required and optional",
            ),
            (
                with("/tokenAttributes/requireServiceAccount", json!(false)),
                "providers.tokenAttributes.requiredServiceAccountAnnotationKeys: Forbidden: requireServiceAccount cannot be false when requiredServiceAccountAnnotationKeys is set",
            ),
        ] {
            assert_eq!(read(providers).unwrap_err(), format!("{failed}{expected}"));
        }
        let twice = read(json!([provider(), provider()])).unwrap_err();
        assert_eq!(twice, "duplicate provider name \"p\" found in configuration file(s)");
        let unknown = read(json!([{"name": "p", "matchImage": []}])).unwrap_err();
        assert!(
            unknown.starts_with("error decoding config \"c.yaml\": unknown field `matchImage`"),
            "{unknown}"
        );
        let kind = json!({"apiVersion": "kubelet.config.k8s.io/v1", "kind": "Other"});
        let wrong = super::providers(&[("f".to_owned(), kind)]).unwrap_err();
        assert_eq!(wrong, "error decoding config \"f\": failed to decode \"Other\" (wrong Kind)");
    }
}
