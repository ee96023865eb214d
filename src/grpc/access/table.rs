//! The access policy of every RPC out of the protos themselves: part of the build script, and of no program. It is here so that
//! tests can break the protos.

use std::fmt::Write as _;

use prost_reflect::{DescriptorPool, ExtensionDescriptor, MethodDescriptor, Value};

/// A Rust slice of (path, access) for every RPC of `vouchsafe.v1`. An RPC that does not say who may call it is an error.
pub(crate) fn access_table(pool: &DescriptorPool) -> Result<String, String> {
    let (access, permission) = (option(pool, "access")?, option(pool, "permission")?);
    let mut table = String::from("&[\n");
    for service in pool.services().filter(|s| s.package_name() == "vouchsafe.v1") {
        for method in service.methods() {
            let options = method.options();
            let (value, permission) = (options.get_extension(&access), options.get_extension(&permission));
            let variant = variant(&method, &value, permission.as_str().unwrap_or_default())?;
            let (service, method) = (service.full_name(), method.name());
            writeln!(table, "    (\"/{service}/{method}\", Access::{variant}),").map_err(|e| e.to_string())?;
        }
    }
    table.push_str("]\n");
    Ok(table)
}

fn option(pool: &DescriptorPool, name: &str) -> Result<ExtensionDescriptor, String> {
    let option = pool.get_extension_by_name(&format!("vouchsafe.v1.{name}"));
    option.ok_or_else(|| format!("access.proto does not define the option vouchsafe.v1.{name}"))
}

/// The Rust variant for an `Access` number; unspecified and unknown ones are refused.
fn variant(method: &MethodDescriptor, value: &Value, permission: &str) -> Result<String, String> {
    match value.as_enum_number() {
        Some(1) if permission.is_empty() => Ok("Open".to_owned()),
        Some(2) if permission.is_empty() => Ok("Verifier".to_owned()),
        Some(3) if permission.is_empty() => Ok("Account".to_owned()),
        Some(4) if is_permission(permission) => Ok(format!("Permission({permission:?})")),
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

/// `things:act` as roles can hold it.
fn is_permission(text: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(is_plain);
    text.split_once(':').is_some_and(|(things, act)| is_word(things) && is_word(act))
}
