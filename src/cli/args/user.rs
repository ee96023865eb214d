//! `vouchsafe user`.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum, ValueHint};
use prost_types::Timestamp;
use serde_json::{Map, Value};

use super::{ConfirmArgs, EtagArgs, ListArgs, ManageArgs};
use crate::cli::manage::values::{attributes, moment};

/// Manage users.
#[derive(Clone, Subcommand)]
pub enum UserCommand {
    /// List users
    ///
    /// All conditions must hold. By e-mail address with --email-prefix, by user name with --username-prefix, else the oldest
    /// first.
    List(ListUsers),
    /// Show a user
    Get(OneUser),
    /// Write everything that is kept of a user, as JSON Lines: to hand it to that person
    ///
    /// The account, roles, sessions, devices, what waits, and every event about or by the user, without secrets. Each line says by
    /// `record` what it is; the last one is `end`. The trail has it as `user.exported`.
    Export(OneUser),
    /// Create a user
    ///
    /// Asks for the password unless told where to read it, or that there is none.
    Create(Box<CreateUser>),
    /// Import users from a CSV or JSON Lines file, with the hashes of their passwords
    ///
    /// The columns, or fields, are email, username, display_name, email_verified, password_hash, roles, suspended, attributes,
    /// custom_claims and create_time; email alone must be there. Accepted hashes: argon2, bcrypt, scrypt and PBKDF2, as Django, passlib and others
    /// write them. Run again on the same file, the command goes on where it broke off. A row that cannot be imported is reported
    /// and holds up no other; the exit code is then 1.
    Import(ImportUsers),
    /// Change what is known of a user
    Update(Box<UpdateUser>),
    /// Bar a user from signing in, and end all sessions. Asks first
    Suspend(EndUser),
    /// Let a suspended user sign in again
    Reactivate(OneUser),
    /// Delete a user for good, with all sessions. Asks first
    Delete(DeleteUser),
    /// Replace a user's password, and end all sessions
    SetPassword(SetPassword),
    /// Take a user's second factor and recovery codes away, and end all sessions. Asks first
    ///
    /// For somebody who lost both: the next sign-in needs the password alone.
    RemoveFactors(EndUser),
    /// List a user's live sessions
    Sessions(UserSessions),
    /// End a user's sessions: one, or all, for which it asks first
    RevokeSessions(RevokeSessions),
    /// Give a user a role
    AssignRole(UserRole),
    /// Take a role from a user
    UnassignRole(UserRole),
}

impl UserCommand {
    /// Where it acts and how it answers.
    pub(in crate::cli) fn common(&self) -> &ManageArgs {
        match self {
            Self::List(args) => &args.common,
            Self::Get(args) | Self::Export(args) | Self::Reactivate(args) => &args.common,
            Self::Import(args) => &args.common,
            Self::Create(args) => &args.common,
            Self::Update(args) => &args.common,
            Self::Suspend(args) | Self::RemoveFactors(args) => &args.common,
            Self::Delete(args) => &args.common,
            Self::SetPassword(args) => &args.common,
            Self::Sessions(args) => &args.common,
            Self::RevokeSessions(args) => &args.common,
            Self::AssignRole(args) | Self::UnassignRole(args) => &args.common,
        }
    }
}

/// Which users to list.
#[derive(Clone, clap::Args)]
pub struct ListUsers {
    /// Only those whose e-mail address begins like this, in any case
    #[arg(long, value_name = "TEXT")]
    pub email_prefix: Option<String>,
    /// Only those whose user name begins like this
    #[arg(long, value_name = "TEXT")]
    pub username_prefix: Option<String>,
    /// Only those in this state
    #[arg(long, value_enum)]
    pub state: Option<State>,
    /// Only those with this role
    #[arg(long, value_name = "ROLE")]
    pub role: Option<String>,
    /// Only those created at this moment or later: 2026-11-22 or 2026-11-22T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub created_since: Option<Timestamp>,
    /// Only those created before this moment
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub created_before: Option<Timestamp>,
    /// How many.
    #[command(flatten)]
    pub list: ListArgs,
    /// Where.
    #[command(flatten)]
    pub common: ManageArgs,
}

/// Whether a user may sign in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum State {
    /// May sign in
    Active,
    /// May not
    Suspended,
}

/// One user.
#[derive(Clone, clap::Args)]
pub struct OneUser {
    /// Id, e-mail address or user name
    #[arg(value_name = "USER")]
    pub user: String,
    /// Where.
    #[command(flatten)]
    pub common: ManageArgs,
}

/// One user, and whether to ask.
#[derive(Clone, clap::Args)]
pub struct EndUser {
    /// Id, e-mail address or user name
    #[arg(value_name = "USER")]
    pub user: String,
    /// Whether to ask.
    #[command(flatten)]
    pub confirm: ConfirmArgs,
    /// Where.
    #[command(flatten)]
    pub common: ManageArgs,
}

