//! The API as a caller meets it: whole nodes, real connections, both databases.

mod access;
mod audit;
mod canary;
mod discovery;
mod edge;
mod encryption;
mod export;
mod foreign_hashes;
pub(crate) mod hostile_tokens;
mod login;
mod master_key;
mod matrix;
mod metrics;
mod passwords;
mod people;
mod permissions;
mod races;
mod refresh;
mod registration;
pub(crate) mod revocation;
mod revoke_token;
mod roles;
mod rotation;
mod rotation_nodes;
pub(crate) mod service_accounts;
mod sessions;
mod sign_in;
mod signing_keys;
mod tokens;
mod trail_keeping;
mod two_nodes;
mod users;
mod watch;

/// Instantiates each test for forms of the state that a node keeps, so that its name tells which.
macro_rules! on_forms {
    ([$($form:ident $backend:ident)+] $tests:tt) => {
        $(crate::rpc::on_forms!(@ $form $backend $tests);)+
    };
    (@ $form:ident $backend:ident [$($test:ident)+]) => {
        mod $form {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(crate::support::Backend::$backend).await;
            })+
        }
    };
}
pub(crate) use on_forms;

/// Instantiates each test for both databases.
macro_rules! on_both_databases {
    ($($test:ident),+ $(,)?) => {
        crate::rpc::on_forms!([sqlite Sqlite postgres Postgres] [$($test)+]);
    };
}
pub(crate) use on_both_databases;

/// Instantiates each test for both databases, and for Postgres with either form of Redis.
macro_rules! on_every_form {
    ($($test:ident),+ $(,)?) => {
        crate::rpc::on_forms!([sqlite Sqlite postgres Postgres redis Redis cluster Cluster] [$($test)+]);
    };
}
pub(crate) use on_every_form;

/// Instantiates each test for what several nodes can share.
macro_rules! on_shared_forms {
    ($($test:ident),+ $(,)?) => {
        crate::rpc::on_forms!([postgres Postgres redis Redis cluster Cluster] [$($test)+]);
    };
}
pub(crate) use on_shared_forms;
