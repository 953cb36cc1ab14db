//! Bodies that keep something until they end, also when the client goes away before.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;

use crate::body::{Error, ResponseBody};

/// Drops `guard` when the body of the answer has ended.
pub(crate) fn until_end<G: Send + Unpin + 'static>(
    response: Response<ResponseBody>,
    guard: G,
) -> Response<ResponseBody> {
    response.map(|inner| Guarded { inner, _guard: guard }.boxed_unsync())
}

struct Guarded<G> {
    inner: ResponseBody,
    _guard: G,
}

impl<G: Unpin> Body for Guarded<G> {
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
