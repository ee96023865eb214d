//! What an operator is told: what to try, what is wrong, what will be.

use std::{fs, time::Duration};

use rustix::process::Signal;
use time::OffsetDateTime;
use vouchsafe::crypto::machine_date;

use super::{sqlite, with_tls};
use crate::support::certificates::Authority;

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
