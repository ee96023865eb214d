//! The program as operators and callers meet it: a process of its own, its command line, its ports, and its death.

pub(crate) mod client;
pub(crate) mod harness;
pub(crate) mod lines;
pub(crate) mod proxy;
mod tools;
mod web;

mod admin;
mod backends_killed;
mod cancelled;
mod database_away;
mod disk_full;
mod drain;
mod embedded;
mod flood;
mod http;
mod keys;
mod log;
mod peers;
mod restart;
mod rolling;
mod settings;
mod start;
mod token;
mod tour;
