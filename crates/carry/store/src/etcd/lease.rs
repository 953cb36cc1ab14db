//! Leases.

use std::pin::Pin;

use plimsoll_etcd::etcdserverpb::lease_server::Lease;
use plimsoll_etcd::etcdserverpb::{self as pb};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{Etcd, key, refusal};

/// The longest time to live, in seconds.
const LONGEST: i64 = 9_000_000_000;

#[tonic::async_trait]
impl Lease for Etcd {
    async fn lease_grant(
        &self,
        request: Request<pb::LeaseGrantRequest>,
    ) -> Result<Response<pb::LeaseGrantResponse>, Status> {
        let pb::LeaseGrantRequest { ttl, id } = request.into_inner();
        if ttl > LONGEST {
            return Err(refusal::lease_too_long());
        }
        let id = if id == 0 { self.free() } else { id };
        let lease = self.store.grant(id, ttl).await.map_err(refusal::of)?;
        self.member.lifetimes.observe(lease.ttl as f64);
        let header = self.header_now();
        Ok(Response::new(pb::LeaseGrantResponse { header, id, ttl: lease.ttl, error: String::new() }))
    }

    async fn lease_revoke(
        &self,
        request: Request<pb::LeaseRevokeRequest>,
    ) -> Result<Response<pb::LeaseRevokeResponse>, Status> {
        let revision = self.store.revoke(request.into_inner().id).await.map_err(refusal::of)?;
        Ok(Response::new(pb::LeaseRevokeResponse { header: self.header(revision) }))
    }

    type LeaseKeepAliveStream =
        Pin<Box<dyn Stream<Item = Result<pb::LeaseKeepAliveResponse, Status>> + Send>>;

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<pb::LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let (answers, stream) = mpsc::channel(16);
        let (etcd, mut requests) = (self.clone(), request.into_inner());
        tokio::spawn(async move {
            while let Ok(Some(pb::LeaseKeepAliveRequest { id })) = requests.message().await {
                // A lease that is gone has no time to live.
                let ttl = etcd.store.renew(id).unwrap_or_default();
                let answer = pb::LeaseKeepAliveResponse { header: etcd.header_now(), id, ttl };
                if answers.send(Ok(answer)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<pb::LeaseTimeToLiveRequest>,
    ) -> Result<Response<pb::LeaseTimeToLiveResponse>, Status> {
        let pb::LeaseTimeToLiveRequest { id, keys } = request.into_inner();
        let header = self.header_now();
        let found = self.store.lease(id);
        Ok(Response::new(match found {
            None => pb::LeaseTimeToLiveResponse { header, id, ttl: -1, granted_ttl: 0, keys: Vec::new() },
            Some((lease, ttl)) => {
                let hangs = lease.keys.iter().filter(|_| keys).map(|name| key::bytes(name)).collect();
                pb::LeaseTimeToLiveResponse { header, id, ttl, granted_ttl: lease.ttl, keys: hangs }
            }
        }))
    }

    async fn lease_leases(
        &self,
        _request: Request<pb::LeaseLeasesRequest>,
    ) -> Result<Response<pb::LeaseLeasesResponse>, Status> {
        let leases = self.store.leases().into_iter().map(|id| pb::LeaseStatus { id }).collect();
        Ok(Response::new(pb::LeaseLeasesResponse { header: self.header_now(), leases }))
    }
}

impl Etcd {
    /// A number that no lease has.
    fn free(&self) -> i64 {
        loop {
            let id = (rand::random::<u64>() >> 1).cast_signed();
            if id != 0 && self.store.lease(id).is_none() {
                return id;
            }
        }
    }
}
