//! Flags of the API server that have upstream's names: who asks, and who decides what he may do.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use clap::{ArgAction, Args};
use plimsoll_access::authentication_config::{Anonymous, AuthenticationConfig};
use plimsoll_access::authorization_config::{AuthorizationConfig, OnFailure, Webhook};
use plimsoll_access::front_proxy::FrontProxy;
use plimsoll_access::issuer::{ALGORITHMS, Issuer, Mapping, Source, username_prefix};
use plimsoll_apiserver::{Authentication, Proxies, ServiceAccounts, TokenWebhook};
use serde_json::Value;

/// Authentication and authorization
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "API server")]
pub(crate) struct AccessArgs {
    /// Let requests without credentials in as system:anonymous, where roles allow them something
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", action = ArgAction::Set)]
    anonymous_auth: Option<bool>,
    /// AuthenticationConfiguration with issuers of identity tokens
    #[arg(long, value_name = "FILE")]
    authentication_config: Option<PathBuf>,
    /// Static tokens, a line each: token,user,uid,"group1,group2"
    #[arg(long, value_name = "FILE")]
    token_auth_file: Option<PathBuf>,
    /// Kubeconfig of a server that knows tokens (TokenReview)
    #[arg(long, value_name = "FILE")]
    authentication_token_webhook_config_file: Option<PathBuf>,
    /// Version of TokenReview that it speaks
    #[arg(long, value_name = "VERSION", default_value = "v1", value_parser = ["v1", "v1beta1"])]
    authentication_token_webhook_version: String,
    /// How long its answers are remembered
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = duration)]
    authentication_token_webhook_cache_ttl: Duration,
    /// URL of an OpenID issuer
    #[arg(long, value_name = "URL")]
    oidc_issuer_url: Option<String>,
    /// Audience that its tokens must be for
    #[arg(long, value_name = "ID", requires = "oidc_issuer_url")]
    oidc_client_id: Option<String>,
    /// Authority of its server; the machine's if not given
    #[arg(long, value_name = "FILE", requires = "oidc_issuer_url")]
    oidc_ca_file: Option<PathBuf>,
    /// Claim with the user's name
    #[arg(long, value_name = "CLAIM", default_value = "sub")]
    oidc_username_claim: String,
    /// Prefix of user names; - for none [default: the issuer's URL and #, none for email]
    #[arg(long, value_name = "PREFIX", default_value = "", hide_default_value = true)]
    oidc_username_prefix: String,
    /// Claim with groups
    #[arg(long, value_name = "CLAIM", requires = "oidc_issuer_url")]
    oidc_groups_claim: Option<String>,
    /// Prefix of groups
    #[arg(long, value_name = "PREFIX", default_value = "", hide_default_value = true)]
    oidc_groups_prefix: String,
    /// Claim that must be there with this value; may be repeated
    #[arg(long, value_name = "CLAIM=VALUE", value_delimiter = ',', requires = "oidc_issuer_url")]
    oidc_required_claim: Vec<String>,
    /// Accepted signature algorithms
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = "RS256")]
    oidc_signing_algs: Vec<String>,
    /// More keys whose service account tokens are accepted; may be repeated
    #[arg(long, value_name = "FILE")]
    service_account_key_file: Vec<PathBuf>,
    /// Key that signs service account tokens [default: DIR/pki/sa.key]
    #[arg(long, value_name = "FILE")]
    pub(crate) service_account_signing_key_file: Option<PathBuf>,
    /// Issuer of service account tokens; the first signs, all are accepted
    #[arg(long, value_name = "URL", default_value = "https://kubernetes.default.svc.cluster.local")]
    service_account_issuer: Vec<String>,
    /// Address of the token keys in the discovery document
    #[arg(long, value_name = "URL")]
    service_account_jwks_uri: Option<String>,
    /// Longest life of a service account token
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    service_account_max_token_expiration: Option<Duration>,
    /// Let tokens of pods last a year, and note when they are used past their time
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", action = ArgAction::Set,
        default_value_t = true)]
    service_account_extend_token_expiration: bool,
    /// Audiences that mean this API [default: the issuers]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    api_audiences: Vec<String>,
    /// Authority of front proxies [default: DIR/pki/front-proxy-ca.crt]
    #[arg(long, value_name = "FILE")]
    requestheader_client_ca_file: Option<PathBuf>,
    /// Common names of front proxies; an empty one for any
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = "front-proxy-client")]
    requestheader_allowed_names: Vec<String>,
    /// Headers with the user's name
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = "X-Remote-User")]
    requestheader_username_headers: Vec<String>,
    /// Headers with the user's id
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = "X-Remote-Uid")]
    requestheader_uid_headers: Vec<String>,
    /// Headers with groups
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = "X-Remote-Group")]
    requestheader_group_headers: Vec<String>,
    /// Begin of headers with what else is known
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = "X-Remote-Extra-")]
    requestheader_extra_headers_prefix: Vec<String>,
    /// Authorizers in their order: Node, RBAC, Webhook [default: Node,RBAC]
    #[arg(long, value_name = "MODES", value_delimiter = ',')]
    authorization_mode: Vec<String>,
    /// AuthorizationConfiguration with the authorizers
    #[arg(long, value_name = "FILE", conflicts_with = "authorization_mode")]
    authorization_config: Option<PathBuf>,
    /// Kubeconfig of a server that decides about access (SubjectAccessReview)
    #[arg(long, value_name = "FILE", conflicts_with = "authorization_config")]
    authorization_webhook_config_file: Option<PathBuf>,
    /// Version of SubjectAccessReview that it speaks
    #[arg(long, value_name = "VERSION", default_value = "v1", value_parser = ["v1", "v1beta1"])]
    authorization_webhook_version: String,
    /// How long its permissions are remembered
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    authorization_webhook_cache_authorized_ttl: Duration,
    /// How long its refusals are remembered
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    authorization_webhook_cache_unauthorized_ttl: Duration,
}

