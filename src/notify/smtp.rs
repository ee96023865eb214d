//! E-mail by SMTP.
//!
//! The connections are kept here and not by lettre's pool: that one takes a connection back whose exchange was broken off by a
//! timeout, and the next message on it would be told the answers to the one before.

use std::{
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use lettre::{
    Address,
    address::Envelope,
    message::{
        Mailbox, MultiPart,
        header::{Header, HeaderName, HeaderValue},
    },
    transport::smtp::{
        Error as SmtpError,
        authentication::{Credentials, Mechanism},
        client::{AsyncSmtpConnection, Certificate, CertificateStore, TlsParameters},
        commands::{Data, Mail, Rcpt},
        extension::{ClientId, Extension, MailBodyParameter, MailParameter},
    },
};
use tokio::time::{Instant, timeout};

use super::{
    Failure, Letter, NotifyError,
    content::one_line,
    smtp_url::{SmtpTls, SmtpUrl},
};

/// Longest that it may take until the server takes messages: to connect, to greet, to encrypt, to log in.
pub(super) const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Longest that one message may take from then on. Servers that look for viruses do so before they answer, and whoever hangs up
/// meanwhile and comes again makes one message many (RFC 5321 section 4.5.3.2.6 asks for ten minutes).
pub(super) const MESSAGE_LIMIT: Duration = Duration::from_mins(1);
/// A connection that was not used for this long is made anew: servers hang up on idle ones.
const IDLE: Duration = Duration::from_secs(30);
/// Most connections that are kept.
const KEPT: usize = 8;

/// Sends by one mail server.
pub(super) struct Smtp {
    url: SmtpUrl,
    tls: Option<TlsParameters>,
    from: Mailbox,
    /// The host in message ids.
    host: String,
    /// Those that nothing is under way on.
    idle: Mutex<Vec<(AsyncSmtpConnection, Instant)>>,
    /// The server refused the login, and the log says so.
    login_refused: AtomicBool,
}

/// How far a message has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The server cannot have taken it.
    Announced,
    /// The end of it may have been sent: if no answer comes, nobody knows.
    Sent,
}

/// RFC 3834: nobody's out-of-office note shall come back.
#[derive(Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

impl Smtp {
    /// A way to send by the server at `url`, as `from`. `host` stands in message ids.
    pub(super) fn new(url: SmtpUrl, roots: Option<&Path>, from: &str, host: &str) -> Result<Self, NotifyError> {
        let tls = if url.is_tls() { Some(parameters(&url, roots)?) } else { None };
        let from = from.parse().map_err(|_| NotifyError::Sender)?;
        Ok(Self {
            url,
            tls,
            from,
            host: host.to_owned(),
            idle: Mutex::default(),
            login_refused: AtomicBool::new(false),
        })
    }

    /// Hands a message over.
    pub(super) async fn send(&self, letter: &Letter) -> Result<(), Failure> {
        let (envelope, message) = self.compose(letter)?;
        // Who refuses us refuses no message: that is for the operator to mend, and the message can wait.
        let mut connection = match timeout(CONNECT_LIMIT, self.connection()).await {
            Ok(connection) => connection?,
            Err(_) => return Err(Failure::Temporary(no_answer(CONNECT_LIMIT))),
        };
        let mut stage = Stage::Announced;
        let exchange = timeout(MESSAGE_LIMIT, hand_over(&mut connection, &envelope, &message, &mut stage)).await;
        // Broken off or refused, the connection is dropped with whatever was still to be said on it.
        match exchange {
            Ok(Ok(())) => {
                self.keep(connection);
                Ok(())
            }
            Ok(Err(error)) => Err(refusal(&error, stage)),
            Err(_) if stage == Stage::Sent => Err(Failure::Doubtful(no_answer(MESSAGE_LIMIT))),
            Err(_) => Err(Failure::Temporary(no_answer(MESSAGE_LIMIT))),
        }
    }

