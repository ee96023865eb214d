//! What is wrong with one field of a request.

use std::fmt;

/// A field that was refused, and what its author can do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldViolation {
    /// The field's name in the request, for instance `new_password`.
    pub field: &'static str,
    /// What is wrong and what would be right, as a sentence without the field's name. Never holds a secret.
    pub description: String,
}

impl FieldViolation {
    /// A violation of `field`.
    pub fn new(field: &'static str, description: impl fmt::Display) -> Self {
        Self { field, description: description.to_string() }
    }
}

/// Every field that was refused, so that the author can correct them in one go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldViolations(Vec<FieldViolation>);

impl FieldViolations {
    /// Nothing wrong so far.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Keeps a field's value, or notes why it was refused.
    pub fn check<T, E: fmt::Display>(&mut self, field: &'static str, result: Result<T, E>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.0.push(FieldViolation::new(field, error));
                None
            }
        }
    }

    /// The same for a check that names its own field.
    pub fn note<T>(&mut self, result: Result<T, FieldViolation>) -> Option<T> {
        result.map_err(|violation| self.0.push(violation)).ok()
    }

    /// Adds what was noted elsewhere.
    pub fn add(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// Notes what is wrong with a field.
    pub fn refuse(&mut self, field: &'static str, description: impl fmt::Display) {
        self.0.push(FieldViolation::new(field, description));
    }

    /// Whether nothing was noted.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What was noted.
    pub fn into_vec(self) -> Vec<FieldViolation> {
        self.0
    }
}

/// What an empty text says is not there.
///
/// # Errors
/// What is wrong with one that is.
pub fn optional<T, E>(text: &str, parse: impl FnOnce(&str) -> Result<T, E>) -> Result<Option<T>, E> {
    if text.is_empty() { Ok(None) } else { parse(text).map(Some) }
}

impl From<FieldViolation> for FieldViolations {
    fn from(violation: FieldViolation) -> Self {
        Self(vec![violation])
    }
}
