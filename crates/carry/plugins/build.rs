//! Compiles the messages and services in Rust alone, so that no protoc is needed.

const FILES: [&str; 2] = ["device.proto", "podresources.proto"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for file in FILES {
        println!("cargo:rerun-if-changed=proto/{file}");
    }
    let files = protox::compile(FILES, ["proto"])?;
    tonic_prost_build::configure().compile_fds(files)?;
    Ok(())
}
