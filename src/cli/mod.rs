//! The command line: what `vouchsafe` does when it is called. Each command is a file; errors say what to do and end with
//! status 1.

use std::{fmt::Display, io::Write, process::ExitCode, sync::Arc};

use crate::{
    config::{self, Settings, Sources},
    crypto::{SystemEntropy, machine_date},
    notify::Notifier,
    server::{Ambient, DatabaseClock, check_master_key, claim_rules, encryption, password_rules},
    tls::Ports,
};

mod admin;
pub mod args;
mod completions;
mod healthcheck;
mod keys;
mod manage;
mod master_key;
mod messages;
mod password;
mod passwords;
mod privacy;
mod serve;
mod text;
mod token;

use args::{AdminCommand, Args, Command, ConfigCommand, KeysCommand, PasswordsCommand, SettingsArgs, TokenCommand};

/// What a command failed with: a text that says what to do.
#[derive(Debug)]
struct Failure(String);

impl<E: Display> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

/// Runs the command. `env` is the process's environment.
pub fn run(args: Args, env: Vec<(String, String)>) -> ExitCode {
    match dispatch(args, env) {
        Ok(code) => code,
        Err(failure) => {
            complain(&failure);
            ExitCode::FAILURE
        }
    }
}

fn complain(Failure(text): &Failure) {
    // Nothing is left to be done if standard error is closed.
    let _ = writeln!(std::io::stderr(), "vouchsafe: {text}");
}

fn dispatch(args: Args, env: Vec<(String, String)>) -> Result<ExitCode, Failure> {
    let given = args.settings();
    let settings = || load(given, env);
    match args.command {
        Command::Serve { .. } => block_on(serve::run(settings()?)),
        Command::Migrate { .. } => {
            let settings = settings()?;
            block_on(async move {
                crate::server::migrate(&settings, &ambient()).await?;
                print("the schema is up to date")
            })
        }
        Command::Config { command: ConfigCommand::Check { .. }, .. } => {
            let settings = settings()?;
            // A server would refuse to start.
            Ports::load(&settings)?;
            check_master_key(&settings)?;
            password_rules(&settings)?;
            claim_rules(&settings)?;
            encryption(&settings)?;
            Notifier::new(&settings.notify, &settings.issuer)?;
            print(settings.redacted_dump().trim_end())
        }
        Command::Config { command: ConfigCommand::Reference, .. } => print(config::markdown_table().trim_end()),
        Command::Admin { command: AdminCommand::Create(create), .. } => block_on(admin::create(settings()?, create)),
        Command::Keys { command: KeysCommand::List { output, server, .. }, .. } => {
            block_on(keys::list(&server, settings, output))
        }
        Command::Keys { command: KeysCommand::Rotate { server, .. }, .. } => block_on(keys::rotate(&server, settings)),
        Command::Keys { command: KeysCommand::RotateMaster { check, .. }, .. } => {
            block_on(master_key::rotate(settings()?, check))
        }
        Command::Keys { command: KeysCommand::Revoke(revoke), .. } => block_on(keys::revoke(settings, revoke)),
        Command::Passwords { command: PasswordsCommand::BuildFilter(build) } => passwords::build_filter(&build),
        Command::Messages { command, .. } => block_on(messages::run(settings()?, command)),
        Command::Privacy { command, .. } => block_on(privacy::run(settings()?, command)),
        Command::User { command, .. } => block_on(manage::user(command, settings)),
        Command::Role { command, .. } => block_on(manage::role(command, settings)),
        Command::ServiceAccount { command, .. } => block_on(manage::service_account(command, settings)),
        Command::Audit { command, .. } => block_on(manage::audit(command, settings)),
        Command::Token { command: TokenCommand::Verify(verify) } => block_on(async { Ok(token::verify(verify).await) }),
        Command::Token { command: TokenCommand::Inspect(inspect) } => token::inspect(inspect),
        Command::Sidecar(sidecar) => Ok(crate::sidecar::main(&sidecar)),
        Command::Completions { shell } => completions::write(shell),
        Command::Healthcheck { url, .. } => block_on(healthcheck::run(url, settings)),
    }
}

fn load(given: SettingsArgs, env: Vec<(String, String)>) -> Result<Settings, Failure> {
    let SettingsArgs { config, sets, data_dir } = given;
    config::load(Sources { file: config, env, sets, data_dir })
        .map_err(|error| Failure(format!("the settings are not usable\n{error}")))
}

fn block_on(command: impl Future<Output = Result<ExitCode, Failure>>) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(command)
}

/// The time and the random bytes of a real process.
fn ambient() -> Ambient {
    Ambient { clock: Arc::new(DatabaseClock::new(machine_date())), entropy: Arc::new(SystemEntropy) }
}

/// Writes to standard output. A reader that went away is an error, not a panic.
fn print(text: &str) -> Result<ExitCode, Failure> {
    writeln!(std::io::stdout(), "{text}")?;
    Ok(ExitCode::SUCCESS)
}
