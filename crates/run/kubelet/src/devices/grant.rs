//! What the engine is told for a container because of its devices.

use plimsoll_cri::v1;
use plimsoll_plugins::device as wire;

/// Parts of a container's configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Grant {
    pub(crate) env: Vec<(String, String)>,
    pub(crate) mounts: Vec<v1::Mount>,
    pub(crate) devices: Vec<v1::Device>,
    pub(crate) annotations: Vec<(String, String)>,
    pub(crate) cdi_devices: Vec<v1::CdiDevice>,
}

impl Grant {
    /// Adds what a plugin wants. What another one has said of the same thing stays.
    pub(super) fn add(&mut self, answer: wire::ContainerAllocateResponse) {
        add_pairs(&mut self.env, answer.envs);
        add_pairs(&mut self.annotations, answer.annotations);
        for mount in answer.mounts {
            if !self.mounts.iter().any(|known| known.container_path == mount.container_path) {
                self.mounts.push(v1::Mount {
                    container_path: mount.container_path,
                    host_path: mount.host_path,
                    readonly: mount.read_only,
                    ..v1::Mount::default()
                });
            }
        }
        for device in answer.devices {
            if !self.devices.iter().any(|known| known.container_path == device.container_path) {
                self.devices.push(v1::Device {
                    container_path: device.container_path,
                    host_path: device.host_path,
                    permissions: device.permissions,
                });
            }
        }
        for device in answer.cdi_devices {
            if !self.cdi_devices.iter().any(|known| known.name == device.name) {
                self.cdi_devices.push(v1::CdiDevice { name: device.name });
            }
        }
    }
}

fn add_pairs(known: &mut Vec<(String, String)>, more: std::collections::HashMap<String, String>) {
    let mut more: Vec<_> = more.into_iter().collect();
    more.sort();
    for (name, value) in more {
        match known.iter().find(|(other, _)| *other == name) {
            Some((_, other)) if *other != value => {
                tracing::warn!(name, "two device plugins disagree about a container");
            }
            Some(_) => {}
            None => known.push((name, value)),
        }
    }
}
