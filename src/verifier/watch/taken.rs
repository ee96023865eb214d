//! What a response of `WatchRevocations` says, in the domain's words.

use crate::{
    domain::{
        id::Subject,
        revocation::{FeedEntry, Revocation},
        time::Timestamp,
    },
    pb::v1::{self, revocation::Revoked},
};

/// What is to be done about one response.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// To be added to the list.
    pub(super) entries: Vec<FeedEntry>,
    /// Whether the keys are others than before, or one of them is revoked.
    pub(super) keys_changed: bool,
    /// How many could not be understood: with them the list is not complete.
    pub(super) unknown: usize,
}

/// Reads the revocations of a response.
pub(super) fn read(revocations: Vec<v1::Revocation>) -> Taken {
    let mut taken = Taken::default();
    for revocation in revocations {
        match entry(revocation) {
            Some(entry) => match entry.revocation {
                Revocation::KeySetChanged => taken.keys_changed = true,
                Revocation::Key { .. } => {
                    taken.keys_changed = true;
                    taken.entries.push(entry);
                }
                _ => taken.entries.push(entry),
            },
            None => taken.unknown += 1,
        }
    }
    taken
}

/// `None`: of a kind that this version does not know, or malformed.
fn entry(v1::Revocation { revoked, expire_time }: v1::Revocation) -> Option<FeedEntry> {
    let expire_time = expire_time.map(timestamp);
    let (revocation, expires) = match revoked? {
        Revoked::SessionId(id) => (Revocation::Session { session: id.parse().ok()? }, true),
        Revoked::TokenId(id) => (Revocation::Token { token: id.parse().ok()? }, true),
        Revoked::Subject(subject) => (subject_revocation(&subject)?, true),
        Revoked::KeyId(kid) if kid.is_empty() => return None,
        Revoked::KeyId(kid) => (Revocation::Key { kid }, false),
        Revoked::KeySetChange(v1::KeySetChange {}) => (Revocation::KeySetChanged, false),
    };
    // Without its end nobody can say when it may be forgotten.
    let expire_time = if expires { expire_time? } else { expire_time.unwrap_or_default() };
    // The place in the feed is the issuer's affair.
    Some(FeedEntry { number: 0, revocation, time: Timestamp::default(), expire_time })
}

fn subject_revocation(
    v1::SubjectRevocation { subject, epoch, spared_session_id }: &v1::SubjectRevocation,
) -> Option<Revocation> {
    let epoch = *epoch;
    let spared = match spared_session_id.as_str() {
        "" => None,
        id => Some(id.parse().ok()?),
    };
    match subject.parse().ok()? {
        Subject::User(user) => Some(Revocation::User { user, epoch, spared }),
        // It has no sessions that could be spared.
        Subject::Service(account) if spared.is_none() => Some(Revocation::ServiceAccount { account, epoch }),
        Subject::Service(_) => None,
    }
}

/// Nanoseconds are cut off.
pub(super) fn timestamp(time: prost_types::Timestamp) -> Timestamp {
    let micros = i64::from(time.nanos / 1_000);
    Timestamp::from_micros(Timestamp::from_seconds(time.seconds).as_micros().saturating_add(micros))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::{ServiceAccountId, SessionId, TokenId, UserId};

    const END: Timestamp = Timestamp::from_micros(1_800_000_000_250_000);

    fn of(revoked: Option<Revoked>) -> v1::Revocation {
        let expire_time = Some(prost_types::Timestamp { seconds: 1_800_000_000, nanos: 250_000_900 });
        v1::Revocation { revoked, expire_time }
    }

    #[allow(clippy::needless_pass_by_value, clippy::unnecessary_wraps)]
    fn subject(subject: impl ToString, spared: impl ToString) -> Option<Revoked> {
        let (subject, spared_session_id) = (subject.to_string(), spared.to_string());
        Some(Revoked::Subject(v1::SubjectRevocation { subject, epoch: 7, spared_session_id }))
    }

    #[test]
    fn every_kind_is_understood() {
        let bytes = &[3; 10];
        let (session, token) = (SessionId::new(END, bytes), TokenId::new(END, bytes));
        let (user, account) = (UserId::new(END, bytes), ServiceAccountId::new(END, bytes));
        for (revoked, revocation) in [
            (Some(Revoked::SessionId(session.to_string())), Revocation::Session { session }),
            (Some(Revoked::TokenId(token.to_string())), Revocation::Token { token }),
            (Some(Revoked::KeyId("k".into())), Revocation::Key { kid: "k".into() }),
            (subject(user, ""), Revocation::User { user, epoch: 7, spared: None }),
            (subject(user, session), Revocation::User { user, epoch: 7, spared: Some(session) }),
            (subject(account, ""), Revocation::ServiceAccount { account, epoch: 7 }),
        ] {
            let keys_changed = matches!(revocation, Revocation::Key { .. });
            let entries = vec![FeedEntry { number: 0, revocation, time: Timestamp::default(), expire_time: END }];
            assert_eq!(read(vec![of(revoked)]), Taken { entries, keys_changed, unknown: 0 });
        }
        let change =
            read(vec![v1::Revocation { revoked: Some(Revoked::KeySetChange(v1::KeySetChange {})), expire_time: None }]);
        assert_eq!(change, Taken { keys_changed: true, ..Taken::default() });
    }

    #[test]
    fn what_is_not_understood_is_counted_and_the_rest_is_taken() {
        let good = Some(Revoked::SessionId(SessionId::new(END, &[1; 10]).to_string()));
        let account = ServiceAccountId::new(END, &[1; 10]);
        for bad in [
            of(None),
            of(Some(Revoked::SessionId("x".into()))),
            of(Some(Revoked::TokenId(String::new()))),
            of(Some(Revoked::KeyId(String::new()))),
            of(subject("nobody", "")),
            of(subject(account, SessionId::new(END, &[1; 10]))),
            of(subject(UserId::new(END, &[1; 10]), "x")),
            v1::Revocation { revoked: good.clone(), expire_time: None },
        ] {
            let taken = read(vec![of(good.clone()), bad.clone()]);
            assert_eq!((taken.entries.len(), taken.unknown), (1, 1), "{bad:?}");
        }
    }
}
