//! Events as lines in a file that begins anew when it is large.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

use flate2::write::GzEncoder;
use jiff::Timestamp;
use tokio::sync::mpsc;

use super::queue::{Entry, Sink};
use super::{AuditLog, Compression};
use crate::metrics::Audits;
use crate::safeguards::wrong;
use crate::server::StartError;

/// How many events are written together at most.
const GROUP: usize = 256;
/// The size of a file when nothing is said about it, in megabytes.
const SIZE: u64 = 100;

/// Opens the file and starts the thread that writes it.
pub(super) fn start(options: &AuditLog, metrics: &Audits) -> Result<Sink, StartError> {
    let failed = |error: io::Error| wrong(&options.path, error);
    let mut output: Box<dyn Output> = match options.path.as_os_str() == "-" {
        true => Box::new(io::stdout()),
        false => Box::new(Rotating::open(options).map_err(failed)?),
    };
    let (sink, entries) =
        Sink::new("log", options.mode, options.buffer, options.truncation, metrics.errors("log"));
    let work = move || run(&mut *output, entries);
    thread::Builder::new().name("audit-log".to_owned()).spawn(work).map_err(failed)?;
    Ok(sink)
}

/// Where lines go.
trait Output: Send {
    fn put(&mut self, lines: &[u8]) -> io::Result<()>;
}

impl Output for io::Stdout {
    fn put(&mut self, lines: &[u8]) -> io::Result<()> {
        self.write_all(lines)?;
        self.flush()
    }
}

fn run(output: &mut dyn Output, mut entries: mpsc::Receiver<Entry>) {
    while let Some(first) = entries.blocking_recv() {
        let mut group = vec![first];
        while group.len() < GROUP {
            let Ok(next) = entries.try_recv() else { break };
            group.push(next);
        }
        let mut lines = Vec::new();
        for entry in &group {
            lines.extend_from_slice(&entry.line);
            lines.push(b'\n');
        }
        let outcome = output.put(&lines);
        if let Err(error) = &outcome {
            tracing::error!(%error, "audit log cannot be written");
        }
        for waiting in group.into_iter().filter_map(|entry| entry.kept) {
            // Whoever has gone away does not mind.
            let _ = waiting.send(outcome.is_ok());
        }
    }
}

/// A file that begins anew when it is large.
struct Rotating {
    path: PathBuf,
    file: File,
    size: u64,
    limit: u64,
    keeping: Keeping,
}

/// What becomes of old files.
#[derive(Clone, Copy)]
struct Keeping {
    max_age: u64,
    max_backups: usize,
    compression: Compression,
}

impl Rotating {
    fn open(options: &AuditLog) -> io::Result<Self> {
        if let Some(folder) = options.path.parent() {
            fs::create_dir_all(folder)?;
        }
        let file = appending(&options.path)?;
        let megabytes = if options.max_size == 0 { SIZE } else { options.max_size };
        Ok(Self {
            size: file.metadata()?.len(),
            path: options.path.clone(),
            file,
            limit: megabytes << 20,
            keeping: Keeping {
                max_age: options.max_age,
                max_backups: options.max_backups,
                compression: options.compression,
            },
        })
    }

    fn rotate(&mut self) -> io::Result<()> {
        let old = backup(&self.path, Timestamp::now());
        fs::rename(&self.path, &old)?;
        self.file = appending(&self.path)?;
        self.size = 0;
        let (path, keeping) = (self.path.clone(), self.keeping);
        // Compression takes longer than requests should wait.
        thread::Builder::new().name("audit-old".to_owned()).spawn(move || {
            if let Err(error) = keeping.tidy(&path) {
                tracing::warn!(%error, "old audit logs cannot be tidied");
            }
        })?;
        Ok(())
    }
}

impl Output for Rotating {
    fn put(&mut self, lines: &[u8]) -> io::Result<()> {
        let length = lines.len() as u64;
        if self.size > 0 && self.size + length > self.limit {
            self.rotate()?;
        }
        self.file.write_all(lines)?;
        self.size += length;
        Ok(())
    }
}

