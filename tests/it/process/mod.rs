//! The program as operators and callers meet it: a process of its own, its command line, its ports, and its death.

mod client;
mod harness;
mod proxy;
mod tools;
mod web;

mod backends_killed;
mod database_away;
mod drain;
mod embedded;
mod restart;
mod settings;
mod start;
mod tour;
