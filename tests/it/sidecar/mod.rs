//! `vouchsafe sidecar` as a process, beside a node, asked as Envoy asks.

mod checks;
mod file;
mod health;
mod verify;
mod world;
