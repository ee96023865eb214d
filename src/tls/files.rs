//! The files of one port, read and checked whole before anything uses them.

use std::{
    fmt, fs,
    io::{self, Read as _},
    path::Path,
    sync::Arc,
};

use aws_lc_rs::digest::{Context, SHA256};
use tokio_rustls::rustls::{
    self, RootCertStore, ServerConfig,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
    version::{TLS12, TLS13},
};
use zeroize::Zeroizing;

use super::{expiry, provider};
use crate::{config::Tls, domain::time::Timestamp};

/// Far more than any chain or bundle needs.
const MAX_FILE: u64 = 4 << 20;
const NO_KEY: &str = "it holds no private key in PEM; one that is encrypted with a passphrase cannot be used";
const STRANGE_KEY: &str = "it is not a private key of a kind that is supported: RSA, ECDSA or Ed25519";

/// Why the files of a port cannot be used. Names the setting and the file, and never shows what is in one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsError {
    setting: String,
    file: String,
    problem: String,
}

impl TlsError {
    pub(super) fn new(section: &str, name: &str, file: &Path, problem: impl fmt::Display) -> Self {
        Self { setting: format!("{section}.{name}"), file: file.display().to_string(), problem: problem.to_string() }
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is not usable: {}: {}", self.setting, self.file, self.problem)
    }
}

impl std::error::Error for TlsError {}

/// What the files of a port hold, not yet made sense of.
pub(super) struct Contents {
    certificate: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
    client_ca: Option<Vec<u8>>,
}

/// What a port does handshakes with.
pub(super) struct Loaded {
    pub(super) config: ServerConfig,
    /// When the certificate ends, if it says so in a way that we understand.
    pub(super) not_after: Option<Timestamp>,
}

impl Contents {
    pub(super) fn read(section: &str, tls: &Tls) -> Result<Self, TlsError> {
        let read = |name, path: &Path| read(path).map_err(|error| TlsError::new(section, name, path, error));
        Ok(Self {
            certificate: read("tls_cert", &tls.certificate)?.to_vec(),
            key: read("tls_key", &tls.key)?,
            client_ca: tls.client_ca.as_deref().map(|path| read("client_ca", path)).transpose()?.map(|ca| ca.to_vec()),
        })
    }

    /// Tells whether anything changed, without keeping the key.
    pub(super) fn digest(&self) -> [u8; 32] {
        let mut context = Context::new(&SHA256);
        for part in [&self.certificate, &*self.key, self.client_ca.as_ref().unwrap_or(&Vec::new())] {
            context.update(&part.len().to_be_bytes());
            context.update(part);
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(context.finish().as_ref());
        digest
    }

    /// Checks everything that can be checked without a peer.
    pub(super) fn load(&self, section: &str, tls: &Tls, protocols: &[&[u8]]) -> Result<Loaded, TlsError> {
        let provider = provider();
        let pair = self.pair(section, tls, &provider)?;
        let not_after = pair.cert.first().and_then(|certificate| expiry::not_after(certificate));
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(|error| TlsError::new(section, "tls_cert", &tls.certificate, error))?;
        let builder = match (&self.client_ca, &tls.client_ca) {
            (Some(pem), Some(path)) => {
                let verifier = client_verifier(pem, provider);
                builder.with_client_cert_verifier(
                    verifier.map_err(|problem| TlsError::new(section, "client_ca", path, problem))?,
                )
            }
            _ => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        // A resumed session is not asked for its certificate again, and another node would not know it. Connections last, so
        // each of them can prove itself anew.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Loaded { config, not_after })
    }

    /// The certificate and the key, which must be its own.
    fn pair(&self, section: &str, tls: &Tls, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
        let of_certificate = |problem: String| TlsError::new(section, "tls_cert", &tls.certificate, problem);
        let of_key = |problem: &str| TlsError::new(section, "tls_key", &tls.key, problem);
        let chain = certificates(&self.certificate).map_err(of_certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|_| of_key(NO_KEY))?;
        let key = provider.key_provider.load_private_key(key).map_err(|_| of_key(STRANGE_KEY))?;
        let pair = CertifiedKey::new(chain, key);
        match pair.keys_match() {
            Ok(()) => Ok(pair),
            Err(rustls::Error::InconsistentKeys(_)) => {
                Err(of_key(&format!("it is not the key of the certificate in {}", tls.certificate.display())))
            }
            Err(error) => Err(of_certificate(format!("it holds no certificate that can be used: {error}"))),
        }
    }
}

/// Demands a certificate that one of these authorities has signed, of everybody.
fn client_verifier(pem: &[u8], provider: Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate).map_err(|error| format!("one is not usable: {error}"))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    verifier.build().map_err(|error| error.to_string())
}

fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let file = fs::File::open(path)?;
    // Room for the whole file at once: what growing would leave behind is not erased.
    let size = file.metadata()?.len().min(MAX_FILE) + 1;
    let mut content = Zeroizing::new(Vec::with_capacity(usize::try_from(size).unwrap_or_default()));
    file.take(MAX_FILE + 1).read_to_end(&mut content)?;
    if content.len() as u64 > MAX_FILE {
        return Err(io::Error::other("it is larger than 4 MiB"));
    }
    Ok(content)
}

/// The certificates in a PEM file, at least one.
pub(super) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) => Err("it holds no certificate in PEM (-----BEGIN CERTIFICATE-----)".to_owned()),
        Err(_) => Err("it is not PEM throughout".to_owned()),
    }
}

/// The certificates and the key of a port, for a client of its own.
pub(super) type Pair = (Vec<CertificateDer<'static>>, Option<PrivateKeyDer<'static>>);

/// The certificates, and the key as well if client certificates are wanted.
pub(super) fn pair(section: &str, tls: &Tls) -> Result<Pair, TlsError> {
    let contents = Contents::read(section, tls)?;
    let chain = certificates(&contents.certificate)
        .map_err(|problem| TlsError::new(section, "tls_cert", &tls.certificate, problem))?;
    let key = tls.client_ca.is_some().then(|| PrivateKeyDer::from_pem_slice(&contents.key));
    let key = key.transpose().map_err(|_| TlsError::new(section, "tls_key", &tls.key, NO_KEY))?;
    Ok((chain, key))
}
