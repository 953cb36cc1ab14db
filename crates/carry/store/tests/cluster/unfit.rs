//! Clusters that cannot be the store: each is refused with what is wrong and what to do.

use std::net::SocketAddr;

use plimsoll_etcd::etcdserverpb::alarm_request::AlarmAction;
use plimsoll_etcd::etcdserverpb::auth_client::AuthClient;
use plimsoll_etcd::etcdserverpb::cluster_client::ClusterClient;
use plimsoll_etcd::etcdserverpb::maintenance_client::MaintenanceClient;
use plimsoll_etcd::etcdserverpb::{
    AlarmRequest, AlarmType, AuthEnableRequest, AuthRoleAddRequest, AuthUserAddRequest,
    AuthUserGrantRoleRequest, MemberAddRequest,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

async fn refusal(endpoints: &[&str]) -> String {
    let cluster = Cluster::plain(endpoints.iter().map(|&endpoint| endpoint.to_owned()).collect(), place);
    Store::connect(&cluster, Options::default()).await.map(|_| ()).unwrap_err().to_string()
}

/// A member that says of its cluster that it works as `agreed`; all else is the member's behind it.
async fn front(behind: &str, agreed: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let behind: SocketAddr = behind.trim_start_matches("http://").parse().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut first = [0; 12];
                client.read_exact(&mut first).await?;
                if first.starts_with(b"GET /version") {
                    // What was not read would be taken for a connection that broke.
                    let mut rest = Vec::new();
                    while !rest.ends_with(b"\r\n\r\n") {
                        client.read_buf(&mut rest).await?;
                    }
                    let body = format!(r#"{{"etcdserver":"3.4.23","etcdcluster":"{agreed}"}}"#);
                    return client.write_all(format!("HTTP/1.0 200 OK\r\n\r\n{body}").as_bytes()).await;
                }
                let mut member = TcpStream::connect(behind).await?;
                member.write_all(&first).await?;
                tokio::io::copy_bidirectional(&mut client, &mut member).await.map(drop)
            });
        }
    });
    endpoint
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_in_the_middle_of_an_upgrade_is_refused() {
    let Some(etcd) = Etcd::start(1, &[]) else { return };
    drop(etcd.store().await);
    let behind = &etcd.members[0].endpoint;
    for agreed in ["3.5.0", "3.6.0"] {
        let endpoint = front(behind, agreed).await;
        let said = refusal(&[&endpoint]).await;
        let expected = format!("has version 3.4.23, and its cluster works as {agreed}");
        assert!(said.contains(&expected) && said.contains("Finish the upgrade"), "{said}");
        let (_, advice) = examine(&Cluster::plain(vec![endpoint], place)).await.unwrap();
        assert!(advice.iter().any(|advice| advice.contains(&expected)), "{advice:?}");
    }
    // A cluster that has not decided is one that was just made.
    let undecided = front(behind, "not_decided").await;
    Store::connect(&Cluster::plain(vec![undecided], place), Options::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_learner_alone_and_corrupt_data_are_refused() {
    let Some(etcd) = Etcd::start(1, &[]) else { return };
    drop(etcd.store().await);
    let first = &etcd.members[0];
    let peer = free();
    let mut cluster = ClusterClient::connect(first.endpoint.clone()).await.unwrap();
    let added = MemberAddRequest { peer_ur_ls: vec![peer.clone()], is_learner: true };
    let answer = cluster.member_add(added).await.unwrap().into_inner();
    let list: Vec<_> = answer
        .members
        .iter()
        .map(|member| {
            format!("{}={}", if member.name.is_empty() { "m1" } else { &member.name }, member.peer_ur_ls[0])
        })
        .collect();
    let serve = free();
    let data = etcd._folder.path().join("learner");
    let mut learner = Command::new("etcd")
        .arg("--name=m1")
        .arg(format!("--data-dir={}", data.display()))
        .args([format!("--listen-client-urls={serve}"), format!("--advertise-client-urls={serve}")])
        .args([format!("--listen-peer-urls={peer}"), format!("--initial-advertise-peer-urls={peer}")])
        .args([
            format!("--initial-cluster={}", list.join(",")),
            "--initial-cluster-state=existing".to_owned(),
        ])
        .args(["--heartbeat-interval=50", "--election-timeout=500"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let said = refusal(&[&serve]).await;
    // Beside a member that votes it does no harm.
    let both = Cluster::plain(vec![serve.clone(), first.endpoint.clone()], place);
    let store = Store::connect(&both, Options::default()).await.map(drop);
    learner.kill().unwrap();
    learner.wait().unwrap();
    assert!(said.contains("is a learner") && said.contains("etcdctl member promote"), "{said}");
    store.unwrap();

    let mut maintenance = MaintenanceClient::connect(first.endpoint.clone()).await.unwrap();
    let action = AlarmAction::Activate.into();
    maintenance.alarm(AlarmRequest { action, member_id: 7, alarm: AlarmType::Corrupt.into() }).await.unwrap();
    let said = refusal(&[&first.endpoint]).await;
    assert!(said.contains("memberID:7 alarm:CORRUPT") && said.contains("etcdctl alarm disarm"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_etcd_with_users_asks_for_a_certificate() {
    let Some(etcd) = Etcd::start(1, &[]) else { return };
    drop(etcd.store().await);
    let endpoint = &etcd.members[0].endpoint;
    let mut users = AuthClient::connect(endpoint.clone()).await.unwrap();
    let (name, password) = ("root".to_owned(), "secret".to_owned());
    users.user_add(AuthUserAddRequest { name: name.clone(), password, ..Default::default() }).await.unwrap();
    // etcd 3.4 makes the role of its own accord.
    let _ = users.role_add(AuthRoleAddRequest { name: name.clone() }).await;
    users.user_grant_role(AuthUserGrantRoleRequest { user: name.clone(), role: name }).await.unwrap();
    users.auth_enable(AuthEnableRequest {}).await.unwrap();
    let said = refusal(&[endpoint]).await;
    assert!(said.contains("lets only its users in") && said.contains("--datastore-certfile"), "{said}");
}
