//! Which passwords may be chosen, wherever they are.

use std::{io::Cursor, sync::Arc};

use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt as _;
use vouchsafe::{
    breached::{Input, Limits, build},
    domain::notice::{Notice, Recipient},
    pb::v1::{self, user_admin_service_client::UserAdminServiceClient},
};

use crate::{
    rpc::on_both_databases,
    support::{
        Backend, PASSWORD, TestNode, bearer, fields, login_request,
        outbox::{outbox_keep, outbox_messages},
        reason,
    },
};

on_both_databases!(
    every_rule_says_what_is_wrong_and_nothing_of_the_password,
    long_passwords_of_any_shape_are_taken_and_count_whole,
    characters_are_counted_as_people_see_them_written,
    the_present_password_and_those_before_it_are_refused,
    a_password_that_was_imported_or_hashed_anew_counts_too,
    stolen_passwords_are_refused,
    the_first_password_needs_a_recent_sign_in,
    beside_a_second_factor_it_may_be_shorter_and_must_have_been_used,
    its_owner_hears_of_a_new_password_and_devices_are_forgotten,
    whoever_may_not_set_a_password_does_not_hear_whose_it_is,
    strength_and_history_are_the_operators_to_choose,
);

const EMAIL: &str = "ada.lovelace@example.com";

/// Passwords that the rules take, and nobody has.
const GOOD: [&str; 5] = [
    "seven lanterns over quiet marsh",
    "paper tigers dislike heavy rain",
    "walnut ferry crosses at midnight",
    "copper kettles sing out of tune",
    "nobody reads the orange manual",
];

/// What is wrong with the field, if nothing else is.
#[track_caller]
fn said(answer: Result<(), Status>, field: &str) -> String {
    let status = answer.unwrap_err();
    assert_eq!(fields(&status), [field]);
    status.get_error_details().bad_request().unwrap().field_violations[0].description.clone()
}

/// An administrator at a node.
struct Admin {
    client: UserAdminServiceClient<Channel>,
    token: String,
}

impl Admin {
    async fn of(node: &TestNode, name: &str, role: &str) -> Self {
        let token = node.join(name, &[role], "").await.access_token;
        Self { client: UserAdminServiceClient::new(node.shared().await), token }
    }

    async fn set(&self, user: &str, password: &str) -> Result<(), Status> {
        let request = v1::SetUserPasswordRequest { user_id: user.into(), password: password.into() };
        self.client.clone().set_user_password(bearer(&self.token, request)).await.map(|_| ())
    }

    async fn create(&self, request: v1::CreateUserRequest) -> Result<v1::User, Status> {
        Ok(self.client.clone().create_user(bearer(&self.token, request)).await?.into_inner().user.unwrap())
    }
}

/// Somebody who is known by three names.
async fn ada(node: &TestNode) -> v1::User {
    let request = v1::RegisterRequest {
        email: EMAIL.into(),
        username: "countess".into(),
        password: PASSWORD.into(),
        display_name: "Augusta King".into(),
        ..Default::default()
    };
    node.auth().await.register(request).await.unwrap().into_inner().user.unwrap()
}

/// Changes the user's row behind everybody's back.
async fn set(node: &TestNode, user: &v1::User, assignment: &str) {
    let id = node.database.id(&user.id.parse().unwrap());
    assert_eq!(node.database.execute(&format!("UPDATE users SET {assignment} WHERE id = {id}")).await, 1);
}

