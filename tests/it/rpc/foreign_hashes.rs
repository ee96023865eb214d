//! `Login` with a password hash that another system made: Django, passlib, and the libraries under them, at work here.

use vouchsafe::{crypto::import_hash, pb::v1};

use super::on_both_databases;
use crate::{
    process::{harness::finish, tools::python},
    support::{Backend, PASSWORD, TestNode, login_request, reason, until},
};

on_both_databases!(
    whatever_made_the_hash_its_owner_signs_in_and_it_is_ours_from_then_on,
    of_a_long_password_bcrypt_saw_72_bytes_and_we_keep_them_all,
    a_password_that_was_not_normalised_elsewhere_is_so_here,
    a_password_is_changed_from_a_hash_made_elsewhere,
);

const EMAIL: &str = "ada@example.com";

/// What is asked of `make_hashes.py`: all that it can make.
const MAKERS: [&str; 16] = [
    "argon2-cffi D",
    "argon2-cffi I",
    "argon2-cffi ID",
    "bcrypt 2a",
    "bcrypt 2b",
    "bcrypt 2y",
    "django argon2",
    "django bcrypt",
    "django bcrypt_sha256",
    "django pbkdf2_sha1",
    "django pbkdf2_sha256",
    "django scrypt",
    "passlib pbkdf2-sha1",
    "passlib pbkdf2-sha256",
    "passlib pbkdf2-sha512",
    "passlib scrypt",
];

/// Hashes of a password by every maker, each with its maker.
async fn made_elsewhere(password: &str) -> Vec<(String, String)> {
    let made = finish(python("make_hashes.py", &[]), password).await.ok();
    let hashes: Vec<(String, String)> = made
        .lines()
        .map(|line| line.split_once('\t').map(|(maker, hash)| (maker.to_owned(), hash.to_owned())).unwrap())
        .collect();
    let mut makers: Vec<&str> = hashes.iter().map(|(maker, _)| maker.as_str()).collect();
    makers.sort_unstable();
    assert_eq!(makers, MAKERS);
    hashes
}

/// A node with one account.
struct Imported {
    node: TestNode,
    /// How hashes begin that are made here.
    ours: String,
}

impl Imported {
    async fn start(backend: Backend) -> Self {
        let node = TestNode::start(backend).await;
        node.register(EMAIL).await;
        let hash = node.database.texts("SELECT password_hash FROM users").await.swap_remove(0);
        let ours = hash.split_inclusive('$').take(4).collect::<String>();
        assert!(ours.starts_with("$argon2id$v=19$m="), "{ours}");
        Self { node, ours }
    }

    /// Gives the account this hash, as an import would.
    async fn import(&self, hash: &str) {
        let hash = import_hash(hash).unwrap_or_else(|e| panic!("{hash} {e}"));
        let changed = format!("UPDATE users SET password_hash = '{}'", hash.expose());
        assert_eq!(self.node.database.execute(&changed).await, 1);
    }

    async fn hash(&self) -> String {
        self.node.database.texts("SELECT password_hash FROM users").await.swap_remove(0)
    }

    async fn sign_in(&self, password: &str) -> v1::TokenPair {
        self.node.try_login(login_request(EMAIL, password)).await.unwrap()
    }

    /// Signs in and waits until the hash is one of ours.
    async fn sign_in_and_renew(&self, password: &str) {
        let imported = self.hash().await;
        self.sign_in(password).await;
        until("the hash is renewed", async || self.hash().await != imported).await;
        assert!(self.hash().await.starts_with(&self.ours));
    }

    async fn refuses(&self, password: &str) -> bool {
        match self.node.try_login(login_request(EMAIL, password)).await {
            Ok(_) => false,
            Err(refused) => {
                assert_eq!(reason(&refused), "INVALID_CREDENTIALS");
                true
            }
        }
    }
}

async fn whatever_made_the_hash_its_owner_signs_in_and_it_is_ours_from_then_on(backend: Backend) {
    let ada = Imported::start(backend).await;
    let mut renewed = 0;
    // Shorter than what may be chosen here, too.
    for password in [PASSWORD, "hunter2", "Ключ 🗝 für die Tür"] {
        for (maker, hash) in made_elsewhere(password).await {
            ada.import(&hash).await;
            assert!(ada.refuses("not the password").await, "{maker}");
            assert!(ada.refuses(&format!("{password} ")).await, "{maker}");
            assert_eq!(ada.hash().await, hash, "{maker}: nobody has signed in yet");
            ada.sign_in_and_renew(password).await;
            renewed += 1;
            let ours = ada.hash().await;
            ada.sign_in(password).await;
            assert!(ada.refuses(&format!("{password} ")).await, "{maker}");
            assert_eq!(ada.hash().await, ours, "{maker}: renewed once");
        }
    }
    assert_eq!(ada.node.events("act = 'password.rehashed'").await, renewed);
    ada.node.remove().await;
}

async fn of_a_long_password_bcrypt_saw_72_bytes_and_we_keep_them_all(backend: Backend) {
    let ada = Imported::start(backend).await;
    let password = "0123456789".repeat(12);
    let (seen, one_less) = (&password[..72], &password[..71]);
    for (maker, hash) in made_elsewhere(&password).await {
        let cut = maker.starts_with("bcrypt ") || maker == "django bcrypt";
        ada.import(&hash).await;
        assert!(ada.refuses(one_less).await, "{maker}");
        assert_eq!(ada.refuses(seen).await, !cut, "{maker}: what the other system would have done");
        if cut {
            // The sign-in above has renewed the hash, or is about to, for what was typed there.
            until("the hash is renewed", async || ada.hash().await != hash).await;
            ada.import(&hash).await;
        }
        ada.sign_in_and_renew(&password).await;
        ada.sign_in(&password).await;
        assert!(ada.refuses(seen).await, "{maker}: all of it counts now");
    }
    ada.node.remove().await;
}

async fn a_password_that_was_not_normalised_elsewhere_is_so_here(backend: Backend) {
    let ada = Imported::start(backend).await;
    // One text as two keyboards send it.
    let (composed, decomposed) =
        ("caf\u{e9} cr\u{e8}me br\u{fb}l\u{e9}e", "cafe\u{301} cre\u{300}me bru\u{302}le\u{301}e");
    for (maker, hash) in made_elsewhere(decomposed).await {
        ada.import(&hash).await;
        assert!(ada.refuses(composed).await, "{maker}: as there");
        ada.sign_in_and_renew(decomposed).await;
        ada.sign_in(composed).await;
        ada.sign_in(decomposed).await;
    }
    for (_, hash) in made_elsewhere(composed).await {
        ada.import(&hash).await;
        ada.sign_in_and_renew(decomposed).await;
    }
    ada.node.remove().await;
}

async fn a_password_is_changed_from_a_hash_made_elsewhere(backend: Backend) {
    let ada = Imported::start(backend).await;
    let mut session = ada.sign_in(PASSWORD).await;
    for (maker, hash) in made_elsewhere(PASSWORD).await {
        ada.import(&hash).await;
        let wrong =
            ada.node.change_password(&session.access_token, "not the password", "a new and long password").await;
        assert_eq!(reason(&wrong.unwrap_err()), "INVALID_CREDENTIALS", "{maker}");
        ada.node.change_password(&session.access_token, PASSWORD, "a new and long password").await.unwrap();
        assert!(ada.hash().await.starts_with(&ada.ours), "{maker}");
        // Wrong passwords are counted at the session.
        session = ada.sign_in("a new and long password").await;
    }
    ada.node.remove().await;
}
