//! Services and EndpointSlices as the resolver follows them: whole where the process holds them anyway, else
//! no more of them than answers need.

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::core::ObjectMeta;
use plimsoll_client::Object;
use plimsoll_netplan::dns::{ServiceFacts, SliceFacts};
use plimsoll_netplan::endpoints::{service_index, service_index_value, service_of};
use serde::Deserialize;

/// What tells of a Service.
pub(crate) trait TellsService: Object {
    /// Nothing when it has no names.
    fn facts(&self) -> Option<ServiceFacts>;
}

/// What tells of an EndpointSlice.
pub(crate) trait TellsSlice: Object {
    /// The Service it belongs to.
    fn service(&self) -> Option<&str>;
    fn facts(&self) -> SliceFacts;
    /// As [`service_index`].
    fn index(&self) -> Vec<String>;
}

impl TellsService for Service {
    fn facts(&self) -> Option<ServiceFacts> {
        ServiceFacts::of(self)
    }
}

impl TellsSlice for EndpointSlice {
    fn service(&self) -> Option<&str> {
        service_of(self)
    }

    fn facts(&self) -> SliceFacts {
        SliceFacts::of(self)
    }

    fn index(&self) -> Vec<String> {
        service_index(self)
    }
}

/// A part of an object, with its name. Who it was before it was made again does not count.
#[derive(Debug)]
struct Named<T> {
    namespace: Box<str>,
    name: Box<str>,
    kept: T,
}

impl<T> Named<T> {
    fn new(metadata: ObjectMeta, kept: T) -> Self {
        let text = |text: Option<String>| text.unwrap_or_default().into();
        Self { namespace: text(metadata.namespace), name: text(metadata.name), kept }
    }
}

/// A part of a Service.
#[derive(Debug, Deserialize)]
#[serde(from = "Service")]
pub(crate) struct ServiceExcerpt(Named<Option<ServiceFacts>>);

/// A part of an EndpointSlice; nothing of one that names do not need.
#[derive(Debug, Deserialize)]
#[serde(from = "EndpointSlice")]
pub(crate) struct SliceExcerpt(Named<Option<SlicePart>>);

#[derive(Debug)]
struct SlicePart {
    service: Box<str>,
    facts: SliceFacts,
}

impl From<Service> for ServiceExcerpt {
    fn from(service: Service) -> Self {
        let facts = ServiceFacts::of(&service);
        Self(Named::new(service.metadata, facts))
    }
}

impl From<EndpointSlice> for SliceExcerpt {
    fn from(slice: EndpointSlice) -> Self {
        let service = service_of(&slice).filter(|_| SliceFacts::matter(&slice));
        let kept =
            service.map(|service| SlicePart { service: service.into(), facts: SliceFacts::of(&slice) });
        Self(Named::new(slice.metadata, kept))
    }
}

impl TellsService for ServiceExcerpt {
    fn facts(&self) -> Option<ServiceFacts> {
        self.0.kept.clone()
    }
}

impl TellsSlice for SliceExcerpt {
    fn service(&self) -> Option<&str> {
        self.0.kept.as_ref().map(|kept| &*kept.service)
    }

    fn facts(&self) -> SliceFacts {
        self.0.kept.as_ref().map(|kept| kept.facts.clone()).unwrap_or_default()
    }

    fn index(&self) -> Vec<String> {
        let service = self.service();
        service.map(|service| service_index_value(&self.0.namespace, service)).into_iter().collect()
    }
}

macro_rules! named {
    ($type:ty) => {
        impl Object for $type {
            fn namespace(&self) -> &str {
                &self.0.namespace
            }
            fn name(&self) -> &str {
                &self.0.name
            }
            fn uid(&self) -> &str {
                ""
            }
            fn resource_version(&self) -> &str {
                ""
            }
            fn controller_uid(&self) -> Option<&str> {
                None
            }
            fn strip(&mut self) {}
            fn is_kept(&self) -> bool {
                self.0.kept.is_some()
            }
        }
    };
}

named!(ServiceExcerpt);
named!(SliceExcerpt);

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use plimsoll_netplan::dns::ServiceRecords;
    use serde_json::json;

    use super::*;

    #[test]
    fn excerpts_tell_what_the_whole_tells() {
        for spec in [
            json!({"clusterIP": "10.43.0.1", "clusterIPs": ["10.43.0.1", "fd00::1"], "ports": [{"port": 80}]}),
            json!({"clusterIP": "None", "ports": [{"name": "http", "port": 80}]}),
            json!({"type": "ExternalName", "externalName": "www.example.org"}),
            json!({}),
        ] {
            let service = json!({"metadata": {"name": "web", "namespace": "default"}, "spec": spec});
            let slice = json!({"addressType": "IPv4", "ports": [{"name": "http", "port": 8080}],
                "metadata": {"name": "web-1", "namespace": "default",
                    "labels": {"kubernetes.io/service-name": "web"}},
                "endpoints": [{"addresses": ["10.42.0.1"], "hostname": "web-0"}]});
            let whole: Service = serde_json::from_value(service.clone()).unwrap();
            let part: ServiceExcerpt = serde_json::from_value(service).unwrap();
            let whole_slice: EndpointSlice = serde_json::from_value(slice.clone()).unwrap();
            let part_slice: SliceExcerpt = serde_json::from_value(slice).unwrap();
            assert_eq!((part.namespace(), part.name()), (whole.namespace(), whole.name()));
            assert_eq!(part_slice.service(), Some("web"));
            assert_eq!(part_slice.index(), whole_slice.index());
            let of_parts = part.facts().map(|facts| ServiceRecords::new(facts, [part_slice.facts()]));
            assert_eq!(of_parts, ServiceRecords::of(&whole, [&whole_slice]), "{spec}");
        }
    }

    #[test]
    fn slices_that_names_do_not_need_are_not_kept() {
        let (manager, headless) =
            ("endpointslice.kubernetes.io/managed-by", "service.kubernetes.io/headless");
        for (labels, kept) in [
            (json!({}), true),
            (json!({manager: "somebody.example"}), true),
            (json!({manager: "endpointslice-controller.k8s.io"}), false),
            (json!({manager: "endpointslice-controller.k8s.io", headless: ""}), true),
        ] {
            let mut labels = labels;
            labels["kubernetes.io/service-name"] = "web".into();
            let slice = json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.42.0.1"]}],
                "metadata": {"name": "web-1", "namespace": "default", "labels": labels}});
            let slice: SliceExcerpt = serde_json::from_value(slice).unwrap();
            assert_eq!((slice.is_kept(), !slice.index().is_empty()), (kept, kept), "{labels}");
        }
    }
}
