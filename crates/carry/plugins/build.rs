//! Compiles the messages and services in Rust alone, so that no protoc is needed.

const FILES: [&str; 3] = ["device.proto", "podresources.proto", "dra.proto"];
/// Services under an older name, of the same messages.
const OLDER: &str = "dra_v1beta1.proto";
const DRA: &str = ".k8s.io.kubelet.pkg.apis.dra.v1";
/// A service whose package has the name of another one, and the same under an older name.
const HEALTH: [&str; 2] = ["dra_health.proto", "dra_health_v1alpha1.proto"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for file in FILES.into_iter().chain([OLDER]).chain(HEALTH) {
        println!("cargo:rerun-if-changed=proto/{file}");
    }
    let files = protox::compile(FILES, ["proto"])?;
    tonic_prost_build::configure().compile_fds(files)?;
    let mut older = protox::compile([OLDER], ["proto"])?;
    older.file.retain(|file| file.name() == OLDER);
    tonic_prost_build::configure().extern_path(DRA, "crate::dra").compile_fds(older)?;
    let folder = std::path::Path::new(&std::env::var("OUT_DIR")?).join("health");
    std::fs::create_dir_all(&folder)?;
    tonic_prost_build::configure().out_dir(&folder).compile_fds(protox::compile([HEALTH[0]], ["proto"])?)?;
    let mut older = protox::compile([HEALTH[1]], ["proto"])?;
    older.file.retain(|file| file.name() == HEALTH[1]);
    let config = tonic_prost_build::configure().out_dir(&folder);
    config.extern_path(".v1", "crate::dra_health").compile_fds(older)?;
    Ok(())
}
