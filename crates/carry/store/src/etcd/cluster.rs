//! The members: there is one, and there will be no other.

use plimsoll_etcd::etcdserverpb::cluster_server::Cluster;
use plimsoll_etcd::etcdserverpb::{self as pb};
use plimsoll_mvcc::Revision;
use tonic::{Request, Response, Status};

use super::Etcd;

#[tonic::async_trait]
impl Cluster for Etcd {
    async fn member_list(
        &self,
        _request: Request<pb::MemberListRequest>,
    ) -> Result<Response<pb::MemberListResponse>, Status> {
        let member = pb::Member {
            id: self.member.id,
            name: self.member.name.clone(),
            peer_ur_ls: Vec::new(),
            client_ur_ls: self.member.urls.clone(),
            is_learner: false,
        };
        // As etcd's: members have no revision.
        Ok(Response::new(pb::MemberListResponse { header: self.header(Revision(0)), members: vec![member] }))
    }

    async fn member_add(
        &self,
        _request: Request<pb::MemberAddRequest>,
    ) -> Result<Response<pb::MemberAddResponse>, Status> {
        Err(alone())
    }

    async fn member_remove(
        &self,
        request: Request<pb::MemberRemoveRequest>,
    ) -> Result<Response<pb::MemberRemoveResponse>, Status> {
        self.known(request.into_inner().id)?;
        Err(alone())
    }

    async fn member_update(
        &self,
        request: Request<pb::MemberUpdateRequest>,
    ) -> Result<Response<pb::MemberUpdateResponse>, Status> {
        self.known(request.into_inner().id)?;
        Err(alone())
    }

    async fn member_promote(
        &self,
        request: Request<pb::MemberPromoteRequest>,
    ) -> Result<Response<pb::MemberPromoteResponse>, Status> {
        self.known(request.into_inner().id)?;
        Err(Status::failed_precondition("etcdserver: can only promote a learner member"))
    }
}

impl Etcd {
    fn known(&self, id: u64) -> Result<(), Status> {
        match id == self.member.id {
            true => Ok(()),
            false => Err(Status::not_found("etcdserver: member not found")),
        }
    }
}

fn alone() -> Status {
    Status::failed_precondition(
        "plimsoll: the store in this process is a cluster of one member; for several, let plimsoll use a cluster of etcd",
    )
}
