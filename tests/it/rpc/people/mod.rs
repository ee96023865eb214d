//! The life of a person's account, as its owner and those who are not its owner meet it.

mod account;
mod doors;
mod factors;
mod guessing;
mod mails;
mod notify;
mod notify_webhook;
mod passwords;
mod restored;
mod signin;
mod signin_codes;
mod signin_devices;
mod signin_guesses;
mod throttle;
