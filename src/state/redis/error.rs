//! Why Redis did not do what it was asked, and what follows from that.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::state::port::HotError;

/// Why a call failed. Holds no key, no value and no password.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// It was not even tried.
    #[error("Redis did not answer lately")]
    Away,
    /// It took too long.
    #[error("Redis did not answer in time")]
    TooSlow,
    /// It was refused, or the connection broke.
    #[error("{0}")]
    Failed(#[from] RedisError),
}

impl From<Trouble> for HotError {
    fn from(trouble: Trouble) -> Self {
        Self::Unavailable(Box::new(trouble))
    }
}

/// Whether other calls would fare no better. Not where one command or one value is the problem.
pub(super) fn is_outage(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::Server(
            ServerErrorKind::ResponseError
            | ServerErrorKind::NoScript
            | ServerErrorKind::CrossSlot
            | ServerErrorKind::NoPerm,
        )
        | ErrorKind::UnexpectedReturnType
        | ErrorKind::Client => false,
        ErrorKind::Extension => error.code() != Some("WRONGTYPE"),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use redis::make_extension_error;

    use super::*;

    #[test]
    fn one_bad_value_is_no_outage() {
        for (code, expected) in [("WRONGTYPE", false), ("OOM", true), ("MISCONF", true), ("NOREPLICAS", true)] {
            assert_eq!(is_outage(&make_extension_error(code.to_owned(), None)), expected, "{code}");
        }
        assert!(is_outage(&std::io::Error::from(std::io::ErrorKind::TimedOut).into()));
        assert!(!is_outage(&(ErrorKind::UnexpectedReturnType, "no number").into()));
    }
}
