//! Messages to people: from what is to be said to its delivery by mail server, web service or log.
//!
//! What this room promises:
//! - Whom a message goes to and what it says are decided before, in the transaction of its cause. Nothing here reads the database.
//! - No text of somebody else's becomes markup, a header or another line, and no link leads anywhere but where the operator says.
//! - A delivery ends in time, whatever the other side does, and says whether another attempt can help.
//! - A code is in no error and in no log, except where the operator chose the log as the way that messages take.

use std::time::Duration;

use uuid::Uuid;

use crate::{
    config,
    domain::{
        locale::Locale,
        notice::{Message, Recipient},
        time::Timestamp,
    },
};

mod back_off;
mod content;
mod log;
mod smtp;
mod smtp_url;
mod templates;
mod webhook;

pub use back_off::{LONGEST_PAUSE, next_attempt};
pub use content::{KINDS, kind};
pub use smtp_url::{SmtpTls, SmtpUrl, SmtpUrlError};
pub use webhook::{WebhookSecret, WebhookSecretError};

use content::Variables;
use smtp::Smtp;
use templates::Templates;
use webhook::Webhook;

/// Longest that one delivery may take, whatever the way does about it itself.
pub const DELIVERY_LIMIT: Duration = Duration::from_secs(75);
const _: () = assert!(smtp::CONNECT_LIMIT.as_secs() + smtp::MESSAGE_LIMIT.as_secs() < DELIVERY_LIMIT.as_secs());

/// What messages in the log are written under, at the level info.
pub const LOG_TARGET: &str = log::TARGET;

/// Why messages cannot be sent as the settings say.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// A template.
    #[error("notify.templates: {place}: {problem}")]
    Template {
        /// The file, and the line if one is to blame.
        place: String,
        /// What is wrong there.
        problem: String,
    },
    /// The server's own language.
    #[error(
        "notify.locale is {0}, in which nothing is written: name a folder with templates in it in notify.templates, or choose en or de"
    )]
    Locale(String),
    /// The sender.
    #[error(
        "notify.from is no address that mail can be sent from: write it as noreply@example.com or Example <noreply@example.com>"
    )]
    Sender,
    /// The roots that the mail server is trusted by.
    #[error("notify.smtp_tls_roots: {0}")]
    Tls(String),
}

/// What a delivery failed with, in one line that holds neither code nor recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Another attempt may help.
    Temporary(String),
    /// It may have arrived, and another attempt may make it arrive a second time.
    Doubtful(String),
    /// No other attempt will help.
    Permanent(String),
}

/// A message in words, on its way.
struct Letter {
    id: Uuid,
    /// `email` or `sms`.
    channel: &'static str,
    /// The address or the number.
    to: String,
    kind: &'static str,
    /// The recipient's, or the server's own.
    locale: String,
    subject: String,
    text: String,
    /// Empty for a phone.
    html: String,
    code: Option<String>,
    expire_time: Timestamp,
}

/// The way that messages of a channel take.
#[derive(Debug)]
enum Way {
    Off,
    Log,
    Smtp(Box<Smtp>),
    Webhook(Box<Webhook>),
}

/// Words and delivers messages.
#[derive(Debug)]
pub struct Notifier {
    email: Way,
    sms: Way,
    templates: Templates,
    locale: Locale,
    /// The issuer's host.
    service: String,
    link_url: Option<String>,
}

impl Notifier {
    /// Delivers as the settings say, for the issuer of that name. Reads files; connects to nobody.
    ///
    /// # Errors
    /// See [`NotifyError`].
    pub fn new(settings: &config::Notify, issuer: &str) -> Result<Self, NotifyError> {
        let config::Notify { email, sms, templates, link_url, locale, .. } = settings;
        let service = host_of(issuer, settings.from.as_deref());
        Ok(Self {
            email: way(*email, settings, &service)?,
            sms: way(*sms, settings, &service)?,
            templates: Templates::load(templates.as_deref(), locale)?,
            locale: locale.clone(),
            service,
            link_url: link_url.clone(),
        })
    }

