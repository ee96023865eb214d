//! The sidecar's file as it is written: TOML, every key known, nothing checked yet but the shape.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Deserialize;
use toml::Spanned;

/// The whole file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    pub(super) issuer: String,
    pub(super) audience: Vec<String>,
    pub(super) service: String,
    pub(super) jwks_url: Option<String>,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) decryption_key_file: Option<PathBuf>,
    /// Whether the service may be asked without TLS though it is elsewhere.
    #[serde(default)]
    pub(super) allow_plaintext: bool,
    pub(super) max_staleness: Option<String>,
    pub(super) start_timeout: Option<String>,
    pub(super) persist: Option<PathBuf>,
    pub(super) leeway: Option<String>,
    #[serde(default)]
    pub(super) strip_token: bool,
    pub(super) service_account: Option<ServiceAccount>,
    #[serde(default)]
    pub(super) listen: Listen,
    #[serde(default)]
    pub(super) headers: Headers,
    pub(super) default: Option<Spanned<Demand>>,
    #[serde(default)]
    pub(super) routes: Vec<Spanned<Route>>,
}

/// `[service_account]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ServiceAccount {
    pub(super) client_id: String,
    pub(super) secret_file: PathBuf,
}

/// `[listen]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Listen {
    pub(super) grpc: String,
    pub(super) http: String,
    pub(super) allow_plaintext: bool,
}

impl Default for Listen {
    fn default() -> Self {
        Self { grpc: "127.0.0.1:50061".to_owned(), http: "127.0.0.1:50062".to_owned(), allow_plaintext: false }
    }
}

/// `[headers]`. An empty name turns a header off.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Headers {
    pub(super) subject: String,
    pub(super) session: String,
    pub(super) roles: String,
    pub(super) scope: String,
    /// Name of the header → name of the claim.
    pub(super) claims: BTreeMap<String, String>,
}

impl Default for Headers {
    fn default() -> Self {
        Self {
            subject: "x-vouchsafe-subject".to_owned(),
            session: "x-vouchsafe-session".to_owned(),
            roles: "x-vouchsafe-roles".to_owned(),
            scope: "x-vouchsafe-scope".to_owned(),
            claims: BTreeMap::new(),
        }
    }
}

/// `[default]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Demand {
    #[serde(default)]
    pub(super) access: Access,
    #[serde(default)]
    pub(super) scopes: Vec<String>,
    #[serde(default)]
    pub(super) roles: Vec<String>,
    #[serde(default)]
    pub(super) when_stale: WhenStale,
}

/// `[[routes]]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Route {
    pub(super) path: String,
    #[serde(default)]
    pub(super) methods: Vec<String>,
    #[serde(default)]
    pub(super) hosts: Vec<String>,
    #[serde(default)]
    pub(super) access: Access,
    #[serde(default)]
    pub(super) scopes: Vec<String>,
    #[serde(default)]
    pub(super) roles: Vec<String>,
    #[serde(default)]
    pub(super) when_stale: WhenStale,
}

#[derive(Clone, Copy, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Access {
    Deny,
    #[default]
    Required,
    Optional,
    Public,
}

#[derive(Clone, Copy, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum WhenStale {
    #[default]
    Deny,
    Allow,
}
