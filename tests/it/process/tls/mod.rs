//! TLS on both ports: who gets in, certificates that change while calls run, and handshakes that never end.

mod https;
mod identity;
mod operator;
mod replaced;
mod stuck;

use std::{io, net::SocketAddr};

use hyper_util::rt::TokioIo;
use rcgen::ExtendedKeyUsagePurpose;
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream, rustls::pki_types::ServerName};
use tonic::transport::{Channel, Endpoint, Uri};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::{
    harness::{BOUND, Ended, Place, finish},
    tools::tool,
};
use crate::support::{
    Backend, PASSWORD,
    certificates::{Authority, Pair},
};

const VERIFY: &str = "vouchsafe.v1.AuthService/Verify";
const HEALTH: &str = "grpc.health.v1.Health/Check";

/// A place whose ports have these files. The first of the names is `grpc` or `http`.
pub(super) fn with_tls(place: Place, section: &str, pair: &Pair, client_ca: Option<&Authority>) -> Place {
    let certificate = place.file(&format!("{section}.crt"), &pair.certificate);
    let key = place.file(&format!("{section}.key"), &pair.key);
    let place = place.set(&format!("{section}.tls_cert"), &certificate).set(&format!("{section}.tls_key"), &key);
    match client_ca {
        None => place,
        Some(authority) => {
            let ca = place.file(&format!("{section}.ca"), authority.pem());
            place.set(&format!("{section}.client_ca"), &ca)
        }
    }
}

async fn sqlite() -> Place {
    Place::new(Backend::Sqlite).await
}

/// Runs grpcurl against an address with these flags. Refused, it tries again until its time is over.
async fn grpcurl(address: SocketAddr, flags: &[&str], what: &[&str]) -> Ended {
    let mut command = tokio::process::Command::new(tool("grpcurl"));
    command.args(["-connect-timeout", "10"]).args(flags).arg(address.to_string()).args(what);
    finish(command, "").await
}

fn on_loopback(address: SocketAddr) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], address.port()))
}

#[track_caller]
fn assert_failed(ended: &Ended) {
    assert!(!ended.status.success() && ended.stdout.is_empty(), "{ended:?}");
}

pub(super) async fn connect(connector: &TlsConnector, address: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    timeout(BOUND, connector.connect(ServerName::try_from("localhost").unwrap(), stream))
        .await
        .expect("a handshake ends")
}

/// A gRPC connection of its own.
pub(super) async fn channel(connector: TlsConnector, address: SocketAddr) -> Result<Channel, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap().timeout(BOUND);
    let connector = tower::service_fn(move |_: Uri| {
        let connector = connector.clone();
        async move { connect(&connector, address).await.map(TokioIo::new) }
    });
    endpoint.connect_with_connector(connector).await
}

pub(super) async fn healthy(channel: &Channel) -> Result<(), tonic::Status> {
    HealthClient::new(channel.clone()).check(HealthCheckRequest::default()).await.map(|_| ())
}

/// What Python's own client gets from a URL, with these arguments: the authority, then its certificate and key.
async fn fetch(url: &str, args: &[&str]) -> Ended {
    const SCRIPT: &str = "
import ssl, sys, urllib.request
context = ssl.create_default_context(cafile=sys.argv[2])
if sys.argv[3:]:
    context.load_cert_chain(*sys.argv[3:])
sys.stdout.write(urllib.request.urlopen(sys.argv[1], context=context, timeout=60).read().decode())
";
    let mut command = tokio::process::Command::new(tool("python3"));
    command.args(["-c", SCRIPT, url]).args(args);
    finish(command, "").await
}

