//! What the command line looks like. The help texts are its documentation; what the commands do stands elsewhere.

use std::{path::PathBuf, time::Duration};

use clap::{Parser, Subcommand, ValueEnum, ValueHint};

use crate::{
    config::parse_duration,
    domain::{
        audience::{Audience, AudienceError},
        email::Email,
        secret::SecretString,
        user::{Label, Username},
    },
    sidecar::args::SidecarArgs,
};

mod audit;
mod manage;
mod passwords;
mod privacy;
mod role;
mod service_account;
mod user;

pub use audit::{AuditCommand, ExportEvents, ListEvents, VerifyTrail, WatchEvents};
pub use manage::{ConfirmArgs, EtagArgs, ListArgs, ManageArgs, ServerArgs};
pub use passwords::{BuildFilter, PasswordsCommand};
pub use privacy::{ListErasures, PrivacyCommand, ReapplyErasures};
pub use role::{CreateRole, DeleteRole, ListRoles, OneRole, RoleChanges, RoleCommand, UpdateRole};
pub use service_account::{
    CreateServiceAccount, DeleteServiceAccount, ListServiceAccounts, OneServiceAccount, RotateSecret,
    ServiceAccountChanges, ServiceAccountCommand, UpdateServiceAccount,
};
pub use user::{
    CreateUser, DeleteUser, EndUser, ImportFormat, ImportUsers, ListUsers, OneUser, PasswordArgs, RevokeSessions,
    SetPassword, State, UpdateUser, UserChanges, UserCommand, UserRole, UserSessions,
};

// Nothing here is `Debug`: a token or a `--set` of a secret must not reach a log that way.

/// An identity service that speaks gRPC.
///
/// With no configuration at all, `vouchsafe serve` keeps its data in a directory of yours and listens on this machine only.
#[derive(Clone, Parser)]
#[command(name = "vouchsafe", version)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Settings flags before the command. [`Args::settings`] has them all.
    #[command(flatten)]
    pub outer: SettingsArgs,
}

/// The flags that settings can come from. They may stand before or after a command that reads settings.
// Not clap's `global = true`: of a repeated flag on both sides of the command it drops those before.
#[derive(Clone, Default, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Settings")]
pub struct SettingsArgs {
    /// TOML file to read settings from
    ///
    /// Without it, the file that the environment variable VOUCHSAFE_CONFIG names; without that, none. The environment and
    /// --set win over the file.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// One setting, for instance --set log.format=json; may be repeated
    ///
    /// Wins over the environment and the file. Lists are separated by commas. Other users of this machine can see it: give
    /// secrets in the environment (VOUCHSAFE_KEYS__MASTER_KEY) or in a file (VOUCHSAFE_KEYS__MASTER_KEY_FILE).
    /// `vouchsafe config reference` lists all settings.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub sets: Vec<String>,
    /// Directory for the SQLite database and the generated master key
    ///
    /// The setting data_dir. By default vouchsafe in $XDG_DATA_HOME, or else in ~/.local/share. Not used on Postgres.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub data_dir: Option<String>,
}

