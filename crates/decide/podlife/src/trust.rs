//! Trust anchors in volumes: ClusterTrustBundles by name, or by signer and labels.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::certificates::v1::ClusterTrustBundle;
use k8s_openapi::api::core::v1::ClusterTrustBundleProjection;
use plimsoll_meta::selector::Labels;

/// The anchors that a volume shows, each once.
///
/// # Errors
/// When there are none and the volume needs some.
pub(crate) fn anchors(
    wanted: &ClusterTrustBundleProjection,
    bundles: &[Arc<ClusterTrustBundle>],
) -> Result<Vec<u8>, String> {
    let optional = wanted.optional == Some(true);
    if let Some(name) = &wanted.name {
        return match bundles.iter().find(|bundle| bundle.metadata.name.as_ref() == Some(name)) {
            Some(bundle) => Ok(joined([bundle.spec.trust_bundle.as_str()].into_iter())),
            None if optional => Ok(Vec::new()),
            None => Err(format!(
                "while getting ClusterTrustBundle: clustertrustbundle.certificates.k8s.io \"{name}\" not found"
            )),
        };
    }
    // No selector matches nothing; an empty one everything.
    let selector = wanted.label_selector.as_ref().map(Labels::from);
    let fits = |bundle: &&Arc<ClusterTrustBundle>| {
        bundle.spec.signer_name == wanted.signer_name
            && selector.as_ref().is_some_and(|it| it.matches_map(bundle.metadata.labels.as_ref()))
    };
    let found = joined(bundles.iter().filter(fits).map(|bundle| bundle.spec.trust_bundle.as_str()));
    if found.is_empty() && !optional {
        return Err("combination of signerName and labelSelector matched zero ClusterTrustBundles".into());
    }
    Ok(found)
}

/// The certificates of texts, without repetition and without what stands between them.
fn joined<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<u8> {
    let mut unique: BTreeMap<String, String> = BTreeMap::new();
    for text in texts {
        let mut rest = text;
        while let Some((_, from)) = rest.split_once(BEGIN) {
            let Some((body, after)) = from.split_once(END) else { break };
            let plain: String = body.chars().filter(|letter| !letter.is_whitespace()).collect();
            unique.insert(plain, body.trim().to_owned());
            rest = after;
        }
    }
    let block = |body: &String| format!("{BEGIN}\n{body}\n{END}\n");
    unique.values().map(block).collect::<String>().into_bytes()
}

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn by_name_and_by_signer() {
        let pem = |body: &str| format!("note\n{BEGIN}\n{body}\n{END}\n");
        let bundle = |name: &str, signer: Value, label: &str, text: String| -> Arc<ClusterTrustBundle> {
            Arc::new(
                serde_json::from_value(json!({
                "metadata": {"name": name, "labels": {"live": label}},
                "spec": {"signerName": signer, "trustBundle": text}}))
                .unwrap(),
            )
        };
        let bundles = [
            bundle("own", json!(null), "", pem("BBBB") + &pem("AAAA") + &pem("BBBB")),
            bundle("s:one", json!("s"), "yes", pem("CC\nCC")),
            bundle("s:two", json!("s"), "no", pem("DDDD")),
        ];
        let zero = "combination of signerName and labelSelector matched zero ClusterTrustBundles";
        let cases = [
            (json!({"name": "own"}), Ok("AAAA BBBB")),
            (
                json!({"name": "x"}),
                Err(
                    "while getting ClusterTrustBundle: clustertrustbundle.certificates.k8s.io \"x\" not found",
                ),
            ),
            (json!({"name": "x", "optional": true}), Ok("")),
            (json!({"signerName": "s", "labelSelector": {}}), Ok("CC\nCC DDDD")),
            (json!({"signerName": "s", "labelSelector": {"matchLabels": {"live": "no"}}}), Ok("DDDD")),
            (json!({"signerName": "s"}), Err(zero)),
            (json!({"signerName": "t", "labelSelector": {}}), Err(zero)),
            (json!({"signerName": "t", "labelSelector": {}, "optional": true}), Ok("")),
        ];
        for (mut wanted, expected) in cases {
            wanted["path"] = json!("p");
            let wanted: ClusterTrustBundleProjection = serde_json::from_value(wanted).unwrap();
            let block = |body: &str| format!("{BEGIN}\n{body}\n{END}\n");
            let found = anchors(&wanted, &bundles).map(|bytes| String::from_utf8(bytes).unwrap());
            let expected = expected
                .map(|list| list.split(' ').filter(|it| !it.is_empty()).map(block).collect::<String>())
                .map_err(str::to_owned);
            assert_eq!(found, expected);
        }
    }
}
