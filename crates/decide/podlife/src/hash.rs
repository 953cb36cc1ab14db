//! A fingerprint of a container's specification: another one asks for a new container.

use k8s_openapi::api::core::v1::Container;

/// The fingerprint of what a running container cannot change in place: name and image.
///
/// Everything else in a pod's containers is immutable or, like resources, applied in place
/// (kubelet: pkg/kubelet/container/helpers.go, HashContainer).
#[must_use]
pub fn hash(container: &Container) -> String {
    let parts = [container.name.as_str(), container.image.as_deref().unwrap_or_default()];
    // FNV-1a, stable over versions of this program because running containers carry it.
    let mut sum = 0x811c_9dc5_u32;
    for byte in parts.join("\n").bytes() {
        sum = (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    }
    format!("{sum:x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_image_asks_for_a_new_container() {
        let container = |image: &str, tty| Container {
            name: "c".into(),
            image: Some(image.into()),
            tty,
            ..Container::default()
        };
        assert_eq!(hash(&container("a:1", None)), hash(&container("a:1", Some(true))));
        assert_ne!(hash(&container("a:1", None)), hash(&container("a:2", None)));
    }
}
