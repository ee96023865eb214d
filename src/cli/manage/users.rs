//! `vouchsafe user`.

use prost_types::FieldMask;
use serde_json::Value;

use super::{
    Desk, Failure, answer,
    args::{
        CreateUser, DeleteUser, EndUser, ListUsers, OneUser, PasswordArgs, RevokeSessions, SetPassword, State,
        UpdateUser, UserChanges, UserCommand, UserRole, UserSessions,
    },
    can_ask, confirm, export, import,
    link::Calls,
    list, promised, show, values,
};
use crate::{
    cli::password,
    domain::id::UserId,
    pb::v1::{self, get_user_request::Key, user_admin_service_client::UserAdminServiceClient},
};

/// The largest page of users.
const USERS: u16 = 1000;
/// The largest page of sessions.
const SESSIONS: u16 = 100;

pub(super) async fn run(desk: &Desk, command: UserCommand) -> Result<(), Failure> {
    match command {
        UserCommand::List(args) => list_users(desk, args).await,
        UserCommand::Get(OneUser { user, common: _ }) => desk.show(desk.user(&user).await?),
        UserCommand::Export(OneUser { user, common: _ }) => export::run(desk, desk.user_id(&user).await?).await,
        UserCommand::Import(args) => import::run(desk, args).await,
        UserCommand::Create(args) => create(desk, *args).await,
        UserCommand::Update(args) => update(desk, *args).await,
        UserCommand::Suspend(args) => suspend(desk, args).await,
        UserCommand::Reactivate(args) => reactivate(desk, args).await,
        UserCommand::Delete(args) => delete(desk, args).await,
        UserCommand::SetPassword(args) => set_password(desk, args).await,
        UserCommand::RemoveFactors(args) => remove_factors(desk, args).await,
        UserCommand::Sessions(args) => sessions(desk, args).await,
        UserCommand::RevokeSessions(args) => revoke_sessions(desk, args).await,
        UserCommand::AssignRole(args) => assign_role(desk, args).await,
        UserCommand::UnassignRole(args) => unassign_role(desk, args).await,
    }
}

impl Desk {
    pub(super) fn users(&self) -> UserAdminServiceClient<Calls> {
        UserAdminServiceClient::new(self.calls.clone())
    }

    /// The user of this id, e-mail address or user name, which can be told apart: only an address has an @, and what is written
    /// like an id is one.
    async fn user(&self, text: &str) -> Result<v1::User, Failure> {
        let key = match text {
            id if id.parse::<UserId>().is_ok() => Key::UserId(id.to_owned()),
            email if email.contains('@') => Key::Email(email.to_owned()),
            username => Key::Username(username.to_owned()),
        };
        promised(answer(self.users().get_user(v1::GetUserRequest { key: Some(key) })).await?.user)
    }

    /// The user's id; looked up only if it was not given, so that no more is needed than the right to act.
    async fn user_id(&self, text: &str) -> Result<String, Failure> {
        if text.parse::<UserId>().is_ok() { Ok(text.to_owned()) } else { Ok(self.user(text).await?.id) }
    }

    /// The user's id, after the question was answered.
    async fn sure_of(&self, text: &str, yes: bool, question: impl Fn(&str) -> String) -> Result<Sure, Failure> {
        can_ask(yes)?;
        if yes {
            return Ok(Sure { id: self.user_id(text).await?, etag: String::new() });
        }
        let user = self.user(text).await?;
        confirm(&question(&named(&user)), yes)?;
        Ok(Sure { id: user.id, etag: user.etag })
    }

    fn show(&self, user: v1::User) -> Result<(), Failure> {
        show::one(&show::USER, &values::user(user), self.output)
    }
}

/// A user whom somebody means.
struct Sure {
    id: String,
    /// That of the user who was shown, if one was.
    etag: String,
}

/// Enough for somebody to know the user by.
fn named(v1::User { id, email, .. }: &v1::User) -> String {
    format!("{email} ({id})")
}

