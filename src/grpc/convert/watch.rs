//! What a watcher of revocations is told.

use super::timestamp;
use crate::{
    domain::{id::Subject, revocation::Revocation, time::Timestamp},
    pb::v1::{self, revocation::Revoked},
    service::{Piece, Told},
};

/// A message of the stream.
pub(in crate::grpc) fn response(told: Told) -> v1::WatchRevocationsResponse {
    let Told { piece: Piece { revocations, cursor }, complete, now } = told;
    v1::WatchRevocationsResponse {
        revocations: revocations.into_iter().filter_map(revocation).collect(),
        // While more is to come at once, nothing can be said of what is complete.
        complete_time: cursor.is_some().then(|| timestamp(complete)),
        cursor: cursor.unwrap_or_default(),
        server_time: Some(timestamp(now)),
    }
}

fn revocation((revocation, expire_time): (Revocation, Timestamp)) -> Option<v1::Revocation> {
    let subject = |subject: Subject, epoch, spared_session_id| {
        Revoked::Subject(v1::SubjectRevocation { subject: subject.to_string(), epoch, spared_session_id })
    };
    let (revoked, lasts) = match revocation {
        Revocation::Session { session } => (Revoked::SessionId(session.to_string()), false),
        Revocation::User { user, epoch, spared } => {
            (subject(user.into(), epoch, spared.map(|session| session.to_string()).unwrap_or_default()), false)
        }
        Revocation::ServiceAccount { account, epoch } => (subject(account.into(), epoch, String::new()), false),
        Revocation::Token { token } => (Revoked::TokenId(token.to_string()), false),
        Revocation::Key { kid } => (Revoked::KeyId(kid), true),
        Revocation::KeySetChanged => (Revoked::KeySetChange(v1::KeySetChange {}), true),
        // Revokes nothing.
        Revocation::Role { role: _ } => return None,
    };
    let expire_time = (!lasts).then(|| timestamp(expire_time));
    Some(v1::Revocation { revoked: Some(revoked), expire_time })
}
