//! How fast a pod may send and receive, by its annotations.

use std::collections::HashMap;

use plimsoll_meta::quantity::Quantity;

/// The annotations (upstream: `pkg/util/bandwidth`; they are no part of the API).
pub const INGRESS: &str = "kubernetes.io/ingress-bandwidth";
/// That of what the pod sends.
pub const EGRESS: &str = "kubernetes.io/egress-bandwidth";

/// Bits a second that a pod receives and sends at most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bandwidth {
    /// Of what it receives.
    pub ingress: Option<u64>,
    /// Of what it sends.
    pub egress: Option<u64>,
}

/// A token bucket that keeps to a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    /// Bytes a second.
    pub rate: u64,
    /// Bytes that may follow each other at once.
    pub burst: u32,
    /// Bytes that wait for their turn; what is more is lost.
    pub limit: u32,
}

/// A packet is never larger, whatever the link takes.
const LARGEST_PACKET: u64 = 9_216;

impl Bandwidth {
    /// Reads the annotations; the error is upstream's.
    pub fn read(annotations: &HashMap<String, String>) -> Result<Self, String> {
        let of = |name| annotations.get(name).map(|text| bits(text)).transpose();
        Ok(Self { ingress: of(INGRESS)?, egress: of(EGRESS)? })
    }
}

fn bits(text: &str) -> Result<u64, String> {
    let quantity: Quantity = text.parse().map_err(|error| format!("{error}"))?;
    match quantity.value() {
        ..1_000 => Err("resource is unreasonably small (< 1kbit)".to_owned()),
        1_000_000_000_000_001.. => Err("resource is unreasonably large (> 1Pbit)".to_owned()),
        bits => Ok(bits.unsigned_abs()),
    }
}

impl Bucket {
    /// The bucket for so many bits a second: it lets through at once what comes in a fiftieth of a second,
    /// which hides how coarse clocks are, and keeps what comes in a quarter of one.
    pub fn of(bits: u64) -> Self {
        let rate = bits / 8;
        let size = |bytes: u64| u32::try_from(bytes).unwrap_or(u32::MAX / 2).min(u32::MAX / 2);
        let burst = (rate / 50).max(2 * LARGEST_PACKET);
        Self { rate, burst: size(burst), limit: size(burst + (rate / 4).max(8 * LARGEST_PACKET)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_are_bits_within_reason() {
        let small = Err("resource is unreasonably small (< 1kbit)".to_owned());
        let large = Err("resource is unreasonably large (> 1Pbit)".to_owned());
        let no_quantity = "x".parse::<Quantity>().map(|_| 0).map_err(|error| error.to_string());
        for (text, expected) in [
            ("10M", Ok(10_000_000)),
            ("1k", Ok(1_000)),
            ("1P", Ok(1_000_000_000_000_000)),
            ("1Ki", Ok(1_024)),
            ("999", small.clone()),
            ("-10M", small),
            ("2P", large),
            ("x", no_quantity),
        ] {
            let annotations = HashMap::from([(EGRESS.to_owned(), text.to_owned())]);
            let found = Bandwidth::read(&annotations).map(|found| (found.ingress, found.egress));
            assert_eq!(found, expected.map(|bits| (None, Some(bits))), "{text}");
        }
        assert_eq!(Bandwidth::read(&HashMap::new()), Ok(Bandwidth::default()));
    }

    #[test]
    fn buckets_are_never_too_small_for_a_packet() {
        for bits in [1_000, 1_000_000, 10_000_000_000, 1_000_000_000_000_000] {
            let bucket = Bucket::of(bits);
            assert_eq!(bucket.rate, bits / 8);
            assert!(
                bucket.burst >= 9_216 && bucket.limit > bucket.burst || bucket.burst == u32::MAX / 2,
                "{bucket:?}"
            );
        }
        assert_eq!(Bucket::of(80_000_000), Bucket { rate: 10_000_000, burst: 200_000, limit: 2_700_000 });
    }
}
