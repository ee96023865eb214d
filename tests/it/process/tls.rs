//! TLS on both ports: who gets in, certificates that change while calls run, and handshakes that never end.

use std::{
    fs, io,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use hyper_util::rt::TokioIo;
use rcgen::ExtendedKeyUsagePurpose;
use rustix::process::Signal;
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{ClientConnection, pki_types::ServerName},
};
use tonic::transport::{Channel, Endpoint, Uri};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use vouchsafe::crypto::machine_date;

use super::{
    client::Client,
    flood::{closed, crowd},
    harness::{BOUND, Ended, PROGRAM, Place, Server, finish, until},
    tools::tool,
    web::get,
};
use crate::support::{
    Backend, PASSWORD,
    certificates::{Authority, Pair},
};

const VERIFY: &str = "vouchsafe.v1.AuthService/Verify";
const HEALTH: &str = "grpc.health.v1.Health/Check";

/// A place whose ports have these files. The first of the names is `grpc` or `http`.
fn with_tls(place: Place, section: &str, pair: &Pair, client_ca: Option<&Authority>) -> Place {
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

async fn connect(connector: &TlsConnector, address: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    timeout(BOUND, connector.connect(ServerName::try_from("localhost").unwrap(), stream))
        .await
        .expect("a handshake ends")
}

/// The certificate that a port shows.
async fn shown(connector: &TlsConnector, address: SocketAddr) -> Vec<u8> {
    let stream = connect(connector, address).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

/// A gRPC connection of its own.
async fn channel(connector: TlsConnector, address: SocketAddr) -> Result<Channel, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap().timeout(BOUND);
    let connector = tower::service_fn(move |_: Uri| {
        let connector = connector.clone();
        async move { connect(&connector, address).await.map(TokioIo::new) }
    });
    endpoint.connect_with_connector(connector).await
}

async fn healthy(channel: &Channel) -> Result<(), tonic::Status> {
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
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
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
        refused("other", other.client(), "UnknownIssuer"),
        refused("expired", expired, "Expired"),
        refused("for-servers", ours.server(), "InvalidPurpose"),
        async {
            assert_failed(&grpcurl(address, &["-cacert", &ca], &[HEALTH]).await);
            server.log.wait(|line| line.contains("peer sent no certificates")).await;
        },
        async { assert_failed(&grpcurl(address, &["-plaintext"], &[HEALTH]).await) },
    );
    // The same by a client that does not leave when it is refused, but goes on as if it were not.
    for own in [None, Some(other.client())] {
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

/// A file that is there at once or not at all, as tools replace certificates.
fn replace(place: &Place, name: &str, content: &str) {
    let new = place.file("new", content);
    fs::rename(new, place.path(name)).unwrap();
}

/// Calls without end, on one connection and on new ones, until told to stop.
struct Traffic {
    stop: Arc<AtomicBool>,
    calls: Arc<AtomicUsize>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Traffic {
    async fn start(connector: &TlsConnector, address: SocketAddr) -> Self {
        let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let standing = channel(connector.clone(), address).await.unwrap();
        let tasks = [Some(standing), None].map(|standing| {
            let (stop, calls, connector) = (Arc::clone(&stop), Arc::clone(&calls), connector.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Acquire) {
                    let channel = match &standing {
                        Some(channel) => channel.clone(),
                        None => channel(connector.clone(), address).await.unwrap(),
                    };
                    healthy(&channel).await.unwrap();
                    calls.fetch_add(1, Ordering::AcqRel);
                }
            })
        });
        Self { stop, calls, tasks: tasks.into() }
    }

    /// Waits until more calls have succeeded.
    async fn goes_on(&self) {
        let before = self.calls.load(Ordering::Acquire);
        until("calls succeed", async || (self.calls.load(Ordering::Acquire) > before + 20).then_some(())).await;
    }

    /// Nothing failed.
    async fn end(self) {
        self.stop.store(true, Ordering::Release);
        for task in self.tasks {
            timeout(BOUND, task).await.unwrap().expect("no call fails");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_replaced_while_calls_run() {
    let ours = Authority::new("ours");
    let (first, second, third) = (ours.server(), ours.server(), ours.server());
    let place = with_tls(sqlite().await, "grpc", &first, None);
    let place = with_tls(place, "http", &first, None);
    let server = place.serve().await;
    let (grpc, http) = (ours.connector("h2", None), ours.connector("http/1.1", None));
    let both = async || (shown(&grpc, server.grpc).await, shown(&http, server.http).await);
    assert_eq!(both().await, (first.der().to_vec(), first.der().to_vec()));
    let traffic = Traffic::start(&grpc, server.grpc).await;
    traffic.goes_on().await;

    // One file after the other, nobody asks: it is noticed.
    for port in ["grpc", "http"] {
        replace(&place, &format!("{port}.crt"), &second.certificate);
        replace(&place, &format!("{port}.key"), &second.key);
    }
    let all = (second.der().to_vec(), second.der().to_vec());
    until("the new certificate is shown", async || (both().await == all).then_some(())).await;
    traffic.goes_on().await;

    // What is not whole is not taken over, and said once.
    replace(&place, "grpc.crt", &third.certificate);
    let refusal = |line: &str| line.contains("stays in use") && line.contains("grpc.tls_key") && line.contains("ERROR");
    server.log.wait(refusal).await;
    for broken in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        replace(&place, "grpc.crt", broken);
        server.signal(Signal::HUP);
        let refusals = |line: &str| line.contains("stays in use") && line.contains("grpc.tls_cert");
        server.log.wait(refusals).await;
    }
    fs::remove_file(place.path("grpc.crt")).unwrap();
    server.log.wait(|line| line.contains("stays in use") && line.contains("No such file")).await;
    assert_eq!(server.log.so_far().iter().filter(|line| refusal(line)).count(), 1);
    assert_eq!(both().await, all);
    traffic.goes_on().await;

    // As soon as it is, it is.
    replace(&place, "grpc.crt", &third.certificate);
    replace(&place, "grpc.key", &third.key);
    server.signal(Signal::HUP);
    until("the third is shown", async || (shown(&grpc, server.grpc).await == third.der().to_vec()).then_some(())).await;
    traffic.goes_on().await;
    traffic.end().await;
    assert!(server.log.so_far().iter().filter(|line| line.contains("new TLS certificate in use")).count() >= 3);
    for pair in [&first, &second, &third] {
        assert!(
            !server.log.so_far().iter().any(|line| line.contains(pair.key.lines().nth(1).unwrap())),
            "a key was logged"
        );
    }
    server.stop().await;
    place.remove().await;
}

/// Kubernetes mounts a link to a directory, and switches the link.
#[tokio::test]
async fn a_switched_link_is_a_new_certificate_and_new_authorities() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let place = sqlite().await;
    let mount = |name: &str, pair: &Pair, ca: &Authority| -> PathBuf {
        let folder = place.path(name);
        fs::create_dir(&folder).unwrap();
        for (file, content) in [("tls.crt", &pair.certificate), ("tls.key", &pair.key), ("ca.crt", &ca.pem())] {
            fs::write(folder.join(file), content).unwrap();
        }
        folder
    };
    let (before, after) = (ours.server(), ours.server());
    let (old, new) = (mount("old", &before, &ours), mount("new-mount", &after, &other));
    let data = place.path("data");
    std::os::unix::fs::symlink(&old, &data).unwrap();
    let file = |name: &str| data.join(name).display().to_string();
    let (certificate, key, ca) = (file("tls.crt"), file("tls.key"), file("ca.crt"));
    let place = place.set("grpc.tls_cert", &certificate).set("grpc.tls_key", &key).set("grpc.client_ca", &ca);
    let server = place.serve().await;
    let (ours_client, other_client) = (ours.client(), other.client());
    let (admitted, refused) = (ours.connector("h2", Some(&ours_client)), ours.connector("h2", Some(&other_client)));
    let works = async |connector: &TlsConnector| -> bool {
        match channel(connector.clone(), server.grpc).await {
            Ok(channel) => healthy(&channel).await.is_ok(),
            Err(_) => false,
        }
    };
    assert!(works(&admitted).await && !works(&refused).await);
    let standing = channel(admitted.clone(), server.grpc).await.unwrap();

    let link = place.path("link");
    std::os::unix::fs::symlink(&new, &link).unwrap();
    fs::rename(link, &data).unwrap();
    until("the other authority counts", async || works(&refused).await.then_some(())).await;
    assert!(!works(&admitted).await, "the old authority still counts");
    assert_eq!(shown(&refused, server.grpc).await, after.der().to_vec());
    healthy(&standing).await.unwrap();
    server.stop().await;
    place.remove().await;
}

/// What a client says first.
fn client_hello(authority: &Authority) -> Vec<u8> {
    let connector = authority.connector("h2", None);
    let name = ServerName::try_from("localhost").unwrap();
    let mut connection = ClientConnection::new(Arc::clone(connector.config()), name).unwrap();
    let mut hello = Vec::new();
    connection.write_tls(&mut hello).unwrap();
    hello
}

/// A server that may have 64 file descriptors, half as many as there are in a crowd.
async fn serve_with_few_descriptors(place: &Place) -> Server {
    Server::start(place.wrapped("/bin/sh", &["-c", "ulimit -n 64 && exec \"$0\" serve", PROGRAM])).await
}

#[tokio::test]
async fn handshakes_that_never_end_keep_nobody_away() {
    let ours = Authority::new("ours");
    let pair = ours.server();
    let place = with_tls(with_tls(sqlite().await, "grpc", &pair, None), "http", &pair, None);
    let ca = place.file("ours.pem", ours.pem());
    let server = serve_with_few_descriptors(&place).await;
    let connector = ours.connector("h2", None);
    let before = channel(connector.clone(), server.grpc).await.unwrap();
    healthy(&before).await.unwrap();

    let hello = client_hello(&ours);
    let mut crowds = Vec::new();
    for address in [server.grpc, server.http] {
        for sent in [&b""[..], &hello[..hello.len() / 2], &hello] {
            crowds.extend(crowd(address, sent).await);
            // While the newest of them are still there.
            healthy(&before).await.unwrap();
            healthy(&channel(connector.clone(), server.grpc).await.unwrap()).await.unwrap();
            assert_eq!(fetch(&format!("https://{}/readyz", server.http), &[&ca]).await.ok(), "ready\n");
        }
    }
    // Who did the handshake and then says nothing is a newcomer still.
    let mut mute = Vec::new();
    for _ in 0..32 {
        mute.extend(connect(&connector, server.grpc).await);
    }
    healthy(&channel(connector.clone(), server.grpc).await.unwrap()).await.unwrap();
    for stream in &mut mute {
        let reading = async { while stream.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {} };
        timeout(BOUND, reading).await.expect("the connection is closed");
    }
    for stream in &mut crowds {
        closed(stream).await;
    }
    let log = server.log.so_far();
    assert!(!log.iter().any(|line| line.contains("cannot accept")), "descriptors ran out: {log:#?}");
    server.stop().await;
    place.remove().await;
}

#[tokio::test]
async fn who_speaks_the_wrong_way_is_closed_and_harms_nobody() {
    let ours = Authority::new("ours");
    let plain_place = sqlite().await;
    let plain = plain_place.serve().await;
    let pair = ours.server();
    let place = with_tls(with_tls(sqlite().await, "grpc", &pair, None), "http", &pair, None);
    let server = place.serve().await;
    let hello = client_hello(&ours);
    for (address, sent) in [
        (plain.grpc, &hello[..]),
        (plain.http, &hello),
        (server.grpc, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"),
        (server.http, b"GET /readyz HTTP/1.1\r\nhost: test\r\n\r\n"),
        (server.grpc, &[0x16; 4096]),
        (server.http, &[0; 4096]),
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(sent).await.unwrap();
        closed(&mut stream).await;
    }
    // A protocol that a port does not speak, and none at all.
    assert!(connect(&ours.connector("http/1.1", None), server.grpc).await.is_err());
    assert!(connect(&ours.connector("h2", None), server.http).await.is_err());
    Client::of(&plain).await.join("ada@example.com").await;
    assert_eq!(get(&plain, "/readyz").await.status, 200);
    healthy(&channel(ours.connector("h2", None), server.grpc).await.unwrap()).await.unwrap();
    for (server, place) in [(plain, plain_place), (server, place)] {
        let quiet = |line: &String| line.contains("handshake") || line.contains("ERROR") || line.contains("closed");
        assert!(!server.log.so_far().iter().any(quiet), "{:#?}", server.log.so_far());
        server.stop().await;
        place.remove().await;
    }
}

#[tokio::test]
async fn keys_are_fetched_over_https() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let place = with_tls(sqlite().await, "http", &ours.server(), None).unset("issuer").set("http.listen", "0.0.0.0:0");
    let (ca, others) = (place.file("ours.pem", ours.pem()), place.file("other.pem", other.pem()));
    let server = place.serve().await;
    let url = |path: &str| format!("https://localhost:{}{path}", server.http.port());
    let discovery = fetch(&url("/.well-known/openid-configuration"), &[&ca]).await.ok();
    let discovery: Value = serde_json::from_str(&discovery).unwrap();
    assert_eq!(discovery["jwks_uri"], url("/.well-known/jwks.json"));
    let keys = fetch(discovery["jwks_uri"].as_str().unwrap(), &[&ca]).await.ok();
    assert_eq!(serde_json::from_str::<Value>(&keys).unwrap()["keys"].as_array().unwrap().len(), 1);
    assert_failed(&fetch(&url("/livez"), &[&others]).await);
    assert_failed(&fetch(&url("/livez").replace("https", "http"), &[&ca]).await);
    // What the server tells its operator to try.
    let greeting = server.stdout.wait(|line| line.contains("curl --cacert")).await;
    assert!(greeting.contains(" https://0.0.0.0:"), "{greeting}");
    server.stop().await;
    place.remove().await;
}

#[tokio::test]
async fn the_http_port_may_want_certificates_too() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let place = with_tls(sqlite().await, "http", &ours.server(), Some(&ours));
    let ca = place.file("ours.pem", ours.pem());
    let server = place.serve().await;
    let url = format!("https://{}/livez", server.http);
    let files = |name: &str, pair: &Pair| {
        (place.file(&format!("{name}.pem"), &pair.certificate), place.file(&format!("{name}.key"), &pair.key))
    };
    let (certificate, key) = files("client", &ours.client());
    assert_eq!(fetch(&url, &[&ca, &certificate, &key]).await.ok(), "live\n");
    let (certificate, key) = files("other", &other.client());
    assert_failed(&fetch(&url, &[&ca, &certificate, &key]).await);
    assert_failed(&fetch(&url, &[&ca]).await);
    server.stop().await;
    place.remove().await;
}

#[tokio::test]
async fn what_to_try_is_said_with_tls() {
    let ours = Authority::new("ours");
    let place = with_tls(sqlite().await, "grpc", &ours.server(), Some(&ours));
    let server = place.serve().await;
    let line = server.stdout.wait(|line| line.contains("AuthService/Login")).await;
    assert!(line.contains(&server.grpc.to_string()), "{line}");
    let all = server.stdout.so_far().join("\n");
    assert_eq!(all.matches("grpcurl -cacert CA.pem -cert CLIENT.pem -key CLIENT.key ").count(), 3, "{all}");
    assert!(!all.contains("-plaintext"), "{all}");
    server.stop().await;
    place.remove().await;
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named_at_the_start() {
    let ours = Authority::new("ours");
    let (pair, other) = (ours.server(), ours.server());
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let cut = &pair.certificate[..pair.certificate.len() / 2];
    for section in ["grpc", "http"] {
        for (name, content, part) in [
            ("crt", Some(""), "no certificate"),
            ("crt", Some(broken), "no certificate that can be used"),
            ("crt", Some(cut), "not PEM"),
            ("crt", Some(&pair.key), "no certificate"),
            ("crt", None, "No such file"),
            ("key", Some(""), "no private key"),
            ("key", Some(encrypted), "passphrase"),
            ("key", Some(&pair.certificate), "no private key"),
            ("key", Some(&other.key), "not the key of the certificate"),
            ("key", None, "No such file"),
            ("ca", Some(""), "no certificate"),
            ("ca", Some(broken), "one is not usable"),
            ("ca", None, "No such file"),
        ] {
            let place = with_tls(sqlite().await, section, &pair, Some(&ours));
            let path = place.path(&format!("{section}.{name}"));
            match content {
                Some(content) => fs::write(&path, content).unwrap(),
                None => fs::remove_file(&path).unwrap(),
            }
            let said = place.run(&["serve"]).await.refused();
            let setting = match name {
                "crt" => "tls_cert",
                "key" => "tls_key",
                _ => "client_ca",
            };
            for part in [&format!("{section}.{setting} "), path.to_str().unwrap(), part] {
                assert!(said.contains(part), "{part}: {said}");
            }
            assert_eq!(fs::read_dir(place.data_dir()).unwrap().count(), 0, "something was created");
            assert_eq!(place.run(&["config", "check"]).await.refused(), said, "`config check` says the same");
            place.remove().await;
        }
    }
    let place = with_tls(sqlite().await, "grpc", &pair, Some(&ours));
    assert!(place.run(&["config", "check"]).await.ok().contains("client_ca = "));
    place.remove().await;
}

#[tokio::test]
async fn a_certificate_that_ends_soon_is_warned_of() {
    let ours = Authority::new("ours");
    let now = OffsetDateTime::from_unix_timestamp(machine_date().as_seconds()).unwrap();
    for (days, part) in [(-1, Some("has expired")), (3, Some("expires soon")), (30, None)] {
        let pair =
            ours.sign(|params| params.not_after = now + Duration::from_hours(720) + time::Duration::days(days - 30));
        let place = with_tls(sqlite().await, "grpc", &pair, None);
        let server = place.serve().await;
        let warned = |line: &str| line.contains("TLS certificate") && line.contains("WARN");
        if let Some(part) = part {
            let line = server.log.wait(warned).await;
            assert!(line.contains(part) && line.contains("grpc.crt"), "{line}");
        } else {
            // It would have been said before this.
            server.signal(Signal::HUP);
            server.log.wait(|line| line.contains("those in use")).await;
            assert!(!server.log.so_far().iter().any(|line| warned(line)));
        }
        server.stop().await;
        place.remove().await;
    }
}

#[tokio::test]
async fn a_healthcheck_trusts_the_certificate_of_the_settings() {
    let ours = Authority::new("ours");
    let (pair, other) = (ours.server(), ours.server());
    let place = with_tls(sqlite().await, "http", &pair, None);
    let server = place.serve().await;
    let url = format!("https://{}", server.http);
    assert_eq!(place.run(&["healthcheck", "--url", &url]).await.ok(), "ready\n");
    // Without a URL, where the settings say.
    let listen = format!("http.listen=0.0.0.0:{}", server.http.port());
    assert_eq!(place.run(&["healthcheck", "--set", &listen]).await.ok(), "ready\n");
    let (certificate, key) = (place.file("other.crt", &other.certificate), place.file("other.key", &other.key));
    let sets = [format!("http.tls_cert={certificate}"), format!("http.tls_key={key}")];
    let said = place.run(&["healthcheck", "--url", &url, "--set", &sets[0], "--set", &sets[1]]).await.refused();
    assert!(said.contains("another certificate than http.tls_cert names") && said.contains(&certificate), "{said}");
    let plain = place.run(&["healthcheck", "--url", &url.replace("https", "http")]).await.refused();
    assert!(plain.starts_with("vouchsafe: "), "{plain}");
    server.stop().await;

    // Where clients must show a certificate it shows the server's own, which has to be one for clients too.
    let place = with_tls(place, "http", &pair, Some(&ours));
    let server = place.serve().await;
    let url = format!("https://{}", server.http);
    let said = place.run(&["healthcheck", "--url", &url]).await.refused();
    assert!(said.contains("http.client_ca is set"), "{said}");
    server.stop().await;
    let both = ours.sign(|params| {
        params.insert_extended_key_usage(ExtendedKeyUsagePurpose::ServerAuth);
        params.insert_extended_key_usage(ExtendedKeyUsagePurpose::ClientAuth);
    });
    let place = with_tls(place, "http", &both, Some(&ours));
    let server = place.serve().await;
    let url = format!("https://{}", server.http);
    assert_eq!(place.run(&["healthcheck", "--url", &url]).await.ok(), "ready\n");
    server.stop().await;
    place.remove().await;
}