#[tokio::test]
async fn grpcurl_calls_over_tls_and_no_other_way() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let place = with_tls(sqlite().await, "grpc", &ours.server(), None);
    let ca = place.file("ours.pem", ours.pem());
    let server = place.serve().await;
    let ada = json!({"email": "ada@example.com", "password": PASSWORD}).to_string();
    let flags = ["-cacert", &ca, "-d", &ada];
    let registered = grpcurl(server.grpc, &flags, &["vouchsafe.v1.AuthService/Register"]).await.ok();
    let registered: Value = serde_json::from_str(&registered).unwrap();
    assert_eq!(registered["user"]["email"], "ada@example.com");
    assert!(grpcurl(server.grpc, &["-cacert", &ca], &["list"]).await.ok().contains("vouchsafe.v1.AuthService"));

    let others = place.file("other.pem", other.pem());
    for flags in [&["-plaintext"][..], &[], &["-cacert", &others]] {
        assert_failed(&grpcurl(server.grpc, flags, &[HEALTH]).await);
    }
    // What did not get in did no harm, and is no news.
    grpcurl(server.grpc, &["-cacert", &ca], &[HEALTH]).await.ok();
    assert!(!server.log.so_far().iter().any(|line| line.contains("TLS")), "{:#?}", server.log.so_far());
    server.stop().await;
    place.remove().await;
}

#[tokio::test]
async fn clients_must_show_a_certificate_of_ours() {
    // By the same name, or a client would see that its certificate is of no use and not send it.
    let (ours, impostor) = (Authority::new("ours"), Authority::new("ours"));
    let place = with_tls(sqlite().await, "grpc", &ours.server(), Some(&ours)).set("grpc.listen", "0.0.0.0:0");
    let place = place.set("log.filter", "info,vouchsafe=debug");
    let ca = place.file("ours.pem", ours.pem());
    let server = place.serve().await;
    let address = on_loopback(server.grpc);
    let call = async |name: &str, pair: &Pair, method: &str| {
        let certificate = place.file(&format!("{name}.pem"), &pair.certificate);
        let key = place.file(&format!("{name}.key"), &pair.key);
        let flags = ["-cacert", &ca, "-cert", &certificate, "-key", &key, "-d", r#"{"token": "x"}"#];
        grpcurl(address, if method == VERIFY { &flags } else { &flags[..6] }, &[method]).await
    };
    call("client", &ours.client(), HEALTH).await.ok();
    // Whoever has shown one may verify, though the port is not on loopback.
    let verified = call("client", &ours.client(), VERIFY).await.ok();
    assert_eq!(serde_json::from_str::<Value>(&verified).unwrap()["inactiveReason"], "INACTIVE_REASON_MALFORMED");

    let expired = ours.sign(|params| {
        params.insert_extended_key_usage(ExtendedKeyUsagePurpose::ClientAuth);
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    });
    let refused = async |name: &str, pair: Pair, why: &str| {
        assert_failed(&call(name, &pair, HEALTH).await);
        server.log.wait(|line| line.contains("no TLS handshake") && line.contains(why)).await;
    };
    tokio::join!(
        refused("impostor", impostor.client(), "BadSignature"),
        refused("expired", expired, "certificate expired"),
        refused("for-servers", ours.server(), "extended key usage"),
        async {
            assert_failed(&grpcurl(address, &["-cacert", &ca], &[HEALTH]).await);
            server.log.wait(|line| line.contains("peer sent no certificates")).await;
        },
        async { assert_failed(&grpcurl(address, &["-plaintext"], &[HEALTH]).await) },
    );
    // The same by a client that does not leave when it is refused, but goes on as if it were not.
    for own in [None, Some(impostor.client())] {
        let connector = ours.connector("h2", own.as_ref());
        let opened = async { healthy(&channel(connector, address).await.ok()?).await.ok() };
        assert!(opened.await.is_none(), "{}", own.is_some());
    }
    server.stop().await;
    place.remove().await;
}

#[tokio::test]
async fn tls_alone_does_not_open_verification() {
    let ours = Authority::new("ours");
    let place = with_tls(sqlite().await, "grpc", &ours.server(), None).set("grpc.listen", "0.0.0.0:0");
    let ca = place.file("ours.pem", ours.pem());
    let server = place.serve().await;
    let address = on_loopback(server.grpc);
    grpcurl(address, &["-cacert", &ca], &[HEALTH]).await.ok();
    let ended = grpcurl(address, &["-cacert", &ca, "-d", r#"{"token": "x"}"#], &[VERIFY]).await;
    assert_failed(&ended);
    assert!(ended.stderr.contains("VERIFICATION_CLOSED"), "{ended:?}");
    server.stop().await;
    place.remove().await;
}
