//! The way to the service, as the file says.

use std::fs;

use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};

use super::{Failure, config::Fixed};
use crate::verifier::{
    BuildError, Builder, Verifier,
    issuer::{Account, Issuer},
};

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
    // Also with authorities of our own: it looks at the URL.
    builder = builder.service_url(&fixed.service).map_err(named)?;
    if let Some(endpoint) = with_authority(fixed)? {
        builder = builder.service(endpoint);
    }
    if let Some((id, secret)) = fixed.credentials()? {
        builder = builder.service_account(id, secret);
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
    let account = fixed.credentials()?.map(|(client_id, secret)| Account { client_id, secret });
    Ok(Issuer::new(endpoint(fixed)?, account))
}

fn endpoint(fixed: &Fixed) -> Result<Endpoint, Failure> {
    if let Some(endpoint) = with_authority(fixed)? {
        return Ok(endpoint);
    }
    let endpoint = Endpoint::from_shared(fixed.service.clone())?;
    Ok(if fixed.service.starts_with("https:") {
        endpoint.tls_config(ClientTlsConfig::new().with_native_roots())?
    } else {
        endpoint
    })
}

/// The service by TLS with the authorities of `ca_file`, if there is one.
fn with_authority(fixed: &Fixed) -> Result<Option<Endpoint>, Failure> {
    let Some(path) = &fixed.ca_file else { return Ok(None) };
    if !fixed.service.starts_with("https:") {
        return Err(Failure("ca_file: is of no use unless service is an https URL".to_owned()));
    }
    let pem = fs::read(path).map_err(|error| Failure(format!("cannot read {}: {error}", path.display())))?;
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem));
    Ok(Some(Endpoint::from_shared(fixed.service.clone())?.tls_config(tls)?))
}
