//! One blob on its way into the store, resumed where an earlier try ended.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use futures::StreamExt;
use oci_client::client::{AsLayerDescriptor, LayerDescriptor};

use super::remote::Remote;
use super::{Phase, Progress, ProgressFn};
use crate::digest::{Digest, Hasher};
use crate::document::Descriptor;
use crate::error::{During, Error, Result};
use crate::store::{Content, ImageStore};

/// Bytes are hashed and written in pieces of this size, away from the network's threads.
const PIECE: usize = 1 << 20;
/// Tries without a single new byte before a download is given up.
const TRIES: u32 = 5;

struct Wanted<'a>(&'a str);

impl AsLayerDescriptor for Wanted<'_> {
    fn as_layer_descriptor(&self) -> LayerDescriptor<'_> {
        LayerDescriptor { digest: self.0, urls: &None }
    }
}

/// Makes sure that the store has the blob.
pub(super) async fn fetch(
    store: &ImageStore,
    remote: &Remote,
    blob: &Descriptor,
    progress: &ProgressFn,
) -> Result<()> {
    let tell = |phase, done| progress(Progress { digest: blob.digest, phase, done, total: blob.size });
    let content = store.content().clone();
    let (digest, size) = (blob.digest, blob.size);
    let Some(mut partial) = blocking(move || Partial::open(&content, digest, size)).await? else {
        tell(Phase::Exists, blob.size);
        return Ok(());
    };
    let mut failures = 0;
    while partial.length() < size {
        let before = partial.length();
        tell(Phase::Transfer, before);
        let result;
        (partial, result) = transfer(remote, partial, &tell).await;
        if let Err(error) = result {
            failures = if partial.length() > before { 1 } else { failures + 1 };
            if failures >= TRIES || !is_temporary(&error) {
                return Err(error);
            }
            tracing::debug!(blob = %digest, %error, "download interrupted, resuming");
            tokio::time::sleep(Duration::from_millis(100 << failures)).await;
        }
    }
    let content = store.content().clone();
    blocking(move || partial.commit(&content)).await?;
    tell(Phase::Done, size);
    Ok(())
}

/// Answers of the registry are final; a broken connection is worth another try.
fn is_temporary(error: &Error) -> bool {
    match error {
        Error::Io { source, .. } => source.raw_os_error().is_none(),
        Error::Registry { reason, .. } => !reason.starts_with("HTTP status 4"),
        _ => false,
    }
}

/// Reads from where the partial file ends; what came is kept whatever happens.
async fn transfer(
    remote: &Remote,
    mut partial: Partial,
    tell: &impl Fn(Phase, u64),
) -> (Partial, Result<()>) {
    let text = partial.digest.to_string();
    let offset = partial.length();
    let answer = remote.client.pull_blob_stream_partial(&remote.reference, Wanted(&text), offset, None).await;
    let mut stream = match answer {
        Ok(oci_client::client::BlobResponse::Partial(stream)) => stream.stream,
        Ok(oci_client::client::BlobResponse::Full(stream)) => {
            // The registry does not resume: it begins again, and so does the file.
            if let Err(error) = partial.restart() {
                return (partial, Err(error));
            }
            stream.stream
        }
        Err(fault) => return (partial, Err(remote.explain(fault))),
    };
    let mut piece = Vec::with_capacity(PIECE);
    loop {
        let (end, failed) = match stream.next().await {
            Some(Ok(bytes)) => {
                piece.extend_from_slice(&bytes);
                (false, None)
            }
            Some(Err(error)) => (true, Some(error)),
            None => (true, None),
        };
        if end || piece.len() >= PIECE {
            let result;
            (partial, piece, result) = write(partial, piece).await;
            tell(Phase::Transfer, partial.length());
            match (result, failed) {
                (Err(error), _) => return (partial, Err(error)),
                (Ok(()), Some(error)) => return (partial, Err(error).during(|| format!("download {text}"))),
                _ => {}
            }
        }
        if end {
            let complete = partial.length() == partial.size;
            let short =
                || Err(io::Error::from(io::ErrorKind::UnexpectedEof)).during(|| format!("download {text}"));
            return (partial, if complete { Ok(()) } else { short() });
        }
    }
}

async fn write(mut partial: Partial, mut piece: Vec<u8>) -> (Partial, Vec<u8>, Result<()>) {
    blocking_value(move || {
        let result = partial.append(&piece);
        piece.clear();
        (partial, piece, result)
    })
    .await
}

/// A download in progress. The file is locked: of several pulls one downloads, the others wait.
struct Partial {
    file: File,
    path: std::path::PathBuf,
    hasher: Hasher,
    digest: Digest,
    size: u64,
}

impl Partial {
    /// Nothing if the blob is complete by the time the lock is there.
    fn open(content: &Content, digest: Digest, size: u64) -> Result<Option<Self>> {
        let path = content.partial(digest);
        let during = || format!("open {}", path.display());
        loop {
            if content.has_blob(digest) {
                return Ok(None);
            }
            let options = File::options().create(true).truncate(false).read(true).write(true).open(&path);
            let file = options.during(during)?;
            file.lock().during(during)?;
            // Whoever had the lock may have finished and moved or removed the file.
            let same = std::fs::metadata(&path).is_ok_and(|now| {
                file.metadata().is_ok_and(|ours| (ours.dev(), ours.ino()) == (now.dev(), now.ino()))
            });
            if same && !content.has_blob(digest) {
                let mut partial = Self { file, path: path.clone(), hasher: Hasher::default(), digest, size };
                partial.take_up().during(during)?;
                return Ok(Some(partial));
            }
        }
    }

    /// Hashes what an earlier try left.
    fn take_up(&mut self) -> io::Result<()> {
        if self.file.metadata()?.len() > self.size {
            self.file.set_len(0)?;
        }
        let mut buffer = vec![0; PIECE];
        loop {
            let count = self.file.read(&mut buffer)?;
            if count == 0 {
                return Ok(());
            }
            self.hasher.update(&buffer[..count]);
        }
    }

    fn length(&self) -> u64 {
        self.hasher.length()
    }

    fn restart(&mut self) -> Result<()> {
        self.hasher = Hasher::default();
        self.file
            .set_len(0)
            .and_then(|()| self.file.seek(SeekFrom::Start(0)))
            .map(drop)
            .during(|| format!("truncate {}", self.path.display()))
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        if self.length() + bytes.len() as u64 > self.size {
            return Err(Error::TooLarge {
                what: format!("blob {}", self.digest),
                limit: self.size,
                unit: "bytes",
            });
        }
        self.file.write_all(bytes).during(|| format!("write {}", self.path.display()))?;
        self.hasher.update(bytes);
        Ok(())
    }

    fn commit(self, content: &Content) -> Result<()> {
        let during = || format!("write blob {}", self.digest);
        let (actual, _) = self.hasher.clone().finish();
        if actual != self.digest {
            // Wrong bytes must not be resumed.
            std::fs::remove_file(&self.path).during(during)?;
            return Err(Error::Mismatch { what: "downloaded blob".into(), expected: self.digest, actual });
        }
        self.file.sync_data().during(during)?;
        std::fs::rename(&self.path, content.blob(self.digest)).during(during)
    }
}

/// Runs file work on the threads that may block.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    blocking_value(work).await
}

async fn blocking_value<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("file work does not panic")
}