async fn every_rule_says_what_is_wrong_and_nothing_of_the_password(backend: Backend) {
    let node = TestNode::start(backend).await;
    let user = ada(&node).await;
    let token = node.login(EMAIL).await.access_token;
    let admin = Admin::of(&node, "root", "admin").await;
    for (bad, part) in [
        ("fourteen chars", "at least 15"),
        ("ManchesterUnited", "everybody tries first"),
        ("password-PASSWORD", "everybody tries first"),
        ("abcdefghijklmnopqrst", "sequences"),
        ("zzzzzzzzzzzzzzzzzzzz", "again and again"),
        ("AdaLovelace12345", "made of your address"),
        ("The_Countess_King", "made of your address"),
        ("countess-augusta!", "made of your address"),
        ("vouchsafe-issuer1", "the name of this service"),
    ] {
        for (answer, field) in [
            (node.change_password(&token, PASSWORD, bad).await, "new_password"),
            (admin.set(&user.id, bad).await, "password"),
        ] {
            let said = said(answer, field);
            assert!(said.contains(part), "{bad}: {said}");
            assert!(!said.to_lowercase().contains(&bad.to_lowercase()), "{said}");
        }
        let request = v1::CreateUserRequest {
            email: "ada.lovelace@example.net".into(),
            username: "countess2".into(),
            display_name: "Countess Augusta King".into(),
            password: bad.into(),
            ..Default::default()
        };
        said(admin.create(request).await.map(|_| ()), "password");
    }
    assert_eq!(node.events("act IN ('password.changed', 'password.set', 'user.created')").await, 0);
    node.login(EMAIL).await;
    node.change_password(&token, PASSWORD, GOOD[0]).await.unwrap();
    admin.set(&user.id, GOOD[1]).await.unwrap();
    let request =
        v1::CreateUserRequest { email: "grace@example.com".into(), password: GOOD[2].into(), ..Default::default() };
    admin.create(request).await.unwrap();
    node.remove().await;
}

/// All that hashing and estimating see of the longest ones is bounded: see `strength::tests::no_password_makes_much_work`.
async fn long_passwords_of_any_shape_are_taken_and_count_whole(backend: Backend) {
    let node = TestNode::start(backend).await;
    ada(&node).await;
    let token = node.login(EMAIL).await.access_token;
    let leet: String = "4@8({[<3691!|70$5+%2xK".chars().cycle().take(1024).collect();
    node.change_password(&token, PASSWORD, &leet).await.unwrap();
    let almost = format!("{}?", &leet[..1023]);
    assert_eq!(reason(&node.try_login(login_request(EMAIL, &almost)).await.unwrap_err()), "INVALID_CREDENTIALS");
    node.try_login(login_request(EMAIL, &leet)).await.unwrap();
    let long = "seven lanterns over the quiet marsh ".repeat(2);
    node.change_password(&token, &leet, &long[..64]).await.unwrap();
    assert!(said(node.change_password(&token, &long[..64], &"x".repeat(1025)).await, "new_password").contains("1024"));
    assert!(said(node.change_password(&token, &long[..64], "").await, "new_password").contains("empty"));
    node.remove().await;
}

async fn characters_are_counted_as_people_see_them_written(backend: Backend) {
    let node = TestNode::start(backend).await;
    ada(&node).await;
    let token = node.login(EMAIL).await.access_token;
    let (emoji, accents) = ("🦀🐢🐇🦉🐙🦊🐝🐌🦋🐞🐜🦂🦗🐛🐠", "ēgžīāčķ šūņļ ģēģ");
    let short: String = emoji.chars().take(14).collect();
    assert!(said(node.change_password(&token, PASSWORD, &short).await, "new_password").contains("15"));
    assert!(said(node.change_password(&token, PASSWORD, &"e\u{301}".repeat(14)).await, "new_password").contains("15"));
    node.change_password(&token, PASSWORD, emoji).await.unwrap();
    node.try_login(login_request(EMAIL, emoji)).await.unwrap();
    node.change_password(&token, emoji, accents).await.unwrap();
    // Another keyboard writes the same with combining marks.
    let decomposed: String = accents
        .chars()
        .flat_map(|c| match c {
            'ē' => vec!['e', '\u{304}'],
            'č' => vec!['c', '\u{30c}'],
            'ū' => vec!['u', '\u{304}'],
            other => vec![other],
        })
        .collect();
    assert_ne!(decomposed, accents);
    node.try_login(login_request(EMAIL, &decomposed)).await.unwrap();
    let again = said(node.change_password(&token, accents, &decomposed).await, "new_password");
    assert!(again.contains("in force"), "{again}");
    node.remove().await;
}