/// What to do.
#[derive(Clone, Subcommand)]
pub enum Command {
    /// Run the server
    ///
    /// Serves gRPC on 127.0.0.1:50051 and HTTP on 127.0.0.1:50052 unless settings say otherwise. SIGTERM and Ctrl-C end it
    /// after the calls under way.
    Serve {
        /// Settings flags after the command.
        #[command(flatten)]
        settings: SettingsArgs,
    },
    /// Bring the database schema up to date
    ///
    /// Run it before the first start on Postgres and before each upgrade. On SQLite `serve` does it itself.
    Migrate {
        /// Settings flags after the command.
        #[command(flatten)]
        settings: SettingsArgs,
    },
    /// Check and list settings
    Config {
        /// Which.
        #[command(subcommand)]
        command: ConfigCommand,
        /// Settings flags after the command.
        #[command(flatten)]
        settings: SettingsArgs,
    },
    /// Manage administrators
    Admin {
        /// Which.
        #[command(subcommand)]
        command: AdminCommand,
        /// Settings flags after the command.
        #[command(flatten)]
        settings: SettingsArgs,
    },
    /// Manage the keys that sign access tokens
    Keys {
        /// Which.
        #[command(subcommand)]
        command: KeysCommand,
        /// Settings flags after the command.
        #[command(flatten)]
        settings: SettingsArgs,
    },
    /// Prepare what passwords are checked against
    Passwords {
        /// Which.
        #[command(subcommand)]
        command: PasswordsCommand,
    },
    /// Look after messages that could not be delivered
    ///
    /// A message is given up when its recipient's server refuses it for good, or when it is of no use any more. It is kept for 30
    /// days, encrypted.
    Messages {
        /// Which.
        #[command(subcommand)]
        command: MessagesCommand,
        /// Settings flags after the command.
        #[command(flatten)]
        settings: SettingsArgs,
    },
    /// Manage users, on the database or through a server
    User {
        /// Which.
        #[command(subcommand)]
        command: UserCommand,
        /// Settings flags after the command.
        #[command(flatten)]
        settings: SettingsArgs,
    },
    /// Manage roles, on the database or through a server
    Role {
        /// Which.
        #[command(subcommand)]
        command: RoleCommand,
        /// Settings flags after the command.
        #[command(flatten)]
        settings: SettingsArgs,
    },
    /// Manage service accounts, on the database or through a server
    ServiceAccount {
        /// Which.
        #[command(subcommand)]
        command: ServiceAccountCommand,
        /// Settings flags after the command.
        #[command(flatten)]
        settings: SettingsArgs,
    },
    /// Read and check the audit trail, on the database or through a server
    Audit {
        /// Which.
        #[command(subcommand)]
        command: AuditCommand,
        /// Settings flags after the command.
        #[command(flatten)]
        settings: SettingsArgs,
    },
    /// Keep users deleted who were deleted
    ///
    /// A backup that is restored brings back who was deleted since. Keep a list of them apart from the backups, and have it applied
    /// again before servers start.
    Privacy {
        /// Which.
        #[command(subcommand)]
        command: PrivacyCommand,
        /// Settings flags after the command.
        #[command(flatten)]
        settings: SettingsArgs,
    },
    /// Look at access tokens, without a server
    Token {
        /// Which.
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// Verify access tokens beside a workload
    ///
    /// External authorization for Envoy and Istio, and `Verify` for services in any language, from the keys and revocations
    /// that the service pushes. Settings of the server do not matter to it; it has a file of its own.
    Sidecar(SidecarArgs),
    /// Print a completion script for a shell
    ///
    /// For instance: vouchsafe completions bash > /etc/bash_completion.d/vouchsafe
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Ask a running server whether it is ready
    ///
    /// Exits with 0 if it is and with 1 if it is not, for container health checks. With TLS it accepts the certificate that the
    /// setting http.tls_cert names and no other; where http.client_ca is set it shows that certificate itself, which must then be
    /// one for clients too.
    Healthcheck {
        /// Base URL of the server's HTTP port, by default where the setting http.listen says
        #[arg(long, value_name = "URL", value_hint = ValueHint::Url)]
        url: Option<String>,
        /// Settings flags after the command.
        #[command(flatten)]
        settings: SettingsArgs,
    },
}

/// Check and list settings.
#[derive(Clone, Subcommand)]
pub enum ConfigCommand {
    /// Check the settings and print them, without secrets
    ///
    /// Prints every setting in force as TOML, or every problem, one a line, and exits with 1. Changes nothing.
    Check {
        /// Settings flags after the command.
        #[command(flatten)]
        settings: SettingsArgs,
    },
    /// Print the table of all settings as Markdown
    Reference,
}

/// Manage administrators.
#[derive(Clone, Subcommand)]
pub enum AdminCommand {
    /// Create an account with the role admin
    ///
    /// Works on the database itself, also while the server runs. Asks for the password unless told where to read it.
    Create(CreateAdmin),
}

/// The account to create.
#[derive(Clone, clap::Args)]
pub struct CreateAdmin {
    /// E-mail address to sign in with
    #[arg(long, value_name = "EMAIL", value_parser = Email::parse)]
    pub email: Email,
    /// User name to sign in with as well: a-z, 0-9, '.', '_' and '-'
    #[arg(long, value_name = "NAME", value_parser = Username::parse)]
    pub username: Option<Username>,
    /// Name to show
    #[arg(long, value_name = "NAME", value_parser = Label::parse)]
    pub display_name: Option<Label>,
    /// Read the password from the first line of standard input
    #[arg(long, conflicts_with = "password_file")]
    pub password_stdin: bool,
    /// Read the password from the first line of a file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub password_file: Option<PathBuf>,
    /// Settings flags after the command.
    #[command(flatten)]
    pub settings: SettingsArgs,
}

/// Manage signing keys.
#[derive(Clone, Subcommand)]
pub enum KeysCommand {
    /// List the keys and where each stands in its life
    List {
        /// How to print them
        #[arg(long, value_enum, default_value_t = Output::Table)]
        output: Output,
        /// The server to ask.
        #[command(flatten)]
        server: ServerArgs,
        /// Settings flags after the command.
        #[command(flatten)]
        settings: SettingsArgs,
    },
    /// Publish a new key now
    ///
    /// It takes over once verifiers have had time to learn it (setting keys.publish_lead), and running servers notice by
    /// themselves. Tokens signed before stay valid until they expire.
    Rotate {
        /// The server to ask.
        #[command(flatten)]
        server: ServerArgs,
        /// Settings flags after the command.
        #[command(flatten)]
        settings: SettingsArgs,
    },
    /// Change the master key, or go on with a change that was broken off
    ///
    /// Everything that is sealed in the database is sealed anew: under keys.master_key what keys.previous_master_key has sealed,
    /// while servers that have both go on. A master key that was generated into the data directory gets a new one as its
    /// successor; its server must be stopped meanwhile. No token, session, code or device is affected.
    RotateMaster {
        /// Only count what another key than the one in force has sealed
        #[arg(long)]
        check: bool,
        /// Settings flags after the command.
        #[command(flatten)]
        settings: SettingsArgs,
    },
    /// Revoke a key that has fallen into wrong hands
    ///
    /// Every access token it signed is refused, at running servers within a second or two and for good; sessions go on, and
    /// clients refresh. Another key signs at once. Services that check tokens by themselves refuse them when they fetch the
    /// keys the next time. Asks first; nothing brings a revoked key back.
    Revoke(RevokeKeyArgs),
}

/// The key to revoke.
#[derive(Clone, clap::Args)]
pub struct RevokeKeyArgs {
    /// The key's kid, as `vouchsafe keys list` prints it
    #[arg(value_name = "KID", allow_hyphen_values = true)]
    pub kid: String,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
    /// The server to ask.
    #[command(flatten)]
    pub server: ServerArgs,
    /// Settings flags after the command.
    #[command(flatten)]
    pub settings: SettingsArgs,
}

/// Look after messages that could not be delivered.
#[derive(Clone, Subcommand)]
pub enum MessagesCommand {
    /// List the messages that were given up, and what the last attempt failed with
    ///
    /// Says neither to whom they go nor what stands in them.
    List {
        /// How to print them
        #[arg(long, value_enum, default_value_t = Output::Table)]
        output: Output,
        /// Settings flags after the command.
        #[command(flatten)]
        settings: SettingsArgs,
    },
    /// Have messages tried again that were given up
    ///
    /// A running server sends them within a second or two. Those that are of no use any more stay where they are.
    Retry(SomeMessages),
    /// Forget messages that were given up
    Drop(SomeMessages),
}

/// One message or all.
#[derive(Clone, clap::Args)]
pub struct SomeMessages {
    /// The message's id, as `vouchsafe messages list` prints it
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
    pub id: Option<uuid::Uuid>,
    /// All that were given up
    #[arg(long)]
    pub all: bool,
    /// Settings flags after the command.
    #[command(flatten)]
    pub settings: SettingsArgs,
}

/// How to print an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Columns for people
    Table,
    /// One JSON document: a list is an array
    Json,
}

