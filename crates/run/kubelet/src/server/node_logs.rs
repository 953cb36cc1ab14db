//! `GET /logs/…`: the node's own log files, and with `?query=…` what its services said.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use plimsoll_podlife::node_log::{Options, Query, places};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use super::{Body, Server, plain, query, whole};

/// How long a question may take.
const PATIENCE: Duration = Duration::from_secs(30);
const TEXT: &str = "text/plain; charset=utf-8";

type Sender = mpsc::Sender<io::Result<Bytes>>;

impl Server {
    pub(super) async fn node_logs(&self, uri: &Uri) -> Response<Body> {
        let Some(root) = &self.agent.config.system_logs else {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "logs endpoint is disabled.\n");
        };
        let path = uri.path().trim_start_matches("/logs");
        let asked = match self.agent.config.system_log_query {
            true => Query::parse(&query(uri)),
            false => Ok(None),
        };
        let asked = match asked {
            Ok(asked) => asked,
            Err(why) => return plain(StatusCode::BAD_REQUEST, why + "\n"),
        };
        let Some(asked) = asked else { return serve(root, path).await };
        if !path.trim_matches('/').is_empty() {
            return plain(StatusCode::NOT_ACCEPTABLE, "path not allowed in query mode\n");
        }
        if let Err(why) = asked.check() {
            return plain(StatusCode::NOT_ACCEPTABLE, why + "\n");
        }
        if let [file] = asked.files.as_slice() {
            let file = file.replace('\\', "/");
            if inside(root, &file).is_none() {
                let missing = format!("stat {}: no such file or directory", root.join(&file).display());
                let why = format!("query: Invalid value: [\"{file}\"]: {missing}\n");
                return plain(StatusCode::NOT_ACCEPTABLE, why);
            }
            return serve(root, &file).await;
        }
        let (sender, body) = stream();
        tokio::spawn(services(root.clone(), asked, sender));
        body
    }
}

/// A path below the folder of logs; nothing where there is none or a link leads out of it.
fn inside(root: &Path, path: &str) -> Option<PathBuf> {
    let relative = Path::new(path.trim_start_matches('/'));
    let is_plain = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
    if !relative.components().all(is_plain) {
        return None;
    }
    let real = fs::canonicalize(root.join(relative)).ok()?;
    real.starts_with(fs::canonicalize(root).ok()?).then_some(real)
}

/// A file, or what is in a folder.
async fn serve(root: &Path, path: &str) -> Response<Body> {
    let decoded = percent_encoding::percent_decode_str(path).decode_utf8_lossy().into_owned();
    let Some(real) = inside(root, &decoded) else {
        return plain(StatusCode::NOT_FOUND, "404 page not found\n");
    };
    if real.is_dir() {
        return listing(&real, path);
    }
    match tokio::fs::File::open(&real).await {
        Ok(file) => {
            let (sender, body) = stream();
            tokio::spawn(async move { copy(file, &sender).await });
            body
        }
        Err(error) => plain(StatusCode::FORBIDDEN, format!("{error}\n")),
    }
}

/// What is in a folder, as Go's file server shows it.
fn listing(folder: &Path, path: &str) -> Response<Body> {
    if !path.ends_with('/') {
        let last = path.rsplit('/').next().filter(|last| !last.is_empty()).unwrap_or("logs");
        let mut response = Response::new(whole(Bytes::new()));
        *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
        if let Ok(place) = header::HeaderValue::from_str(&format!("{last}/")) {
            response.headers_mut().insert(header::LOCATION, place);
        }
        return response;
    }
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| {
            let mark = if entry.file_type().is_ok_and(|kind| kind.is_dir()) { "/" } else { "" };
            format!("{}{mark}", entry.file_name().to_string_lossy())
        })
        .collect();
    names.sort();
    let mut text =
        "<!doctype html>\n<meta name=\"viewport\" content=\"width=device-width\">\n<pre>\n".to_owned();
    for name in names {
        let link = percent_encoding::utf8_percent_encode(&name, UNSAFE);
        text += &format!("<a href=\"{link}\">{}</a>\n", escaped(&name));
    }
    text += "</pre>\n";
    let mut response = Response::new(whole(text));
    let kind = header::HeaderValue::from_static("text/html; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// What a link may not hold as it is.
const UNSAFE: &percent_encoding::AsciiSet = &percent_encoding::CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'%')
    .add(b'?')
    .add(b'#')
    .add(b':');

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&#34;")
        .replace('\'', "&#39;")
}

/// A text that is sent as it comes.
fn stream() -> (Sender, Response<Body>) {
    let (sender, receiver) = mpsc::channel(16);
    let frames = ReceiverStream::new(receiver).map(|bytes: io::Result<Bytes>| bytes.map(Frame::data));
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(TEXT));
    (sender, response)
}

