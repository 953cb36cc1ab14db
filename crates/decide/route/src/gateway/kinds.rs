//! The kinds of the Gateway API, as [`DEFINITIONS`] defines them: the fields that decide something.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::{ClusterResourceScope, Metadata, NamespaceResourceScope, Resource};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The definitions of all kinds, as a list in YAML.
pub const DEFINITIONS: &str = include_str!("definitions.yaml");

/// The API group.
pub const GROUP: &str = "gateway.networking.k8s.io";

macro_rules! kind {
    ($(#[$doc:meta])* $name:ident, $spec:ty, $version:literal, $plural:literal, $scope:ty) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, Deserialize, Serialize)]
        #[serde(default)]
        pub struct $name {
            /// Name, namespace, age and generation.
            pub metadata: ObjectMeta,
            /// What is wanted.
            pub spec: $spec,
            /// What controllers say of it.
            #[serde(skip_serializing_if = "Value::is_null")]
            pub status: Value,
        }

        impl Resource for $name {
            const API_VERSION: &'static str = concat!("gateway.networking.k8s.io/", $version);
            const GROUP: &'static str = GROUP;
            const KIND: &'static str = stringify!($name);
            const VERSION: &'static str = $version;
            const URL_PATH_SEGMENT: &'static str = $plural;
            type Scope = $scope;
        }

        impl Metadata for $name {
            type Ty = ObjectMeta;

            fn metadata(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn metadata_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

kind!(
    /// Names a controller.
    GatewayClass, ClassSpec, "v1", "gatewayclasses", ClusterResourceScope
);
kind!(
    /// Asks for listeners.
    Gateway, GatewaySpec, "v1", "gateways", NamespaceResourceScope
);
kind!(
    /// Routes requests.
    HTTPRoute, RouteSpec<HttpRule>, "v1", "httproutes", NamespaceResourceScope
);
kind!(
    /// Routes gRPC calls.
    GRPCRoute, RouteSpec<GrpcRule>, "v1", "grpcroutes", NamespaceResourceScope
);
kind!(
    /// Routes connections.
    TLSRoute, RouteSpec<TlsRule>, "v1", "tlsroutes", NamespaceResourceScope
);
kind!(
    /// Lets others refer to what is in its namespace. Older bundles do not serve its v1.
    ReferenceGrant, GrantSpec, "v1beta1", "referencegrants", NamespaceResourceScope
);

macro_rules! fields {
    ($($(#[$doc:meta])* $name:ident $(<$param:ident>)? { $($(#[$field:meta])* $key:ident: $kind:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
        #[serde(default, rename_all = "camelCase")]
        pub struct $name $(<$param>)? {
            $($(#[$field])* pub $key: $kind,)*
        }
    )*};
}

fields! {
    /// Of a GatewayClass.
    ClassSpec {
        /// Who serves it.
        controller_name: String,
        /// Settings of the controller.
        parameters_ref: Option<Value>,
    }
    /// Of a Gateway.
    GatewaySpec {
        /// Its class.
        gateway_class_name: String,
        /// What it listens for.
        listeners: Vec<Listener>,
        /// Addresses that it asks for.
        addresses: Vec<Address>,
        /// Of what controllers make for it.
        infrastructure: Infrastructure,
    }
    /// What a controller makes for a Gateway.
    Infrastructure {
        /// Settings of the controller.
        parameters_ref: Option<Value>,
    }
    /// An address of a Gateway.
    Address {
        /// `IPAddress` if not given.
        #[serde(rename = "type")]
        kind: Option<String>,
        /// The address.
        value: String,
    }
    /// What a Gateway listens for.
    Listener {
        /// Its name.
        name: String,
        /// "" for any.
        hostname: String,
        /// Of the node.
        port: u16,
        /// `HTTP`, `HTTPS` and so on.
        protocol: String,
        /// How TLS ends.
        tls: Option<Tls>,
        /// Which routes may attach.
        allowed_routes: AllowedRoutes,
    }
    /// How TLS ends.
    Tls {
        /// `Terminate` if not given.
        mode: Option<String>,
        /// Secrets.
        certificate_refs: Vec<Reference>,
    }
    /// Which routes may attach.
    AllowedRoutes {
        /// Of which namespaces.
        namespaces: AllowedNamespaces,
        /// Those of the protocol if empty.
        kinds: Vec<RouteKind>,
    }
    /// Of which namespaces.
    AllowedNamespaces {
        /// `Same` if not given.
        from: Option<String>,
        /// For `Selector`.
        selector: LabelSelector,
    }
    /// A kind of routes.
    RouteKind {
        /// [`GROUP`] if not given.
        group: Option<String>,
        /// Its name.
        kind: String,
    }
    /// An object that another one names.
    Reference {
        /// API group.
        group: Option<String>,
        /// Kind.
        kind: Option<String>,
        /// Namespace; that of the referrer if not given.
        namespace: Option<String>,
        /// Name.
        name: String,
    }
    /// What a route attaches to.
    ParentRef {
        /// [`GROUP`] if not given.
        #[serde(skip_serializing_if = "Option::is_none")]
        group: Option<String>,
        /// `Gateway` if not given.
        #[serde(skip_serializing_if = "Option::is_none")]
        kind: Option<String>,
        /// Namespace; that of the route if not given.
        #[serde(skip_serializing_if = "Option::is_none")]
        namespace: Option<String>,
        /// Name.
        name: String,
        /// A listener.
        #[serde(skip_serializing_if = "Option::is_none")]
        section_name: Option<String>,
        /// A port.
        #[serde(skip_serializing_if = "Option::is_none")]
        port: Option<u16>,
    }
    /// Of a route.
    RouteSpec<R> {
        /// What it attaches to.
        parent_refs: Vec<ParentRef>,
        /// For which hosts.
        hostnames: Vec<String>,
        /// What is done with which requests.
        rules: Vec<R>,
    }
    /// A rule for requests.
    HttpRule {
        /// Requests like one of these.
        matches: Vec<HttpMatch>,
        /// What is changed.
        filters: Vec<Filter>,
        /// Where they go.
        backend_refs: Vec<BackendRef>,
        /// Time limits.
        timeouts: Timeouts,
    }
    /// A rule for calls.
    GrpcRule {
        /// Calls like one of these.
        matches: Vec<GrpcMatch>,
        /// What is changed.
        filters: Vec<Filter>,
        /// Where they go.
        backend_refs: Vec<BackendRef>,
    }
    /// Where connections go.
    TlsRule {
        /// Pods that speak TLS, or what is in it.
        backend_refs: Vec<BackendRef>,
    }
    /// Time limits, as durations of the Gateway API.
    Timeouts {
        /// For the client.
        request: Option<String>,
        /// For a backend.
        backend_request: Option<String>,
    }
    /// What a request is like.
    HttpMatch {
        /// Its path.
        path: Option<Text>,
        /// Headers.
        headers: Vec<Text>,
        /// Parameters of the query.
        query_params: Vec<Text>,
        /// The method.
        method: Option<String>,
    }
    /// What a call is like.
    GrpcMatch {
        /// What is called.
        method: Option<GrpcMethod>,
        /// Headers.
        headers: Vec<Text>,
    }
    /// A method of a service.
    GrpcMethod {
        /// `Exact` if not given.
        #[serde(rename = "type")]
        kind: Option<String>,
        /// Any if not given.
        service: Option<String>,
        /// Any if not given.
        method: Option<String>,
    }
    /// A text and how it is compared.
    Text {
        /// `Exact`, `PathPrefix` or `RegularExpression`.
        #[serde(rename = "type")]
        kind: Option<String>,
        /// Of a header or parameter.
        name: String,
        /// The text.
        value: Option<String>,
    }
    /// A backend.
    BackendRef {
        /// Core if not given.
        group: Option<String>,
        /// `Service` if not given.
        kind: Option<String>,
        /// Namespace; that of the route if not given.
        namespace: Option<String>,
        /// Name.
        name: String,
        /// Of the Service.
        port: Option<u16>,
        /// 1 if not given.
        weight: Option<u32>,
        /// What is changed for this backend.
        filters: Vec<Filter>,
    }
    /// What is changed: the field that its type names.
    Filter {
        /// Which one.
        #[serde(rename = "type")]
        kind: String,
        /// Changes of headers.
        request_header_modifier: HeaderChange,
        /// Changes of headers.
        response_header_modifier: HeaderChange,
        /// An answer.
        request_redirect: Redirect,
        /// Path and host.
        url_rewrite: UrlRewrite,
        /// A copy.
        request_mirror: Mirror,
        /// Other origins.
        cors: Cors,
    }
    /// Changes of headers.
    HeaderChange {
        /// In the place of present ones.
        set: Vec<HeaderValue>,
        /// Beside present ones.
        add: Vec<HeaderValue>,
        /// Names.
        remove: Vec<String>,
    }
    /// A header.
    HeaderValue {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    }
    /// A redirection.
    Redirect {
        /// Another scheme.
        scheme: Option<String>,
        /// Another host.
        hostname: Option<String>,
        /// Another path.
        path: Option<PathChange>,
        /// Another port.
        port: Option<u16>,
        /// 302 if not given.
        status_code: Option<u16>,
    }
    /// Another path and host for the backend.
    UrlRewrite {
        /// The host.
        hostname: Option<String>,
        /// The path.
        path: Option<PathChange>,
    }
    /// Another path.
    PathChange {
        /// `ReplaceFullPath` or `ReplacePrefixMatch`.
        #[serde(rename = "type")]
        kind: String,
        /// The whole of it.
        replace_full_path: Option<String>,
        /// Its beginning.
        replace_prefix_match: Option<String>,
    }
    /// A copy for another backend.
    Mirror {
        /// Which.
        backend_ref: BackendRef,
        /// How many of a hundred.
        percent: Option<u32>,
        /// How many.
        fraction: Option<Fraction>,
    }
    /// So many of so many.
    Fraction {
        /// So many.
        numerator: u32,
        /// Of 100 if not given.
        denominator: Option<u32>,
    }
    /// Rules for scripts of other origins.
    Cors {
        /// `*` stands for anything.
        allow_origins: Vec<String>,
        /// With cookies.
        allow_credentials: Option<bool>,
        /// `*` for all.
        allow_methods: Vec<String>,
        /// `*` for all.
        allow_headers: Vec<String>,
        /// What scripts may see.
        expose_headers: Vec<String>,
        /// Seconds.
        max_age: Option<u32>,
    }
    /// Of a ReferenceGrant.
    GrantSpec {
        /// Who may refer.
        from: Vec<GrantFrom>,
        /// To what.
        to: Vec<GrantTo>,
    }
    /// Objects that may refer.
    GrantFrom {
        /// Their API group.
        group: String,
        /// Their kind.
        kind: String,
        /// Their namespace.
        namespace: String,
    }
    /// Objects that may be referred to.
    GrantTo {
        /// Their API group.
        group: String,
        /// Their kind.
        kind: String,
        /// All if not given.
        name: Option<String>,
    }
}