/// Look at access tokens.
#[derive(Clone, Subcommand)]
pub enum TokenCommand {
    /// Check an access token against published keys and print its claims
    ///
    /// Checks what any verifier can check by itself: signature, issuer, audience and times. Whether the token was revoked
    /// only a server knows. The keys come from a file, from a URL, or from where the issuer says. Exits with 0 if the token is
    /// good, with 1 if it is not, and with 2 if that cannot be told.
    Verify(VerifyToken),
    /// Print what an access token says, without checking anything
    ///
    /// Anybody can write such a token: believe nothing of it. `vouchsafe token verify` checks.
    Inspect(InspectToken),
}

/// The token to look at.
#[derive(Clone, clap::Args)]
pub struct InspectToken {
    /// The token; - reads it from standard input, where other users of this machine cannot see it
    #[arg(value_name = "TOKEN", default_value = "-")]
    pub token: TokenSource,
    /// File with the key, a JWK or a JWK set, that opens the token if it is encrypted
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub decryption_key: Option<PathBuf>,
    /// How to print it
    #[arg(long, value_enum, default_value_t = TokenOutput::Text)]
    pub output: TokenOutput,
}

/// How to print what is known about a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TokenOutput {
    /// For people
    Text,
    /// One JSON object
    Json,
}

