//! Bodies that keep something until they end, also when the client goes away before.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;

use crate::body::{Error, ResponseBody};

/// A connection that goes on after its answer; in the extensions of the answer.
#[derive(Clone, Default)]
pub(crate) struct Session(Arc<Mutex<Vec<Box<dyn Send>>>>);

impl Session {
    fn keep(&self, guard: impl Send + 'static) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(guard));
    }
}

/// Drops `guard` when the body of the answer has ended, or the connection if that goes on.
pub(crate) fn until_end<G: Send + Unpin + 'static>(
    response: Response<ResponseBody>,
    guard: G,
) -> Response<ResponseBody> {
    if let Some(session) = response.extensions().get::<Session>() {
        session.keep(guard);
        return response;
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body;

    struct Guard(Arc<Mutex<bool>>);

    impl Drop for Guard {
        fn drop(&mut self) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        }
    }

    #[test]
    fn guards_stay_until_the_body_or_the_connection_ends() {
        for session in [None, Some(Session::default())] {
            let ended = Arc::new(Mutex::new(false));
            let is_over = || *ended.lock().unwrap_or_else(PoisonError::into_inner);
            let mut response = Response::new(body::full("x"));
            if let Some(session) = session.clone() {
                response.extensions_mut().insert(session);
            }
            let response = until_end(response, Guard(Arc::clone(&ended)));
            assert!(!is_over());
            drop(response);
            assert_eq!(is_over(), session.is_none());
            drop(session);
            assert!(is_over());
        }
    }
}
