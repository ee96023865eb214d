//! Certificates and authorities that change while calls run.

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use rustix::process::Signal;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::{channel, connect, healthy, sqlite, with_tls};
use crate::{
    process::harness::{BOUND, Place, until},
    support::certificates::{Authority, Pair},
};

/// The certificate that a port shows.
async fn shown(connector: &TlsConnector, address: SocketAddr) -> Vec<u8> {
    let stream = connect(connector, address).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
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
    let damaged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (broken, part) in [("", "no certificate in PEM"), (damaged, "no certificate that can be used")] {
        replace(&place, "grpc.crt", broken);
        server.signal(Signal::HUP);
        server.log.wait(|line| line.contains("stays in use") && line.contains(part)).await;
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
    let taken_over = |port: &str| {
        let so = |line: &&String| {
            line.contains("new TLS certificate in use") && line.contains(&format!("\"port\":\"{port}\""))
        };
        server.log.so_far().iter().filter(so).count()
    };
    until("it is logged", async || (taken_over("grpc") == 2 && taken_over("http") == 1).then_some(())).await;
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
