//! Whether a request may pass at all, before it is counted.

use std::net::IpAddr;

use crate::client::within;
use crate::settings::{Redirect, Settings};

/// What the rules ask of a request.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// Whether it came over TLS, to this server or the trusted proxy before it.
    pub encrypted: bool,
    /// Whether its host has a certificate.
    pub certified: bool,
    /// Who sent it.
    pub client: IpAddr,
    /// How long its body says that it is.
    pub length: Option<u64>,
}

/// Why a request is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The body is too large: 413.
    TooLarge,
    /// It has to come over TLS: 308 to the same place there.
    Redirect,
    /// The client's address is not allowed: 403.
    Forbidden,
    /// The rules cannot be understood, and passing could be wrong: 503.
    Unavailable,
}

/// Looks at a request in the order in which nginx does.
pub fn check(settings: &Settings, facts: &Facts) -> Result<(), Refusal> {
    if settings.unusable {
        return Err(Refusal::Unavailable);
    }
    if settings.body_size.zip(facts.length).is_some_and(|(limit, length)| length > limit) {
        return Err(Refusal::TooLarge);
    }
    let redirect = match settings.redirect {
        Redirect::Never => false,
        Redirect::WithCertificate => facts.certified,
        Redirect::Always => true,
    };
    if redirect && !facts.encrypted {
        return Err(Refusal::Redirect);
    }
    let allowed = settings.allowed.is_empty() || within(&settings.allowed, facts.client);
    if !allowed || within(&settings.denied, facts.client) {
        return Err(Refusal::Forbidden);
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn who_may_pass() {
        let base = Settings::default();
        let never = Settings { redirect: Redirect::Never, ..base.clone() };
        let always = Settings { redirect: Redirect::Always, ..base.clone() };
        let ranges = |text: &str| vec![text.parse().unwrap()];
        let some = Settings { allowed: ranges("10.0.0.0/8"), denied: ranges("10.1.0.0/16"), ..base.clone() };
        let broken = Settings { unusable: true, ..base.clone() };
        // Settings, encrypted, certified, client, length, refusal.
        let table = [
            (&base, false, false, "1.1.1.1", None, None),
            (&base, false, true, "1.1.1.1", None, Some(Refusal::Redirect)),
            (&base, true, true, "1.1.1.1", None, None),
            (&base, true, true, "1.1.1.1", Some(1 << 20), None),
            (&base, false, true, "1.1.1.1", Some((1 << 20) + 1), Some(Refusal::TooLarge)),
            (&never, false, true, "1.1.1.1", None, None),
            (&always, false, false, "1.1.1.1", None, Some(Refusal::Redirect)),
            (&some, true, true, "10.2.0.1", None, None),
            (&some, true, true, "::ffff:10.2.0.1", None, None),
            (&some, true, true, "10.1.0.1", None, Some(Refusal::Forbidden)),
            (&some, true, true, "1.1.1.1", None, Some(Refusal::Forbidden)),
            (&broken, true, true, "10.2.0.1", None, Some(Refusal::Unavailable)),
        ];
        for (index, (settings, encrypted, certified, client, length, expected)) in
            table.into_iter().enumerate()
        {
            let facts = Facts { encrypted, certified, client: client.parse().unwrap(), length };
            assert_eq!(check(settings, &facts).err(), expected, "row {index}");
        }
    }
}
