//! Which form of an answer the client asked for.

use http::HeaderMap;
use http::header::ACCEPT;
use plimsoll_meta::status::Status;

/// What objects are encoded in.
pub(crate) const ALL: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
/// And streams of them.
pub(crate) const STREAMS: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf, application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch";

/// The form of an object or list in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// The object itself.
    Object,
    /// A `meta.k8s.io` Table.
    Table,
    /// Only type and metadata.
    PartialMetadata,
}

/// The encoding of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Media {
    Json,
    Protobuf,
}

/// The first form of the Accept header that is served.
pub(crate) fn form(headers: &HeaderMap) -> Result<Form, Status> {
    let found = choices(headers).next().map(|(form, _)| form);
    found.ok_or_else(|| Status::not_acceptable(ALL))
}

/// Refuses clients that take nothing but forms which only stored objects have.
pub(crate) fn plain(headers: &HeaderMap) -> Result<(), Status> {
    match choices(headers).any(|(form, _)| form == Form::Object) {
        true => Ok(()),
        false => Err(Status::not_acceptable(ALL)),
    }
}

/// Refuses clients that take none of the media types in `available`, whatever they say of their form.
pub(crate) fn offered(headers: &HeaderMap, available: &str) -> Result<(), Status> {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("*/*");
    let is_taken = |choice: &str| {
        let media = choice.split(';').next().unwrap_or_default().trim();
        matches!(media, "*/*" | "") || available.split(", ").any(|one| one == media)
    };
    match accept.split(',').any(is_taken) {
        true => Ok(()),
        false => Err(Status::no_representation(available)),
    }
}

/// The encoding of that form.
pub(crate) fn media(headers: &HeaderMap) -> Media {
    choices(headers).next().map_or(Media::Json, |(_, media)| media)
}

/// Whether the client takes JSON, too, when something has no other encoding.
pub(crate) fn takes_json(headers: &HeaderMap) -> bool {
    choices(headers).any(|(_, media)| media == Media::Json)
}

/// What the Accept header asks for and is served, in its order.
fn choices(headers: &HeaderMap) -> impl Iterator<Item = (Form, Media)> {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("*/*");
    accept.split(',').filter_map(|choice| {
        let media = match choice.split(';').next().unwrap_or_default().trim() {
            "application/json" | "*/*" | "application/*" | "application/yaml" | "" => Media::Json,
            plimsoll_protobuf::MEDIA_TYPE => Media::Protobuf,
            _ => return None,
        };
        let parameter = |name: &str| {
            choice
                .split(';')
                .skip(1)
                .filter_map(|part| part.trim().split_once('='))
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value)
        };
        if parameter("stream").is_some_and(|stream| !matches!(stream, "" | "watch")) {
            return None;
        }
        let form = match (parameter("as"), parameter("g"), parameter("v")) {
            (None, _, _) => Form::Object,
            // A table's cells are any JSON.
            (Some("Table"), Some("meta.k8s.io"), Some("v1")) if media == Media::Json => Form::Table,
            (
                Some("PartialObjectMetadata" | "PartialObjectMetadataList"),
                Some("meta.k8s.io"),
                Some("v1"),
            ) => Form::PartialMetadata,
            _ => return None,
        };
        Some((form, media))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_servable_choice_counts() {
        let partial = ";as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
        let (json, protobuf) = ("application/json", "application/vnd.kubernetes.protobuf");
        for (accept, expected, media) in [
            (json.to_owned(), Some(Form::Object), Media::Json),
            ("*/*".to_owned(), Some(Form::Object), Media::Json),
            (format!("{json};as=Table;v=v1;g=meta.k8s.io,{json}"), Some(Form::Table), Media::Json),
            (format!("{json};as=Table;v=v1beta1;g=meta.k8s.io,{json}"), Some(Form::Object), Media::Json),
            (format!("{protobuf},{json}"), Some(Form::Object), Media::Protobuf),
            (format!("{json}, {protobuf}"), Some(Form::Object), Media::Json),
            (
                format!("{protobuf}{partial},{json}{partial},{json}"),
                Some(Form::PartialMetadata),
                Media::Protobuf,
            ),
            (format!("{protobuf};as=Table;v=v1;g=meta.k8s.io,{json}"), Some(Form::Object), Media::Json),
            (protobuf.to_owned(), Some(Form::Object), Media::Protobuf),
            ("text/html".to_owned(), None, Media::Json),
            (format!("{json};stream=watch"), Some(Form::Object), Media::Json),
            (format!("{json};stream=other"), None, Media::Json),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, accept.parse().expect("header"));
            assert_eq!((form(&headers).ok(), super::media(&headers)), (expected, media), "{accept}");
        }
    }
}
