//! The last events of a record, when the answer begins and when it is complete.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use plimsoll_audit::Stage;

use super::record::{Course, Record};
use crate::body::{Error, ResponseBody};

/// Writes what can be written now and leaves the rest to the end of the body.
pub(super) async fn end(record: Arc<Record>, response: Response<ResponseBody>) -> Response<ResponseBody> {
    match record.course() {
        None => response,
        Some(Course::Short) => {
            record.emit(Stage::ResponseComplete).await;
            response
        }
        Some(Course::Unauthenticated) => {
            record.emit(Stage::ResponseStarted).await;
            response
        }
        Some(Course::LongRunning) => {
            record.emit(Stage::ResponseStarted).await;
            response.map(|inner| Recorded { inner, record }.boxed_unsync())
        }
    }
}

/// A body whose end is recorded, also when the client goes away before.
struct Recorded {
    inner: ResponseBody,
    record: Arc<Record>,
}

impl Body for Recorded {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        Pin::new(&mut self.inner).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        self.record.offer(Stage::ResponseComplete);
    }
}