/// The token and what to check it against.
#[derive(Clone, clap::Args)]
pub struct VerifyToken {
    /// The token; - reads it from standard input, where other users of this machine cannot see it
    #[arg(value_name = "TOKEN", default_value = "-")]
    pub token: TokenSource,
    /// The issuer the token must name, character by character
    ///
    /// Without --jwks-file and --jwks-url it is asked where its keys are, by its metadata under /.well-known/.
    #[arg(long, value_name = "ISSUER")]
    pub issuer: String,
    /// File with the issuer's keys, a JSON Web Key Set as served at its jwks_uri
    #[arg(long, visible_alias = "jwks", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub jwks_file: Option<PathBuf>,
    /// URL of the issuer's keys
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url, conflicts_with = "jwks_file")]
    pub jwks_url: Option<String>,
    /// File with the certificates (PEM) to trust instead of the system's
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "jwks_file")]
    pub ca_file: Option<PathBuf>,
    /// Fetch keys without TLS from other machines as well: whoever is in between can then make any token pass
    #[arg(long, conflicts_with = "jwks_file")]
    pub insecure_http: bool,
    /// File with the key, a JWK or a JWK set, that opens encrypted tokens. With it a plain token is no good
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub decryption_key: Option<PathBuf>,
    /// An audience that will do; may be repeated. Without it the audience is not checked
    #[arg(long = "audience", value_name = "AUDIENCE", value_parser = audience)]
    pub audiences: Vec<Audience>,
    /// How far the issuer's clock may differ from this one
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = parse_duration)]
    pub leeway: Duration,
    /// How to print the answer
    #[arg(long, value_enum, default_value_t = TokenOutput::Text)]
    pub output: TokenOutput,
}

/// Where the token is.
#[derive(Clone, PartialEq, Eq)]
pub enum TokenSource {
    /// On standard input.
    Stdin,
    /// On the command line.
    Given(SecretString),
}

impl From<String> for TokenSource {
    fn from(text: String) -> Self {
        if text == "-" { Self::Stdin } else { Self::Given(SecretString::new(text)) }
    }
}

fn audience(text: &str) -> Result<Audience, AudienceError> {
    Audience::try_from(text.to_owned())
}

impl Args {
    /// The settings flags, wherever they stand. Of those that count once, the last one does.
    pub fn settings(&self) -> SettingsArgs {
        let mut all = self.outer.clone();
        for inner in self.command.settings() {
            all.config = inner.config.clone().or(all.config);
            all.sets.extend_from_slice(&inner.sets);
            all.data_dir = inner.data_dir.clone().or(all.data_dir);
        }
        all
    }
}

impl Command {
    /// The settings flags from the outermost to the innermost command.
    fn settings(&self) -> Vec<&SettingsArgs> {
        match self {
            Self::Serve { settings }
            | Self::Migrate { settings }
            | Self::Healthcheck { settings, .. }
            | Self::Config { command: ConfigCommand::Reference, settings } => vec![settings],
            Self::Config { command: ConfigCommand::Check { settings: inner }, settings }
            | Self::Admin { command: AdminCommand::Create(CreateAdmin { settings: inner, .. }), settings }
            | Self::Keys {
                command:
                    KeysCommand::List { settings: inner, .. }
                    | KeysCommand::Rotate { settings: inner, .. }
                    | KeysCommand::RotateMaster { settings: inner, .. }
                    | KeysCommand::Revoke(RevokeKeyArgs { settings: inner, .. }),
                settings,
            }
            | Self::Messages {
                command:
                    MessagesCommand::List { settings: inner, .. }
                    | MessagesCommand::Retry(SomeMessages { settings: inner, .. })
                    | MessagesCommand::Drop(SomeMessages { settings: inner, .. }),
                settings,
            }
            | Self::Privacy {
                command:
                    PrivacyCommand::Erasures(ListErasures { settings: inner, .. })
                    | PrivacyCommand::Reapply(ReapplyErasures { settings: inner, .. }),
                settings,
            } => vec![settings, inner],
            Self::User { command, settings } => vec![settings, &command.common().settings],
            Self::Role { command, settings } => vec![settings, &command.common().settings],
            Self::ServiceAccount { command, settings } => vec![settings, &command.common().settings],
            Self::Audit { command, settings } => vec![settings, &command.common().settings],
            Self::Passwords { .. } | Self::Token { .. } | Self::Sidecar(_) | Self::Completions { .. } => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, error::ErrorKind};

    use super::*;

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(std::iter::once("vouchsafe").chain(line.split_whitespace()))
    }