/// A duration in Go's notation.
fn duration(text: &str) -> Result<Duration, String> {
    let seconds = plimsoll_access::seconds(text).filter(|seconds| *seconds >= 0.0);
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "not a duration such as 90s, 5m or 1h30m".to_owned())
}

/// A document in YAML or JSON.
fn document(path: &Path) -> anyhow::Result<Value> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    serde_saphyr::from_str(&text).map_err(|error| anyhow!("{}: {error}", path.display()))
}

impl AccessArgs {
    /// Who is believed to be who. `proxy_authority` is the instance's own authority of front proxies.
    pub(crate) fn authentication(&self, proxy_authority: PathBuf) -> anyhow::Result<Authentication> {
        let accounts = self.accounts()?;
        let mut issuers: Vec<Issuer> = self.issuer()?.into_iter().collect();
        let mut anonymous = match self.anonymous_auth {
            Some(false) => Anonymous::Refused,
            _ => Anonymous::Allowed,
        };
        if let Some(path) = &self.authentication_config {
            ensure!(issuers.is_empty(), "--authentication-config cannot be used with --oidc-issuer-url");
            let config = AuthenticationConfig::read(&document(path)?, &accounts.issuers)
                .map_err(|error| anyhow!("{}: {error}", path.display()))?;
            issuers = config.issuers;
            if let Some(told) = config.anonymous {
                ensure!(
                    self.anonymous_auth.is_none(),
                    "--anonymous-auth cannot be used where {} says who may be anonymous",
                    path.display()
                );
                anonymous = told;
            }
        }
        Ok(Authentication {
            token_file: self.token_auth_file.clone(),
            webhook: self.authentication_token_webhook_config_file.clone().map(|config_file| TokenWebhook {
                config_file,
                version: self.authentication_token_webhook_version.clone(),
                cache_ttl: self.authentication_token_webhook_cache_ttl,
            }),
            issuers,
            file: self.authentication_config.clone(),
            anonymous,
            front_proxy: Some(Proxies {
                authority: self.requestheader_client_ca_file.clone().unwrap_or(proxy_authority),
                rules: self.proxy_rules(),
            }),
            accounts,
        })
    }

    fn proxy_rules(&self) -> FrontProxy {
        let named = |names: &[String]| names.iter().filter(|name| !name.is_empty()).cloned().collect();
        FrontProxy {
            allowed_names: named(&self.requestheader_allowed_names),
            name_headers: named(&self.requestheader_username_headers),
            uid_headers: named(&self.requestheader_uid_headers),
            group_headers: named(&self.requestheader_group_headers),
            extra_prefixes: named(&self.requestheader_extra_headers_prefix),
        }
    }

    fn accounts(&self) -> anyhow::Result<ServiceAccounts> {
        let longest = self.service_account_max_token_expiration.map(|time| time.as_secs());
        if let Some(seconds) = longest.filter(|seconds| !(3600..=1 << 32).contains(seconds)) {
            bail!(
                "--service-account-max-token-expiration {seconds}s: must be between 1 hour and 2^32 seconds"
            );
        }
        Ok(ServiceAccounts {
            issuers: self.service_account_issuer.clone(),
            api_audiences: self.api_audiences.clone(),
            verification_keys: self.service_account_key_file.clone(),
            longest: longest.and_then(|seconds| i64::try_from(seconds).ok()),
            extend: self.service_account_extend_token_expiration,
            key_set_url: self.service_account_jwks_uri.clone(),
        })
    }

