//! Questions at a terminal, and what comes of the answers.

use super::make_root;
use crate::{
    process::{admin::at_terminal, client::Client, harness::Place},
    support::{Backend, PASSWORD},
};

#[tokio::test]
async fn what_cannot_be_undone_is_asked_first() {
    let place = Place::new(Backend::Sqlite).await;
    make_root(&place).await;
    place.run(&["user", "create", "--email", "ada@example.com", "--username", "ada", "--no-password"]).await.ok();
    let count = "SELECT count(*) FROM users";
    let delete = ["user", "delete", "ada"];
    for answer in ["", "n", "nonsense"] {
        let (shown, done) = at_terminal(&place, &delete, &[("[y/N] ", answer)]).await;
        assert!(
            !done && shown.contains("Delete user ada@example.com (") && shown.contains("nothing was done"),
            "{shown}"
        );
        assert_eq!(place.database.integer(count).await, 2);
    }
    let (shown, done) = at_terminal(&place, &["user", "suspend", "ada"], &[("[y/N] ", "Yes")]).await;
    assert!(done && shown.contains("Suspend user ada@example.com (") && shown.contains("suspended"), "{shown}");
    let (shown, done) = at_terminal(&place, &["user", "revoke-sessions", "ada"], &[("[y/N] ", "y")]).await;
    assert!(done && shown.contains("End all sessions of user ada@example.com ("), "{shown}");
    let (shown, done) = at_terminal(&place, &delete, &[("[y/N] ", "y")]).await;
    assert!(done && shown.contains("deleted"), "{shown}");
    assert_eq!(place.database.integer(count).await, 1);

    place.run(&["role", "create", "support"]).await.ok();
    let (shown, done) = at_terminal(&place, &["role", "delete", "support"], &[("[y/N] ", "y")]).await;
    assert!(done && shown.contains("Delete role support?"), "{shown}");
    let made = place.run(&["service-account", "create", "--display-name", "Shipping"]).await;
    let id = made.stderr.split(['(', ')']).nth(1).unwrap().to_owned();
    let rotate = ["service-account", "rotate-secret", &id, "--keep-previous", "0s"];
    let (shown, done) = at_terminal(&place, &rotate, &[("[y/N] ", "n")]).await;
    assert!(!done && shown.contains("Shipping (svc_") && !shown.contains("vss_"), "{shown}");
    let (shown, done) = at_terminal(&place, &["service-account", "delete", &id], &[("[y/N] ", "y")]).await;
    assert!(done && shown.contains("Delete service account Shipping (svc_"), "{shown}");
    place.remove().await;
}

#[tokio::test]
async fn a_users_password_typed_at_the_prompt_is_not_shown() {
    let place = Place::new(Backend::Sqlite).await;
    let twice = [("Password: ", PASSWORD), ("Password again: ", PASSWORD)];
    let create = ["user", "create", "--email", "ada@example.com"];
    let (shown, done) = at_terminal(&place, &create, &twice).await;
    assert!(done && shown.contains("ada@example.com") && !shown.contains("battery"), "{shown}");
    let server = place.serve().await;
    Client::of(&server).await.login("ada@example.com").await.unwrap();
    server.stop().await;
    place.remove().await;
}
