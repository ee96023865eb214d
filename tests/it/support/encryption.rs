//! Keys that tokens are encrypted for.

use std::os::unix::fs::OpenOptionsExt as _;
use std::{io::Write as _, path::Path};

use serde_json::{Value, json};

/// `A256KW`, named `wrapped`.
pub(crate) fn wrapping_jwk() -> Value {
    json!({"kty": "oct", "alg": "A256KW", "kid": "wrapped", "k": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"})
}

/// `dir`, named `direct`.
pub(crate) fn direct_jwk() -> Value {
    json!({"kty": "oct", "alg": "dir", "kid": "direct", "k": "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8"})
}

/// `ECDH-ES` with its private part: the key of RFC 7518 appendix C.
pub(crate) fn agreeing_jwk(kid: &str) -> Value {
    json!({
        "kty": "EC", "crv": "P-256", "alg": "ECDH-ES", "kid": kid,
        "x": "weNJy2HscCSM6AEDTDg04biOvhFhyyWvOHQfeF_PxMQ",
        "y": "e8lnCO-AlStT-NJVX-crhB7QRYhiix03illJOVAOyck",
        "d": "VEmDZpDXXK8p8N0Cndsxs924q6nS1RXFASRl6BfUqdw",
    })
}

/// Without its private part.
pub(crate) fn public(mut jwk: Value) -> Value {
    jwk.as_object_mut().unwrap().remove("d").unwrap();
    jwk
}

/// Writes a file that nobody else can read; its path.
pub(crate) fn private_file(folder: &Path, name: &str, content: &Value) -> String {
    let path = folder.join(name);
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&path).unwrap();
    file.write_all(content.to_string().as_bytes()).unwrap();
    path.display().to_string()
}
