//! What users write to mean an image: names, digests, ids and beginnings of ids.

use std::collections::HashMap;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::name::ImageName;

/// Beginnings of ids shorter than this are not looked up: they may as well be names.
const MIN_PREFIX: usize = 4;

/// The id that the text means. A name wins over an id, as in docker.
pub(super) fn find<T>(
    names: &HashMap<String, Digest>,
    images: &HashMap<Digest, T>,
    text: &str,
) -> Result<Digest> {
    // Most callers use the normalised name.
    if let Some(id) = names.get(text) {
        return Ok(*id);
    }
    if let Ok(name) = ImageName::parse(text) {
        let id = match name.digest() {
            // With a digest, the tag does not matter.
            Some(digest) => names.get(&name.with_digest(digest).to_string()),
            None => names.get(&name.to_string()),
        };
        if let Some(id) = id {
            return Ok(*id);
        }
    }
    by_id(images, text)
}

fn by_id<T>(images: &HashMap<Digest, T>, text: &str) -> Result<Digest> {
    let missing = || Error::NotFound(text.into());
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    if let Ok(id) = format!("sha256:{digits}").parse::<Digest>() {
        return images.get_key_value(&id).map(|(id, _)| *id).ok_or_else(missing);
    }
    let hexadecimal = digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if digits.len() < MIN_PREFIX || !hexadecimal {
        return Err(missing());
    }
    let mut matching = images.keys().filter(|id| id.hex().starts_with(digits));
    match (matching.next(), matching.next()) {
        (Some(id), None) => Ok(*id),
        (Some(_), Some(_)) => Err(Error::Ambiguous(text.into())),
        (None, _) => Err(missing()),
    }
}
