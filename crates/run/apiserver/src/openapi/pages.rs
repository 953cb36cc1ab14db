//! The paths that belong to no kind: discovery, the version, the keys of tokens.
//!
//! Each is a document of its own in version 3, under the path without its slashes.

use plimsoll_catalogue::Group;
use serde_json::{Map, Value, json};

use super::Style;
use super::definitions::VERSION_INFO;
use super::operations::{capital, content, group_words};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";
/// Media types of what discovery answers; lists of resources have the last one, too.
const MEDIA: [&str; 4] =
    ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf", "application/cbor"];

/// A page: where it is and its one operation.
pub(super) struct Page {
    /// Where its document of version 3 is.
    pub(super) place: String,
    path: String,
    name: String,
    tag: String,
    description: &'static str,
    answer: Answer,
}

/// What a page answers.
enum Answer {
    /// Text of a media type.
    Text(&'static str),
    /// A definition, in so many of the usual media types.
    Object(String, usize),
}

/// All pages of the server.
pub(super) fn pages() -> Vec<Page> {
    let meta = |kind: &str, media| Answer::Object(format!("{META}{kind}"), media);
    let page = |place: &str, name: &str, tag: &str, description, answer| Page {
        place: place.to_owned(),
        path: format!("/{place}/"),
        name: name.to_owned(),
        tag: tag.to_owned(),
        description,
        answer,
    };
    let versions = "get available API versions";
    let mut pages = vec![
        page(
            ".well-known/openid-configuration",
            "getServiceAccountIssuerOpenIDConfiguration",
            "WellKnown",
            "get service account issuer OpenID configuration, also known as the 'OIDC discovery doc'",
            Answer::Text("application/json"),
        ),
        page(
            "openid/v1/jwks",
            "getServiceAccountIssuerOpenIDKeyset",
            "openid",
            "get service account issuer OpenID JSON Web Key Set (contains public token verification keys)",
            Answer::Text("application/jwk-set+json"),
        ),
        page(
            "version",
            "getCodeVersion",
            "version",
            "get the version information for this server",
            Answer::Object(VERSION_INFO.to_owned(), 1),
        ),
        page("api", "getCoreAPIVersions", "core", versions, meta("APIVersions", 3)),
        page("apis", "getAPIVersions", "apis", versions, meta("APIGroupList", 3)),
    ];
    for Group { name: group, versions } in plimsoll_catalogue::groups() {
        let words = group_words(group);
        let title = capital(&words);
        if !group.is_empty() {
            let place = format!("apis/{group}");
            let name = format!("get{title}APIGroup");
            pages.push(page(&place, &name, &words, "get information of a group", meta("APIGroup", 3)));
        }
        for version in versions {
            let place = super::place(group, version);
            let name = format!("get{title}{}APIResources", capital(version));
            let tag = format!("{words}_{version}");
            pages.push(page(&place, &name, &tag, "get available resources", meta("APIResourceList", 4)));
        }
    }
    pages
}

impl Page {
    /// Puts the page among the paths of a document.
    pub(super) fn describe(&self, paths: &mut Map<String, Value>, style: Style) {
        let (media, schema): (&[&str], Value) = match &self.answer {
            Answer::Text(one) => (std::slice::from_ref(one), json!({"type": "string"})),
            Answer::Object(name, many) => (&MEDIA[..*many], json!({"$ref": style.reference(name)})),
        };
        let answer = match style {
            Style::V2 => json!({"description": "OK", "schema": schema}),
            Style::V3 => json!({"description": "OK", "content": content(media, &schema)}),
        };
        let mut operation = json!({
            "operationId": self.name, "description": self.description, "tags": [self.tag],
            "responses": {"200": answer, "401": {"description": "Unauthorized"}},
        });
        if style == Style::V2 {
            operation["schemes"] = json!(["https"]);
            operation["produces"] = json!(media);
            if matches!(self.answer, Answer::Object(..)) {
                operation["consumes"] = json!(media);
            }
        }
        paths.insert(self.path.clone(), json!({"get": operation}));
    }
}