    fn compose(&self, letter: &Letter) -> Result<(Envelope, Vec<u8>), Failure> {
        let broken =
            |problem: &dyn std::fmt::Display| Failure::Permanent(format!("no message can be made of it: {problem}"));
        let to: Address = letter.to.parse().map_err(|_| broken(&"the address is none"))?;
        let envelope = Envelope::new(Some(self.from.email.clone()), vec![to.clone()]).map_err(|e| broken(&e))?;
        let message = lettre::Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, to))
            // In one line already; lettre encodes what is not ASCII.
            .subject(letter.subject.clone())
            .message_id(Some(format!("<{}@{}>", letter.id, self.host)))
            .header(AutoSubmitted)
            .multipart(MultiPart::alternative_plain_html(letter.text.clone(), letter.html.clone()))
            .map_err(|e| broken(&e))?;
        Ok((envelope, message.formatted()))
    }

    async fn connection(&self) -> Result<AsyncSmtpConnection, Failure> {
        while let Some(mut connection) = self.kept() {
            if connection.test_connected().await {
                return Ok(connection);
            }
        }
        let SmtpUrl { host, port, tls, login, .. } = &self.url;
        let hello = ClientId::default();
        let implicit = self.tls.clone().filter(|_| *tls == SmtpTls::Implicit);
        let at = (host.as_str(), *port);
        let unusable = |error: SmtpError| Failure::Temporary(told(&error));
        let connecting = AsyncSmtpConnection::connect_tokio1(at, Some(CONNECT_LIMIT), &hello, implicit, None);
        let mut connection = connecting.await.map_err(unusable)?;
        if let (SmtpTls::StartTls, Some(parameters)) = (tls, &self.tls) {
            // Fails if the server does not offer it.
            connection.starttls(parameters.clone(), &hello).await.map_err(unusable)?;
        }
        if let Some((user, password)) = login {
            let credentials = Credentials::new(user.clone(), password.expose().to_owned());
            let login = connection.auth(&[Mechanism::Plain, Mechanism::Login], &credentials).await;
            login.map_err(|error| self.login_refused(&error))?;
            self.login_refused.store(false, Ordering::Relaxed);
        }
        Ok(connection)
    }

    /// Nothing is sent any more until the operator does something: that is a warning, once until a login is taken again.
    fn login_refused(&self, error: &SmtpError) -> Failure {
        let problem = told(error);
        if error.is_permanent() && !self.login_refused.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                problem,
                "the mail server refuses the login in notify.smtp_url: messages wait until it is right"
            );
        }
        Failure::Temporary(format!("{problem} to the login in notify.smtp_url"))
    }

    fn kept(&self) -> Option<AsyncSmtpConnection> {
        let mut idle = self.idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        idle.retain(|(_, since)| since.elapsed() < IDLE);
        idle.pop().map(|(connection, _)| connection)
    }

    fn keep(&self, connection: AsyncSmtpConnection) {
        let mut idle = self.idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if idle.len() < KEPT {
            idle.push((connection, Instant::now()));
        }
    }
}

impl std::fmt::Debug for Smtp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Smtp").field("url", &self.url).finish_non_exhaustive()
    }
}

/// Whether these roots can be used with this server.
pub(super) fn parameters(url: &SmtpUrl, roots: Option<&Path>) -> Result<TlsParameters, NotifyError> {
    let unusable = |problem: String| NotifyError::Tls(problem);
    let mut builder = TlsParameters::builder(url.host.clone());
    if let Some(path) = roots {
        let failed =
            |problem: String| unusable(format!("cannot use the certificates in {}: {problem}", path.display()));
        let pem = std::fs::read(path).map_err(|e| failed(e.to_string()))?;
        if !String::from_utf8_lossy(&pem).contains("-----BEGIN CERTIFICATE-----") {
            return Err(failed("there are none".to_owned()));
        }
        let certificates = Certificate::from_pem(&pem).map_err(|e| failed(e.to_string()))?;
        builder = builder.certificate_store(CertificateStore::None).add_root_certificate(certificates);
    }
    builder.build_rustls().map_err(|e| unusable(e.to_string()))
}

/// Says a message, command by command: what a failure means depends on how far it got.
async fn hand_over(
    connection: &mut AsyncSmtpConnection,
    envelope: &Envelope,
    message: &[u8],
    stage: &mut Stage,
) -> Result<(), SmtpError> {
    let mut options = Vec::new();
    // A server that does not say that it takes them refuses what it does not.
    let is_ascii = |address: &Address| AsRef::<str>::as_ref(address).is_ascii();
    if !envelope.to().iter().chain(envelope.from()).all(is_ascii) {
        options.push(MailParameter::SmtpUtfEight);
    }
    if !message.is_ascii() && connection.server_info().supports_feature(Extension::EightBitMime) {
        options.push(MailParameter::Body(MailBodyParameter::EightBitMime));
    }
    connection.command(Mail::new(envelope.from().cloned(), options)).await?;
    for to in envelope.to() {
        connection.command(Rcpt::new(to.clone(), Vec::new())).await?;
    }
    connection.command(Data).await?;
    *stage = Stage::Sent;
    connection.message(message).await?;
    Ok(())
}

fn no_answer(limit: Duration) -> String {
    format!("no answer within {} s", limit.as_secs())
}

/// What a failure during the delivery itself means. "Authentication required" (530) is about us again.
fn refusal(error: &SmtpError, stage: Stage) -> Failure {
    let problem = told(error);
    match error.status() {
        Some(code) if error.is_permanent() && code.to_string() != "530" => Failure::Permanent(problem),
        None if stage == Stage::Sent => Failure::Doubtful(problem),
        _ => Failure::Temporary(problem),
    }
}

/// What an attempt failed with, in one line that names nobody: a server's answer often repeats the address, also one that is none.
fn told(error: &SmtpError) -> String {
    match error.status() {
        Some(code) => format!("the server answered {code}"),
        None if error.is_response() => "the server hung up, or what it answered is not SMTP".to_owned(),
        None => one_line(&error.to_string(), 200),
    }
}
