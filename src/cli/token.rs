//! `vouchsafe token`: what a token says, and the checks of the server without a server. Revocation is what only the service
//! knows, so it is not among them.

use std::{fs, io::Read as _, path::Path, process::ExitCode};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::Uri;
use serde_json::{Map, Value, json};

use super::{
    Failure, ambient,
    args::{InspectToken, TokenOutput, TokenSource, VerifyToken},
    complain, print, text,
};
use crate::{
    domain::{claims::AccessClaims, secret::SecretString, time::Timestamp},
    jose::{DecryptionKeys, KeySet, jwe},
    verifier::{
        AudiencePolicy, Inactive, Leeway, REFRESH_TOKEN_PREFIX, RevocationSet, TokenVerifier, Wrapping, claims,
        keys::fetch::{Document, FetchError, Fetcher},
        read_decryption_keys,
    },
};

/// More than any token; a larger input is not read to its end.
const MAX_INPUT: u64 = 1 << 20;
/// The status of a question that could not be answered.
const CANNOT_TELL: u8 = 2;

/// Verifies a token. Its status tells apart a token that is no good and one of which that cannot be told.
pub(super) async fn verify(args: VerifyToken) -> ExitCode {
    let output = args.output;
    let answered = match check(args).await {
        Ok(Ok(claims)) => show_active(&claims, output),
        Ok(Err(reason)) => show_inactive(reason, output),
        Err(failure) => Err(failure),
    };
    answered.unwrap_or_else(|failure| {
        complain(&failure);
        ExitCode::from(CANNOT_TELL)
    })
}

async fn check(args: VerifyToken) -> Result<Result<AccessClaims, Inactive>, Failure> {
    let audience = match &args.audiences[..] {
        [] => AudiencePolicy::NotChecked,
        some => AudiencePolicy::AnyOf(some.to_vec()),
    };
    let verifier = TokenVerifier::new(args.issuer.clone(), audience)?.with_leeway(Leeway::try_from(args.leeway)?);
    let verifier = match &args.decryption_key {
        Some(file) => verifier.with_wrapping(Wrapping::Encrypted(decryption_keys(file)?)),
        None => verifier,
    };
    let keys = keys(&args).await?;
    let token = read(args.token)?;
    Ok(verifier.verify(token.expose(), &keys, &RevocationSet::new(), ambient().clock.now()))
}

fn decryption_keys(file: &Path) -> Result<DecryptionKeys, Failure> {
    read_decryption_keys(file).map_err(|error| Failure(format!("{} {error}", file.display())))
}

/// The keys, from wherever the flags say.
async fn keys(args: &VerifyToken) -> Result<KeySet, Failure> {
    let fetcher = Fetcher::new(args.ca_file.clone(), args.insecure_http);
    let (place, text) = match (&args.jwks_file, &args.jwks_url) {
        (Some(file), _) => {
            let text = fs::read_to_string(file);
            (file.display().to_string(), text.map_err(|e| Failure(format!("cannot read {}: {e}", file.display())))?)
        }
        (None, Some(url)) => (url.clone(), existing(&fetcher, url).await?),
        (None, None) => {
            let url = discover(&fetcher, &args.issuer).await?;
            let text = existing(&fetcher, &url).await?;
            (url, text)
        }
    };
    KeySet::from_jwks(&text).map_err(|e| {
        let cause = std::error::Error::source(&e).map(|cause| format!(": {cause}")).unwrap_or_default();
        Failure(format!("{place} is no JWKS: {e}{cause}"))
    })
}

async fn existing(fetcher: &Fetcher, url: &str) -> Result<String, Failure> {
    match fetch(fetcher, url).await? {
        Document::Found(text) => Ok(text),
        Document::Missing => Err(Failure(format!("{url}: there is nothing"))),
    }
}

async fn fetch(fetcher: &Fetcher, url: &str) -> Result<Document, Failure> {
    fetcher.fetch(url).await.map_err(|error| {
        let advice = match error {
            FetchError::Plaintext => " (--insecure-http)",
            FetchError::NobodyTrusted => ": name some with --ca-file",
            FetchError::Failed(_) => "",
        };
        Failure(format!("{url}: {error}{advice}"))
    })
}

/// Where the issuer says that its keys are: RFC 8414 §3, or else OpenID Connect Discovery §4.
async fn discover(fetcher: &Fetcher, issuer: &str) -> Result<String, Failure> {
    for url in metadata_urls(issuer)? {
        let Document::Found(text) = fetch(fetcher, &url).await? else { continue };
        let metadata: Value = serde_json::from_str(&text).map_err(|e| Failure(format!("{url} is no JSON: {e}")))?;
        // RFC 8414 §3.3: otherwise one issuer could speak for another.
        if metadata["issuer"] != issuer {
            return Err(Failure(format!("{url} is about the issuer {}, not {issuer:?}", metadata["issuer"])));
        }
        return match metadata["jwks_uri"].as_str() {
            // It may end up in an error on somebody's terminal.
            Some(url) => Ok(text::plain(url)),
            None => Err(Failure(format!("{url} does not say where the keys are: use --jwks-url"))),
        };
    }
    Err(Failure(format!("{issuer} publishes no metadata: use --jwks-url or --jwks-file")))
}

fn metadata_urls(issuer: &str) -> Result<[String; 2], Failure> {
    let unusable = || Failure(format!("{issuer} is no URL to ask for keys: use --jwks-url or --jwks-file"));
    let uri: Uri = issuer.parse().map_err(|_| unusable())?;
    let (Some(scheme @ ("http" | "https")), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(unusable());
    };
    let path = uri.path().trim_end_matches('/');
    let origin = format!("{scheme}://{authority}");
    Ok([
        format!("{origin}/.well-known/oauth-authorization-server{path}"),
        format!("{origin}{path}/.well-known/openid-configuration"),
    ])
}

