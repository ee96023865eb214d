//! The program as operators and callers meet it: a process of its own, its command line, its ports, and its death.

pub(crate) mod client;
mod commit_proxy;
pub(crate) mod harness;
mod impatient;
pub(crate) mod lines;
mod own_postgres;
pub(crate) mod proxy;
pub(crate) mod tools;
pub(crate) mod web;

mod admin;
mod admin_cli;
mod backends_killed;
mod cancelled;
mod commit_in_doubt;
mod completions;
mod database_away;
mod disk_full;
mod drain;
mod embedded;
mod filter;
mod flood;
mod http;
mod keys;
mod log;
mod peers;
mod pgbouncer;
mod pool_exhausted;
mod restart;
mod rolling;
mod settings;
mod start;
mod telemetry;
mod tls;
mod token;
mod token_url;
mod tour;
