//! SECURITY fault 19: a full disk. Nothing is acknowledged that was not stored, reading goes on, and writing does once there is
//! room again.

use rustix::process::{Resource, Rlimit, prlimit};
use vouchsafe::store::Location;

use super::{
    client::{Client, assert_outage},
    harness::{PROGRAM, Place, Server},
};
use crate::support::Backend;

/// The largest file that the server may write from now on; `None` for any.
fn limit_files(server: &Server, bytes: Option<u64>) {
    let limit = Rlimit { current: bytes, maximum: None };
    prlimit(Some(server.pid()), Resource::Fsize, limit).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_loses_nothing_and_is_got_over() {
    let place = Place::new(Backend::Sqlite).await;
    // Without the signal, a write beyond the limit fails as on a full disk.
    let server = Server::start(place.wrapped("/bin/sh", &["-c", "trap '' XFSZ; exec \"$0\" serve", PROGRAM])).await;
    let client = Client::of(&server).await;
    let mut tokens = client.join("ada@example.com").await;
    let left = client.login("ada@example.com").await.unwrap();
    client.logout(&left.refresh_token).await.unwrap();

    let Location::Sqlite(file) = place.database.location() else { unreachable!("it was asked for") };
    let log = format!("{}-wal", file.display());
    let mut acknowledged = 1;
    for round in 0..2 {
        limit_files(&server, Some(std::fs::metadata(&log).unwrap().len() + 40_000));
        let refused = loop {
            match client.register(&format!("user{round}.{acknowledged}@example.com")).await {
                Ok(_) => acknowledged += 1,
                Err(refused) => break refused,
            }
            assert!(acknowledged < 1_000, "the disk never got full");
        };
        assert_outage(&refused);
        // A refresh writes less: it may just fit. If not, its token is not burnt.
        match client.refresh(&tokens.refresh_token).await {
            Ok(renewed) => tokens = renewed,
            Err(refused) => assert_outage(&refused),
        }
        client.claims(&tokens.access_token).await;
        client.inactive(&left.access_token).await;
        assert_eq!(place.database.integer("SELECT COUNT(*) FROM users").await, acknowledged);

        limit_files(&server, None);
        client.login("ada@example.com").await.unwrap();
        client.join(&format!("after{round}@example.com")).await;
        acknowledged += 1;
    }
    client.refresh(&tokens.refresh_token).await.unwrap();
    assert_eq!(place.database.integer("SELECT COUNT(*) FROM users").await, acknowledged);
    let registered = "SELECT COUNT(*) FROM audit_events WHERE act = 'user.registered'";
    assert_eq!(place.database.integer(registered).await, acknowledged);
    server.stop().await;
    place.remove().await;
}
