//! The lines of a watch.

use anyhow::bail;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::connection::Connection;

/// Lines as they come; the connection is open as long.
pub(crate) struct Lines {
    body: Incoming,
    rest: BytesMut,
    _connection: Connection,
}

impl Lines {
    pub(crate) fn new(body: Incoming, connection: Connection) -> Self {
        Self { body, rest: BytesMut::new(), _connection: connection }
    }

    /// The next line.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Bytes> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line = self.rest.split_to(end).freeze();
                let _ = self.rest.split_to(1);
                return Ok(line);
            }
            match self.body.frame().await {
                Some(frame) => {
                    if let Ok(data) = frame?.into_data() {
                        self.rest.extend_from_slice(&data);
                    }
                }
                None => bail!("the watch has ended"),
            }
        }
    }
}
