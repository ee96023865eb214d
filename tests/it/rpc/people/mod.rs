//! The account life cycle as people meet it.

mod signin;
mod signin_codes;
mod signin_devices;
mod signin_guesses;