    fn issuer(&self) -> anyhow::Result<Option<Issuer>> {
        let Some(url) = self.oidc_issuer_url.clone() else { return Ok(None) };
        ensure!(url.starts_with("https://"), "--oidc-issuer-url {url}: has no https scheme");
        let client =
            self.oidc_client_id.clone().context("--oidc-issuer-url and --oidc-client-id belong together")?;
        let odd = self.oidc_signing_algs.iter().find(|name| !ALGORITHMS.contains(&name.as_str()));
        if let Some(odd) = odd {
            bail!("--oidc-signing-algs {odd}: not one of {}", ALGORITHMS.join(", "));
        }
        let authority = self
            .oidc_ca_file
            .as_ref()
            .map(|path| std::fs::read_to_string(path).with_context(|| format!("read {}", path.display())));
        let required = self.oidc_required_claim.iter().map(|pair| {
            let (claim, value) = pair
                .split_once('=')
                .with_context(|| format!("--oidc-required-claim {pair}: not CLAIM=VALUE"))?;
            Ok((claim.to_owned(), value.to_owned()))
        });
        Ok(Some(Issuer {
            authority: authority.transpose()?,
            audiences: vec![client],
            algorithms: self.oidc_signing_algs.clone(),
            username: Source::Claim(Mapping {
                claim: self.oidc_username_claim.clone(),
                prefix: username_prefix(&self.oidc_username_prefix, &self.oidc_username_claim, &url),
            }),
            groups: self
                .oidc_groups_claim
                .clone()
                .map(|claim| Source::Claim(Mapping { claim, prefix: self.oidc_groups_prefix.clone() })),
            required: required.collect::<anyhow::Result<_>>()?,
            url,
            ..Issuer::default()
        }))
    }

    /// The file that says who decides, if there is one.
    pub(crate) fn authorization_file(&self) -> Option<PathBuf> {
        self.authorization_config.clone()
    }

    /// Who decides what somebody may do.
    pub(crate) fn authorization(&self) -> anyhow::Result<AuthorizationConfig> {
        if let Some(path) = &self.authorization_config {
            return AuthorizationConfig::read(&document(path)?)
                .map_err(|error| anyhow!("{}: {error}", path.display()));
        }
        let webhook = self.authorization_webhook_config_file.as_ref().map(|path| Webhook {
            name: "default".to_owned(),
            config_file: path.display().to_string(),
            version: self.authorization_webhook_version.clone(),
            authorized_ttl: Some(self.authorization_webhook_cache_authorized_ttl.as_secs_f64()),
            unauthorized_ttl: Some(self.authorization_webhook_cache_unauthorized_ttl.as_secs_f64()),
            timeout: 30.0,
            on_failure: OnFailure::NoOpinion,
            conditions: Vec::new(),
        });
        match (self.authorization_mode.is_empty(), webhook) {
            (true, None) => Ok(AuthorizationConfig::default()),
            (_, webhook) => AuthorizationConfig::of_modes(&self.authorization_mode, webhook)
                .map_err(|error| anyhow!("{error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        access: AccessArgs,
    }

    fn read(flags: &[&str]) -> anyhow::Result<(Authentication, AuthorizationConfig)> {
        let line = Line::try_parse_from(std::iter::once("up").chain(flags.iter().copied()))?;
        Ok((line.access.authentication(PathBuf::from("/proxy.crt"))?, line.access.authorization()?))
    }

    #[test]
    fn flags_read_as_upstreams() {
        let (authentication, authorization) = read(&[]).expect("good");
        assert_eq!(authentication.anonymous, Anonymous::Allowed);
        assert_eq!(authentication.front_proxy.expect("there").rules, FrontProxy::default());
        assert_eq!(authorization, AuthorizationConfig::default());
        let (authentication, _) = read(&[
            "--anonymous-auth=false",
            "--oidc-issuer-url=https://id.example.com",
            "--oidc-client-id=me",
            "--oidc-groups-claim=groups",
            "--oidc-required-claim=hd=example.com",
            "--service-account-issuer=https://new",
            "--service-account-issuer=https://old",
            "--requestheader-allowed-names=",
        ])
        .expect("good");
        assert_eq!(authentication.anonymous, Anonymous::Refused);
        let issuer = &authentication.issuers[0];
        let Source::Claim(username) = &issuer.username else { panic!("{issuer:?}") };
        assert_eq!(username.prefix, "https://id.example.com#");
        assert_eq!(issuer.required, [("hd".to_owned(), "example.com".to_owned())]);
        assert_eq!(authentication.accounts.issuers, ["https://new", "https://old"]);
        assert!(authentication.front_proxy.expect("there").rules.allowed_names.is_empty());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (flags, expected) in [
            (&["--oidc-issuer-url=https://i"][..], "--oidc-client-id"),
            (&["--oidc-issuer-url=http://i", "--oidc-client-id=c"], "https"),
            (&["--authorization-mode=AlwaysAllow"], "authorization is always on here"),
            (&["--authorization-mode=RBAC,Webhook"], "--authorization-webhook-config-file"),
            (&["--service-account-max-token-expiration=5m"], "between 1 hour and 2^32 seconds"),
            (&["--authentication-config=/nowhere.yaml"], "/nowhere.yaml"),
        ] {
            let error = format!("{:#}", read(flags).expect_err(expected));
            assert!(error.contains(expected), "{error}");
        }
    }
}
