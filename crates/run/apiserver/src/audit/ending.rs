//! The last events of a record, when the answer begins and when it is complete.

use std::sync::Arc;

use http::Response;
use plimsoll_audit::Stage;

use super::record::{Course, Record};
use crate::body::ResponseBody;
use crate::guarded;

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
            guarded::until_end(response, End(record))
        }
    }
}

/// The end of a body, also when the client goes away before.
struct End(Arc<Record>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.offer(Stage::ResponseComplete);
    }
}
