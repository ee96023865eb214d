//! The way to the service, as the file says.

use std::{fs, path::Path};

use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};

use super::{Failure, config::Fixed};
use crate::verifier::{BuildError, Builder, Verifier, issuer::Issuer};

/// What is wrong, by the name that it has in the file.
pub(super) fn named(error: BuildError) -> Failure {
    Failure(match error {
        BuildError::Plaintext(url) => format!(
            "{url} is on another machine, and whoever is in between could replace the keys: use https, or write allow_plaintext = true if nobody can be"
        ),
        BuildError::ServiceUrl(error) => {
            format!("service: is no URL to connect to ({error}): write for instance https://id.example.com:50051")
        }
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

/// For calls that only the service can answer. Wants a tokio runtime.
pub(super) fn issuer(fixed: &Fixed) -> Result<Issuer, Failure> {
    Ok(Issuer::new(endpoint(fixed)?, fixed.account()))
}

fn endpoint(fixed: &Fixed) -> Result<Endpoint, Failure> {
    let endpoint = Endpoint::from_shared(fixed.service.clone())?;
    if !is_https(&fixed.service) {
        return Ok(endpoint);
    }
    let tls = ClientTlsConfig::new();
    let tls = match authorities(fixed)? {
        None => tls.with_native_roots(),
        Some(path) => {
            let pem = fs::read(path).map_err(|error| Failure(format!("cannot read {}: {error}", path.display())))?;
            tls.ca_certificate(Certificate::from_pem(pem))
        }
    };
    Ok(endpoint.tls_config(tls)?)
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
