//! Takes over changed certificate files while the ports serve.
//!
//! The files are read again every two seconds and their content compared. That works wherever they are: renamed over, written in place, on
//! a network, or behind the symbolic links that Kubernetes switches. Only a set that passes every check replaces the one in
//! use.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use tokio::{sync::Notify, task::spawn_blocking, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    Acceptor,
    files::{Contents, Loaded, TlsError},
};
use crate::{
    config::{Settings, Tls},
    domain::time::{Clock, Timestamp},
};

/// How often the files are looked at.
const INTERVAL: Duration = Duration::from_secs(2);
/// A certificate that ends sooner than this is warned of.
const SOON: Duration = Duration::from_hours(14 * 24);
/// How often.
const REMINDER: Duration = Duration::from_hours(24);

/// What is spoken over TLS, by its ALPN names (RFC 7301), the better ones first.
type Protocols = &'static [&'static [u8]];
const H2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";

/// TLS of the ports that have it.
#[derive(Debug)]
pub struct Ports {
    grpc: Option<Port>,
    http: Option<Port>,
    asked: Reload,
}

/// Asks for the files to be looked at now.
#[derive(Clone, Debug, Default)]
pub struct Reload(Arc<Notify>);

impl Reload {
    /// Asks. What is found is logged.
    pub fn now(&self) {
        self.0.notify_one();
    }
}

impl Ports {
    /// Reads and checks the files that the settings name.
    ///
    /// # Errors
    /// What is wrong with the first set that cannot be used.
    pub fn load(settings: &Settings) -> Result<Self, TlsError> {
        let port = |section, tls: &Option<Tls>, protocols| {
            tls.as_ref().map(|tls| Port::load(section, tls.clone(), protocols)).transpose()
        };
        // Browsers choose HTTP/2, and what stands between them and us often cannot.
        let spoken: Protocols = if settings.grpc.web_origins.is_empty() { &[H2] } else { &[H2, HTTP1] };
        Ok(Self {
            grpc: port("grpc", &settings.grpc.tls, spoken)?,
            http: port("http", &settings.http.tls, &[HTTP1])?,
            asked: Reload::default(),
        })
    }

    /// For the gRPC port.
    pub(crate) fn grpc(&self) -> Option<Acceptor> {
        self.grpc.as_ref().map(|port| port.acceptor.clone())
    }

    /// For the HTTP port.
    pub(crate) fn http(&self) -> Option<Acceptor> {
        self.http.as_ref().map(|port| port.acceptor.clone())
    }

    /// What asks for a look at the files. `None` without TLS.
    pub(crate) fn reload(&self) -> Option<Reload> {
        (self.grpc.is_some() || self.http.is_some()).then(|| self.asked.clone())
    }

    /// Takes over what changes, until `stop`.
    pub(crate) async fn follow(self, clock: Arc<dyn Clock>, stop: CancellationToken) {
        let Self { grpc, http, asked } = self;
        let mut ports: Vec<Port> = [grpc, http].into_iter().flatten().collect();
        if ports.is_empty() {
            return;
        }
        loop {
            for port in &mut ports {
                port.remind(clock.now());
            }
            let asked = tokio::select! {
                () = stop.cancelled() => return,
                () = asked.0.notified() => true,
                () = sleep(INTERVAL) => false,
            };
            for port in &mut ports {
                port.look(asked).await;
            }
        }
    }
}

/// One port's files and what was made of them.
struct Port {
    section: &'static str,
    tls: Tls,
    protocols: Protocols,
    acceptor: Acceptor,
    in_use: Found,
    /// What was found last if it could not be used, and whether that was said.
    refused: Option<(Found, bool)>,
    not_after: Option<Timestamp>,
    reminded: Option<Timestamp>,
}

/// What was found, as far as it takes to notice a change.
#[derive(Clone, PartialEq, Eq)]
enum Found {
    Content([u8; 32]),
    Unreadable(TlsError),
}

impl std::fmt::Debug for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Port").field("section", &self.section).field("tls", &self.tls).finish_non_exhaustive()
    }
}

/// Reads and checks; what was found, and what it is good for.
fn find(section: &str, tls: &Tls, protocols: Protocols) -> (Found, Result<Loaded, TlsError>) {
    match Contents::read(section, tls) {
        Ok(contents) => (Found::Content(contents.digest()), contents.load(section, tls, protocols)),
        Err(error) => (Found::Unreadable(error.clone()), Err(error)),
    }
}

impl Port {
    fn load(section: &'static str, tls: Tls, protocols: Protocols) -> Result<Self, TlsError> {
        let (in_use, loaded) = find(section, &tls, protocols);
        let Loaded { config, not_after } = loaded?;
        let acceptor = Acceptor { current: Arc::new(ArcSwap::from_pointee(config)) };
        Ok(Self { section, tls, protocols, acceptor, in_use, refused: None, not_after, reminded: None })
    }

    /// Looks at the files, and takes them over if they changed and are good.
    async fn look(&mut self, asked: bool) {
        let (section, tls, protocols) = (self.section, self.tls.clone(), self.protocols);
        let Ok((found, loaded)) = spawn_blocking(move || find(section, &tls, protocols)).await else { return };
        if found == self.in_use {
            let restored = self.refused.take().is_some();
            if asked || restored {
                tracing::info!(port = section, "the TLS files are those in use");
            }
            return;
        }
        match loaded {
            Ok(Loaded { config, not_after }) => {
                self.acceptor.current.store(Arc::new(config));
                (self.in_use, self.refused, self.not_after, self.reminded) = (found, None, not_after, None);
                tracing::info!(
                    port = section,
                    not_after = not_after.map(tracing::field::display),
                    "new TLS certificate in use"
                );
            }
            Err(error) => self.refuse(found, &error, asked),
        }
    }

    /// Keeps what is in use. That is said once, and only of what is found twice: files are replaced one after the other, and
    /// a certificate whose key is not there yet is no mistake.
    fn refuse(&mut self, found: Found, error: &TlsError, asked: bool) {
        let before = self.refused.take().filter(|(before, _)| *before == found);
        let said = before.as_ref().is_some_and(|(_, said)| *said);
        let say = asked || (before.is_some() && !said);
        if say {
            tracing::error!(port = self.section, %error, "the new TLS files cannot be used, the old certificate stays in use");
        }
        self.refused = Some((found, said || say));
    }

    /// Warns of a certificate that ends soon, once a day.
    fn remind(&mut self, now: Timestamp) {
        let Some(not_after) = self.not_after.filter(|end| now >= end.minus(SOON)) else { return };
        if self.reminded.is_some_and(|last| now < last.plus(REMINDER)) {
            return;
        }
        self.reminded = Some(now);
        let file = self.tls.certificate.display();
        if now >= not_after {
            tracing::warn!(port = self.section, %file, %not_after, "the TLS certificate has expired: clients refuse it");
        } else {
            tracing::warn!(port = self.section, %file, %not_after, "the TLS certificate expires soon");
        }
    }
}
