//! The way to the service, as the file says.

use std::path::Path;

use super::{Failure, config::Fixed};
use crate::verifier::{BuildError, Builder, Verifier};

/// What is wrong, by the name that it has in the file.
pub(super) fn named(error: BuildError) -> Failure {
    Failure(match error {
        BuildError::Plaintext(url) => format!(
            "{url} is on another machine, and whoever is in between could replace the keys: use https, or write allow_plaintext = true if nobody can be"
        ),
        BuildError::ServiceUrl(error) => {
            format!("service: is no URL to connect to ({error}): write for instance https://id.example.com:50051")
        }
        BuildError::DecryptionKeyFile { file, error } => format!("decryption_key_file: {} {error}", file.display()),
        BuildError::JwksUrl(error) => format!("jwks_url: {error}"),
        other => other.to_string(),
    })
}

/// What keeps keys and revocations.
pub(super) fn verifier(fixed: &Fixed) -> Result<Builder, Failure> {
    let audience = fixed.audience.iter().map(|audience| audience.as_str().to_owned());
    let mut builder = Verifier::builder(fixed.issuer.clone(), audience).leeway(fixed.leeway);
    builder = builder.service_url(&fixed.service).map_err(named)?;
    if let Some(path) = authorities(fixed)? {
        builder = builder.ca_file(path);
    }
    if let Some(path) = &fixed.decryption_key_file {
        builder = builder.decryption_key_file(path);
    }
    if let Some((id, path)) = &fixed.service_account {
        builder = builder.service_account_file(id, path);
    }
    if let Some(url) = &fixed.jwks_url {
        builder = builder.jwks_url(url);
    }
    if let Some(path) = &fixed.persist {
        builder = builder.persist_in(path);
    }
    if let Some(duration) = fixed.max_staleness {
        builder = builder.max_staleness(duration);
    }
    if let Some(duration) = fixed.start_timeout {
        builder = builder.start_timeout(duration);
    }
    Ok(if fixed.allow_plaintext { builder.allow_plaintext() } else { builder })
}

/// `ca_file`, if there is one and anything to verify with it.
fn authorities(fixed: &Fixed) -> Result<Option<&Path>, Failure> {
    let urls = [Some(&fixed.service), fixed.jwks_url.as_ref()];
    match &fixed.ca_file {
        Some(_) if !urls.into_iter().flatten().any(|url| is_https(url)) => {
            Err(Failure("ca_file: is of no use unless service or jwks_url is an https URL".to_owned()))
        }
        path => Ok(path.as_deref()),
    }
}

fn is_https(url: &str) -> bool {
    url.starts_with("https:")
}
