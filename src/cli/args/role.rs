//! `vouchsafe role`.

use clap::Subcommand;
use serde_json::{Map, Value};

use super::{ConfirmArgs, EtagArgs, ListArgs, ManageArgs};
use crate::cli::manage::values::attributes;

/// Manage roles.
#[derive(Clone, Subcommand)]
pub enum RoleCommand {
    /// List roles by name
    List(ListRoles),
    /// Show a role
    Get(OneRole),
    /// Create a role
    Create(CreateRole),
    /// Change what a role is for and what it allows
    Update(UpdateRole),
    /// Delete a role that nobody has. Asks first
    Delete(DeleteRole),
}

impl RoleCommand {
    /// Where it acts and how it answers.
    pub(in crate::cli) fn common(&self) -> &ManageArgs {
        match self {
            Self::List(args) => &args.common,
            Self::Get(args) => &args.common,
            Self::Create(args) => &args.common,
            Self::Update(args) => &args.common,
            Self::Delete(args) => &args.common,
        }
    }
}

/// How many roles to list.
#[derive(Clone, clap::Args)]
pub struct ListRoles {
    /// How many.
    #[command(flatten)]
    pub list: ListArgs,
    /// Where.
    #[command(flatten)]
    pub common: ManageArgs,
}

/// One role.
#[derive(Clone, clap::Args)]
pub struct OneRole {
    /// The role's name
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Where.
    #[command(flatten)]
    pub common: ManageArgs,
}

/// The role to create.
#[derive(Clone, clap::Args)]
pub struct CreateRole {
    /// The name, which is what tokens carry: a-z, 0-9, '.', '_' and '-'
    #[arg(value_name = "NAME")]
    pub name: String,
    /// What the role is for
    #[arg(long, value_name = "TEXT")]
    pub description: Option<String>,
    /// What it allows, things:act, for instance users:read, or *; may be repeated
    #[arg(long = "permission", value_name = "PERMISSION")]
    pub permissions: Vec<String>,
    /// What the tokens of its holders say beside, a JSON object whose members are claims
    #[arg(long, value_name = "JSON", value_parser = attributes)]
    pub custom_claims: Option<Map<String, Value>>,
    /// Where.
    #[command(flatten)]
    pub common: ManageArgs,
}

/// What to change of a role.
#[derive(Clone, clap::Args)]
pub struct UpdateRole {
    /// The role's name
    #[arg(value_name = "NAME")]
    pub name: String,
    /// What.
    #[command(flatten)]
    pub changes: RoleChanges,
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
pub struct RoleChanges {
    /// What the role is for
    #[arg(long, value_name = "TEXT")]
    pub description: Option<String>,
    /// All that it allows from now on; may be repeated
    #[arg(long = "permission", value_name = "PERMISSION")]
    pub permissions: Vec<String>,
    /// Allow this as well; may be repeated
    #[arg(long = "add-permission", value_name = "PERMISSION", conflicts_with = "permissions")]
    pub added: Vec<String>,
    /// Allow this no longer; may be repeated
    #[arg(long = "remove-permission", value_name = "PERMISSION", conflicts_with = "permissions")]
    pub removed: Vec<String>,
    /// Allow nothing any more
    #[arg(long, conflicts_with_all = ["permissions", "added", "removed"])]
    pub no_permissions: bool,
    /// What the tokens of its holders say beside from now on, a JSON object whose members are claims; {} for nothing
    #[arg(long, value_name = "JSON", value_parser = attributes)]
    pub custom_claims: Option<Map<String, Value>>,
}

/// The role to delete.
#[derive(Clone, clap::Args)]
pub struct DeleteRole {
    /// The role's name
    #[arg(value_name = "NAME")]
    pub name: String,
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
