//! WebSocket clients.

use std::collections::BTreeMap;
use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::{SinkExt, StreamExt, TryStreamExt, future};
use tokio::io::DuplexStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_util::io::{CopyToBytes, SinkWriter, StreamReader};

use crate::forward::forward_twice;
use crate::server::connect;
use crate::spdy::Client;

type Socket = WebSocketStream<DuplexStream>;

async fn open(path: &str, protocol: &str) -> Result<Socket, Error> {
    let mut request = format!("ws://x{path}").into_client_request().unwrap();
    if !protocol.is_empty() {
        request.headers_mut().insert("sec-websocket-protocol", protocol.parse().unwrap());
    }
    let (socket, response) = tokio_tungstenite::client_async(request, connect()).await?;
    let chosen = response.headers().get("sec-websocket-protocol").map(|name| name.to_str().unwrap());
    assert_eq!(chosen.unwrap_or_default(), protocol.rsplit(", ").next().unwrap());
    Ok(socket)
}

async fn send(socket: &mut Socket, channel: u8, text: &str) {
    let message = [&[channel], text.as_bytes()].concat();
    socket.send(Message::Binary(message.into())).await.unwrap();
}

/// The texts of all channels when the server has closed the connection.
async fn read_all(socket: &mut Socket) -> BTreeMap<u8, String> {
    let mut texts = BTreeMap::<u8, String>::new();
    loop {
        match socket.next().await.unwrap().unwrap() {
            Message::Binary(bytes) => {
                let text = std::str::from_utf8(&bytes[1..]).unwrap();
                texts.entry(bytes[0]).or_default().push_str(text);
            }
            Message::Text(text) => {
                let bytes = STANDARD.decode(&text.as_bytes()[1..]).unwrap();
                texts
                    .entry(text.as_bytes()[0] - b'0')
                    .or_default()
                    .push_str(std::str::from_utf8(&bytes).unwrap());
            }
            Message::Close(_) => return texts,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn version_5_can_finish_input() {
    let path = "/exec?command=cat&stdin=true&stdout=true";
    let mut socket = open(path, "v6.channel.k8s.io, v5.channel.k8s.io").await.unwrap();
    // The first message says that the connection stands.
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::Binary(Bytes::from_static(&[1])));
    send(&mut socket, 0, "hello ").await;
    send(&mut socket, 0, "world").await;
    send(&mut socket, 255, "\0").await;
    let texts = read_all(&mut socket).await;
    assert_eq!((&*texts[&1], &*texts[&3]), ("hello world", r#"{"metadata":{},"status":"Success"}"#));
}

#[tokio::test]
async fn the_exit_code_comes_last() {
    for (protocol, json) in [
        ("v5.channel.k8s.io", true),
        ("v4.channel.k8s.io", true),
        ("v4.base64.channel.k8s.io", true),
        ("channel.k8s.io", false),
        ("base64.channel.k8s.io", false),
        ("", false),
    ] {
        let mut socket = open("/exec?command=fail&command=7&stdout=1&stderr=1", protocol).await.unwrap();
        let texts = read_all(&mut socket).await;
        assert_eq!((&*texts[&1], &*texts[&2]), ("out", "err"), "{protocol}");
        assert_eq!(texts[&3].starts_with('{'), json, "{protocol}");
        assert!(texts[&3].contains("exit status 7"), "{protocol}");
    }
}

#[tokio::test]
async fn sizes_and_nonsense_come_in_messages() {
    let mut socket = open("/exec?command=sizes&stdout=true&tty=true", "v4.channel.k8s.io").await.unwrap();
    for (channel, text) in
        [(9, "what"), (255, ""), (255, "\u{7f}"), (1, "to stdout?"), (4, "{\"Width\":80,\"Height\":24}\n")]
    {
        send(&mut socket, channel, text).await;
    }
    socket.send(Message::Binary(Bytes::new())).await.unwrap();
    socket.send(Message::Ping(Bytes::from_static(b"there?"))).await.unwrap();
    while socket.next().await.unwrap().unwrap() != Message::Pong(Bytes::from_static(b"there?")) {}
    socket.send(Message::Text("\u{4}{\"Width\":1,\"Height\":2}".into())).await.unwrap();
    assert!(read_all(&mut socket).await[&1].ends_with("1x2 "));
}

#[tokio::test]
async fn ports_have_pairs_of_channels() {
    let mut socket = open("/portforward?port=80,1&port=8080", "v4.channel.k8s.io").await.unwrap();
    let mut texts = BTreeMap::<u8, Vec<u8>>::new();
    let done = |texts: &BTreeMap<u8, Vec<u8>>| texts.get(&4).is_some_and(|bytes| bytes.ends_with(b":hi"));
    send(&mut socket, 4, "hi").await;
    while !done(&texts) || texts.get(&3).is_none_or(|bytes| bytes.len() < 5) {
        let Message::Binary(bytes) = socket.next().await.unwrap().unwrap() else { panic!("not binary") };
        texts.entry(bytes[0]).or_default().extend_from_slice(&bytes[1..]);
    }
    assert_eq!(texts[&0][..2], [80, 0]);
    assert_eq!(texts[&3], [&[1, 0][..], b"connection refused"].concat());
    assert_eq!(texts[&4], [&[0x90, 0x1f][..], b"8080:hi"].concat());
    assert!(open("/portforward", "v4.channel.k8s.io").await.is_err(), "without ports");
}

#[tokio::test]
async fn spdy_goes_through_a_websocket() {
    let socket = open("/portforward", "SPDY/3.1+portforward.k8s.io").await.unwrap();
    let (write, read) = socket.split();
    let bytes = read.map_err(io::Error::other).try_filter_map(|message| {
        future::ok(match message {
            Message::Binary(bytes) => Some(bytes),
            _ => None,
        })
    });
    let messages = write
        .sink_map_err(io::Error::other)
        .with(|bytes: Bytes| future::ok::<_, io::Error>(Message::Binary(bytes)));
    let stream = tokio::io::join(StreamReader::new(bytes), SinkWriter::new(CopyToBytes::new(messages)));
    forward_twice(&mut Client::new(stream)).await;
}

#[tokio::test]
async fn unknown_protocols_are_refused() {
    let refused = open("/exec?stdout=1", "v9.channel.k8s.io").await;
    assert!(matches!(refused, Err(Error::Http(response)) if response.status() == 403));
}
