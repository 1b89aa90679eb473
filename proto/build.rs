//! Generates the wire types from `zeolite/v2/zeolite.proto` with protox, so that no `protoc` is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=zeolite");
    let descriptors = protox::Compiler::new(["."])?
        .include_imports(true)
        .include_source_info(true)
        .open_file("zeolite/v2/zeolite.proto")?
        .encode_file_descriptor_set();
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    let descriptor_path = out.join("zeolite.bin");
    std::fs::write(&descriptor_path, &descriptors)?;
    tonic_prost_build::configure()
        .bytes(".")
        .codec_path("crate::wire::codec::CountingCodec")
        .file_descriptor_set_path(&descriptor_path)
        .skip_protoc_run()
        .compile_protos(&["zeolite/v2/zeolite.proto"], &["."])?;
    Ok(())
}
