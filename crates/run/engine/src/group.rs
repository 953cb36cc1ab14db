//! Where the groups of containers and sandboxes are: below the parent that the caller names.
//!
//! Under systemd's names a parent is a slice, and what runs in it is a scope of containerd's name, so that
//! everybody's tools find it (containerd: internal/cri/server/helpers.go).

/// The path of the group of a container or a sandbox.
///
/// `kubepods-pod1.slice` stands for `/kubepods.slice/kubepods-pod1.slice`.
pub(crate) fn path(parent: &str, id: &str) -> String {
    let parent = parent.trim_end_matches('/');
    let Some(unit) = parent.rsplit('/').next().and_then(|base| base.strip_suffix(".slice")) else {
        return format!("{parent}/{id}");
    };
    format!("{}/cri-containerd-{id}.scope", expanded(parent, unit))
}

/// The path of a parent; slices that are named alone are where their names say.
pub(crate) fn parent(parent: &str) -> String {
    let parent = parent.trim_end_matches('/');
    match parent.strip_suffix(".slice") {
        Some(unit) => expanded(parent, unit),
        None => parent.to_owned(),
    }
}

fn expanded(parent: &str, unit: &str) -> String {
    if parent.contains('/') {
        return parent.to_owned();
    }
    let (mut path, mut name) = (String::new(), String::new());
    for part in unit.split('-') {
        name = if name.is_empty() { part.to_owned() } else { format!("{name}-{part}") };
        path = format!("{path}/{name}.slice");
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_are_folders_or_slices() {
        for (parent, group) in [
            ("/kubepods/burstable/pod1", "/kubepods/burstable/pod1/c"),
            ("/plimsoll/", "/plimsoll/c"),
            ("/a.slice/a-pod1_2.slice", "/a.slice/a-pod1_2.slice/cri-containerd-c.scope"),
            ("a-pod1_2.slice", "/a.slice/a-pod1_2.slice/cri-containerd-c.scope"),
        ] {
            assert_eq!(path(parent, "c"), group, "{parent}");
        }
        assert_eq!(parent("a-pod1_2.slice"), "/a.slice/a-pod1_2.slice");
        assert_eq!(parent("/kubepods/"), "/kubepods");
    }
}