    #[test]
    fn the_definitions_are_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn settings_flags_stand_before_or_after_and_none_is_lost() {
        let all = "--config b --set a=1 --set b=2 --set c=3 --data-dir d";
        for line in [
            format!("{all} serve"),
            format!("serve {all}"),
            "--config a --set a=1 serve --set b=2 --config b --set c=3 --data-dir d".to_owned(),
            "--set a=1 --data-dir x keys --config b --set b=2 list --set c=3 --data-dir d".to_owned(),
            "--config b --set a=1 admin --set b=2 create --email a@b.example --set c=3 --data-dir d".to_owned(),
            format!("{all} token verify --jwks f --issuer i"),
            format!("config check {all}"),
            format!("migrate {all}"),
            format!("healthcheck {all}"),
            format!("keys rotate {all}"),
            format!("keys revoke -kid- {all}"),
            format!("messages drop --all {all}"),
            format!("privacy erasures {all}"),
            format!("privacy reapply - {all}"),
        ] {
            let settings = parse(&line).unwrap().settings();
            assert_eq!(settings.config, Some("b".into()), "{line}");
            assert_eq!(settings.sets, ["a=1", "b=2", "c=3"], "{line}");
            assert_eq!(settings.data_dir.as_deref(), Some("d"), "{line}");
        }
        assert!(parse("serve").unwrap().settings() == SettingsArgs::default());
    }

    #[test]
    fn an_administrator_is_parsed_not_just_read() {
        let line = "admin create --email Ada@example.com --username ADA --display-name Ada --password-stdin";
        let Command::Admin { command: AdminCommand::Create(admin), .. } = parse(line).unwrap().command else {
            panic!("another command");
        };
        assert_eq!(admin.email.key(), "ada@example.com");
        assert_eq!(admin.username.unwrap().as_str(), "ada");
        assert_eq!(admin.display_name.unwrap().as_str(), "Ada");
        assert!(admin.password_stdin && admin.password_file.is_none());

        let refused = |line: &str| parse(line).err().unwrap();
        assert_eq!(refused("admin create").kind(), ErrorKind::MissingRequiredArgument);
        assert!(refused("admin create --email ada").to_string().contains("name@example.com"));
        let both = refused("admin create --email a@b.example --password-stdin --password-file f");
        assert_eq!(both.kind(), ErrorKind::ArgumentConflict);
    }

    #[test]
    fn a_token_comes_from_standard_input_unless_given() {
        let verify = |line: &str| match parse(line).unwrap().command {
            Command::Token { command: TokenCommand::Verify(verify) } => verify,
            _ => panic!("another command"),
        };
        let given = verify("token verify eyJ --jwks f --issuer i --audience a --audience b --leeway 5s");
        assert!(given.token == TokenSource::Given(SecretString::new("eyJ".to_owned())));
        assert_eq!((given.audiences.len(), given.leeway), (2, Duration::from_secs(5)));
        for line in ["token verify - --jwks f --issuer i", "token verify --jwks f --issuer i"] {
            let verify = verify(line);
            assert!(verify.token == TokenSource::Stdin && verify.audiences.is_empty() && verify.leeway.is_zero());
        }
        assert!(parse("token verify --jwks f").is_err(), "a verifier needs an issuer");
        assert!(parse("token verify --issuer i --jwks-file f --jwks-url http://u").is_err(), "which of them?");
        for keys in ["", "--jwks-file f", "--jwks-url http://u --ca-file c", "--insecure-http --output json"] {
            assert!(parse(&format!("token verify --issuer i {keys}")).is_ok(), "{keys}");
        }
        assert!(parse("token verify --jwks f --issuer i --leeway 5").is_err());
    }

    #[test]
    fn the_rest_parses() {
        for line in [
            "healthcheck",
            "healthcheck --url http://h",
            "config reference",
            "keys list --output json",
            "messages list --output json",
            "messages retry 0190a1b2-0000-7000-8000-000000000000",
            "messages drop --all",
            "completions fish",
            "passwords build-filter --input i --output o --min-count 2",
            "passwords build-filter --input - --output o --plain",
        ] {
            assert!(parse(line).is_ok(), "{line}");
        }
        for line in [
            "",
            "serve extra",
            "keys list --output xml",
            "config",
            "serve --port 1",
            "passwords build-filter --input i --output o --plain --min-count 2",
            "messages drop",
            "messages retry x",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
        assert_eq!(parse("--version").err().unwrap().kind(), ErrorKind::DisplayVersion);
    }
}