async fn the_present_password_and_those_before_it_are_refused(backend: Backend) {
    let node = TestNode::start(backend).await;
    let user = ada(&node).await;
    let token = node.login(EMAIL).await.access_token;
    let admin = Admin::of(&node, "root", "admin").await;
    let known = |answer| assert!(said(answer, "new_password").contains("in force or one of those before"));
    known(node.change_password(&token, PASSWORD, PASSWORD).await);
    let mut present = PASSWORD;
    for next in &GOOD[..3] {
        node.change_password(&token, present, next).await.unwrap();
        present = next;
    }
    for former in [PASSWORD, GOOD[0], GOOD[1], GOOD[2]] {
        known(node.change_password(&token, present, former).await);
        assert!(said(admin.set(&user.id, former).await, "password").contains("one of those before"));
    }
    // Nobody hears of it without the present one.
    let guess = node.change_password(&token, "not the present password", GOOD[0]).await.unwrap_err();
    assert_eq!(reason(&guess), "INVALID_CREDENTIALS");
    // With the fourth the first is forgotten, by whomever it is set.
    admin.set(&user.id, GOOD[3]).await.unwrap();
    assert!(said(admin.set(&user.id, GOOD[0]).await, "password").contains("one of those before"));
    admin.set(&user.id, PASSWORD).await.unwrap();
    assert_eq!(node.database.integer("SELECT count(*) FROM password_history").await, 3);
    node.login(EMAIL).await;
    node.remove().await;
}

async fn a_password_that_was_imported_or_hashed_anew_counts_too(backend: Backend) {
    let node = TestNode::start(backend).await;
    let user = ada(&node).await;
    let hash = bcrypt_of_password().await;
    set(&node, &user, &format!("password_hash = '{hash}'")).await;
    let admin = Admin::of(&node, "root", "admin").await;
    assert!(said(admin.set(&user.id, PASSWORD).await, "password").contains("in force"), "before its owner signed in");
    admin.set(&user.id, GOOD[0]).await.unwrap();
    assert!(said(admin.set(&user.id, PASSWORD).await, "password").contains("before it"), "a hash of others' making");

    // The parameters have changed since: the next sign-in hashes it anew, which is no change of the password.
    let database = Arc::clone(&node.database);
    node.stop().await;
    let node = TestNode::on(database).set("passwords.iterations=2").start().await;
    let before = node.database.texts("SELECT password_hash FROM users ORDER BY email").await;
    let token = node.try_login(login_request(EMAIL, GOOD[0])).await.unwrap().access_token;
    crate::support::until("the hash is renewed", async || {
        node.database.texts("SELECT password_hash FROM users ORDER BY email").await != before
    })
    .await;
    assert!(said(node.change_password(&token, GOOD[0], GOOD[0]).await, "new_password").contains("in force"));
    node.change_password(&token, GOOD[0], GOOD[1]).await.unwrap();
    for former in [GOOD[0], PASSWORD] {
        assert!(said(node.change_password(&token, GOOD[1], former).await, "new_password").contains("before it"));
    }
    // A hash that cannot be checked is in nobody's way.
    node.database.execute("UPDATE password_history SET password_hash = '$5$unknown'").await;
    node.change_password(&token, GOOD[1], GOOD[2]).await.unwrap();
    node.remove().await;
}

/// As an import brings it.
async fn bcrypt_of_password() -> String {
    let made =
        crate::process::harness::finish(crate::process::tools::python("make_hashes.py", &[]), PASSWORD).await.ok();
    made.lines().find_map(|line| line.strip_prefix("bcrypt 2b\t")).unwrap().to_owned()
}