async fn copy(mut from: impl AsyncRead + Unpin, to: &Sender) {
    let mut buffer = vec![0; 32 << 10];
    loop {
        let read = from.read(&mut buffer).await;
        let sent = match read {
            Ok(0) => return,
            Ok(count) => to.send(Ok(Bytes::copy_from_slice(&buffer[..count]))).await,
            Err(error) => to.send(Err(error)).await,
        };
        if sent.is_err() {
            return;
        }
    }
}

/// What services said, by the journal where they use it, by their files where they do not.
async fn services(root: PathBuf, asked: Query, to: Sender) {
    let say = async |text: String| {
        // Whoever asked may have gone.
        let _ = to.send(Ok(text.into())).await;
    };
    let work = async {
        let known = units().await;
        let in_journal = |service: &&String| known.contains(&format!("{service}.service"));
        let (journal, files): (Vec<&String>, Vec<&String>) = asked.services.iter().partition(in_journal);
        let journal: Vec<String> = journal.into_iter().cloned().collect();
        if !journal.is_empty() && run(&asked.options.arguments(&journal), &to).await.is_err() {
            say("\nerror: journal output not available\n".to_owned()).await;
        }
        if !files.is_empty() && asked.options != Options::default() {
            let names = files.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(" ");
            let text = "options present and query resolved to log files for";
            return say(format!("\n{text} [{names}]\ntry without specifying options\n")).await;
        }
        for service in files {
            let found =
                places(service).into_iter().find_map(|place| inside(&root, &place).filter(|it| it.is_file()));
            match found {
                None => say(format!("\nlog not found for {service}\n")).await,
                Some(path) => match tokio::fs::File::open(&path).await {
                    Ok(file) => copy(file, &to).await,
                    Err(error) => say(format!("\nerror getting log for {service}: {error}\n")).await,
                },
            }
        }
    };
    if tokio::time::timeout(PATIENCE, work).await.is_err() {
        say("\ncontext error: context deadline exceeded\n".to_owned()).await;
    }
}

/// The units that the journal knows; none where there is no journal.
async fn units() -> String {
    let mut command = Command::new("journalctl");
    command.args(["--field", "_SYSTEMD_UNIT"]).stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await;
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

async fn run(arguments: &[String], to: &Sender) -> io::Result<()> {
    let mut command = Command::new("journalctl");
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.kill_on_drop(true).spawn()?;
    if let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) {
        tokio::join!(copy(stdout, to), copy(stderr, to));
    }
    child.wait().await.map(drop)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_is_shown() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("log");
        fs::create_dir_all(root.join("sub")).unwrap();
        fs::write(root.join("sub/a.log"), "x").unwrap();
        fs::write(temp.path().join("secret"), "x").unwrap();
        std::os::unix::fs::symlink("../secret", root.join("out")).unwrap();
        std::os::unix::fs::symlink("sub/a.log", root.join("in")).unwrap();
        for (path, expected) in [
            ("/", true),
            ("/sub/a.log", true),
            ("/in", true),
            ("/out", false),
            ("/../secret", false),
            ("/sub/../../secret", false),
            ("/none", false),
        ] {
            assert_eq!(inside(&root, path).is_some(), expected, "{path}");
        }
    }

    #[tokio::test]
    async fn files_folders_and_services() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().to_owned();
        fs::create_dir(root.join("dir")).unwrap();
        fs::write(root.join("a&b.log"), "one\n").unwrap();
        fs::write(root.join("svc-of-nobody.log"), "two\n").unwrap();
        let text = async |response: Response<Body>| {
            let status = response.status().as_u16();
            let bytes = response.into_body().collect().await.unwrap().to_bytes();
            (status, String::from_utf8_lossy(&bytes).into_owned())
        };
        let (status, shown) = text(serve(&root, "/").await).await;
        assert_eq!(status, 200);
        assert!(
            shown.contains("<a href=\"a&b.log\">a&amp;b.log</a>\n<a href=\"dir/\">dir/</a>\n"),
            "{shown}"
        );
        assert_eq!(text(serve(&root, "/a&b.log").await).await, (200, "one\n".into()));
        assert_eq!(text(serve(&root, "/none").await).await, (404, "404 page not found\n".into()));
        let moved = serve(&root, "/dir").await;
        assert_eq!((moved.status().as_u16(), moved.headers()["location"].to_str().unwrap()), (301, "dir/"));
        let asked =
            Query { services: vec!["svc-of-nobody".into(), "nobody-at-all".into()], ..Query::default() };
        let (sender, body) = stream();
        services(root, asked, sender).await;
        assert_eq!(text(body).await, (200, "two\n\nlog not found for nobody-at-all\n".into()));
    }
}
