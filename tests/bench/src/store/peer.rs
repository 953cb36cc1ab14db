//! etcd as a process, and connections to it.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use plimsoll_etcd::etcdserverpb::kv_client::KvClient;
use plimsoll_etcd::etcdserverpb::maintenance_client::MaintenanceClient;
use plimsoll_etcd::etcdserverpb::watch_client::WatchClient;
use plimsoll_etcd::etcdserverpb::watch_request::RequestUnion;
use plimsoll_etcd::etcdserverpb::{
    DeleteRangeRequest, PutRequest, RangeRequest, StatusRequest, WatchCreateRequest, WatchRequest,
    WatchResponse,
};
use tokio_stream::StreamExt as _;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

/// Connections to it; those who ask share them.
const CONNECTIONS: usize = 16;

pub(super) struct Etcd {
    child: Child,
    channels: Vec<Channel>,
}

impl Etcd {
    /// Starts one member on `folder` with what it does by default, except for its quota, and waits until it serves.
    pub(super) async fn start(program: &Path, folder: &Path) -> anyhow::Result<Self> {
        let (serve, peers) = (free()?, free()?);
        let mut command = Command::new(program);
        command
            .arg(format!("--data-dir={}", folder.display()))
            .args([format!("--listen-client-urls={serve}"), format!("--advertise-client-urls={serve}")])
            .args([format!("--listen-peer-urls={peers}"), format!("--initial-advertise-peer-urls={peers}")])
            .arg(format!("--initial-cluster=default={peers}"))
            .args(["--quota-backend-bytes=8000000000", "--auto-compaction-mode=periodic"])
            .arg("--auto-compaction-retention=10s");
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let mut etcd = Self { child, channels: Vec::new() };
        for _ in 0..CONNECTIONS {
            etcd.channels.push(Endpoint::from_shared(serve.clone())?.connect_lazy());
        }
        for _ in 0..200 {
            let mut client = MaintenanceClient::new(etcd.channel(0));
            if client.status(StatusRequest {}).await.is_ok_and(|status| status.get_ref().leader != 0) {
                return Ok(etcd);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::bail!("etcd does not serve")
    }

    pub(super) async fn put(&self, worker: usize, key: &str, value: Vec<u8>) -> anyhow::Result<()> {
        let (key, value) = (Bytes::copy_from_slice(key.as_bytes()), value.into());
        KvClient::new(self.channel(worker)).put(PutRequest { key, value, ..PutRequest::default() }).await?;
        Ok(())
    }

    pub(super) async fn delete(&self, worker: usize, key: &str) -> anyhow::Result<()> {
        let key = Bytes::copy_from_slice(key.as_bytes());
        let request = DeleteRangeRequest { key, ..DeleteRangeRequest::default() };
        KvClient::new(self.channel(worker)).delete_range(request).await?;
        Ok(())
    }

    /// All values with a prefix that ends with a slash; how many bytes they have.
    pub(super) async fn range(&self, worker: usize, prefix: &'static str) -> anyhow::Result<usize> {
        // The byte behind a slash ends what begins with it.
        let end = format!("{}0", prefix.trim_end_matches('/')).into();
        let request = RangeRequest { key: prefix.into(), range_end: end, ..RangeRequest::default() };
        let found = KvClient::new(self.channel(worker)).range(request).await?;
        Ok(found.get_ref().kvs.iter().map(|pair| pair.value.len()).sum())
    }

    /// So many watches of a key on one stream, all of them begun.
    pub(super) async fn watch(
        &self,
        worker: usize,
        key: &'static str,
        count: usize,
    ) -> anyhow::Result<Streaming<WatchResponse>> {
        let create = WatchCreateRequest { key: key.into(), ..WatchCreateRequest::default() };
        let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        // The requests' side stays open: its end would end the watches.
        let requests = tokio_stream::iter(std::iter::repeat_n(request, count)).chain(tokio_stream::pending());
        let mut stream = WatchClient::new(self.channel(worker)).watch(requests).await?.into_inner();
        let mut created = 0;
        while created < count {
            let message = stream.message().await?.context("a stream ended")?;
            created += usize::from(message.created);
        }
        Ok(stream)
    }

    fn channel(&self, worker: usize) -> Channel {
        self.channels[worker % self.channels.len()].clone()
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        // It has nothing that is needed afterwards.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free() -> std::io::Result<String> {
    Ok(format!("http://{}", TcpListener::bind("127.0.0.1:0")?.local_addr()?))
}