async fn stolen_passwords_are_refused(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let filter = dir.path().join("known.filter");
    let list = format!("{}\nsome other password\ncafe\u{301} cafe\u{301} harbour light\n", GOOD[0]);
    build(Cursor::new(list), &filter, Input::Plain, Limits::default()).unwrap();
    let setting = format!("passwords.breached_filter={}", filter.display());
    let node = TestNode::builder(backend).await.set(&setting).start().await;
    let user = ada(&node).await;
    let token = node.login(EMAIL).await.access_token;
    let admin = Admin::of(&node, "root", "admin").await;
    for stolen in [GOOD[0], "cafe\u{301} cafe\u{301} harbour light", "caf\u{e9} caf\u{e9} harbour light"] {
        assert!(said(node.change_password(&token, PASSWORD, stolen).await, "new_password").contains("stolen"));
        assert!(said(admin.set(&user.id, stolen).await, "password").contains("stolen"));
        let request =
            v1::CreateUserRequest { email: "grace@example.com".into(), password: stolen.into(), ..Default::default() };
        assert!(said(admin.create(request).await.map(|_| ()), "password").contains("stolen"));
    }
    node.change_password(&token, PASSWORD, &GOOD[0].to_uppercase()).await.unwrap();
    node.remove().await;
}

async fn the_first_password_needs_a_recent_sign_in(backend: Backend) {
    let node = TestNode::start(backend).await;
    let user = ada(&node).await;
    let tokens = node.login(EMAIL).await;
    let other = node.login(EMAIL).await;
    set(&node, &user, "password_hash = NULL").await;
    let refused = node.change_password(&tokens.access_token, PASSWORD, GOOD[0]).await.unwrap_err();
    assert_eq!(reason(&refused), "INVALID_CREDENTIALS", "there is none that could be right");
    let id = node.database.id(&other.session_id.parse().unwrap());
    node.database.execute(&format!("UPDATE sessions SET auth_time = 1 WHERE id = {id}")).await;
    let long_ago = node.refresh(&other.refresh_token).await.unwrap();
    let refused = node.change_password(&long_ago.access_token, "", GOOD[0]).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unauthenticated, "REAUTHENTICATION_REQUIRED"));
    assert!(said(node.change_password(&tokens.access_token, "", "short").await, "new_password").contains("15"));

    node.change_password(&tokens.access_token, "", GOOD[0]).await.unwrap();
    node.try_login(login_request(EMAIL, GOOD[0])).await.unwrap();
    assert!(!node.admits(&long_ago.access_token).await);
    // From now on there is one, and it is asked for.
    assert!(said(node.change_password(&tokens.access_token, "", GOOD[1]).await, "current_password").contains("empty"));
    assert_eq!(node.database.integer("SELECT count(*) FROM password_history").await, 0, "there was none before");
    node.remove().await;
}

async fn beside_a_second_factor_it_may_be_shorter_and_must_have_been_used(backend: Backend) {
    let node = TestNode::start(backend).await;
    let user = ada(&node).await;
    let tokens = node.login(EMAIL).await;
    let id = node.database.id(&user.id.parse().unwrap());
    let seed = node.database.bytes("00");
    let factor = format!("INSERT INTO totp_factors VALUES ({id}, {id}, {seed}, 1, 1, 0)");
    node.database.execute(&factor).await;
    let (eight, other) = ("xK9#mQ2v", "Vr7!pLw4");
    for wrong_or_right in [PASSWORD, "not the present password"] {
        let refused = node.change_password(&tokens.access_token, wrong_or_right, eight).await.unwrap_err();
        assert_eq!(reason(&refused), "REAUTHENTICATION_REQUIRED");
    }
    let session = node.database.id(&tokens.session_id.parse().unwrap());
    node.database.execute(&format!("UPDATE sessions SET amr = '[\"pwd\",\"otp\",\"mfa\"]' WHERE id = {session}")).await;
    let tokens = node.refresh(&tokens.refresh_token).await.unwrap();
    let short = said(node.change_password(&tokens.access_token, PASSWORD, "xK9#mQ2").await, "new_password");
    assert!(short.contains("at least 8"), "{short}");
    let weak = said(node.change_password(&tokens.access_token, PASSWORD, "pqrstuvw").await, "new_password");
    assert!(weak.contains("easy to guess"), "{weak}");
    node.change_password(&tokens.access_token, PASSWORD, eight).await.unwrap();
    let admin = Admin::of(&node, "root", "admin").await;
    admin.set(&user.id, other).await.unwrap();
    node.database.execute("DELETE FROM totp_factors").await;
    assert!(said(admin.set(&user.id, eight).await, "password").contains("at least 15"));
    node.remove().await;
}

