//! The account life cycle: passwords, verification, codes, second factors.

mod passwords;