    /// Delivers nothing: for a process that only puts messages in.
    pub fn off() -> Self {
        Self {
            email: Way::Off,
            sms: Way::Off,
            templates: Templates::none(),
            locale: Locale::stored(templates::LAST_RESORT.to_owned()),
            service: String::new(),
            link_url: None,
        }
    }

    /// Delivers a message. `now` is told to whoever has to know whether it is a new one.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn deliver(
        &self,
        id: Uuid,
        message: &Message,
        expire_time: Timestamp,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let (way, setting) = match message.to {
            Recipient::Email(_) => (&self.email, "notify.email"),
            Recipient::Sms(_) => (&self.sms, "notify.sms"),
            Recipient::Nobody => return Ok(()),
        };
        let Some(letter) = self.word(id, message, expire_time)? else { return Ok(()) };
        let delivery = async {
            match way {
                Way::Off => Err(Failure::Permanent(format!("{setting} is off"))),
                Way::Log => {
                    log::write(&letter);
                    Ok(())
                }
                Way::Smtp(smtp) => smtp.send(&letter).await,
                Way::Webhook(webhook) => webhook.send(&letter, now).await,
            }
        };
        let late = |_| Err(Failure::Temporary(format!("not delivered within {} s", DELIVERY_LIMIT.as_secs())));
        tokio::time::timeout(DELIVERY_LIMIT, delivery).await.unwrap_or_else(late)
    }

    /// The message in words; `None` if it says nothing.
    fn word(&self, id: Uuid, message: &Message, expire_time: Timestamp) -> Result<Option<Letter>, Failure> {
        let Message { to, locale, notice } = message;
        let Some(kind) = content::kind(notice) else { return Ok(None) };
        let variables = Variables::of(message, &self.service, self.link_url.as_deref(), expire_time);
        let to_phone = matches!(to, Recipient::Sms(_));
        let wording = self.templates.word(kind, locale.as_ref(), to_phone, &variables);
        // Its detail could quote a value.
        let wording = wording.map_err(|error| {
            let place = error.name().unwrap_or(kind).to_owned();
            Failure::Permanent(format!("the template {place} cannot be used: {}", error.kind()))
        })?;
        Ok(Some(Letter {
            id,
            channel: to.channel(),
            to: variables.to,
            kind,
            locale: locale.as_ref().unwrap_or(&self.locale).as_str().to_owned(),
            subject: wording.subject,
            text: wording.text,
            html: wording.html,
            code: variables.code,
            expire_time,
        }))
    }
}

fn way(channel: config::Channel, settings: &config::Notify, host: &str) -> Result<Way, NotifyError> {
    let config::Notify { smtp_url, smtp_tls_roots, from, webhook_url, webhook_secret, .. } = settings;
    Ok(match (channel, smtp_url, webhook_url, webhook_secret) {
        (config::Channel::Log, ..) => Way::Log,
        (config::Channel::Smtp, Some(url), ..) => {
            let from = from.as_deref().ok_or(NotifyError::Sender)?;
            Way::Smtp(Box::new(Smtp::new(url.clone(), smtp_tls_roots.as_deref(), from, host)?))
        }
        (config::Channel::Webhook, _, Some(url), Some(secret)) => {
            Way::Webhook(Box::new(Webhook::new(url.clone(), secret)))
        }
        // The settings were refused if they choose a way and do not say where it leads.
        (config::Channel::Off | config::Channel::Smtp | config::Channel::Webhook, ..) => Way::Off,
    })
}

/// The host of the issuer, as people know the service; of an issuer that is no URL, the domain that mail comes from.
fn host_of(issuer: &str, from: Option<&str>) -> String {
    let uri = issuer.parse::<http::Uri>().ok();
    let host = uri.as_ref().and_then(http::Uri::host).filter(|_| issuer.contains("://"));
    let domain = from.and_then(|from| from.trim_end_matches('>').rsplit_once('@')).map(|(_, domain)| domain);
    host.or(domain).unwrap_or("localhost").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_known_by_the_host_of_its_issuer() {
        assert_eq!(host_of("https://id.example.com:8443/a", Some("x@example.org")), "id.example.com");
        assert_eq!(host_of("urn:example:id", Some("Example <noreply@example.org>")), "example.org");
        assert_eq!(host_of("urn:example:id", None), "localhost");
    }
}
