//! Short stable names for what an object says.

use serde::Serialize;
use sha2::{Digest as _, Sha256};

/// Letters and digits that spell no word.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// Ten characters that differ whenever `value` or `collisions` does, but for bad luck (which callers
/// meet by counting collisions). Map keys are ordered, so equal values give equal names for ever.
pub fn of<T: Serialize>(value: &T, collisions: i32) -> String {
    let text = serde_json::to_vec(value).expect("API types are JSON");
    let mut hash = Sha256::new();
    hash.update(&text);
    hash.update(collisions.to_le_bytes());
    let digest = hash.finalize();
    digest.iter().take(10).map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_share_a_name_until_they_collide() {
        assert_eq!(of(&("a", 1), 0), of(&("a", 1), 0));
        assert_ne!(of(&("a", 1), 0), of(&("a", 1), 1));
        assert_ne!(of(&("a", 1), 0), of(&("a", 2), 0));
        assert_eq!(of(&(), 0).len(), 10);
    }
}
