//! Where calls of the administration go: to a server, with somebody's access token, or to the same handlers in this process, on
//! the database that the settings name and in the operator's name. The commands cannot tell which.

use std::{fs, io::Read as _, sync::Arc, time::Duration};

use http::{HeaderValue, Request, Response, Uri, header};
use tonic::{
    body::Body,
    transport::{Certificate, ClientTlsConfig, Endpoint, Identity},
};
use tower::{BoxError, ServiceExt as _, util::BoxCloneService};
use zeroize::Zeroizing;

use super::super::{Failure, ambient, args::ServerArgs, password::first_line_of};
use crate::{
    config::Settings,
    grpc::Operator,
    server::OpenStore,
    service::Service,
    verifier::{REFRESH_TOKEN_PREFIX, keys::fetch::is_this_machine},
};

/// Longest to wait for a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// More than any access token; a larger input is not read to its end.
const MAX_TOKEN: u64 = 64 * 1024;

/// Takes calls. What a tonic client wants below it.
pub(super) type Calls = BoxCloneService<Request<Body>, Response<Body>, BoxError>;

/// An open way to the administration.
pub(super) struct Link {
    calls: Calls,
    /// What must be closed in the end.
    open: Option<Arc<Service>>,
}

impl Link {
    /// For one client.
    pub(super) fn calls(&self) -> Calls {
        self.calls.clone()
    }

    /// Opens the database that is there; with `make` an embedded one is made, as far as `serve` would.
    pub(super) async fn direct(settings: &Settings, make: bool) -> Result<Self, Failure> {
        tell_causes();
        let ambient = ambient();
        let opened = if make {
            OpenStore::existing_or_embedded(settings, &ambient).await?
        } else {
            OpenStore::existing(settings, &ambient).await?
        };
        let service = opened.into_service(settings).await?;
        let operator = Operator::new(Arc::clone(&service));
        Ok(Self { calls: BoxCloneService::new(operator.map_err(|never| match never {})), open: Some(service) })
    }

    /// Connects to a server.
    pub(super) async fn remote(url: &str, args: &ServerArgs) -> Result<Self, Failure> {
        let endpoint = endpoint(url, args)?;
        let authorization = authorization(args)?;
        let channel =
            endpoint.connect().await.map_err(|error| Failure(format!("cannot reach {url}: {}", causes(&error))))?;
        let calls = channel.map_err(BoxError::from).map_request(move |mut request: Request<Body>| {
            request.headers_mut().insert(header::AUTHORIZATION, authorization.clone());
            request
        });
        Ok(Self { calls: BoxCloneService::new(calls), open: None })
    }

    /// Lets go of what is open.
    pub(super) async fn close(self) {
        if let Some(service) = self.open {
            service.close().await;
        }
    }
}

/// Where the server is, and whom to take for it.
fn endpoint(url: &str, args: &ServerArgs) -> Result<Endpoint, Failure> {
    let unusable = |problem: &str| Failure(format!("--server {url}: {problem}"));
    let uri: Uri = url.parse().map_err(|_| unusable("no URL"))?;
    let authority = uri.authority().ok_or_else(|| unusable("write http://HOST:PORT or https://HOST:PORT"))?;
    if authority.as_str().contains('@') {
        return Err(Failure("--server: a URL with a user name is not called: give an access token".to_owned()));
    }
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err(unusable("gRPC has no path: write http://HOST:PORT or https://HOST:PORT"));
    }
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let scheme = uri.scheme_str().map(str::to_owned);
    let endpoint =
        Endpoint::from(uri).connect_timeout(CONNECT).user_agent(concat!("vouchsafe/", env!("CARGO_PKG_VERSION")))?;
    match scheme.as_deref() {
        Some("https") => endpoint.tls_config(tls(args)?).map_err(|error| unusable(&causes(&error))),
        Some("http") if args.allow_plaintext || is_this_machine(&host) => Ok(endpoint),
        Some("http") => Err(unusable(
            "whoever is in between could read the access token and act with it: use https, or --allow-plaintext if nobody can be",
        )),
        _ => Err(unusable("neither http nor https")),
    }
}

fn tls(args: &ServerArgs) -> Result<ClientTlsConfig, Failure> {
    let read = |file: &std::path::Path| {
        fs::read(file).map(Zeroizing::new).map_err(|e| Failure(format!("cannot read {}: {e}", file.display())))
    };
    let mut config = ClientTlsConfig::new();
    config = match &args.ca_file {
        Some(file) => config.ca_certificate(Certificate::from_pem(&*read(file)?)),
        None => config.with_native_roots(),
    };
    if let (Some(certificate), Some(key)) = (&args.client_cert, &args.client_key) {
        config = config.identity(Identity::from_pem(&*read(certificate)?, &*read(key)?));
    }
    Ok(config)
}

/// What to send as the caller's credential.
fn authorization(args: &ServerArgs) -> Result<HeaderValue, Failure> {
    let text = if let Some(file) = &args.token_file {
        first_line_of(file, "access token")?
    } else if args.token_stdin {
        let mut text = Zeroizing::new(String::new());
        std::io::stdin().take(MAX_TOKEN).read_to_string(&mut text)?;
        text
    } else {
        return Err(Failure("who acts? give an access token with --token-file or --token-stdin".to_owned()));
    };
    let token = text.trim();
    if token.is_empty() {
        return Err(Failure("the access token is empty".to_owned()));
    }
    if token.starts_with(REFRESH_TOKEN_PREFIX) {
        return Err(Failure("this is a refresh token: an access token is wanted".to_owned()));
    }
    let mut value = HeaderValue::from_str(&Zeroizing::new(format!("Bearer {token}")))
        .map_err(|_| Failure("this is no access token".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// An error with its causes, which tonic keeps to itself.
pub(super) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// What a server would write into its log and not tell its callers, an operator at the database wants to know.
fn tell_causes() {
    // Fails only if there is one, which there is not.
    let _ = tracing_subscriber::fmt()
        .with_env_filter("vouchsafe::grpc=warn")
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .without_time()
        .try_init();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(allow_plaintext: bool) -> ServerArgs {
        ServerArgs {
            url: None,
            token_file: None,
            token_stdin: false,
            ca_file: None,
            client_cert: None,
            client_key: None,
            allow_plaintext,
        }
    }

    #[test]
    fn a_token_goes_to_another_machine_over_tls_only() {
        for url in ["http://127.0.0.1:50051", "http://localhost:50051/", "http://[::1]:50051"] {
            assert!(endpoint(url, &server(false)).is_ok(), "{url}");
        }
        for url in ["http://192.0.2.1:50051", "http://id.example.com", "http://localhost.example.com"] {
            let refused = endpoint(url, &server(false)).err().unwrap();
            assert!(refused.0.contains("--allow-plaintext") && refused.0.contains(url), "{}", refused.0);
            assert!(endpoint(url, &server(true)).is_ok(), "{url}");
        }
        for url in ["", "id.example.com:50051", "/x", "ftp://h", "http://h/path", "http://u:p@h", "unix:///run/x"] {
            let refused = endpoint(url, &server(true)).err().unwrap();
            assert!(!refused.0.contains("u:p"), "{}", refused.0);
        }
    }
}
