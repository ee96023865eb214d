//! `vouchsafe admin create`: the first administrator, directly on the store.

use std::{
    fs,
    io::{BufRead as _, IsTerminal as _},
    process::ExitCode,
};

use zeroize::Zeroizing;

use super::{Failure, ambient, args::CreateAdmin, print};
use crate::{
    config::Settings,
    domain::{
        audit::{Act, Actor, AuditEvent, Origin},
        id::UserId,
        password::Password,
        secret::random,
        user::ADMIN_ROLE,
    },
    server::{OpenStore, hash_password},
    service::{RegisterCommand, new_user},
    store::port::CreateUser,
};

pub(super) async fn create(settings: Settings, args: CreateAdmin) -> Result<ExitCode, Failure> {
    let password = Password::chosen(&read_password(&args)?).map_err(|e| Failure(format!("the password {e}")))?;
    let CreateAdmin { email, username, display_name, .. } = args;
    let ambient = ambient();
    // Opened before hashing, so that a wrong setting is found at once.
    let OpenStore { store, .. } = OpenStore::existing_or_embedded(&settings, &ambient).await?;
    let hash = hash_password(&settings, password.clone(), &ambient).await?;
    let now = ambient.clock.now();
    let id = UserId::new(now, &random(&*ambient.entropy));
    let command =
        RegisterCommand { email: email.clone(), username, password, display_name: display_name.unwrap_or_default() };
    let new = new_user(id, &command, hash, vec![ADMIN_ROLE.to_owned()], now);
    let event = |act| AuditEvent { actor: Actor::Operator, subject: Some(id.into()), act, origin: Origin::default() };
    let events = vec![event(Act::Registered), event(Act::RoleAssigned { role: ADMIN_ROLE.to_owned() })];
    let created = store.create_user(new, events).await?;
    store.close().await;
    match created {
        // Where, because an administrator made in another database than the server's cannot sign in.
        CreateUser::Created => {
            print(&format!("administrator {} created with id {id} in {}", email.as_typed(), settings.database.backend))
        }
        CreateUser::EmailTaken => Err(Failure(format!("an account with the address {} exists", email.as_typed()))),
        CreateUser::UsernameTaken => Err(Failure("an account with this user name exists: choose another".to_owned())),
    }
}

/// The password: from a file, from standard input, or asked for twice without echo.
fn read_password(args: &CreateAdmin) -> Result<Zeroizing<String>, Failure> {
    if let Some(path) = &args.password_file {
        let text = fs::read_to_string(path)
            .map(Zeroizing::new)
            .map_err(|e| Failure(format!("cannot read the password from {}: {e}", path.display())))?;
        return Ok(first_line(&text));
    }
    if args.password_stdin {
        let mut line = Zeroizing::new(String::new());
        std::io::stdin().lock().read_line(&mut line)?;
        return Ok(first_line(&line));
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure("no terminal to ask for the password: use --password-stdin or --password-file".to_owned()));
    }
    let first = Zeroizing::new(rpassword::prompt_password("Password: ")?);
    let second = Zeroizing::new(rpassword::prompt_password("Password again: ")?);
    if first == second { Ok(first) } else { Err(Failure("the two passwords differ: try again".to_owned())) }
}

fn first_line(text: &str) -> Zeroizing<String> {
    Zeroizing::new(text.lines().next().unwrap_or_default().to_owned())
}
