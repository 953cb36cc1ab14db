//! Creates.

use super::load::{Aims, spread};
use super::objects;
use super::server::ApiServer;

/// Small config maps.
pub(crate) fn config_maps(server: &ApiServer) -> anyhow::Result<()> {
    super::client(async {
        let endpoint = super::endpoint(server)?;
        let one = Aims { rate: "none", processor: "none", tail: "none" };
        let load = spread(server, &endpoint, 1, 0..1_000, objects::config_map).await?;
        load.report("creates of config maps, 1 client", &one);
        let many = Aims { rate: "6,240 /s", processor: "0.22 ms", tail: "37 ms" };
        let load = spread(server, &endpoint, 64, 1_000..31_000, objects::config_map).await?;
        load.report("creates of config maps, 64 clients", &many);
        Ok(())
    })
}

/// Pods of about 2 KB.
pub(crate) fn pods(server: &ApiServer) -> anyhow::Result<()> {
    super::client(async {
        let endpoint = super::endpoint(server)?;
        let one = Aims { rate: "none", processor: "none", tail: "none" };
        let load = spread(server, &endpoint, 1, 0..1_000, objects::pod).await?;
        load.report("creates of pods, 1 client", &one);
        let many = Aims { rate: "3,550 /s", processor: "0.36 ms", tail: "73 ms" };
        let load = spread(server, &endpoint, 64, 1_000..16_000, objects::pod).await?;
        load.report("creates of pods, 64 clients", &many);
        Ok(())
    })
}
