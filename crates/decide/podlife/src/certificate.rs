//! Certificates that volumes of a pod show: when they are asked for, and what came of that
//! (kubelet: pkg/kubelet/podcertificate, v1.37).

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::certificates::v1::PodCertificateRequest;

use crate::effect::Event;

/// How long after a request was made its absence means that somebody took it away, and how long after the time
/// for it a renewal is late.
const LATE: SignedDuration = SignedDuration::from_mins(10);
/// How long after a failure a renewal is tried again.
const AGAIN: SignedDuration = SignedDuration::from_mins(1);

/// A source of a projected volume: the volume's name and which of its sources.
pub type Place = (String, usize);

/// A key with its certificates, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// The private key.
    pub key: String,
    /// The certificate and those between it and the signer's.
    pub chain: String,
}

/// The certificate of one source of a volume.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Issuance {
    held: Option<Held>,
    pending: Option<Pending>,
    refusal: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
struct Held {
    bundle: Bundle,
    renew: Timestamp,
    end: Timestamp,
    told_late: bool,
    told_end: bool,
}

/// A request that is under way.
#[derive(Clone, Debug, PartialEq)]
struct Pending {
    key: String,
    name: String,
    until: Timestamp,
}

impl Issuance {
    /// The name of the request that is under way.
    #[must_use]
    pub fn pending(&self) -> Option<&str> {
        self.pending.as_ref().map(|pending| pending.name.as_str())
    }

    /// Whether it is time to ask for a certificate.
    #[must_use]
    pub fn wants(&self, now: Timestamp) -> bool {
        let due = self.held.as_ref().is_none_or(|held| held.renew <= now);
        due && self.pending.is_none() && self.refusal.is_none()
    }

    /// A certificate was asked for, for this key and under this name. `jitter` keeps many from asking at once.
    pub fn asked(&mut self, key: String, name: String, now: Timestamp, jitter: SignedDuration) {
        self.pending = Some(Pending { key, name, until: now + LATE + jitter });
    }

    /// It could not be asked for. What there is is kept, and renewed later.
    pub fn failed(&mut self, now: Timestamp) {
        if let Some(held) = &mut self.held {
            held.renew = now + AGAIN;
        }
    }

    /// Looks at the request that is under way, as the API has it now. What users learn comes back.
    pub fn look(
        &mut self,
        request: Option<&PodCertificateRequest>,
        now: Timestamp,
        jitter: SignedDuration,
    ) -> Vec<Event> {
        let mut events: Vec<Event> = self.late(now).into_iter().collect();
        let Some(pending) = &self.pending else { return events };
        let Some(request) = request else {
            if now > pending.until {
                self.pending = None;
            }
            return events;
        };
        let status = request.status.clone().unwrap_or_default();
        for condition in status.conditions.iter().flatten() {
            let (reason, message) = (&condition.reason, &condition.message);
            let (verb, what) = match condition.type_.as_str() {
                "Denied" => ("denied", "was denied"),
                "Failed" => ("failed", "failed"),
                "Issued" => {
                    let time = |time: &Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>| {
                        time.as_ref().map_or(now, |time| time.0)
                    };
                    self.held = Some(Held {
                        bundle: Bundle {
                            key: pending.key.clone(),
                            chain: cleaned(status.certificate_chain.as_deref().unwrap_or_default()),
                        },
                        renew: time(&status.begin_refresh_at) + jitter,
                        end: time(&status.not_after),
                        told_late: false,
                        told_end: false,
                    });
                    self.pending = None;
                    return events;
                }
                _ => continue,
            };
            let namespace = request.metadata.namespace.as_deref().unwrap_or_default();
            let text = format!(
                "PodCertificateRequest {namespace}/{} {what}, reason={reason:?}, message={message:?}",
                pending.name
            );
            events.push(Event::warning(if verb == "denied" { "Denied" } else { "Failed" }, text, None));
            self.refusal = Some(format!(
                "PodCertificateRequest was permanently {verb}: reason={reason:?} message={message:?}"
            ));
            self.pending = None;
            return events;
        }
        events
    }

    /// Tells once that a renewal is late, and that the certificate has ended.
    fn late(&mut self, now: Timestamp) -> Vec<Event> {
        let Some(held) = &mut self.held else { return Vec::new() };
        let mut events = Vec::new();
        if now > held.renew + LATE && !std::mem::replace(&mut held.told_late, true) {
            events.push(Event::warning(
                "CertificateOverdueForRefresh",
                "PodCertificate refresh overdue",
                None,
            ));
        }
        if now > held.end && !std::mem::replace(&mut held.told_end, true) {
            events.push(Event::warning("CertificateExpired", "PodCertificate expired", None));
        }
        events
    }

    /// What the volume shows.
    ///
    /// # Errors
    /// Why there is nothing yet, or never will be.
    pub fn bundle(&self) -> Result<Bundle, String> {
        match (&self.refusal, &self.held) {
            (Some(refusal), _) => Err(refusal.clone()),
            (None, Some(held)) => Ok(held.bundle.clone()),
            (None, None) => Err("credential bundle is not issued yet".into()),
        }
    }

