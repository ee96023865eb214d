//! `vouchsafe sidecar` as a process, beside a node, asked as Envoy asks.

mod checks;
mod encryption;
mod file;
mod flood;
mod health;
mod hostile_tokens;
mod verify;
mod world;
