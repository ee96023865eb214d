//! Who may call what. The table is made at build time from the access option of every RPC in `proto/`; what is not in it is
//! not served.

use std::{
    collections::{BTreeSet, HashMap},
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

/// Who may call the RPC with this path. `None`: there is no such RPC.
pub(super) fn of(path: &str) -> Option<Access> {
    TABLE
        .get(path)
        .copied()
        .or_else(|| OPEN_SERVICES.iter().any(|service| path.starts_with(service)).then_some(Access::Open))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rpc_has_its_access_and_nothing_else_is_served() {
        assert_eq!(of("/vouchsafe.v1.AuthService/Login"), Some(Access::Open));
        assert_eq!(of("/vouchsafe.v1.AuthService/Verify"), Some(Access::Verifier));
        assert_eq!(of("/vouchsafe.v1.VerifierService/GetVerificationKeys"), Some(Access::Verifier));
        for method in ["GetAccount", "ListSessions", "RevokeSession", "RevokeOtherSessions", "ChangePassword"] {
            assert_eq!(of(&format!("/vouchsafe.v1.AccountService/{method}")), Some(Access::Account), "{method}");
        }
        assert_eq!(of("/vouchsafe.v1.AuthService/RevokeToken"), Some(Access::Open));
        for (path, access) in METHODS.iter().filter(|(path, _)| path.contains("AdminService/")) {
            assert!(matches!(access, Access::Permission(_)), "{path}");
        }
        assert_eq!(METHODS.iter().filter(|(path, _)| !path.contains("AdminService/")).count(), 13);
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
