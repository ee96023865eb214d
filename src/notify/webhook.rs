//! Messages handed to a web service of the operator's, signed in the form of Standard Webhooks: it can tell that they come from
//! here, that nobody changed them, that they are new, and when one comes a second time.

use std::time::Duration;

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::Serialize;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::{Failure, Letter, content::one_line};
use crate::{
    domain::{secret::SecretString, time::Timestamp},
    verifier::keys::fetch::Fetcher,
};

/// Longest that one call may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Why a text is no secret for signatures. Holds no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("24 to 64 random bytes in base64, with or without whsec_ before them (openssl rand -base64 32)")]
pub struct WebhookSecretError;

/// What calls are signed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookSecret(SecretString);

impl WebhookSecret {
    /// Recognises a secret.
    ///
    /// # Errors
    /// [`WebhookSecretError`].
    pub fn parse(text: &str) -> Result<Self, WebhookSecretError> {
        let secret = Self(SecretString::new(text.to_owned()));
        if (24..=64).contains(&secret.bytes().len()) { Ok(secret) } else { Err(WebhookSecretError) }
    }

    /// None if it is not base64.
    fn bytes(&self) -> Zeroizing<Vec<u8>> {
        let text = self.0.expose();
        let base64 = text.strip_prefix("whsec_").unwrap_or(text);
        Zeroizing::new(STANDARD.decode(base64).unwrap_or_default())
    }
}

/// Calls one web service.
pub(super) struct Webhook {
    url: String,
    key: hmac::Key,
    fetcher: Fetcher,
}

/// What the service is told.
#[derive(Serialize)]
struct Body<'a> {
    id: String,
    channel: &'a str,
    to: &'a str,
    kind: &'a str,
    locale: &'a str,
    subject: &'a str,
    text: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    html: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
    expire_time: String,
}

impl Webhook {
    /// Calls `url`, which is https or on this machine.
    pub(super) fn new(url: String, secret: &WebhookSecret) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &secret.bytes());
        Self { url, key, fetcher: Fetcher::new(None, false) }
    }

    /// Hands a message over.
    pub(super) async fn send(&self, letter: &Letter, now: Timestamp) -> Result<(), Failure> {
        let Letter { id, channel, to, kind, locale, subject, text, html, code, expire_time } = letter;
        let (id, expire_time) = (id.to_string(), expire_time.to_string());
        let body = Body { id, channel, to, kind, locale, subject, text, html, code: code.as_deref(), expire_time };
        // A struct of texts always becomes JSON.
        let text = serde_json::to_string(&body).unwrap_or_default();
        let headers = self.headers(&body.id, now.as_seconds(), &text);
        match timeout(LIMIT, self.fetcher.post(&self.url, headers, text)).await {
            Ok(Ok(status)) => judge(status),
            Ok(Err(error)) => Err(Failure::Temporary(one_line(&error.to_string(), 200))),
            Err(_) => Err(Failure::Temporary(format!("no answer within {} s", LIMIT.as_secs()))),
        }
    }

    fn headers(&self, id: &str, timestamp: i64, body: &str) -> HeaderMap {
        let tag = hmac::sign(&self.key, format!("{id}.{timestamp}.{body}").as_bytes());
        let signature = format!("v1,{}", STANDARD.encode(tag.as_ref()));
        let values = [
            (HeaderName::from_static("webhook-id"), id.to_owned()),
            (HeaderName::from_static("webhook-timestamp"), timestamp.to_string()),
            (HeaderName::from_static("webhook-signature"), signature),
        ];
        // A UUID, digits and base64 are always values of headers.
        let header = |(name, value): (HeaderName, String)| Some((name, HeaderValue::from_str(&value).ok()?));
        values.into_iter().filter_map(header).collect()
    }
}

/// What an answer means. What is wrong with a message will be wrong again; what says that the service is not set up rightly, or not
/// there, is for the operator to mend, and the message can wait.
fn judge(status: StatusCode) -> Result<(), Failure> {
    let again = [
        StatusCode::UNAUTHORIZED,
        StatusCode::FORBIDDEN,
        StatusCode::NOT_FOUND,
        StatusCode::METHOD_NOT_ALLOWED,
        StatusCode::REQUEST_TIMEOUT,
        StatusCode::TOO_EARLY,
        StatusCode::TOO_MANY_REQUESTS,
    ];
    let answered = format!("the web service answered {}", status.as_u16());
    match status {
        status if status.is_success() => Ok(()),
        status if status.is_client_error() && !again.contains(&status) => Err(Failure::Permanent(answered)),
        _ => Err(Failure::Temporary(answered)),
    }
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification (standard-webhooks, "signature scheme"), with the signature of OpenSSL:
    /// `printf '%s' 'msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{"test": 2432232314}' | openssl dgst -sha256 -mac hmac …`.
    #[test]
    fn a_signature_is_that_of_standard_webhooks() {
        let secret = WebhookSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let webhook = Webhook::new("https://h".into(), &secret);
        let headers = webhook.headers("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(headers["webhook-id"], "msg_p5jXN8AQM9LWM0D4loKWxJek");
        assert_eq!(headers["webhook-timestamp"], "1614265330");
        assert_eq!(headers["webhook-signature"], "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_is_long_enough_and_not_shown() {
        for good in ["MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"] {
            assert!(!format!("{:?}", WebhookSecret::parse(good).unwrap()).contains("MfKQ"));
        }
        for bad in ["", "whsec_", "c2hvcnQ=", "not base64 at all, but long enough to be one"] {
            assert_eq!(WebhookSecret::parse(bad), Err(WebhookSecretError), "{bad}");
        }
    }

    #[test]
    fn only_a_refusal_of_the_message_itself_is_final() {
        for (status, expected) in
            [(200, "ok"), (202, "ok"), (204, "ok"), (400, "final"), (410, "final"), (413, "final")]
                .into_iter()
                .chain([(401, "again"), (403, "again"), (404, "again"), (405, "again")])
                .chain([(422, "final"), (408, "again"), (425, "again"), (429, "again"), (302, "again"), (500, "again")])
                .chain([(503, "again")])
        {
            let judged = match judge(StatusCode::from_u16(status).unwrap()) {
                Ok(()) => "ok",
                Err(Failure::Permanent(_)) => "final",
                Err(Failure::Temporary(_) | Failure::Doubtful(_)) => "again",
            };
            assert_eq!(judged, expected, "{status}");
        }
    }
}