/// The user to delete.
#[derive(Clone, clap::Args)]
pub struct DeleteUser {
    /// Id, e-mail address or user name
    #[arg(value_name = "USER")]
    pub user: String,
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

/// The user to create.
#[derive(Clone, clap::Args)]
pub struct CreateUser {
    /// E-mail address to sign in with
    #[arg(long, value_name = "EMAIL")]
    pub email: String,
    /// User name to sign in with as well: a-z, 0-9, '.', '_' and '-'
    #[arg(long, value_name = "NAME")]
    pub username: Option<String>,
    /// Name to show
    #[arg(long, value_name = "NAME")]
    pub display_name: Option<String>,
    /// Where the password is.
    #[command(flatten)]
    pub password: PasswordArgs,
    /// Read the hash of a password made elsewhere from the first line of a file
    #[arg(
        long,
        value_name = "FILE",
        value_hint = ValueHint::FilePath,
        conflicts_with_all = ["password_stdin", "password_file", "no_password"],
    )]
    pub password_hash_file: Option<PathBuf>,
    /// Create the user without a password
    #[arg(long, conflicts_with_all = ["password_stdin", "password_file"])]
    pub no_password: bool,
    /// A role to give; may be repeated
    #[arg(long = "role", value_name = "ROLE")]
    pub roles: Vec<String>,
    /// The address is known to be the user's
    #[arg(long)]
    pub email_verified: bool,
    /// What to keep with the user, a JSON object
    #[arg(long, value_name = "JSON", value_parser = attributes)]
    pub attributes: Option<Map<String, Value>>,
    /// What the user's tokens say beside, a JSON object whose members are claims
    #[arg(long, value_name = "JSON", value_parser = attributes)]
    pub custom_claims: Option<Map<String, Value>>,
    /// A UUID of your making: the same request sent again with it gets the same user instead of an error
    #[arg(long, value_name = "UUID")]
    pub request_id: Option<String>,
    /// Where.
    #[command(flatten)]
    pub common: ManageArgs,
}

/// Where a password is.
#[derive(Clone, clap::Args)]
pub struct PasswordArgs {
    /// Read the password from the first line of standard input
    #[arg(long, conflicts_with_all = ["password_file", "token_stdin"])]
    pub password_stdin: bool,
    /// Read the password from the first line of a file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub password_file: Option<PathBuf>,
}

/// What to change of a user.
#[derive(Clone, clap::Args)]
pub struct UpdateUser {
    /// Id, e-mail address or user name
    #[arg(value_name = "USER")]
    pub user: String,
    /// What.
    #[command(flatten)]
    pub changes: UserChanges,
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
pub struct UserChanges {
    /// E-mail address; not verified any more unless said so
    #[arg(long, value_name = "EMAIL")]
    pub email: Option<String>,
    /// User name; empty for none
    #[arg(long, value_name = "NAME")]
    pub username: Option<String>,
    /// Name to show; empty for none
    #[arg(long, value_name = "NAME")]
    pub display_name: Option<String>,
    /// Whether the address is known to be the user's
    #[arg(long, value_name = "true|false")]
    pub email_verified: Option<bool>,
    /// What to keep with the user, a JSON object; replaces what was kept
    #[arg(long, value_name = "JSON", value_parser = attributes)]
    pub attributes: Option<Map<String, Value>>,
    /// What the user's tokens say beside, a JSON object whose members are claims; replaces what they said, {} for nothing. Access tokens
    /// from before are refused
    #[arg(long, value_name = "JSON", value_parser = attributes)]
    pub custom_claims: Option<Map<String, Value>>,
    /// Phone number such as +4930123456, taken as the user's; empty for none
    #[arg(long, value_name = "NUMBER")]
    pub phone_number: Option<String>,
    /// Language of messages such as de or pt-BR; empty for the server's own
    #[arg(long, value_name = "TAG")]
    pub locale: Option<String>,
}

/// A user's new password.
#[derive(Clone, clap::Args)]
pub struct SetPassword {
    /// Id, e-mail address or user name
    #[arg(value_name = "USER")]
    pub user: String,
    /// Where the password is.
    #[command(flatten)]
    pub password: PasswordArgs,
    /// Where.
    #[command(flatten)]
    pub common: ManageArgs,
}

/// Whose sessions to list.
#[derive(Clone, clap::Args)]
pub struct UserSessions {
    /// Id, e-mail address or user name
    #[arg(value_name = "USER")]
    pub user: String,
    /// How many.
    #[command(flatten)]
    pub list: ListArgs,
    /// Where.
    #[command(flatten)]
    pub common: ManageArgs,
}

/// Which sessions to end.
#[derive(Clone, clap::Args)]
pub struct RevokeSessions {
    /// Id, e-mail address or user name
    #[arg(value_name = "USER")]
    pub user: String,
    /// Only this session
    #[arg(long, value_name = "ID")]
    pub session: Option<String>,
    /// Whether to ask.
    #[command(flatten)]
    pub confirm: ConfirmArgs,
    /// Where.
    #[command(flatten)]
    pub common: ManageArgs,
}

/// A user and a role.
#[derive(Clone, clap::Args)]
pub struct UserRole {
    /// Id, e-mail address or user name
    #[arg(value_name = "USER")]
    pub user: String,
    /// The role's name
    #[arg(value_name = "ROLE")]
    pub role: String,
    /// Where.
    #[command(flatten)]
    pub common: ManageArgs,
}

/// The users to import.
#[derive(Clone, clap::Args)]
pub struct ImportUsers {
    /// The file
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// Its form, by default as its name ends: .csv, .jsonl or .ndjson
    #[arg(long, value_enum)]
    pub format: Option<ImportFormat>,
    /// Check every row and import none
    #[arg(long)]
    pub dry_run: bool,
    /// UUID to know the import by when it goes on, by default made from what the file holds
    #[arg(long, value_name = "UUID")]
    pub import_id: Option<uuid::Uuid>,
    /// Where.
    #[command(flatten)]
    pub common: ManageArgs,
}

/// How users are written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ImportFormat {
    /// A line of headings, then a row for each
    Csv,
    /// A JSON object on each line
    Jsonl,
}
