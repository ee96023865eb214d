//! The life of an account: how it begins, is proved, changes and ends.

mod account;
