//! OpenAPI documents, v2 and v3: what the catalogue's rows and the schemas of custom kinds say to clients.
//!
//! What enters are requests below `/openapi`; what leaves are documents as upstream's handlers serve them
//! (`k8s.io/kube-openapi/pkg/handler` and `handler3`): in JSON or protobuf, under tags that change with them.
//! A document is made when it is first asked for ([`cache`]) and kept compressed ([`packed`]).

mod cache;
mod convert;
mod corrections;
mod defaults;
mod definitions;
mod documents;
mod gnostic;
mod merge;
mod operations;
mod packed;
mod pages;
mod serve;

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{Response, StatusCode};
use plimsoll_catalogue::Kind;
use serde_json::{Value, json};

pub(crate) use cache::Documents;
pub(crate) use convert::convert;
pub(crate) use merge::filtered;
pub(crate) use packed::{Packed, tag};

use crate::body::{self, ResponseBody};
use crate::server::Api;
use crate::stages::Asked;
use crate::usage::published;

/// The two generations of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    V2,
    V3,
}

impl Style {
    /// The text that refers to a definition.
    fn reference(self, name: &str) -> String {
        match self {
            Self::V2 => format!("#/definitions/{name}"),
            Self::V3 => format!("#/components/schemas/{name}"),
        }
    }
}

/// The kinds that are the same in every cluster.
fn kinds() -> impl Iterator<Item = &'static Kind> {
    plimsoll_catalogue::kinds().iter().chain(&published::KINDS)
}

/// Where the document of a group version is, below `/openapi/v3/`.
fn place(group: &str, version: &str) -> String {
    match group {
        "" => format!("api/{version}"),
        group => format!("apis/{group}/{version}"),
    }
}

/// Answers an OpenAPI path, or `None`.
pub(crate) async fn answer(api: &Api, asked: &Asked) -> Option<Response<ResponseBody>> {
    let path = asked.path.strip_prefix("/openapi/")?;
    let documents = &api.documents;
    match path.split_once('/').unwrap_or((path, "")) {
        ("v2", "") => Some(match serve::encoding(&asked.headers, Style::V2) {
            Some(encoding) => {
                let document = documents.whole(api.customs.all(), api.aggregator.wholes()).await;
                serve::document(asked, &document, encoding).await
            }
            None => serve::not_acceptable(),
        }),
        ("v3", "") => Some(index(api, asked).await),
        ("v3", place) => {
            let document = match api.aggregator.converted().remove(place) {
                None => documents.place(|| api.customs.all(), place).await,
                found => found,
            };
            Some(match document {
                Some(document) => single(asked, place, &document).await,
                None => serve::empty(StatusCode::NOT_FOUND),
            })
        }
        _ => None,
    }
}

/// The document of one place.
async fn single(asked: &Asked, place: &str, document: &Arc<Packed>) -> Response<ResponseBody> {
    let Some(encoding) = serve::encoding(&asked.headers, Style::V3) else {
        return serve::not_acceptable();
    };
    match asked.query.get("hash") {
        "" => serve::document(asked, document, encoding).await,
        hash if hash == document.tag => serve::lasting(serve::document(asked, document, encoding).await),
        _ => serve::moved(&location(place, &document.tag), document, encoding),
    }
}

/// Where a document is under the tag that it has now.
fn location(place: &str, tag: &str) -> String {
    format!("/openapi/v3/{place}?hash={tag}")
}

/// All places, each with where its document is now.
async fn index(api: &Api, asked: &Asked) -> Response<ResponseBody> {
    let mut own = api.documents.places(api.customs.all()).await;
    own.extend(api.aggregator.converted());
    let here = |(place, document): (&String, &Arc<Packed>)| {
        (place.clone(), json!({"serverRelativeURL": location(place, &document.tag)}))
    };
    let mut paths: BTreeMap<String, Value> = own.iter().map(here).collect();
    paths.extend(api.aggregator.places());
    let text = json!({"paths": paths}).to_string();
    let tag = tag(text.as_bytes());
    crate::conditional::unless_known(&asked.headers, &tag, || {
        body::encoded(StatusCode::OK, "application/json", text)
    })
}

#[cfg(test)]
mod tests;
