//! What people are told and asked: codes, factors, messages.

mod notify;
mod notify_webhook;
