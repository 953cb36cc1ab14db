//! The record of claims in use, in upstream's format (kubelet: pkg/kubelet/cm/dra/state/checkpoint.go).

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use super::{Book, Claim, Device, Held};

const KIND: &str = "DRACheckpoint";
const VERSION: &str = "checkpoint.dra.kubelet.k8s.io/v1";

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    /// The text of [`Data`].
    data: String,
    checksum: u32,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    kind: String,
    api_version: String,
    #[serde(rename = "ClaimInfoStateList", deserialize_with = "nullable", default)]
    claims: Vec<Entry>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    #[serde(rename = "ClaimUID")]
    uid: String,
    claim_name: String,
    namespace: String,
    #[serde(rename = "PodUIDs", deserialize_with = "nullable", default)]
    pods: BTreeMap<String, Empty>,
    #[serde(deserialize_with = "nullable", default)]
    driver_state: BTreeMap<String, State>,
}

#[derive(Default, Deserialize, Serialize)]
struct Empty {}

#[derive(Default, Deserialize, Serialize)]
struct State {
    #[serde(rename = "Devices", deserialize_with = "nullable", default)]
    devices: Vec<Part>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Part {
    pool_name: String,
    device_name: String,
    #[serde(rename = "ShareID", default, skip_serializing_if = "Option::is_none")]
    share: Option<String>,
    #[serde(deserialize_with = "nullable", default)]
    request_names: Vec<String>,
    #[serde(rename = "CDIDeviceIDs", deserialize_with = "nullable", default)]
    cdi: Vec<String>,
}

/// Go writes empty lists and maps as null.
fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(value: D) -> Result<T, D::Error> {
    Option::deserialize(value).map(Option::unwrap_or_default)
}

/// The record for a file.
#[must_use]
pub fn write(book: &Book) -> String {
    let data = Data {
        kind: KIND.to_owned(),
        api_version: VERSION.to_owned(),
        claims: book.all().map(entry).collect(),
    };
    let data = serde_json::to_string(&data).unwrap_or_default();
    let document = Document { checksum: crc32fast::hash(data.as_bytes()), data };
    serde_json::to_string(&document).unwrap_or_default()
}

/// Reads a record.
///
/// # Errors
/// It is damaged, or another version's.
pub fn read(text: &str) -> Result<Book, String> {
    let document: Document = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if document.checksum != crc32fast::hash(document.data.as_bytes()) {
        return Err("checkpoint is corrupted".to_owned());
    }
    let data: Data = serde_json::from_str(&document.data).map_err(|error| error.to_string())?;
    if (data.kind.as_str(), data.api_version.as_str()) != (KIND, VERSION) {
        return Err(format!("unknown checkpoint {} {}", data.api_version, data.kind));
    }
    Ok(Book::of(data.claims.into_iter().map(held).collect()))
}

fn entry(held: &Held) -> Entry {
    let part = |device: &Device| Part {
        pool_name: device.pool.clone(),
        device_name: device.name.clone(),
        share: device.share.clone(),
        request_names: device.requests.clone(),
        cdi: device.cdi.clone(),
    };
    let state = |(driver, devices): (&String, &Vec<Device>)| {
        (driver.clone(), State { devices: devices.iter().map(part).collect() })
    };
    Entry {
        uid: held.claim.uid.clone(),
        claim_name: held.claim.name.clone(),
        namespace: held.claim.namespace.clone(),
        pods: held.pods.iter().map(|pod| (pod.clone(), Empty {})).collect(),
        driver_state: held.claim.drivers.iter().map(state).collect(),
    }
}

fn held(entry: Entry) -> Held {
    let device = |part: Part| Device {
        pool: part.pool_name,
        name: part.device_name,
        share: part.share,
        requests: part.request_names,
        cdi: part.cdi,
    };
    let devices =
        |(driver, state): (String, State)| (driver, state.devices.into_iter().map(device).collect());
    Held {
        claim: Claim {
            uid: entry.uid,
            name: entry.claim_name,
            namespace: entry.namespace,
            drivers: entry.driver_state.into_iter().map(devices).collect(),
        },
        pods: entry.pods.into_keys().collect(),
        prepared: false,
    }
}