fn appending(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// `audit-2026-01-02T03-04-05.678.log`, the name that upstream's rotation gives.
fn backup(path: &Path, now: Timestamp) -> PathBuf {
    let time = now.strftime("%Y-%m-%dT%H-%M-%S%.3f").to_string();
    let (stem, extension) = name_parts(path);
    path.with_file_name(format!("{stem}-{time}{extension}"))
}

/// The name before its extension, and the extension with its dot.
fn name_parts(path: &Path) -> (String, String) {
    let text = |part: Option<&std::ffi::OsStr>| part.map(|part| part.to_string_lossy().into_owned());
    let extension = text(path.extension()).map_or_else(String::new, |extension| format!(".{extension}"));
    (text(path.file_stem()).unwrap_or_default(), extension)
}

impl Keeping {
    /// Compresses old files, and deletes those that are too many or too old.
    fn tidy(self, path: &Path) -> io::Result<()> {
        let mut old = olds(path)?;
        let now = SystemTime::now();
        let age = Duration::from_secs(self.max_age.saturating_mul(24 * 60 * 60));
        let mut left = Vec::new();
        for (number, file) in old.drain(..).enumerate() {
            let modified = fs::metadata(&file)?.modified()?;
            let aged = self.max_age > 0 && now.duration_since(modified).is_ok_and(|passed| passed > age);
            if aged || (self.max_backups > 0 && number >= self.max_backups) {
                fs::remove_file(&file)?;
            } else {
                left.push(file);
            }
        }
        if self.compression == Compression::Gzip {
            for file in left.iter().filter(|file| file.extension().is_none_or(|ending| ending != "gz")) {
                compress(file)?;
            }
        }
        Ok(())
    }
}

/// The old files of a log, the newest first.
fn olds(path: &Path) -> io::Result<Vec<PathBuf>> {
    let (stem, extension) = name_parts(path);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut found = Vec::new();
    for file in fs::read_dir(folder)? {
        let file = file?.path();
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let plain = name.strip_suffix(".gz").unwrap_or(&name);
        let dated = plain.strip_prefix(&format!("{stem}-")).and_then(|rest| rest.strip_suffix(&extension));
        if dated.is_some_and(|time| time.len() == "2026-01-02T03-04-05.678".len()) {
            found.push(file);
        }
    }
    found.sort_by(|one, other| other.cmp(one));
    Ok(found)
}

fn compress(file: &Path) -> io::Result<()> {
    let name = format!("{}.gz", file.display());
    let target = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&name)?;
    let mut encoder = GzEncoder::new(target, flate2::Compression::default());
    io::copy(&mut File::open(file)?, &mut encoder)?;
    encoder.finish()?.sync_all()?;
    fs::remove_file(file)
}

#[cfg(test)]
mod tests {
    use super::super::AuditMode;
    use super::*;

    fn options(path: PathBuf) -> AuditLog {
        AuditLog {
            path,
            mode: AuditMode::Blocking,
            buffer: 16,
            max_size: 1,
            max_age: 0,
            max_backups: 0,
            compression: Compression::None,
            truncation: None,
        }
    }

    #[test]
    fn a_large_file_begins_anew() {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let path = folder.path().join("audit.log");
        let mut log = Rotating::open(&options(path.clone())).expect("opens");
        let line = vec![b'x'; 700 << 10];
        log.put(&line).expect("fits");
        log.put(&line).expect("begins anew");
        assert_eq!(fs::metadata(&path).expect("there").len(), 700 << 10);
        let old = olds(&path).expect("a folder");
        assert_eq!(old.len(), 1, "{old:?}");
        drop(log);
        let again = Rotating::open(&options(path)).expect("opens again");
        assert_eq!(again.size, 700 << 10, "what is there counts");
    }

    #[test]
    fn old_files_are_compressed_and_go() {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let path = folder.path().join("audit.log");
        for second in 0..4 {
            let time = Timestamp::from_second(1_700_000_000 + second).expect("a time");
            fs::write(backup(&path, time), "line\n").expect("written");
        }
        fs::write(folder.path().join("audit-other.log"), "not ours").expect("written");
        let keeping = Keeping { max_age: 0, max_backups: 2, compression: Compression::Gzip };
        keeping.tidy(&path).expect("tidied");
        let names: Vec<String> = olds(&path)
            .expect("a folder")
            .iter()
            .map(|file| file.file_name().expect("a name").to_string_lossy().into_owned())
            .collect();
        assert_eq!(names, ["audit-2023-11-14T22-13-23.000.log.gz", "audit-2023-11-14T22-13-22.000.log.gz"]);
        assert!(folder.path().join("audit-other.log").exists());
    }
}