async fn list_users(desk: &Desk, args: ListUsers) -> Result<(), Failure> {
    let ListUsers { email_prefix, username_prefix, state, role, created_since, created_before, list: which, common: _ } =
        args;
    let state = match state {
        None => v1::UserState::Unspecified,
        Some(State::Active) => v1::UserState::Active,
        Some(State::Suspended) => v1::UserState::Suspended,
    };
    let filter = v1::UserFilter {
        email_prefix: email_prefix.unwrap_or_default(),
        username_prefix: username_prefix.unwrap_or_default(),
        state: state.into(),
        role: role.unwrap_or_default(),
        created_since,
        created_before,
    };
    let page = async |page_size, page_token| {
        let request = v1::ListUsersRequest { page_size, page_token, filter: Some(filter.clone()) };
        let v1::ListUsersResponse { users, next_page_token } = answer(desk.users().list_users(request)).await?;
        Ok((users.into_iter().map(values::user).collect::<Vec<Value>>(), next_page_token))
    };
    list(desk, &show::USER, which, USERS, page).await
}

async fn create(desk: &Desk, args: CreateUser) -> Result<(), Failure> {
    let CreateUser {
        email,
        username,
        display_name,
        password,
        password_hash_file,
        no_password,
        roles,
        email_verified,
        attributes,
        custom_claims,
        request_id,
        common: _,
    } = args;
    let hash = password_hash_file.map(|file| password::first_line_of(&file, "hash")).transpose()?;
    let password = if no_password || hash.is_some() {
        String::new()
    } else {
        read(&password, "--password-stdin, --password-file, --password-hash-file or --no-password")?
    };
    let request = v1::CreateUserRequest {
        email,
        username: username.unwrap_or_default(),
        password,
        password_hash: hash.map(|hash| hash.to_string()).unwrap_or_default(),
        display_name: display_name.unwrap_or_default(),
        email_verified,
        roles,
        attributes: attributes.map(values::structure),
        request_id: request_id.unwrap_or_default(),
        custom_claims: custom_claims.map(values::structure),
    };
    desk.show(promised(answer(desk.users().create_user(request)).await?.user)?)
}

/// A password as it goes into a message, which erases nothing.
fn read(args: &PasswordArgs, flags: &str) -> Result<String, Failure> {
    let PasswordArgs { password_stdin, password_file } = args;
    let password = password::read(password_file.as_deref(), *password_stdin, flags)?;
    if password.is_empty() {
        // To the API this would be a user without one.
        return Err(Failure("the password is empty".to_owned()));
    }
    Ok(password.to_string())
}

async fn update(desk: &Desk, args: UpdateUser) -> Result<(), Failure> {
    let UpdateUser { user, changes, etag, common: _ } = args;
    let UserChanges { email, username, display_name, email_verified, attributes, custom_claims, phone_number, locale } =
        changes;
    let named = [
        ("email", email.is_some()),
        ("username", username.is_some()),
        ("display_name", display_name.is_some()),
        ("email_verified", email_verified.is_some()),
        ("attributes", attributes.is_some()),
        ("phone_number", phone_number.is_some()),
        ("locale", locale.is_some()),
        ("custom_claims", custom_claims.is_some()),
    ];
    let user = v1::User {
        id: desk.user_id(&user).await?,
        email: email.unwrap_or_default(),
        username: username.unwrap_or_default(),
        display_name: display_name.unwrap_or_default(),
        email_verified: email_verified.unwrap_or_default(),
        attributes: attributes.map(values::structure),
        phone_number: phone_number.unwrap_or_default(),
        locale: locale.unwrap_or_default(),
        custom_claims: custom_claims.map(values::structure),
        etag: etag.etag.unwrap_or_default(),
        ..v1::User::default()
    };
    let request = v1::UpdateUserRequest { user: Some(user), update_mask: Some(mask(&named)) };
    desk.show(promised(answer(desk.users().update_user(request)).await?.user)?)
}

/// The fields that are named.
pub(super) fn mask(fields: &[(&str, bool)]) -> FieldMask {
    FieldMask { paths: fields.iter().filter(|(_, named)| *named).map(|(field, _)| (*field).to_owned()).collect() }
}

async fn suspend(desk: &Desk, EndUser { user, confirm, common: _ }: EndUser) -> Result<(), Failure> {
    let question = |user: &str| format!("Suspend user {user} and end all sessions?");
    let Sure { id: user_id, etag: _ } = desk.sure_of(&user, confirm.yes, question).await?;
    let request = v1::SuspendUserRequest { user_id };
    desk.show(promised(answer(desk.users().suspend_user(request)).await?.user)?)
}

