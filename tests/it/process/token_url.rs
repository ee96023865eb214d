//! `vouchsafe token verify` with keys from a URL or from where the issuer says, and `token inspect`.

use std::{net::SocketAddr, sync::Arc};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
};

use super::{
    client::Client,
    harness::{ISSUER, Place, Server},
    web::get,
};
use crate::{
    hostile::{self, Forge},
    support::{Backend, MASTER_KEY, stolen_key},
};

async fn desk(place: &Place) -> (Server, String) {
    let server = place.serve().await;
    let token = Client::of(&server).await.join("ada@example.com").await.access_token;
    (server, token)
}

/// A web server that gives everybody this answer, whatever they ask. Its address.
async fn answering(answer: String, tls: Option<TlsAcceptor>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (answer, tls) = (answer.clone(), tls.clone());
            tokio::spawn(async move {
                match tls {
                    None => say(stream, &answer).await,
                    Some(tls) => {
                        // Whoever does not trust the certificate goes away.
                        if let Ok(stream) = tls.accept(stream).await {
                            say(stream, &answer).await;
                        }
                    }
                }
            });
        }
    });
    address
}

async fn say(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: &str) {
    let mut request = vec![0; 4096];
    // A reader that has enough of a large answer hangs up.
    let _ = stream.read(&mut request).await;
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn keys_come_from_a_url_or_from_where_the_issuer_says() {
    // The issuer's name is where it is, as with the defaults; so the port is chosen before.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let issuer = format!("http://localhost:{port}");
    let place =
        Place::new(Backend::Sqlite).await.set("issuer", &issuer).set("http.listen", &format!("127.0.0.1:{port}"));
    let (server, token) = desk(&place).await;
    let url = format!("http://{}/.well-known/jwks.json", server.http);
    let claims = hostile::payload_of(&token);
    for keys in [&[][..], &["--jwks-url", &url]] {
        let verify = [&["token", "verify", "--issuer", &issuer, "--audience", "vouchsafe"][..], keys].concat();
        let shown = place.run_with_input(&verify, &format!("{token}\n")).await.ok();
        assert_eq!(serde_json::from_str::<Value>(&shown).unwrap(), claims);
        let machine = [&verify[..], &["--output", "json"]].concat();
        let shown = place.run_with_input(&machine, &token).await.ok();
        assert_eq!(serde_json::from_str::<Value>(&shown).unwrap(), json!({"active": true, "claims": claims}));
        let ended = place.run_with_input(&machine, &token.replace('.', "...")).await;
        assert_eq!(ended.status.code(), Some(1), "{ended:?}");
        let shown: Value = serde_json::from_str(&ended.stdout).unwrap();
        assert_eq!(shown, json!({"active": false, "inactive_reason": "not a well-formed access token"}));
        let said = place.run_with_input(&[&verify[..4], &["--audience", "x"], keys].concat(), &token).await.refused();
        assert!(said.contains("another audience"), "{said}");
    }
    // Another name of the same server is another issuer.
    let other = format!("http://127.0.0.1:{port}");
    let said = place.run_with_input(&["token", "verify", "--issuer", &other], &token).await.cannot_tell();
    assert!(said.contains(&issuer) && said.contains("about the issuer"), "{said}");
    server.stop().await;
    let said = place.run_with_input(&["token", "verify", "--issuer", &issuer], &token).await.cannot_tell();
    assert!(said.contains(&issuer), "{said}");
    place.remove().await;
}

/// Revoked keys and weak ones: what the issuer publishes decides.
#[tokio::test]
async fn a_weak_key_in_the_set_is_refused() {
    let place = Place::new(Backend::Sqlite).await;
    for (bytes, verdict) in [(128, "too weak"), (1024, "larger than anybody needs")] {
        let n = hostile::encode(vec![0xff; bytes]);
        let jwks = json!({"keys": [{"kty": "RSA", "kid": "1", "n": n, "e": "AQAB", "alg": "RS256"}]}).to_string();
        let file = place.file("weak.json", &jwks);
        let verify = ["token", "verify", "--issuer", ISSUER, "--jwks-file", &file, "x"];
        let said = place.run(&verify).await.cannot_tell();
        assert!(said.contains(verdict), "{said}");
    }
    place.remove().await;
}

#[tokio::test]
async fn keys_are_fetched_over_tls_from_whom_the_file_trusts() {
    let place = Place::new(Backend::Sqlite).await;
    let (server, token) = desk(&place).await;
    let jwks = get(&server, "/.well-known/jwks.json").await.body;
    server.stop().await;
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let other = generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(cert.pem().as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(signing_key.serialize_pem().as_bytes()).unwrap(),
        )
        .unwrap();
    let address = answering(ok(&jwks), Some(TlsAcceptor::from(Arc::new(config)))).await;
    let url = format!("https://localhost:{}/jwks", address.port());
    let verify =
        |ca: &str| ["token", "verify", "--issuer", ISSUER, "--jwks-url", &url, "--ca-file", ca].map(str::to_owned);
    let (trusted, stranger) = (place.file("ca.pem", cert.pem()), place.file("other.pem", other.cert.pem()));
    let run = async |args: [String; 8]| {
        place.run_with_input(&args.iter().map(String::as_str).collect::<Vec<_>>(), &token).await
    };
    let shown = run(verify(&trusted)).await.ok();
    assert_eq!(serde_json::from_str::<Value>(&shown).unwrap(), hostile::payload_of(&token));
    let said = run(verify(&stranger)).await.cannot_tell();
    assert!(said.contains("no TLS"), "{said}");
    let said = run(verify(&place.file("none.pem", "no certificate"))).await.cannot_tell();
    assert!(said.contains("--ca-file") || said.contains("none.pem"), "{said}");
    // Nor whom nobody vouches for, or by another name.
    let said = place.run_with_input(&["token", "verify", "--issuer", ISSUER, "--jwks-url", &url], &token).await;
    said.cannot_tell();
    let by_address = url.replace("localhost", "127.0.0.1");
    let flags = ["token", "verify", "--issuer", ISSUER, "--jwks-url", &by_address, "--ca-file", &trusted];
    place.run_with_input(&flags, &token).await.cannot_tell();
    place.remove().await;
}

#[tokio::test]
async fn what_cannot_be_trusted_or_is_too_much_is_not_taken() {
    let place = Place::new(Backend::Sqlite).await;
    let (server, token) = desk(&place).await;
    let jwks = get(&server, "/.well-known/jwks.json").await.body;
    let good = format!("http://{}/.well-known/jwks.json", server.http);
    let padded = |size: usize| ok(&format!("{jwks}{}", " ".repeat(size)));
    let endless = format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{}", "x".repeat(1 << 20));
    let at = async |answer: String| format!("http://{}/", answering(answer, None).await);
    let moved = format!("HTTP/1.1 302 Found\r\nlocation: {good}\r\ncontent-length: 0\r\n\r\n");
    for (url, problem) in [
        (at(moved).await, "followed elsewhere"),
        (at(padded(64 * 1024)).await, "65536"),
        (at(endless).await, "65536"),
        (at("HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n".to_owned()).await, "500"),
        (at("HTTP/1.1 404 Gone\r\ncontent-length: 0\r\n\r\n".to_owned()).await, "nothing"),
        (at("nonsense\r\n\r\n".to_owned()).await, "http://127.0.0.1"),
        ("http://192.0.2.1/jwks".to_owned(), "--insecure-http"),
        ("http://jwks.example.com/jwks".to_owned(), "--insecure-http"),
        (good.replace("http://", "http://user:pass@"), "user name"),
        (good.replace("http://", "ftp://"), "http(s)"),
        ("not a url".to_owned(), "URL"),
    ] {
        let verify = ["token", "verify", "--issuer", ISSUER, "--jwks-url", &url];
        let said = place.run_with_input(&verify, &token).await.cannot_tell();
        assert!(said.contains(problem), "{url}: {said}");
        assert!(!said.contains(&token), "{said}");
    }
    let verify = ["token", "verify", "--issuer", ISSUER, "--jwks-url", &at(padded(1024)).await];
    place.run_with_input(&verify, &token).await.ok();
    server.stop().await;
    place.remove().await;
}

#[tokio::test]
async fn inspection_shows_and_believes_nothing() {
    let place = Place::new(Backend::Sqlite).await.set("keys.master_key", MASTER_KEY);
    let (server, token) = desk(&place).await;
    let refresh_token = Client::of(&server).await.login("ada@example.com").await.unwrap().refresh_token;
    let key = stolen_key(&place.database).await;
    server.stop().await;
    for token in [token.clone(), format!("{}AAAA", token.rsplit_once('.').unwrap().0.to_owned() + ".")] {
        let ended = place.run_with_input(&["token", "inspect"], &token).await;
        assert!(ended.stderr.contains("NOT VERIFIED"), "{ended:?}");
        assert!(ended.status.success() && ended.stdout.starts_with("NOT VERIFIED\n"), "{ended:?}");
        let json = place.run_with_input(&["token", "inspect", "-", "--output", "json"], &token).await.ok();
        let shown: Value = serde_json::from_str(&json).unwrap();
        assert_eq!((&shown["verified"], &shown["claims"]), (&json!(false), &hostile::payload_of(&token)));
        assert_eq!(shown["header"]["typ"], "at+jwt");
    }
    let nasty = Forge::new(&key, &token).with_claim("client_id", json!("\u{1b}[2J\u{202e}\u{9b}"));
    let shown = place.run(&["token", "inspect", &nasty]).await.ok();
    assert!(!shown.contains(['\u{1b}', '\u{202e}', '\u{9b}']), "{shown:?}");
    let json = place.run(&["token", "inspect", &nasty, "--output", "json"]).await.ok();
    assert!(!json.contains(['\u{1b}', '\u{202e}', '\u{9b}']), "{json:?}");
    let shown: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(shown["claims"]["client_id"], "\u{1b}[2J\u{202e}\u{9b}");
    for nonsense in ["x", "a.b", "a.b.c", "", &refresh_token] {
        place.run_with_input(&["token", "inspect"], nonsense).await.refused();
    }
    place.remove().await;
}
