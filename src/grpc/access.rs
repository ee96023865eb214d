//! Who may call what. The table is made at build time from the access option of every RPC in `proto/`; what is not in it is
//! not served.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    sync::LazyLock,
};

/// Who may call an RPC: `vouchsafe.v1.Access` without its unspecified value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anybody.
    Open,
    /// Services that verify tokens.
    Verifier,
    /// A signed-in user.
    Account,
    /// Whoever's roles hold this permission.
    Permission(&'static str),
}

impl fmt::Display for Access {
    /// As docs/PERMISSIONS.md says it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open => f.write_str("anybody"),
            Self::Verifier => f.write_str("services that verify tokens"),
            Self::Account => f.write_str("a signed-in user"),
            Self::Permission(permission) => write!(f, "`{permission}`"),
        }
    }
}

/// Every RPC of `vouchsafe.v1`.
const METHODS: &[(&str, Access)] = include!(concat!(env!("OUT_DIR"), "/access.rs"));

/// Services of others that are open to anybody: they tell nothing that is not public.
const OPEN_SERVICES: [&str; 3] =
    ["/grpc.health.v1.Health/", "/grpc.reflection.v1.ServerReflection/", "/grpc.reflection.v1alpha.ServerReflection/"];

static TABLE: LazyLock<HashMap<&'static str, Access>> = LazyLock::new(|| METHODS.iter().copied().collect());

/// The paths of the RPCs of [`OPEN_SERVICES`].
const OPEN_METHODS: [&str; 5] = [
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/List",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// The path of every RPC that is served, for metrics.
pub fn paths() -> impl Iterator<Item = &'static str> {
    METHODS.iter().map(|(path, _)| *path).chain(OPEN_METHODS)
}

/// Every permission that an RPC asks for, once, in order: what there is to hold of this program's own.
pub fn permissions() -> impl Iterator<Item = &'static str> {
    let asked = METHODS.iter().filter_map(|(_, access)| match access {
        Access::Permission(permission) => Some(*permission),
        Access::Open | Access::Verifier | Access::Account => None,
    });
    asked.collect::<BTreeSet<_>>().into_iter()
}

/// Who may call what, as a table for people. A test keeps docs/PERMISSIONS.md in step with it.
pub fn markdown_table() -> String {
    let name = |path: &str| path.trim_start_matches("/vouchsafe.v1.").replace('/', ".");
    let row = |(path, access): &(&str, Access)| format!("| `{}` | {access} |\n", name(path));
    let rows: String = METHODS.iter().map(row).collect();
    format!("| RPC | who may call it |\n|---|---|\n{rows}")
}

/// Whether calls of this RPC may last as long as their callers want: one message comes after the other.
pub(super) fn is_long(path: &str) -> bool {
    [
        "/vouchsafe.v1.AccountService/ExportAccount",
        "/vouchsafe.v1.AuditService/WatchAuditEvents",
        "/vouchsafe.v1.UserAdminService/ExportUser",
        "/vouchsafe.v1.UserAdminService/ImportUsers",
        "/vouchsafe.v1.VerifierService/WatchRevocations",
    ]
    .contains(&path)
}

/// Who may call the RPC with this path. `None`: there is no such RPC.
pub(super) fn of(path: &str) -> Option<Access> {
    TABLE
        .get(path)
        .copied()
        .or_else(|| OPEN_SERVICES.iter().any(|service| path.starts_with(service)).then_some(Access::Open))
}

#[cfg(test)]
mod table;

#[cfg(test)]
mod tests {
    use prost_reflect::{DescriptorPool, DynamicMessage, Value, prost::Message as _};

    use super::*;

