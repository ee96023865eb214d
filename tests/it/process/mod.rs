//! The program as operators and callers meet it: a process of its own, its command line, its ports, and its death.

mod client;
mod harness;
mod tools;
mod web;

mod drain;
mod restart;
mod tour;
