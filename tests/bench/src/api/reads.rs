//! Gets and lists.

use std::time::Instant;

use anyhow::ensure;

use super::connection::Call;
use super::load::{Aims, milliseconds, spread};
use super::objects::{self, MAPS, PODS};
use super::server::ApiServer;
use crate::report;

const LISTED: usize = 5_000;
const LISTS: usize = 20;

/// Config maps, one at a time.
pub(crate) fn gets(server: &ApiServer) -> anyhow::Result<()> {
    super::client(async {
        let endpoint = super::endpoint(server)?;
        spread(server, &endpoint, 16, 0..1_000, objects::config_map).await?;
        let call = |number| Call::get(format!("{MAPS}/map-{}", number % 1_000));
        let aims = Aims { rate: "11,600 /s", processor: "0.15 ms", tail: "none" };
        spread(server, &endpoint, 16, 0..60_000, call).await?.report("gets, 16 clients", &aims);
        Ok(())
    })
}

/// All of 5,000 pods, in the forms that clients ask for.
pub(crate) fn list(server: &ApiServer) -> anyhow::Result<()> {
    super::client(async {
        let endpoint = super::endpoint(server)?;
        spread(server, &endpoint, 16, 0..LISTED, objects::pod).await?;
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
        let metadata = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
        let protobuf = "application/vnd.kubernetes.protobuf";
        for (form, call, aim) in [
            ("JSON", Call::get(PODS), "0.026 s"),
            ("JSON, gzip", Call::get(PODS).header("accept-encoding", "gzip"), "none"),
            ("JSON, one selected", Call::get(format!("{PODS}?fieldSelector=spec.nodeName%3Dx")), "none"),
            ("JSON, all selected", Call::get(format!("{PODS}?labelSelector=app%3Dweb")), "none"),
            ("table", Call::get(PODS).header("accept", table), "none"),
            ("metadata", Call::get(PODS).header("accept", metadata), "none"),
            ("protobuf", Call::get(PODS).header("accept", protobuf), "none"),
        ] {
            let mut connection = endpoint.connect().await?;
            let size = connection.call(&call).await?.len();
            ensure!(size > 0, "an empty list");
            let (before, started) = (server.processor_time(), Instant::now());
            for _ in 0..LISTS {
                connection.call(&call).await?;
            }
            let each = (server.processor_time() - before) / LISTS as f64;
            let elapsed = milliseconds(started.elapsed()) / LISTS as f64;
            let what = format!("list of {LISTED} pods, {form} ({:.1} MB)", size as f64 / 1e6);
            report(&what, &format!("{elapsed:.1} ms"), "none");
            report("  processor time each", &format!("{each:.4} s"), aim);
        }
        Ok(())
    })
}
