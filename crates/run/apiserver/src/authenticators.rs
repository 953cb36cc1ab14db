//! What proves who somebody is beside certificates: tokens of all kinds, in upstream's order.

use std::sync::{Arc, PoisonError, RwLock};

use futures::future::BoxFuture;
use plimsoll_access::account_token::LEGACY_ISSUER;
use plimsoll_access::authentication_config::Anonymous;
use plimsoll_access::bootstrap_token::{self, BootstrapToken};
use plimsoll_access::front_proxy::FrontProxy;
use plimsoll_access::issuer::Issuer;
use plimsoll_access::token_file::TokenFile;
use plimsoll_pki::Jwt;

use crate::accounts::Accounts;
use crate::authenticate::stored;
use crate::config::{Authentication, Credentials};
use crate::issuers::Provider;
use crate::legacy_tokens;
use crate::server::{Api, StartError};
use crate::token_webhook::TokenWebhook;
use crate::user::User;

/// Everything that tokens are checked with.
pub(crate) struct Authenticators {
    pub(crate) accounts: Accounts,
    pub(crate) anonymous: Anonymous,
    pub(crate) front_proxy: Option<FrontProxy>,
    file: TokenFile,
    providers: RwLock<Vec<Arc<Provider>>>,
    webhook: Option<TokenWebhook>,
}

impl Authenticators {
    /// Reads what the configuration names.
    pub(crate) async fn read(config: &Authentication, keys: &Credentials) -> Result<Self, StartError> {
        let file = match &config.token_file {
            Some(path) => {
                let text =
                    std::fs::read_to_string(path).map_err(|error| StartError::configuration(path, error))?;
                TokenFile::parse(&path.display().to_string(), &text)
                    .map_err(|error| StartError::configuration(path, error))?
            }
            None => TokenFile::default(),
        };
        let webhook = match &config.webhook {
            Some(webhook) => Some(TokenWebhook::read(webhook).await?),
            None => None,
        };
        Ok(Self {
            accounts: Accounts::read(&config.accounts, keys)?,
            anonymous: config.anonymous.clone(),
            front_proxy: config.front_proxy.as_ref().map(|proxy| proxy.rules.clone()),
            file,
            providers: RwLock::new(
                config.issuers.iter().cloned().map(|issuer| Arc::new(Provider::new(issuer))).collect(),
            ),
            webhook,
        })
    }

    /// Trusts these issuers from now on; the keys of those that stay as they are stay known.
    pub(crate) fn trust(&self, issuers: Vec<Issuer>) {
        let mut providers = self.providers.write().unwrap_or_else(PoisonError::into_inner);
        let kept = |issuer: Issuer| match providers.iter().find(|known| known.issuer == issuer) {
            Some(known) => Arc::clone(known),
            None => Arc::new(Provider::new(issuer)),
        };
        *providers = issuers.into_iter().map(kept).collect();
    }

    fn providers(&self, url: &str) -> Vec<Arc<Provider>> {
        let providers = self.providers.read().unwrap_or_else(PoisonError::into_inner);
        providers.iter().filter(|one| one.issuer.url == url).cloned().collect()
    }

    /// The user of a token and the audiences it is good for; no wanted audience means the API's.
    /// `None` when nobody knows the token; an error when somebody does and has something against it.
    pub(crate) async fn token(
        &self,
        api: &Api,
        token: &str,
        wanted: &[String],
    ) -> Result<Option<(User, Vec<String>)>, String> {
        let mut errors = Vec::new();
        // Some know nothing of audiences: what they accept is for the API.
        let own = self.accounts.audiences.iter();
        let own: Vec<String> = own.filter(|one| wanted.is_empty() || wanted.contains(one)).cloned().collect();
        let plain = |user: User| if own.is_empty() { None } else { Some((user, own.clone())) };
        if let Some(found) = self.file.user(token).cloned().and_then(plain) {
            return Ok(Some(found));
        }
        let parsed = Jwt::parse(token);
        if let Some(jwt) = &parsed {
            match self.accounts.user(api, token, jwt, wanted) {
                Some(Ok(found)) => {
                    if jwt.issuer() == LEGACY_ISSUER {
                        let noting: BoxFuture<'_, ()> = Box::pin(legacy_tokens::note(api, &jwt.claims));
                        noting.await;
                    }
                    return Ok(Some(found));
                }
                Some(Err(error)) => errors.push(error),
                None => {}
            }
        }
        if let Some(found) = bootstrap(api, token).and_then(plain) {
            return Ok(Some(found));
        }
        if let Some(jwt) = &parsed {
            for provider in self.providers(jwt.issuer()) {
                match provider.user(jwt).await {
                    Ok(user) => {
                        if let Some(found) = plain(user) {
                            return Ok(Some(found));
                        }
                    }
                    Err(error) => errors.push(error),
                }
            }
        }
        if let Some(webhook) = &self.webhook {
            let wanted = if wanted.is_empty() { &self.accounts.audiences } else { wanted };
            match webhook.user(token, wanted).await {
                Ok(Some((user, told))) => {
                    let told = if told.is_empty() { own } else { told };
                    return Ok((!told.is_empty()).then_some((user, told)));
                }
                Ok(None) => {}
                Err(error) => errors.push(error),
            }
        }
        match &errors[..] {
            [] => Ok(None),
            [one] => Err(one.clone()),
            all => Err(format!("[{}]", all.join(", "))),
        }
    }
}

fn bootstrap(api: &Api, token: &str) -> Option<User> {
    let token = BootstrapToken::parse(token)?;
    let secret = stored(api, "secrets", bootstrap_token::NAMESPACE, &token.secret_name())?;
    token.user(&secret, jiff::Timestamp::now())
}
