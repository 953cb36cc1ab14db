//! The body of a list, made while it is sent: a slow client holds the stored objects, not copies.

use bytes::Bytes;
use futures::stream;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use jiff::Timestamp;
use plimsoll_catalogue::Kind;
use plimsoll_meta::status::Status;
use plimsoll_store::Entry;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::sync::Arc;

use crate::body::{self, ResponseBody};
use crate::compress::Long;
use crate::negotiate::{Form, Media};
use crate::query::Query;
use crate::server::Api;
use crate::table::Columns;
use crate::{encode, lean, present, table};

/// Pieces of a body are gathered to about this many bytes.
const PIECE: usize = 64 * 1024;

/// The answer to a list in the form that was asked for.
pub(crate) async fn answer(
    api: &Api,
    kind: &'static Kind,
    entries: &[Arc<Entry>],
    metadata: Value,
    (form, media): (Form, Media),
    query: &Query,
) -> Result<Response<ResponseBody>, Status> {
    let items = present::many(api, kind, entries).await?;
    let columns = Columns::of(api, kind)?;
    let binary = match form {
        Form::Object => plimsoll_protobuf::encodes(&kind.api_version(), kind.kind),
        Form::PartialMetadata => true,
        Form::Table => false,
    };
    if media == Media::Protobuf && binary {
        return protobuf(kind, &items, &metadata, form);
    }
    let head = match form {
        Form::Object => encode::list_head(&kind.api_version(), &kind.list_kind(), &metadata),
        Form::PartialMetadata => encode::list_head("meta.k8s.io/v1", "PartialObjectMetadataList", &metadata),
        Form::Table => table::head(&columns, &metadata),
    };
    let writer = Writer { columns, form, include: table::Include::of(query), now: Timestamp::now() };
    let mut pieces =
        Pieces { items: items.into_iter(), next: head.to_vec(), first: true, done: false, writer };
    let mut response = body::encoded(StatusCode::OK, "application/json", Bytes::new());
    let first = pieces.piece().unwrap_or_default();
    if !pieces.done {
        response.extensions_mut().insert(Long);
    }
    *response.body_mut() = if pieces.done {
        body::full(first)
    } else {
        let rest = stream::unfold(pieces, |mut pieces| async move { Some((pieces.piece()?, pieces)) });
        body::stream(stream::StreamExt::chain(stream::iter([first]), rest))
    };
    Ok(response)
}

/// The pieces of a list in JSON.
struct Pieces {
    items: std::vec::IntoIter<Bytes>,
    /// What is written already of the next piece.
    next: Vec<u8>,
    first: bool,
    done: bool,
    writer: Writer,
}

impl Pieces {
    fn piece(&mut self) -> Option<Bytes> {
        if self.done {
            return None;
        }
        let mut piece = std::mem::take(&mut self.next);
        piece.reserve(PIECE);
        while piece.len() < PIECE {
            let Some(item) = self.items.next() else {
                piece.extend_from_slice(b"]}\n");
                self.done = true;
                break;
            };
            if !std::mem::take(&mut self.first) {
                piece.push(b',');
            }
            self.writer.item(&item, &mut piece);
        }
        Some(piece.into())
    }
}

/// How one item looks.
struct Writer {
    columns: Columns,
    form: Form,
    include: table::Include,
    now: Timestamp,
}

impl Writer {
    fn item(&self, object: &[u8], out: &mut Vec<u8>) {
        match self.form {
            Form::Object => out.extend_from_slice(object),
            Form::PartialMetadata => table::write_partial(object, out),
            Form::Table => table::write_row(&self.columns, object, self.include, self.now, out),
        }
    }
}

/// The length of the whole stands in front of it, so that it is made before it is sent.
fn protobuf(
    kind: &Kind,
    items: &[Bytes],
    metadata: &Value,
    form: Form,
) -> Result<Response<ResponseBody>, Status> {
    let objects = items.iter().map(|item| match form {
        Form::PartialMetadata => {
            let metadata = lean::metadata(item).map_or("{}", RawValue::get);
            Ok(json!({"metadata": serde_json::from_str::<Value>(metadata)?}))
        }
        _ => Ok(serde_json::from_slice(item)?),
    });
    let (api_version, list) = match form {
        Form::PartialMetadata => ("meta.k8s.io/v1".to_owned(), "PartialObjectMetadataList".to_owned()),
        _ => (kind.api_version(), kind.list_kind()),
    };
    let bytes = plimsoll_protobuf::encode_list::<Unencodable>(&api_version, &list, metadata, objects)
        .map_err(Status::internal)?;
    let mut response = Response::new(body::full(bytes));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(plimsoll_protobuf::MEDIA_TYPE));
    Ok(response)
}

/// Why a list has no protobuf form.
#[derive(Debug, thiserror::Error)]
enum Unencodable {
    #[error("{0}")]
    Damaged(#[from] serde_json::Error),
    #[error("{0}")]
    Protobuf(#[from] plimsoll_protobuf::ProtobufError),
}
