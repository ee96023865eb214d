//! `vouchsafe user`, `role` and `service-account`, on the database itself and through a server: the same stories both ways.

mod imports;
mod refusals;
mod roles;
mod service_accounts;
mod terminal;
mod users;

use serde_json::Value;

use super::{
    client::Client,
    harness::{Ended, Place, Server},
};
use crate::support::{Backend, PASSWORD};

/// Where the commands of a story act.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// On the database.
    Direct,
    /// Through the server, as an administrator.
    Server,
}

/// A place with a running server and an administrator, root@example.com.
struct World {
    place: Place,
    server: Server,
    client: Client,
    /// The flags of the way.
    flags: Vec<String>,
}

impl World {
    async fn new(backend: Backend, way: Way) -> Self {
        let place = Place::new(backend).await;
        make_root(&place).await;
        let server = place.serve().await;
        let client = Client::of(&server).await;
        let flags = match way {
            Way::Direct => Vec::new(),
            Way::Server => {
                let token = client.login("root@example.com").await.unwrap().access_token;
                through(&server, &place.file("token", format!("{token}\n")))
            }
        };
        Self { place, server, client, flags }
    }

    /// Runs a command that way.
    async fn run(&self, args: &[&str]) -> Ended {
        let flags: Vec<&str> = self.flags.iter().map(String::as_str).collect();
        self.place.run(&[args, &flags].concat()).await
    }

    /// The JSON that a command prints.
    async fn json(&self, args: &[&str]) -> Value {
        let printed = self.run(&[args, &["--output", "json"]].concat()).await.ok();
        serde_json::from_str(&printed).unwrap_or_else(|e| panic!("{args:?}: {e}: {printed}"))
    }

    /// What a command that must be refused complains of; it must be for this reason.
    async fn refused(&self, args: &[&str], reason: &str) -> String {
        let said = self.run(args).await.refused();
        assert!(said.ends_with(&format!(" ({reason})\n")), "{args:?}: {said}");
        said
    }

    async fn end(self) {
        self.server.stop().await;
        self.place.remove().await;
    }
}

/// Makes the administrator root@example.com.
pub(super) async fn make_root(place: &Place) {
    let password = place.file("root-password", PASSWORD);
    place.run(&["admin", "create", "--email", "root@example.com", "--password-file", &password]).await.ok();
}

/// The flags that name a server without TLS and a token in a file.
pub(super) fn through(server: &Server, token_file: &str) -> Vec<String> {
    let url = format!("http://{}", server.grpc);
    ["--server", &url, "--token-file", token_file].map(str::to_owned).to_vec()
}

/// The texts in a field that is an array of them.
fn texts(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

/// The words of each line.
fn words(table: &str) -> Vec<Vec<&str>> {
    table.lines().map(|line| line.split_whitespace().collect()).collect()
}
