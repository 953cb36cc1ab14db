//! Compiles the messages and services in Rust alone, so that no protoc is needed.

const FILES: [&str; 3] = ["device.proto", "podresources.proto", "dra.proto"];
/// Services under an older name, of the same messages.
const OLDER: &str = "dra_v1beta1.proto";
const DRA: &str = ".k8s.io.kubelet.pkg.apis.dra.v1";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for file in FILES.into_iter().chain([OLDER]) {
        println!("cargo:rerun-if-changed=proto/{file}");
    }
    let files = protox::compile(FILES, ["proto"])?;
    tonic_prost_build::configure().compile_fds(files)?;
    let mut older = protox::compile([OLDER], ["proto"])?;
    older.file.retain(|file| file.name() == OLDER);
    tonic_prost_build::configure().extern_path(DRA, "crate::dra").compile_fds(older)?;
    Ok(())
}
