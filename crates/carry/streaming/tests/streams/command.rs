//! Exec over SPDY.

use tokio::io::AsyncWriteExt;

use crate::spdy::{Client, request, upgraded};

type Spdy = Client<tokio::io::DuplexStream>;

async fn exec(query: &str, protocol: &str, kinds: &[&str]) -> (Spdy, Vec<u32>) {
    let mut client = upgraded(&format!("/exec?{query}"), protocol).await;
    let mut streams = Vec::new();
    for kind in kinds {
        let stream = client.open(&[("streamtype", kind)]).await;
        // As client-go does: one stream after the other.
        client
            .read_until(|client| client.received.get(&stream).is_some_and(|received| received.replied))
            .await;
        streams.push(stream);
    }
    (client, streams)
}

#[tokio::test]
async fn output_comes_before_the_exit_code() {
    let query = "command=fail&command=3&stdout=true&stderr=true";
    let (mut client, streams) = exec(query, "v4.channel.k8s.io", &["error", "stdout", "stderr"]).await;
    client.read_all().await;
    assert_eq!((client.text(streams[1]), client.text(streams[2])), ("out", "err"));
    let status: serde_json::Value = serde_json::from_str(client.text(streams[0])).unwrap();
    assert_eq!(status["reason"], "NonZeroExitCode");
    assert_eq!(status["details"]["causes"][0]["message"], "3");
    assert!(streams.iter().all(|stream| client.finished(*stream)));
}

