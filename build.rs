//! Compiles the protos without `protoc`, and the access policy of every RPC out of the protos themselves.
//!
//! An RPC without `option (vouchsafe.v1.access)` fails the build: nobody can forget to say who may call it.

use std::{env, error::Error, fmt::Write as _, fs, path::PathBuf};

use prost_reflect::{DescriptorPool, MethodDescriptor, Value};

const PROTOS: [&str; 12] = [
    "vouchsafe/v1/access.proto",
    "vouchsafe/v1/account_service.proto",
    "vouchsafe/v1/auth_service.proto",
    "vouchsafe/v1/error_reason.proto",
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
    let server = env::var_os("CARGO_FEATURE_SERVER").is_some();
    let out = PathBuf::from(env::var("OUT_DIR")?);

    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true).open_files(PROTOS)?;
    // Encoded by protox, because only its own encoding keeps custom options.
    fs::write(out.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;

    tonic_prost_build::configure()
        .build_client(true)
        .build_server(server)
        .build_transport(true)
        .compile_fds(compiler.file_descriptor_set())?;

    if server {
        fs::write(out.join("access.rs"), access_table(&compiler.descriptor_pool())?)?;
    }
    Ok(())
}

/// A Rust slice of (path, access) for every RPC of `vouchsafe.v1`.
fn access_table(pool: &DescriptorPool) -> Result<String, Box<dyn Error>> {
    let extension = pool
        .get_extension_by_name("vouchsafe.v1.access")
        .ok_or("access.proto does not define the option vouchsafe.v1.access")?;
    let permission = pool
        .get_extension_by_name("vouchsafe.v1.permission")
        .ok_or("access.proto does not define the option vouchsafe.v1.permission")?;
    let mut table = String::from("&[\n");
    for service in pool.services().filter(|s| s.package_name() == "vouchsafe.v1") {
        for method in service.methods() {
            let options = method.options();
            let value = options.get_extension(&extension);
            let permission = options.get_extension(&permission);
            writeln!(
                table,
                "    (\"/{}/{}\", Access::{}),",
                service.full_name(),
                method.name(),
                variant(&method, &value, permission.as_str().unwrap_or_default())?
            )?;
        }
    }
    table.push_str("]\n");
    Ok(table)
}

/// The Rust variant for an `Access` number; unspecified and unknown ones are refused.
fn variant(method: &MethodDescriptor, value: &Value, permission: &str) -> Result<String, String> {
    match value.as_enum_number() {
        Some(1) if permission.is_empty() => Ok("Open".to_owned()),
        Some(2) if permission.is_empty() => Ok("Verifier".to_owned()),
        Some(3) if permission.is_empty() => Ok("Account".to_owned()),
        Some(4) if permission.contains(':') => Ok(format!("Permission({permission:?})")),
        Some(1..=4) => Err(format!(
            "{} must say `option (vouchsafe.v1.permission)` with ACCESS_PERMISSION, and with no other access",
            method.full_name()
        )),
        _ => Err(format!(
            "{} says nobody may call it: add `option (vouchsafe.v1.access) = …;` to the proto",
            method.full_name()
        )),
    }
}
