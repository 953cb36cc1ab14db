//! Users and roles: authentication is never enabled here, and etcd's answers say so.

use plimsoll_etcd::etcdserverpb::auth_server::Auth;
use plimsoll_etcd::etcdserverpb::*;
use tonic::{Request, Response, Status};

use super::Etcd;

type Answer<T> = Result<Response<T>, Status>;

fn not_enabled<T>() -> Answer<T> {
    Err(Status::failed_precondition("etcdserver: authentication is not enabled"))
}

#[tonic::async_trait]
impl Auth for Etcd {
    async fn auth_enable(&self, _request: Request<AuthEnableRequest>) -> Answer<AuthEnableResponse> {
        Err(Status::failed_precondition("etcdserver: root user does not exist"))
    }

    async fn auth_disable(&self, _request: Request<AuthDisableRequest>) -> Answer<AuthDisableResponse> {
        Ok(Response::new(AuthDisableResponse { header: self.header_now() }))
    }

    async fn auth_status(&self, _request: Request<AuthStatusRequest>) -> Answer<AuthStatusResponse> {
        Ok(Response::new(AuthStatusResponse { header: self.header_now(), enabled: false, auth_revision: 1 }))
    }

    async fn authenticate(&self, _request: Request<AuthenticateRequest>) -> Answer<AuthenticateResponse> {
        not_enabled()
    }

    async fn user_add(&self, _request: Request<AuthUserAddRequest>) -> Answer<AuthUserAddResponse> {
        not_enabled()
    }

    async fn user_get(&self, _request: Request<AuthUserGetRequest>) -> Answer<AuthUserGetResponse> {
        not_enabled()
    }

    async fn user_list(&self, _request: Request<AuthUserListRequest>) -> Answer<AuthUserListResponse> {
        Ok(Response::new(AuthUserListResponse { header: self.header_now(), users: Vec::new() }))
    }

    async fn user_delete(&self, _request: Request<AuthUserDeleteRequest>) -> Answer<AuthUserDeleteResponse> {
        not_enabled()
    }

    async fn user_change_password(
        &self,
        _request: Request<AuthUserChangePasswordRequest>,
    ) -> Answer<AuthUserChangePasswordResponse> {
        not_enabled()
    }

    async fn user_grant_role(
        &self,
        _request: Request<AuthUserGrantRoleRequest>,
    ) -> Answer<AuthUserGrantRoleResponse> {
        not_enabled()
    }

    async fn user_revoke_role(
        &self,
        _request: Request<AuthUserRevokeRoleRequest>,
    ) -> Answer<AuthUserRevokeRoleResponse> {
        not_enabled()
    }

    async fn role_add(&self, _request: Request<AuthRoleAddRequest>) -> Answer<AuthRoleAddResponse> {
        not_enabled()
    }

    async fn role_get(&self, _request: Request<AuthRoleGetRequest>) -> Answer<AuthRoleGetResponse> {
        not_enabled()
    }

    async fn role_list(&self, _request: Request<AuthRoleListRequest>) -> Answer<AuthRoleListResponse> {
        Ok(Response::new(AuthRoleListResponse { header: self.header_now(), roles: Vec::new() }))
    }

    async fn role_delete(&self, _request: Request<AuthRoleDeleteRequest>) -> Answer<AuthRoleDeleteResponse> {
        not_enabled()
    }

    async fn role_grant_permission(
        &self,
        _request: Request<AuthRoleGrantPermissionRequest>,
    ) -> Answer<AuthRoleGrantPermissionResponse> {
        not_enabled()
    }

    async fn role_revoke_permission(
        &self,
        _request: Request<AuthRoleRevokePermissionRequest>,
    ) -> Answer<AuthRoleRevokePermissionResponse> {
        not_enabled()
    }
}
