//! Whether an image has to be pulled (kubelet: pkg/kubelet/images), and with whose credentials.

pub mod provider;
pub mod record;
pub mod registry;
pub mod verification;

/// What to do about an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pull {
    /// It is there and may be used.
    Use,
    /// Fetch it.
    Fetch,
    /// It is not there and may not be fetched.
    Refuse,
}

/// Decides by the policy; without one, `latest` is always fetched.
#[must_use]
pub fn pull(policy: Option<&str>, image: &str, present: bool) -> Pull {
    let policy = policy.filter(|policy| !policy.is_empty());
    match policy.unwrap_or_else(|| if tag(image) == "latest" { "Always" } else { "IfNotPresent" }) {
        "Always" => Pull::Fetch,
        _ if present => Pull::Use,
        "Never" => Pull::Refuse,
        _ => Pull::Fetch,
    }
}

/// The tag of a reference; `latest` where none is named, empty for a digest.
fn tag(image: &str) -> &str {
    if image.contains('@') {
        return "";
    }
    let name = image.rsplit('/').next().unwrap_or(image);
    name.split_once(':').map_or("latest", |(_, tag)| tag)
}

/// Whether text can name an image: parts of lower case letters, digits and separators, a tag, a digest.
#[must_use]
pub fn is_valid_name(image: &str) -> bool {
    let (rest, digest) = image.split_once('@').map_or((image, None), |(rest, digest)| (rest, Some(digest)));
    let last = rest.rfind('/').map_or(0, |slash| slash + 1);
    let (name, tag) = match rest[last..].split_once(':') {
        Some((name, tag)) => (format!("{}{name}", &rest[..last]), Some(tag)),
        None => (rest.to_owned(), None),
    };
    let tag_fits = tag.is_none_or(|tag| {
        let word = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        !tag.is_empty() && tag.len() <= 128 && tag.chars().all(word) && !tag.starts_with(['.', '-'])
    });
    let digest_fits = digest.is_none_or(|digest| {
        digest.split_once(':').is_some_and(|(kind, hex)| {
            !kind.is_empty() && hex.len() >= 32 && hex.chars().all(|c| c.is_ascii_hexdigit())
        })
    });
    tag_fits && digest_fits && name.len() <= 255 && is_valid_repository(&name)
}

fn is_valid_repository(name: &str) -> bool {
    let parts: Vec<_> = name.split('/').collect();
    let is_host = |part: &str| {
        let letters = |c: char| c.is_ascii_alphanumeric() || ".-:[]".contains(c);
        !part.is_empty() && part.chars().all(letters)
    };
    let is_part = |part: &str| {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        part.starts_with(plain)
            && part.ends_with(plain)
            && part.chars().all(|c| plain(c) || "._-".contains(c))
    };
    match parts.as_slice() {
        [host, path @ ..] if !path.is_empty() && (host.contains(['.', ':']) || *host == "localhost") => {
            is_host(host) && path.iter().all(|part| is_part(part))
        }
        parts => parts.iter().all(|part| is_part(part)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies() {
        let cases = [
            (Some("Always"), "a:1", true, Pull::Fetch),
            (Some("IfNotPresent"), "a:1", true, Pull::Use),
            (Some("IfNotPresent"), "a", false, Pull::Fetch),
            (Some("Never"), "a", true, Pull::Use),
            (Some("Never"), "a", false, Pull::Refuse),
            (None, "a", true, Pull::Fetch),
            (None, "r:5000/a", true, Pull::Fetch),
            (None, "a:1", true, Pull::Use),
            (None, "a@sha256:00", true, Pull::Use),
        ];
        for (policy, image, present, expected) in cases {
            assert_eq!(pull(policy, image, present), expected, "{policy:?} {image} {present}");
        }
    }

    #[test]
    fn names() {
        let digest = format!("a@sha256:{}", "0".repeat(64));
        for good in ["a", "a/b:1", "localhost:5000/a_b/c:v1.2-x", "plimsoll.io/demo", "R.example/a", &digest]
        {
            assert!(is_valid_name(good), "{good}");
        }
        for bad in ["", "A", "a:", "a b", "a/", "/a", "a@x", "a:b:c", "invalid_image:_x!", "-a", "ht tp://x"]
        {
            assert!(!is_valid_name(bad), "{bad}");
        }
    }
}