    /// When it is to be looked at again though nothing happens.
    #[must_use]
    pub fn renewal(&self) -> Option<Timestamp> {
        match &self.pending {
            Some(pending) => Some(pending.until),
            None => self.held.as_ref().filter(|_| self.refusal.is_none()).map(|held| held.renew),
        }
    }
}

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// The certificates of a text without what stands between them and in their heads.
fn cleaned(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((_, from)) = rest.split_once(BEGIN) {
        let Some((body, after)) = from.split_once(END) else { break };
        let lines = body.lines().map(str::trim).filter(|line| !line.is_empty() && !line.contains(':'));
        let plain: String = lines.collect();
        out.push_str(BEGIN);
        out.push('\n');
        let mut left = plain.as_str();
        while !left.is_empty() && left.is_ascii() {
            let (line, more) = left.split_at(left.len().min(64));
            out.push_str(line);
            out.push('\n');
            left = more;
        }
        out.push_str(END);
        out.push('\n');
        rest = after;
    }
    out
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const NONE: SignedDuration = SignedDuration::ZERO;

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + minutes * 60).unwrap()
    }

    fn request(status: Value) -> PodCertificateRequest {
        let spec = json!({
            "signerName": "s/s", "podName": "p", "podUID": "u", "nodeName": "n", "nodeUID": "nu",
            "serviceAccountName": "a", "serviceAccountUID": "au", "stubPKCS10Request": "",
        });
        serde_json::from_value(
            json!({"metadata": {"namespace": "ns", "name": "req-1"}, "spec": spec, "status": status}),
        )
        .unwrap()
    }

    fn ended(kind: &str) -> Value {
        json!({"conditions": [{"type": kind, "status": "True", "reason": "R", "message": "m",
            "lastTransitionTime": "2026-01-01T00:00:00Z"}]})
    }

    fn issued(chain: &str, renew: Timestamp, end: Timestamp) -> PodCertificateRequest {
        let mut status = ended("Issued");
        status["certificateChain"] = json!(chain);
        status["beginRefreshAt"] = json!(renew.to_string());
        status["notAfter"] = json!(end.to_string());
        request(status)
    }

    #[test]
    fn a_certificate_comes_and_is_renewed() {
        let mut it = Issuance::default();
        assert!(it.wants(at(0)));
        it.asked("k1".into(), "req-1".into(), at(0), NONE);
        assert!(!it.wants(at(0)));
        assert!(it.look(Some(&request(json!({}))), at(1), NONE).is_empty());
        assert_eq!(it.bundle().unwrap_err(), "credential bundle is not issued yet");
        let chain = format!("{BEGIN}\nHead: x\n\nAA\nAA\n{END}\nnote\n{BEGIN}\nBB\n{END}\n");
        it.look(Some(&issued(&chain, at(30), at(60))), at(2), NONE);
        let clean = format!("{BEGIN}\nAAAA\n{END}\n{BEGIN}\nBB\n{END}\n");
        assert_eq!(it.bundle().unwrap(), Bundle { key: "k1".into(), chain: clean });
        assert_eq!((it.renewal(), it.wants(at(29)), it.wants(at(30))), (Some(at(30)), false, true));

        it.failed(at(30));
        assert_eq!(it.renewal(), Some(at(31)));
        it.asked("k2".into(), "req-2".into(), at(31), NONE);
        assert_eq!(it.bundle().unwrap().key, "k1", "the old one counts until the new one is there");
        let told = it.look(Some(&request(json!({}))), at(61), NONE);
        let reasons: Vec<_> = told.iter().map(|event| event.reason.as_ref()).collect();
        assert_eq!(reasons, ["CertificateOverdueForRefresh", "CertificateExpired"]);
        assert!(it.look(None, at(62), NONE).is_empty(), "each is told once");
        assert!(it.wants(at(62)), "a request that is gone is made again");
    }

    #[test]
    fn refusals_are_for_good() {
        for (kind, verb, what) in [("Denied", "denied", "was denied"), ("Failed", "failed", "failed")] {
            let mut it = Issuance::default();
            it.asked("k".into(), "req-1".into(), at(0), NONE);
            let told = it.look(Some(&request(ended(kind))), at(1), NONE);
            assert_eq!((told[0].reason.as_ref(), told[0].warning), (kind, true));
            let message = format!("PodCertificateRequest ns/req-1 {what}, reason=\"R\", message=\"m\"");
            assert_eq!(told[0].message, message);
            let expected =
                format!("PodCertificateRequest was permanently {verb}: reason=\"R\" message=\"m\"");
            assert_eq!(it.bundle().unwrap_err(), expected);
            assert!(!it.wants(at(100)) && it.renewal().is_none());
        }
    }
}