#[tokio::test]
async fn input_ends_when_the_client_finishes_its_stream() {
    let query = "command=cat&input=1&output=1";
    let (mut client, streams) = exec(query, "v4.channel.k8s.io", &["error", "stdin", "stdout"]).await;
    client.send(streams[1], "hello ", false).await;
    client.read_until(|client| client.text(streams[2]) == "hello ").await;
    client.send(streams[1], "world", true).await;
    client.read_all().await;
    assert_eq!(client.text(streams[2]), "hello world");
    assert_eq!(client.text(streams[0]), r#"{"metadata":{},"status":"Success"}"#);
}

#[tokio::test]
async fn input_that_nobody_reads_is_thrown_away() {
    let query = "command=head&stdin=true&stdout=true";
    let (mut client, streams) = exec(query, "v4.channel.k8s.io", &["error", "stdin", "stdout"]).await;
    client.send(streams[1], "line\n", false).await;
    client.read_until(|client| client.text(streams[2]) == "line\n").await;
    for _ in 0..40 {
        client.send(streams[1], &"more".repeat(1000), false).await;
    }
    client.read_all().await;
    assert!(client.finished(streams[1]) && client.text(streams[0]).contains("Success"));
}

#[tokio::test]
async fn a_terminal_has_sizes_and_no_stderr() {
    let query = "command=sizes&stdout=true&stderr=true&tty=true";
    let (mut client, streams) = exec(query, "v4.channel.k8s.io", &["error", "stdout", "resize"]).await;
    client.send(streams[2], "{\"Width\":80,\"Hei", false).await;
    client.send(streams[2], "ght\":24}\n{\"Width\":100,\"Height\":30}\n", false).await;
    client.read_all().await;
    assert_eq!(client.text(streams[1]), "80x24 100x30 ");
}

#[tokio::test]
async fn older_protocols_tell_the_end_as_text() {
    for (protocol, code, text) in [
        ("v3.channel.k8s.io", "3", "command terminated with non-zero exit code: exit status 3"),
        ("v2.channel.k8s.io", "4", "command terminated with non-zero exit code: exit status 4"),
        ("channel.k8s.io", "5", "command terminated with non-zero exit code: exit status 5"),
    ] {
        let query = format!("command=fail&command={code}&stdout=true&stderr=true");
        let (mut client, streams) = exec(&query, protocol, &["error", "stdout", "stderr"]).await;
        client.read_all().await;
        assert_eq!(client.text(streams[0]), text);
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_stops_the_command() {
    let query = "command=yes&command=20000000&stdout=true";
    let (mut client, streams) = exec(query, "v4.channel.k8s.io", &["error", "stdout"]).await;
    client.read_all().await;
    assert_eq!(client.text(streams[1]).len(), 20_000_000);
    assert!(client.text(streams[0]).contains("Success"));
}

#[tokio::test]
async fn long_frames_and_pings_pass() {
    let query = "command=cat&stdin=true&stdout=true";
    let (mut client, streams) = exec(query, "v4.channel.k8s.io", &["error", "stdin", "stdout"]).await;
    client.control(6, &[0, 0, 0, 9]).await;
    client.control(4, &[0; 4]).await;
    client.read_until(|client| client.pongs == [9]).await;
    let long = "long".repeat(500_000);
    let (mut read, write) = {
        let (read, write) = tokio::io::split(client.stream);
        (Client::new(tokio::io::join(read, tokio::io::sink())), write)
    };
    for stream in &streams {
        read.received.entry(*stream).or_default().replied = true;
    }
    let (stdin, text) = (streams[1], long.clone());
    let writing = tokio::spawn(async move {
        let mut write = Client::new(tokio::io::join(tokio::io::empty(), write));
        write.send(stdin, &text, true).await;
        write
    });
    read.read_all().await;
    assert_eq!(read.text(streams[2]), long);
    drop(writing.await.unwrap());
}

#[tokio::test]
async fn a_second_stream_of_a_kind_and_streams_too_many_are_ended() {
    let mut client = upgraded("/exec?command=cat&stdin=true&stdout=true", "v4.channel.k8s.io").await;
    let first = client.open(&[("streamtype", "error")]).await;
    let second = client.open(&[("streamtype", "error")]).await;
    let unknown = client.open(&[("streamtype", "stdlog")]).await;
    client.read_until(|client| client.finished(second) && client.finished(unknown)).await;
    let stdin = client.open(&[("streamtype", "stdin")]).await;
    let stdout = client.open(&[("streamtype", "stdout")]).await;
    client.send(stdin, "x", false).await;
    client.read_until(|client| client.text(stdout) == "x").await;
    let late = client.open(&[("streamtype", "stderr")]).await;
    client.read_until(|client| client.received.get(&late).is_some_and(|received| received.refused)).await;
    client.send(stdin, "", true).await;
    client.read_all().await;
    assert!(client.text(first).contains("Success") && client.finished(stdout));
}

#[tokio::test]
async fn a_lost_client_is_noticed() {
    let (client, _) = exec("command=wait&stdout=true", "v4.channel.k8s.io", &["error", "stdout"]).await;
    // The pretended command ends by itself then; a hanging task would hang the test's runtime.
    drop(client);
    let (mut client, streams) =
        exec("command=cat&stdin=1&stdout=1", "v4.channel.k8s.io", &["error", "stdin", "stdout"]).await;
    client.send(streams[1], "x", false).await;
    // Malformed: data of stream 0.
    client.stream.write_all(&[0; 8]).await.unwrap();
    client.read_all().await;
}

#[tokio::test]
async fn bad_requests_are_refused() {
    let spdy = "Upgrade: SPDY/3.1";
    for (path, headers, status) in [
        ("/exec?stdout=true", vec![], 400),
        ("/exec?stdout=true", vec!["Connection: Upgrade", "Upgrade: SPDY/2"], 400),
        ("/exec?stdout=true", vec!["Connection: Upgrade", spdy], 400),
        ("/exec?stdout=true", vec!["Connection: Upgrade", spdy, "X-Stream-Protocol-Version: v9"], 403),
        ("/exec", vec!["Connection: Upgrade", spdy, "X-Stream-Protocol-Version: v4.channel.k8s.io"], 400),
        (
            "/portforward",
            vec!["Connection: Upgrade", spdy, "X-Stream-Protocol-Version: v4.channel.k8s.io"],
            403,
        ),
    ] {
        let (_, head) = request(path, &headers).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{path} {headers:?}: {head}");
    }
}

#[tokio::test(start_paused = true)]
async fn streams_that_do_not_come_are_not_waited_for() {
    let mut client = upgraded("/exec?command=cat&stdin=true&stdout=true", "v4.channel.k8s.io").await;
    let error = client.open(&[("streamtype", "error")]).await;
    client.read_all().await;
    assert!(client.finished(error));
}