async fn reactivate(desk: &Desk, OneUser { user, common: _ }: OneUser) -> Result<(), Failure> {
    let request = v1::ReactivateUserRequest { user_id: desk.user_id(&user).await? };
    desk.show(promised(answer(desk.users().reactivate_user(request)).await?.user)?)
}

async fn delete(desk: &Desk, args: DeleteUser) -> Result<(), Failure> {
    let DeleteUser { user, etag, confirm, common: _ } = args;
    let question = |user: &str| format!("Delete user {user}? Nothing brings the account back.");
    let Sure { id, etag: seen } = desk.sure_of(&user, confirm.yes, question).await?;
    let request = v1::DeleteUserRequest { user_id: id.clone(), etag: etag.etag.unwrap_or(seen) };
    answer(desk.users().delete_user(request)).await?;
    show::done(&format!("user {id} deleted"), desk.output)
}

async fn set_password(desk: &Desk, args: SetPassword) -> Result<(), Failure> {
    let SetPassword { user, password, common: _ } = args;
    // First of all, so that nobody types a password for a user who is not there.
    let user_id = desk.user_id(&user).await?;
    let password = read(&password, "--password-stdin or --password-file")?;
    let request = v1::SetUserPasswordRequest { user_id: user_id.clone(), password };
    answer(desk.users().set_user_password(request)).await?;
    show::done(&format!("user {user_id} has another password, and no session any more"), desk.output)
}

async fn remove_factors(desk: &Desk, EndUser { user, confirm, common: _ }: EndUser) -> Result<(), Failure> {
    let question = |user: &str| format!("Take the second factor of user {user} away and end all sessions?");
    let Sure { id: user_id, etag: _ } = desk.sure_of(&user, confirm.yes, question).await?;
    answer(desk.users().remove_user_factors(v1::RemoveUserFactorsRequest { user_id: user_id.clone() })).await?;
    show::done(&format!("user {user_id} has no second factor, and no session any more"), desk.output)
}

async fn sessions(desk: &Desk, args: UserSessions) -> Result<(), Failure> {
    let UserSessions { user, list: which, common: _ } = args;
    let user_id = desk.user_id(&user).await?;
    let page = async |page_size, page_token| {
        let request = v1::ListUserSessionsRequest { user_id: user_id.clone(), page_size, page_token };
        let answered = answer(desk.users().list_user_sessions(request)).await?;
        let v1::ListUserSessionsResponse { sessions, next_page_token } = answered;
        Ok((sessions.into_iter().map(values::session).collect::<Vec<Value>>(), next_page_token))
    };
    list(desk, &show::SESSION, which, SESSIONS, page).await
}

async fn revoke_sessions(desk: &Desk, args: RevokeSessions) -> Result<(), Failure> {
    let RevokeSessions { user, session, confirm, common: _ } = args;
    let (user_id, ended) = if let Some(session) = &session {
        (desk.user_id(&user).await?, format!("session {session}"))
    } else {
        let question = |user: &str| format!("End all sessions of user {user}?");
        let Sure { id, etag: _ } = desk.sure_of(&user, confirm.yes, question).await?;
        let ended = format!("all sessions of user {id}");
        (id, ended)
    };
    let request = v1::RevokeUserSessionsRequest { user_id, session_id: session.unwrap_or_default() };
    answer(desk.users().revoke_user_sessions(request)).await?;
    show::done(&format!("ended {ended}"), desk.output)
}

async fn assign_role(desk: &Desk, UserRole { user, role, common: _ }: UserRole) -> Result<(), Failure> {
    let request = v1::AssignRoleRequest { user_id: desk.user_id(&user).await?, role };
    desk.show(promised(answer(desk.users().assign_role(request)).await?.user)?)
}

async fn unassign_role(desk: &Desk, UserRole { user, role, common: _ }: UserRole) -> Result<(), Failure> {
    let request = v1::UnassignRoleRequest { user_id: desk.user_id(&user).await?, role };
    desk.show(promised(answer(desk.users().unassign_role(request)).await?.user)?)
}
