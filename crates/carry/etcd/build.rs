//! Compiles the messages and services of the etcd v3 API in Rust alone, so that no protoc is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["proto/rpc.proto", "proto/health.proto"], ["proto"])?;
    // Keys and values are cut out of what arrives, and shared with what leaves.
    tonic_prost_build::configure().bytes(".").compile_fds(files)?;
    Ok(())
}
