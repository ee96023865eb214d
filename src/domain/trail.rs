//! Reading the audit trail: which events, in which order, and where they stand.

use serde::{Deserialize, Serialize};

use super::{
    id::{EventId, SessionId, Subject},
    time::Timestamp,
};

/// Who acted, as one asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActorFilter {
    /// Everybody of this kind.
    Kind(ActorKind),
    /// This user or service account.
    Subject(Subject),
}

/// The kinds of actors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActorKind {
    /// Somebody not signed in.
    Anonymous,
    /// A signed-in user.
    User,
    /// A service account.
    Service,
    /// The operator at the command line.
    Operator,
    /// The service itself.
    System,
}

impl ActorKind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Anonymous, Self::User, Self::Service, Self::Operator, Self::System];

    /// The word for it in the trail.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::User => "user",
            Self::Service => "service",
            Self::Operator => "operator",
            Self::System => "system",
        }
    }

    /// The kind that a word stands for.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// Which acts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ActFilter {
    /// The one of this name.
    Named(String),
    /// All whose names begin so.
    Beginning(String),
}

/// Why nothing is called so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no name of an act, like login.failed, nor the beginning of some, like login.*")]
pub struct ActFilterError;

impl ActFilter {
    /// Longer than any name.
    const MAX_LEN: usize = 64;

    /// A name, or the beginning of some and `*`.
    pub fn parse(text: &str) -> Result<Self, ActFilterError> {
        let (name, is_beginning) = text.strip_suffix('*').map_or((text, false), |beginning| (beginning, true));
        let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_' || b == b'.');
        if name.is_empty() || name.len() > Self::MAX_LEN || !plain {
            return Err(ActFilterError);
        }
        Ok(if is_beginning { Self::Beginning(name.to_owned()) } else { Self::Named(name.to_owned()) })
    }
}

/// Which events. All conditions that are set hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// What.
    pub act: Option<ActFilter>,
    /// Who.
    pub actor: Option<ActorFilter>,
    /// Whose account.
    pub subject: Option<Subject>,
    /// Which session.
    pub session: Option<SessionId>,
    /// How it ended.
    pub succeeded: Option<bool>,
    /// At this moment or later.
    pub since: Option<Timestamp>,
    /// Before this moment.
    pub before: Option<Timestamp>,
    /// By which request.
    pub request_id: Option<String>,
}

/// In which order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventOrder {
    /// The latest first.
    #[default]
    NewestFirst,
    /// The earliest first.
    OldestFirst,
}

/// Where a page of events begins: behind this one. Its order is the listing's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventCursor {
    /// When it was.
    pub time: Timestamp,
    /// Which of them.
    pub id: EventId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acts_are_asked_for_by_name_or_by_how_they_begin() {
        assert_eq!(ActFilter::parse("login.failed"), Ok(ActFilter::Named("login.failed".into())));
        assert_eq!(ActFilter::parse("role.*"), Ok(ActFilter::Beginning("role.".into())));
        for bad in ["", "*", "Login", "a*b", "login.%", "a b", &"a".repeat(65)] {
            assert_eq!(ActFilter::parse(bad), Err(ActFilterError), "{bad}");
        }
    }

    #[test]
    fn every_kind_of_actor_has_its_word() {
        for kind in ActorKind::ALL {
            assert_eq!(ActorKind::parse(kind.as_str()), Some(kind));
        }
        assert_eq!(ActorKind::parse("nobody"), None);
    }
}