fn read(token: TokenSource) -> Result<SecretString, Failure> {
    Ok(match token {
        TokenSource::Given(token) => token,
        TokenSource::Stdin => {
            let mut text = String::new();
            std::io::stdin().take(MAX_INPUT).read_to_string(&mut text)?;
            SecretString::new(text.trim().to_owned())
        }
    })
}

fn show_active(claims: &AccessClaims, output: TokenOutput) -> Result<ExitCode, Failure> {
    let claims: Value = serde_json::to_value(claims::to_json(claims))?;
    let shown = match output {
        TokenOutput::Text => claims,
        TokenOutput::Json => json!({ "active": true, "claims": claims }),
    };
    print(&text::json(&shown)?)
}

fn show_inactive(reason: Inactive, output: TokenOutput) -> Result<ExitCode, Failure> {
    match output {
        TokenOutput::Text => complain(&Failure(format!("the token is not valid: {reason}"))),
        TokenOutput::Json => {
            let shown = json!({ "active": false, "inactive_reason": reason.to_string() });
            print(&serde_json::to_string_pretty(&shown)?)?;
        }
    }
    Ok(ExitCode::FAILURE)
}

/// Shows what a token says, whoever wrote it.
pub(super) fn inspect(args: InspectToken) -> Result<ExitCode, Failure> {
    let token = read(args.token)?;
    if token.expose().starts_with(REFRESH_TOKEN_PREFIX) {
        return Err(Failure("this is a refresh token, which says nothing to anybody but its server".to_owned()));
    }
    if !jwe::is_encrypted(token.expose()) {
        return show_unverified(None, token.expose(), args.output);
    }
    let header = token.expose().split('.').next().and_then(object);
    let header = header.ok_or_else(|| Failure("this is no JWE: its first part is no JSON object".to_owned()))?;
    let Some(file) = &args.decryption_key else { return show_encrypted(&header, args.output) };
    let opened = jwe::decrypt(token.expose(), &decryption_keys(file)?);
    let opened = opened.map_err(|_| Failure(format!("no key in {} opens this token", file.display())))?;
    show_unverified(Some(header), opened.token(), args.output)
}

/// Shows what can be seen of an encrypted token without its key.
fn show_encrypted(header: &Map<String, Value>, output: TokenOutput) -> Result<ExitCode, Failure> {
    match output {
        TokenOutput::Json => print(&text::json(&json!({ "verified": false, "encryption_header": header }))?),
        TokenOutput::Text => {
            complain(&Failure("ENCRYPTED: name the key that opens this token with --decryption-key".to_owned()));
            print(&text::plain(&format!("ENCRYPTED\nencryption header: {}", serde_json::to_string_pretty(header)?)))
        }
    }
}

/// Shows a signed token, and the header of what it was encrypted in.
fn show_unverified(outer: Option<Map<String, Value>>, token: &str, output: TokenOutput) -> Result<ExitCode, Failure> {
    let Some((header, claims)) = decode(token) else {
        return Err(Failure("this is no JWT: not three parts of which the first two are JSON objects".to_owned()));
    };
    match output {
        TokenOutput::Json => {
            let mut shown = json!({ "verified": false, "header": header, "claims": claims });
            if let Some(outer) = outer {
                shown["encryption_header"] = outer.into();
            }
            print(&text::json(&shown)?)
        }
        TokenOutput::Text => {
            let times = times(&claims, ambient().clock.now());
            let (header, claims) = (serde_json::to_string_pretty(&header)?, serde_json::to_string_pretty(&claims)?);
            let outer = outer.map(|outer| serde_json::to_string_pretty(&outer)).transpose()?;
            let outer = outer.map(|outer| format!("encryption header: {outer}\n")).unwrap_or_default();
            complain(&Failure("NOT VERIFIED: anybody can have written this token".to_owned()));
            print(&text::plain(&format!("NOT VERIFIED\n{outer}header: {header}\nclaims: {claims}{times}")))
        }
    }
}

fn decode(token: &str) -> Option<(Map<String, Value>, Map<String, Value>)> {
    let parts: Vec<_> = token.split('.').collect();
    let &[header, claims, _signature] = &parts[..] else { return None };
    Some((object(header)?, object(claims)?))
}

fn object(part: &str) -> Option<Map<String, Value>> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

/// The dates, for people.
fn times(claims: &Map<String, Value>, now: Timestamp) -> String {
    let line = |name: &str| {
        let time = Timestamp::from_seconds(claims.get(name)?.as_i64()?);
        let passed = if name == "exp" && time <= now { ", which has passed" } else { "" };
        Some(format!("\n{name}: {time}{passed}"))
    };
    ["auth_time", "iat", "nbf", "exp"].into_iter().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_where_the_standards_say() {
        for (issuer, first, second) in [
            (
                "https://id.example.com",
                "https://id.example.com/.well-known/oauth-authorization-server",
                "https://id.example.com/.well-known/openid-configuration",
            ),
            (
                "https://example.com:8443/tenant/",
                "https://example.com:8443/.well-known/oauth-authorization-server/tenant",
                "https://example.com:8443/tenant/.well-known/openid-configuration",
            ),
        ] {
            assert_eq!(metadata_urls(issuer).unwrap(), [first, second]);
        }
        for issuer in ["id.example.com", "urn:issuer", "ftp://id.example.com", "", "https://"] {
            assert!(metadata_urls(issuer).is_err(), "{issuer}");
        }
    }
}
