//! `vouchsafe admin create`: the first administrator, directly on the store.

use std::{process::ExitCode, time::Duration};

use super::{Failure, ambient, args::CreateAdmin, password, print};
use crate::{
    config::Settings,
    crypto::monotonic_now,
    domain::{
        audit::{Act, Actor, AuditEvent, Origin},
        id::UserId,
        password::Password,
        secret::random,
        user::{ADMIN_ROLE, Label, Username},
    },
    server::{OpenStore, hash_password, password_rules},
    service::{ChosenFor, RegisterCommand, ServiceError, new_user},
    store::port::CreateUser,
};

pub(super) async fn create(settings: Settings, args: CreateAdmin) -> Result<ExitCode, Failure> {
    let CreateAdmin { email, username, display_name, password_stdin, password_file, settings: _ } = args;
    let password = password::read(password_file.as_deref(), password_stdin, "--password-stdin or --password-file")?;
    let password = Password::presented(&password).map_err(|e| Failure(format!("the password {e}")))?;
    let name = username.as_ref().map_or("", Username::as_str);
    let shown = display_name.as_ref().map_or("", Label::as_str);
    check(&settings, &password, &[email.as_typed(), name, shown]).await?;
    let ambient = ambient();
    // Opened before hashing, so that a wrong setting is found at once.
    let OpenStore { store, .. } = OpenStore::existing_or_embedded(&settings, &ambient).await?;
    let hash = hash_password(&settings, password.clone(), &ambient).await?;
    let now = ambient.clock.now();
    let id = UserId::new(now, &random(&*ambient.entropy));
    let command = RegisterCommand {
        email: email.clone(),
        username,
        password: Some(password),
        display_name: display_name.unwrap_or_default(),
        locale: None,
    };
    let mut new = new_user(id, &command, Some(hash), vec![ADMIN_ROLE.to_owned()], now);
    // The operator vouches for it: where addresses must be verified, the first administrator could not sign in otherwise.
    new.user.email_verified_time = Some(now);
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

/// Refuses a password that must not be chosen.
async fn check(settings: &Settings, password: &Password, words: &[&str]) -> Result<(), Failure> {
    let chosen_for = ChosenFor { field: "password", user: None, words, second_factor: false };
    let deadline = monotonic_now() + Duration::from_mins(1);
    match password_rules(settings)?.check(password, &chosen_for, deadline).await {
        Err(ServiceError::Invalid(violations)) => {
            let reasons: Vec<_> = violations.into_iter().map(|violation| violation.description).collect();
            Err(Failure(format!("the password {}", reasons.join("; and it "))))
        }
        checked => Ok(checked?),
    }
}
