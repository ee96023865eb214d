//! The API as a caller meets it: whole nodes, real connections, both databases.

mod access;
mod canary;
mod cancellation;
mod discovery;
mod edge;
mod hostile_tokens;
mod login;
mod passwords;
mod races;
mod refresh;
mod registration;
mod revocation;
mod revoke_token;
mod rotation;
mod rotation_nodes;
mod sessions;
mod sign_in;
mod tokens;
mod two_nodes;

/// Instantiates each test for both databases, so that its name tells which.
macro_rules! on_both_databases {
    ($($test:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(crate::support::Backend::Sqlite).await;
            })+
        }

        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(crate::support::Backend::Postgres).await;
            })+
        }
    };
}
pub(crate) use on_both_databases;
