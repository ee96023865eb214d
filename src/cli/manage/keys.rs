//! `vouchsafe keys` through a server, in the name of whoever the access token is.

use super::{Failure, answer, args::ServerArgs, link::Link, promised};
use crate::{
    domain::{
        signing_key::{KeyLife, KeyState},
        time::Timestamp,
    },
    pb::v1::{self, SigningKeyState, key_admin_service_client::KeyAdminServiceClient},
    service::PublishedKey,
};

/// An RPC of the keys.
pub(in crate::cli) enum KeyCall<'a> {
    /// `ListSigningKeys`.
    List,
    /// `RotateSigningKey`.
    Rotate,
    /// `RevokeSigningKey`, of this `kid`.
    Revoke(&'a str),
}

/// Calls a server: the keys that it answers.
pub(in crate::cli) async fn call(
    url: &str,
    server: &ServerArgs,
    call: KeyCall<'_>,
) -> Result<Vec<PublishedKey>, Failure> {
    let link = Link::remote(url, server).await?;
    let mut client = KeyAdminServiceClient::new(link.calls());
    let keys = match call {
        KeyCall::List => answer(client.list_signing_keys(v1::ListSigningKeysRequest {})).await?.signing_keys,
        KeyCall::Rotate => {
            let answered = answer(client.rotate_signing_key(v1::RotateSigningKeyRequest {})).await?;
            vec![promised(answered.signing_key)?]
        }
        KeyCall::Revoke(kid) => {
            let request = v1::RevokeSigningKeyRequest { key_id: kid.to_owned() };
            answer(client.revoke_signing_key(request)).await?.signing_keys
        }
    };
    link.close().await;
    keys.into_iter().map(|key| promised(published(key))).collect()
}

/// A key as the API sends it. `None` if that is not as the API promises.
fn published(key: v1::SigningKey) -> Option<PublishedKey> {
    let state = match key.state() {
        SigningKeyState::Unspecified => return None,
        SigningKeyState::Published => KeyState::Published,
        SigningKeyState::Active => KeyState::Active,
        SigningKeyState::Retired => KeyState::Retired,
    };
    let v1::SigningKey { key_id, algorithm, state: _, jwk, publish_time, activate_time, retire_time, remove_time } =
        key;
    Some(PublishedKey {
        kid: key_id,
        algorithm: algorithm.parse().ok()?,
        state,
        jwk: serde_json::from_str(&jwk).ok()?,
        life: KeyLife {
            publish_time: moment(publish_time?),
            activate_time: moment(activate_time?),
            retire_time: retire_time.map(moment),
            remove_time: remove_time.map(moment),
        },
    })
}

fn moment(time: prost_types::Timestamp) -> Timestamp {
    Timestamp::from_micros(time.seconds.saturating_mul(1_000_000).saturating_add(i64::from(time.nanos) / 1_000))
}
