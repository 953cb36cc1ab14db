//! Port-forward over SPDY, alone and inside WebSocket.

use crate::spdy::{Client, upgraded};
use tokio::io::{AsyncRead, AsyncWrite};

async fn connection<S>(client: &mut Client<S>, port: &str, id: &str) -> (u32, u32)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let error = client.open(&[("streamtype", "error"), ("port", port), ("requestid", id)]).await;
    // As client-go does: nothing is written there.
    client.send(error, "", true).await;
    let data = client.open(&[("streamtype", "data"), ("port", port), ("requestid", id)]).await;
    (error, data)
}

pub(crate) async fn forward_twice<S>(client: &mut Client<S>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (first_error, first) = connection(client, "80", "0").await;
    let (second_error, second) = connection(client, "8080", "1").await;
    client.send(second, "two", false).await;
    client.send(first, "one", true).await;
    client.read_until(|client| client.finished(first) && client.finished(first_error)).await;
    assert_eq!((client.text(first), client.text(first_error)), ("80:one", ""));
    assert!(!client.finished(second));
    client.send(second, " more", true).await;
    client.read_until(|client| client.finished(second) && client.finished(second_error)).await;
    assert_eq!(client.text(second), "8080:two more");
}

#[tokio::test]
async fn connections_share_a_session() {
    let mut client = upgraded("/portforward", "portforward.k8s.io").await;
    forward_twice(&mut client).await;
    // The session goes on without connections.
    forward_twice(&mut client).await;
}

#[tokio::test]
async fn pairs_are_found_in_any_order() {
    let mut client = upgraded("/portforward", "portforward.k8s.io").await;
    let port = ("port", "80");
    let data = client.open(&[("streamtype", "data"), port, ("requestid", "a")]).await;
    let other = client.open(&[("streamtype", "data"), ("port", "81"), ("requestid", "b")]).await;
    client.open(&[("streamtype", "error"), port, ("requestid", "a")]).await;
    client.open(&[("streamtype", "error"), ("port", "81"), ("requestid", "b")]).await;
    client.send(data, "x", true).await;
    client.send(other, "y", true).await;
    client.read_until(|client| client.finished(data) && client.finished(other)).await;
    assert_eq!((client.text(data), client.text(other)), ("80:x", "81:y"));
    // Clients without request ids.
    client.open(&[("streamtype", "error"), port]).await;
    let old = client.open(&[("streamtype", "data"), port]).await;
    client.send(old, "z", true).await;
    client.read_until(|client| client.finished(old)).await;
    assert_eq!(client.text(old), "80:z");
}

#[tokio::test]
async fn failures_are_told_on_the_error_stream() {
    let mut client = upgraded("/portforward", "portforward.k8s.io").await;
    for (port, text) in
        [("1", "connection refused"), ("0", "\"0\" is not a port"), ("http", "\"http\" is not a port")]
    {
        let (error, data) = connection(&mut client, port, port).await;
        client.read_until(|client| client.finished(error) && client.finished(data)).await;
        assert_eq!((client.text(error), client.text(data)), (text, ""));
    }
}

#[tokio::test]
async fn odd_streams_are_ended() {
    let mut client = upgraded("/portforward", "portforward.k8s.io").await;
    let kind = client.open(&[("streamtype", "stdin"), ("port", "80"), ("requestid", "0")]).await;
    client.open(&[("streamtype", "data"), ("port", "80"), ("requestid", "0")]).await;
    let again = client.open(&[("streamtype", "data"), ("port", "80"), ("requestid", "0")]).await;
    client.read_until(|client| client.finished(kind) && client.finished(again)).await;
}

#[tokio::test(start_paused = true)]
async fn half_a_connection_is_given_up() {
    let mut client = upgraded("/portforward", "portforward.k8s.io").await;
    let error = client.open(&[("streamtype", "error"), ("port", "80"), ("requestid", "7")]).await;
    client.read_until(|client| client.finished(error)).await;
    assert_eq!(client.text(error), "timed out waiting for streams of request 7");
}