    /// The table of the protos after `change` was made to the options of one RPC.
    fn table_with(rpc: &str, change: impl Fn(&DescriptorPool, &mut DynamicMessage)) -> Result<String, String> {
        fn named<'m>(parent: &'m mut DynamicMessage, field: &str, name: &str) -> &'m mut DynamicMessage {
            let list = parent.get_field_by_name_mut(field).unwrap().as_list_mut().unwrap();
            let is_it =
                |m: &&mut Value| m.as_message().unwrap().get_field_by_name("name").unwrap().as_str() == Some(name);
            list.iter_mut().find(is_it).unwrap().as_message_mut().unwrap()
        }
        let pool = DescriptorPool::decode(crate::pb::FILE_DESCRIPTOR_SET).unwrap();
        let files = pool.get_message_by_name("google.protobuf.FileDescriptorSet").unwrap();
        let mut files = DynamicMessage::decode(files, crate::pb::FILE_DESCRIPTOR_SET).unwrap();
        let file = named(&mut files, "file", "vouchsafe/v1/role_admin_service.proto");
        let method = named(named(file, "service", "RoleAdminService"), "method", rpc);
        change(&pool, method.get_field_by_name_mut("options").unwrap().as_message_mut().unwrap());
        table::access_table(&DescriptorPool::decode(files.encode_to_vec().as_slice()).unwrap())
    }

    #[test]
    fn an_rpc_without_a_policy_fails_the_build() {
        let options = |pool: &DescriptorPool| {
            ["vouchsafe.v1.access", "vouchsafe.v1.permission"].map(|name| pool.get_extension_by_name(name).unwrap())
        };
        let whole = table_with("GetRole", |_, _| {}).unwrap();
        assert_eq!(whole, include_str!(concat!(env!("OUT_DIR"), "/access.rs")), "what this program was built with");
        let set = |access: i32, permission: &'static str| {
            table_with("GetRole", move |pool, message| {
                let [access_option, permission_option] = options(pool);
                message.set_extension(&access_option, Value::EnumNumber(access));
                message.set_extension(&permission_option, Value::String(permission.to_owned()));
            })
        };
        let without = table_with("GetRole", |pool, message| {
            for option in options(pool) {
                message.clear_extension(&option);
            }
        });
        for (broken, says) in [
            (without, "says nobody may call it"),
            (set(0, ""), "says nobody may call it"),
            (set(5, ""), "says nobody may call it"),
            (set(4, ""), "must say"),
            (set(4, "roles"), "must say"),
            (set(4, "*"), "must say"),
            (set(4, "Roles:read"), "must say"),
            (set(4, "roles:"), "must say"),
            (set(1, "roles:read"), "must say"),
            (set(3, "roles:read"), "must say"),
        ] {
            let error = broken.unwrap_err();
            assert!(error.contains("vouchsafe.v1.RoleAdminService.GetRole") && error.contains(says), "{error}");
        }
    }

    #[test]
    fn every_rpc_has_its_access_and_nothing_else_is_served() {
        assert_eq!(of("/vouchsafe.v1.AuthService/Login"), Some(Access::Open));
        assert_eq!(of("/vouchsafe.v1.AuthService/Verify"), Some(Access::Verifier));
        assert_eq!(of("/vouchsafe.v1.VerifierService/GetVerificationKeys"), Some(Access::Verifier));
        for method in ["GetAccount", "ListSessions", "RevokeSession", "RevokeOtherSessions", "ChangePassword"] {
            assert_eq!(of(&format!("/vouchsafe.v1.AccountService/{method}")), Some(Access::Account), "{method}");
        }
        assert_eq!(of("/vouchsafe.v1.AuthService/RevokeToken"), Some(Access::Open));
        let is_administration = |path: &str| path.contains("AdminService/") || path.contains("AuditService/");
        for (path, access) in METHODS.iter().filter(|(path, _)| is_administration(path)) {
            assert!(matches!(access, Access::Permission(_)), "{path}");
        }
        assert_eq!(METHODS.iter().filter(|(path, _)| !is_administration(path)).count(), 30);
        for path in [
            "",
            "/",
            "/vouchsafe.v1.AuthService/login",
            "//vouchsafe.v1.AuthService/Login",
            "/vouchsafe.v1.AuthService",
        ] {
            assert_eq!(of(path), None, "{path}");
        }
    }
}
