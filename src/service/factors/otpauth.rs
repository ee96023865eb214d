//! The URI that authenticator apps read (the "Key URI Format" that Google Authenticator began).

use crate::domain::{percent::percent_encoded, secret::SecretString};

/// The URI of a secret in base32. What apps would take for granted stands in it all the same: not all of them agree.
pub(super) fn uri(issuer: &str, account: &str, secret: &SecretString) -> SecretString {
    let (issuer, account, secret) = (percent_encoded(issuer), percent_encoded(account), secret.expose());
    // In front of the account for apps of before, as a parameter for those of today; both must be the same.
    SecretString::new(format!(
        "otpauth://totp/{issuer}:{account}?secret={secret}&issuer={issuer}&algorithm=SHA1&digits=6&period=30"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_meaning_in_a_uri_is_encoded() {
        let uri = uri("Äh & Co/ok", "ada+x%y@example.com", &SecretString::new("GEZDGNBVGY3TQOJQ".into()));
        assert_eq!(
            uri.expose(),
            "otpauth://totp/%C3%84h%20%26%20Co%2Fok:ada%2Bx%25y%40example.com?secret=GEZDGNBVGY3TQOJQ\
             &issuer=%C3%84h%20%26%20Co%2Fok&algorithm=SHA1&digits=6&period=30"
        );
    }
}