async fn its_owner_hears_of_a_new_password_and_devices_are_forgotten(backend: Backend) {
    let node = TestNode::builder(backend).await.set("notify.email=log").start().await;
    outbox_keep(&node.database).await;
    let user = ada(&node).await;
    node.database.execute("UPDATE users SET email_verified_time = 1").await;
    let token = node.login(EMAIL).await.access_token;
    let admin = Admin::of(&node, "root", "admin").await;
    node.database.execute("DELETE FROM known_devices").await;
    let before = outbox_messages(&node.database).await.len();
    let (id, secret) = (node.database.id(&user.id.parse().unwrap()), node.database.bytes("00"));
    let device = format!("INSERT INTO known_devices VALUES ({id}, {id}, {secret}, 1, 1)");
    let devices = "SELECT count(*) FROM known_devices";
    node.database.execute(&device).await;
    node.change_password(&token, "not the present password", GOOD[0]).await.unwrap_err();
    node.change_password(&token, PASSWORD, "too short").await.unwrap_err();
    admin.set(&user.id, "too short").await.unwrap_err();
    assert_eq!(outbox_messages(&node.database).await.len(), before, "nothing has happened");
    assert_eq!(node.database.integer(devices).await, 1);

    node.change_password(&token, PASSWORD, GOOD[0]).await.unwrap();
    assert_eq!(node.database.integer(devices).await, 0);
    node.database.execute(&device).await;
    admin.set(&user.id, GOOD[1]).await.unwrap();
    assert_eq!(node.database.integer(devices).await, 0);
    let messages = outbox_messages(&node.database).await.split_off(before);
    assert_eq!(messages.len(), 2);
    for message in messages {
        assert!(message.notice == Notice::PasswordChanged);
        assert!(matches!(message.to, Recipient::Email(to) if to.as_typed() == EMAIL));
    }
    node.remove().await;
}

async fn whoever_may_not_set_a_password_does_not_hear_whose_it_is(backend: Backend) {
    let node = TestNode::start(backend).await;
    node.database.make_role("helpdesk", &["users:set_password"]).await;
    let user = ada(&node).await;
    node.database.give_role(&user.id, "admin").await;
    let helpdesk = Admin::of(&node, "helpdesk", "helpdesk").await;
    for guess in [PASSWORD, GOOD[0], "too short"] {
        let refused = helpdesk.set(&user.id, guess).await.unwrap_err();
        let expected = (Code::PermissionDenied, "EXCEEDS_OWN_PERMISSIONS".to_owned());
        assert_eq!((refused.code(), reason(&refused)), expected, "{guess}");
    }
    let nobody = helpdesk.set("0198f0c2-0000-7000-8000-000000000000", PASSWORD).await.unwrap_err();
    assert_eq!(reason(&nobody), "USER_NOT_FOUND");
    node.login(EMAIL).await;
    node.remove().await;
}

async fn strength_and_history_are_the_operators_to_choose(backend: Backend) {
    let settings = ["passwords.min_strength=0", "passwords.history=0"];
    let node = TestNode::builder(backend).await.set(settings[0]).set(settings[1]).start().await;
    ada(&node).await;
    let token = node.login(EMAIL).await.access_token;
    let weak = "abcdefghijklmnopqrst";
    node.change_password(&token, PASSWORD, weak).await.unwrap();
    assert!(said(node.change_password(&token, weak, weak).await, "new_password").contains("in force"));
    assert!(said(node.change_password(&token, weak, "ManchesterUnited").await, "new_password").contains("everybody"));
    assert_eq!(node.database.integer("SELECT count(*) FROM password_history").await, 0, "nothing is kept");
    node.change_password(&token, weak, PASSWORD).await.unwrap();
    node.remove().await;
}
