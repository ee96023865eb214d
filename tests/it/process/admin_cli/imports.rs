//! `user import`: files of users.

use serde_json::json;

use super::{Way, World};
use crate::{rpc::on_both_databases, support::Backend};

on_both_databases!(
    files_are_imported_on_the_database,
    files_are_imported_through_a_server,
    a_file_that_cannot_be_read_is_refused_whole
);

async fn files_are_imported_on_the_database(backend: Backend) {
    files_are_imported(World::new(backend, Way::Direct).await).await;
}

async fn files_are_imported_through_a_server(backend: Backend) {
    files_are_imported(World::new(backend, Way::Server).await).await;
}

/// Checked, imported, and run again; the imported sign in with the passwords they had.
async fn files_are_imported(world: World) {
    let hash = world.place.database.texts("SELECT password_hash FROM users").await.swap_remove(0);
    let csv = format!(
        "email,username,password_hash,roles,attributes\n\
         ada@example.com,ada,\"{hash}\",,\"{{\"\"plan\"\": \"\"gold\"\"}}\"\n\
         root@example.com,other,,,\n\
         bob@example.com,bob,,admin,\n"
    );
    let file = world.place.file("users.csv", &csv);
    let taken = json!([{ "row": 2, "field": "email", "description": "belongs to another account" }]);
    for (extra, dry_run) in [(&["--dry-run"][..], true), (&[], false), (&[], false)] {
        let ended = world.run(&[&["user", "import", &file, "--output", "json"], extra].concat()).await;
        assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
        assert!(ended.stderr.contains("1 of 3 users were refused"), "{}", ended.stderr);
        let said: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
        assert_eq!((&said["imported"], &said["failed"], &said["errors"]), (&json!(2), &json!(1), &taken));
        assert_eq!(said["dry_run"], dry_run);
        assert_eq!(world.client.login("ada@example.com").await.is_ok(), !dry_run);
    }
    assert_eq!(world.json(&["user", "get", "ada"]).await["attributes"]["plan"], "gold");
    assert_eq!(world.json(&["user", "get", "bob"]).await["roles"], json!(["admin"]));

    let lines: Vec<_> = (0..1200).map(|n| format!("{{\"email\": \"user-{n}@example.com\"}}")).collect();
    let file = world.place.file("users.jsonl", lines.join("\n"));
    assert_eq!(world.run(&["user", "import", &file]).await.ok(), "1200 imported, 0 refused\n");
    assert_eq!(world.place.database.integer("SELECT COUNT(*) FROM users").await, 1203);
    world.end().await;
}

async fn a_file_that_cannot_be_read_is_refused_whole(backend: Backend) {
    let world = World::new(backend, Way::Direct).await;
    let file = world.place.file("users.csv", "email,suspended\nada@example.com,\nbob@example.com,secret\n");
    let said = world.run(&["user", "import", &file]).await.refused();
    assert!(said.contains("nothing was sent") && said.contains("line 3") && !said.contains("secret"), "{said}");
    let unnamed = world.place.file("users", "email\n");
    assert!(world.run(&["user", "import", &unnamed]).await.refused().contains("--format"));
    assert_eq!(world.place.database.integer("SELECT COUNT(*) FROM users").await, 1);
    world.end().await;
}
