//! `vouchsafe service-account`.

use std::time::Duration;

use clap::Subcommand;

use super::{ConfirmArgs, EtagArgs, ListArgs, ManageArgs};
use crate::config::parse_duration;

/// Manage service accounts.
#[derive(Clone, Subcommand)]
pub enum ServiceAccountCommand {
    /// List service accounts, the oldest first
    List(ListServiceAccounts),
    /// Show a service account
    Get(OneServiceAccount),
    /// Create a service account and print its secret, this once
    Create(CreateServiceAccount),
    /// Change a service account
    Update(UpdateServiceAccount),
    /// Give a service account another secret and print it, this once
    ///
    /// The secret it has goes on for a while, so that the service can be moved to the new one without a gap.
    RotateSecret(RotateSecret),
    /// Delete a service account. Its secrets and tokens are refused from then on. Asks first
    Delete(DeleteServiceAccount),
}

impl ServiceAccountCommand {
    /// Where it acts and how it answers.
    pub(in crate::cli) fn common(&self) -> &ManageArgs {
        match self {
            Self::List(args) => &args.common,
            Self::Get(args) => &args.common,
            Self::Create(args) => &args.common,
            Self::Update(args) => &args.common,
            Self::RotateSecret(args) => &args.common,
            Self::Delete(args) => &args.common,
        }
    }
}

/// How many service accounts to list.
#[derive(Clone, clap::Args)]
pub struct ListServiceAccounts {
    /// How many.
    #[command(flatten)]
    pub list: ListArgs,
    /// Where.
    #[command(flatten)]
    pub common: ManageArgs,
}

/// One service account.
#[derive(Clone, clap::Args)]
pub struct OneServiceAccount {
    /// The account's client id, svc_ and a UUID
    #[arg(value_name = "CLIENT_ID")]
    pub client_id: String,
    /// Where.
    #[command(flatten)]
    pub common: ManageArgs,
}

/// The service account to create.
#[derive(Clone, clap::Args)]
pub struct CreateServiceAccount {
    /// Name to show
    #[arg(long, value_name = "NAME")]
    pub display_name: String,
    /// SPIFFE id that its client certificate names, spiffe://trust-domain/path
    #[arg(long, value_name = "ID")]
    pub spiffe_id: Option<String>,
    /// A role to give; may be repeated
    #[arg(long = "role", value_name = "ROLE")]
    pub roles: Vec<String>,
    /// Make no secret: the account is known by its client certificate alone
    #[arg(long, requires = "spiffe_id")]
    pub no_secret: bool,
    /// A UUID of your making: the same request sent again with it gets the same account and secret instead of a second one
    #[arg(long, value_name = "UUID")]
    pub request_id: Option<String>,
    /// Where.
    #[command(flatten)]
    pub common: ManageArgs,
}

/// What to change of a service account.
#[derive(Clone, clap::Args)]
pub struct UpdateServiceAccount {
    /// The account's client id, svc_ and a UUID
    #[arg(value_name = "CLIENT_ID")]
    pub client_id: String,
    /// What.
    #[command(flatten)]
    pub changes: ServiceAccountChanges,
    /// Only if nobody was faster.
    #[command(flatten)]
    pub etag: EtagArgs,
    /// Where.
    #[command(flatten)]
    pub common: ManageArgs,
}

/// The changes.
#[derive(Clone, clap::Args)]
#[group(required = true, multiple = true)]
pub struct ServiceAccountChanges {
    /// Name to show
    #[arg(long, value_name = "NAME")]
    pub display_name: Option<String>,
    /// SPIFFE id that its client certificate names; empty for none
    #[arg(long, value_name = "ID")]
    pub spiffe_id: Option<String>,
    /// All its roles from now on; may be repeated
    #[arg(long = "role", value_name = "ROLE")]
    pub roles: Vec<String>,
    /// Give this role as well; may be repeated
    #[arg(long = "add-role", value_name = "ROLE", conflicts_with = "roles")]
    pub added: Vec<String>,
    /// Take this role; may be repeated
    #[arg(long = "remove-role", value_name = "ROLE", conflicts_with = "roles")]
    pub removed: Vec<String>,
    /// Take all roles
    #[arg(long, conflicts_with_all = ["roles", "added", "removed"])]
    pub no_roles: bool,
}

/// Whose secret to rotate.
#[derive(Clone, clap::Args)]
pub struct RotateSecret {
    /// The account's client id, svc_ and a UUID
    #[arg(value_name = "CLIENT_ID")]
    pub client_id: String,
    /// How long the present secret goes on, at most 30d; 0s ends it, and the tokens it got, at once, and asks first
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = parse_duration)]
    pub keep_previous: Duration,
    /// Whether to ask.
    #[command(flatten)]
    pub confirm: ConfirmArgs,
    /// Where.
    #[command(flatten)]
    pub common: ManageArgs,
}

/// The service account to delete.
#[derive(Clone, clap::Args)]
pub struct DeleteServiceAccount {
    /// The account's client id, svc_ and a UUID
    #[arg(value_name = "CLIENT_ID")]
    pub client_id: String,
    /// Only if nobody was faster.
    #[command(flatten)]
    pub etag: EtagArgs,
    /// Whether to ask.
    #[command(flatten)]
    pub confirm: ConfirmArgs,
    /// Where.
    #[command(flatten)]
    pub common: ManageArgs,
}
