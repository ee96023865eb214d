//! How a port listens: where, and whether what leaves this machine is encrypted.

use std::{net::SocketAddr, path::PathBuf};

use super::{reader::Reader, settings::Tls, value};

/// How a port listens.
pub(super) struct Listener {
    pub(super) listen: SocketAddr,
    pub(super) allow_plaintext: bool,
    pub(super) tls: Option<Tls>,
}

/// A problem was noted.
struct Noted;

/// A port that plaintext leaves this machine from only if the operator said so.
pub(super) fn read(r: &mut Reader, section: &str) -> Option<Listener> {
    let (key, opt_in) = (format!("{section}.listen"), format!("{section}.allow_plaintext"));
    let (address, allowed) = (r.read(&key, value::address), r.read(&opt_in, value::flag));
    let tls = tls(r, section);
    if let (Some(address), Some(false), Ok(None)) = (address, allowed, &tls)
        && !address.ip().to_canonical().is_loopback()
    {
        let advice = format!(
            "Set {key} to a loopback address such as 127.0.0.1:{}, or {section}.tls_cert and {section}.tls_key to a \
             certificate and its key, or {opt_in} to true where something in front encrypts",
            address.port()
        );
        let cause =
            format!("{address} can be reached from other machines, and passwords and tokens would travel unencrypted");
        r.conflict(&key, advice, cause);
    }
    Some(Listener { listen: address?, allow_plaintext: allowed?, tls: tls.ok()? })
}

/// The TLS files of a port, which belong together. `None`: no TLS.
fn tls(r: &mut Reader, section: &str) -> Result<Option<Tls>, Noted> {
    let [cert, key, ca] = ["tls_cert", "tls_key", "client_ca"].map(|name| format!("{section}.{name}"));
    let [certificate, private, client_ca] = [&cert, &key, &ca].map(|name| path(r, name));
    let (given, missing, why) = match (certificate?, private?, client_ca?) {
        (Some(certificate), Some(key), client_ca) => return Ok(Some(Tls { certificate, key, client_ca })),
        (None, None, None) => return Ok(None),
        (Some(_), None, _) => (&cert, key, "a certificate is of use only with its key"),
        (None, Some(_), _) => (&key, cert, "a key is of use only with its certificate"),
        (None, None, Some(_)) => (&ca, format!("{cert} and {key}"), "without TLS no client can present a certificate"),
    };
    r.conflict(given, format!("Set {missing} as well, or remove {given}"), why);
    Err(Noted)
}

/// The path of a file, if one is given. A path is shown in dumps and errors, so what may be the key itself is refused unseen: it
/// gets there where a variable that names the file ends in `_FILE` by mistake.
fn path(r: &mut Reader, key: &str) -> Result<Option<PathBuf>, Noted> {
    const WANTED: &str = "the path of a PEM file, or nothing";
    let path = r.read(key, |raw| value::any_text(raw, WANTED)).ok_or(Noted)?;
    if path.contains("-----") || path.contains(char::is_control) {
        r.conflict(key, format!("Set {key} to {WANTED}"), "it holds what should be in the file");
        return Err(Noted);
    }
    Ok(Some(path).filter(|path| !path.is_empty()).map(PathBuf::from))
}
