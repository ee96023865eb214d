//! Compiles the protos without `protoc`, and the access policy of every RPC out of the protos themselves.
//!
//! An RPC without `option (vouchsafe.v1.access)` fails the build: nobody can forget to say who may call it.

use std::{env, error::Error, fs, path::PathBuf};

#[path = "src/grpc/access/table.rs"]
mod table;

const PROTOS: [&str; 15] = [
    "vouchsafe/v1/access.proto",
    "vouchsafe/v1/account_service.proto",
    "vouchsafe/v1/audit_service.proto",
    "vouchsafe/v1/auth_service.proto",
    "vouchsafe/v1/error_reason.proto",
    "vouchsafe/v1/export.proto",
    "vouchsafe/v1/key_admin_service.proto",
    "vouchsafe/v1/role.proto",
    "vouchsafe/v1/role_admin_service.proto",
    "vouchsafe/v1/service_account_admin_service.proto",
    "vouchsafe/v1/session.proto",
    "vouchsafe/v1/token.proto",
    "vouchsafe/v1/user.proto",
    "vouchsafe/v1/user_admin_service.proto",
    "vouchsafe/v1/verifier_service.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=migrations");
    println!("cargo:rerun-if-changed=examples/proto");
    let server = env::var_os("CARGO_FEATURE_SERVER").is_some();
    // The sidecar answers `AuthService.Verify` itself.
    let sidecar = env::var_os("CARGO_FEATURE_SIDECAR").is_some();
    let out = PathBuf::from(env::var("OUT_DIR")?);

    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true).open_files(PROTOS)?;
    // Encoded by protox, because only its own encoding keeps custom options.
    fs::write(out.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;

    tonic_prost_build::configure()
        .build_client(true)
        .build_server(sidecar)
        .build_transport(true)
        .compile_fds(compiler.file_descriptor_set())?;

    if server {
        // What the examples serve, and the tests of what protects it.
        tonic_prost_build::configure().compile_fds(protox::compile(["greeter.proto"], ["examples/proto"])?)?;
        fs::write(out.join("access.rs"), table::access_table(&compiler.descriptor_pool())?)?;
    }
    Ok(())
}
