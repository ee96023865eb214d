//! `vouchsafe token verify`: the checks of the server, without a server. Revocation is what only the service knows, so it is
//! not among them.

use std::{fs, io::Read as _, process::ExitCode};

use serde_json::Value;

use super::{
    Failure, ambient,
    args::{TokenSource, VerifyToken},
    print,
};
use crate::{
    domain::secret::SecretString,
    jose::KeySet,
    verifier::{AudiencePolicy, Leeway, RevocationSet, TokenVerifier, claims},
};

/// More than any token; a larger input is not read to its end.
const MAX_INPUT: u64 = 1 << 20;

pub(super) fn verify(args: VerifyToken) -> Result<ExitCode, Failure> {
    let VerifyToken { token, jwks, issuer, audiences, leeway } = args;
    let text = fs::read_to_string(&jwks).map_err(|e| Failure(format!("cannot read {}: {e}", jwks.display())))?;
    let keys = KeySet::from_jwks(&text).map_err(|e| Failure(format!("{} is no JWKS: {e}", jwks.display())))?;
    let audience = if audiences.is_empty() { AudiencePolicy::NotChecked } else { AudiencePolicy::AnyOf(audiences) };
    let verifier = TokenVerifier::new(issuer, audience)?.with_leeway(Leeway::try_from(leeway)?);
    let token = match token {
        TokenSource::Given(token) => token,
        TokenSource::Stdin => {
            let mut text = String::new();
            std::io::stdin().take(MAX_INPUT).read_to_string(&mut text)?;
            SecretString::new(text.trim().to_owned())
        }
    };
    match verifier.verify(token.expose(), &keys, &RevocationSet::new(), ambient().clock.now()) {
        Ok(claims) => {
            let claims: Value = serde_json::to_value(claims::to_json(&claims))?;
            print(&serde_json::to_string_pretty(&claims)?)
        }
        Err(reason) => Err(Failure(format!("the token is not valid: {reason}"))),
    }
}
