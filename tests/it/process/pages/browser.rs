//! A real browser: Chromium loads a page from one port of this machine, which calls a server at another with Connect's client for
//! the web. What comes back is what the page itself could read.

use std::process::Stdio;

use axum::{
    Router,
    extract::{Path, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    process::{Child, Command},
    sync::mpsc,
    task::JoinHandle,
    time::timeout,
};
use vouchsafe::pb::v1;

use super::{BOUND, Backend, Client, PASSWORD, Place, register};
use crate::{
    process::{
        harness::Server,
        tls::{channel, with_tls},
        tools::tool,
    },
    support::certificates::Authority,
};

/// Where the page and its libraries come from, and what it tells of itself.
struct Site {
    port: u16,
    said: mpsc::Receiver<String>,
    running: JoinHandle<()>,
}

impl Drop for Site {
    fn drop(&mut self) {
        self.running.abort();
    }
}

fn javascript(script: String) -> Response {
    ([(header::CONTENT_TYPE, "text/javascript")], script).into_response()
}

/// A file of the libraries in `tests/package.json`.
async fn module(Path(path): Path<String>) -> Response {
    // Beside the folder with node in it.
    let modules = tool("..").join("node_modules");
    match std::fs::read_to_string(modules.join(path)) {
        Ok(script) => javascript(script),
        Err(error) => (StatusCode::NOT_FOUND, error.to_string()).into_response(),
    }
}

async fn descriptors(Path(name): Path<String>) -> &'static [u8] {
    match name.as_str() {
        "vouchsafe" => vouchsafe::pb::FILE_DESCRIPTOR_SET,
        _ => tonic_types::pb::FILE_DESCRIPTOR_SET,
    }
}

impl Site {
    async fn open() -> Self {
        let (tell, said) = mpsc::channel(1);
        let page = include_str!("../../../peers/page.html");
        let routes = Router::new()
            .route("/", get(async move || ([(header::CONTENT_TYPE, "text/html")], page)))
            .route("/page.js", get(async || javascript(include_str!("../../../peers/page.js").to_owned())))
            .route("/modules/{*path}", get(module))
            .route("/descriptors/{name}", get(descriptors))
            .route(
                "/said",
                post(async |State(tell): State<mpsc::Sender<String>>, said: String| tell.send(said).await.unwrap()),
            )
            .with_state(tell);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        Self { port, said, running: tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() }) }
    }

    fn origin(&self) -> String {
        format!("http://localhost:{}", self.port)
    }

    /// What the page says of a server, of which it uses this URL, once it has gone through all of its steps.
    async fn visit(&mut self, server: &str, email: &str) -> Value {
        let password = PASSWORD.replace(' ', "%20");
        let chromium =
            Chromium::start(&format!("{}/?server={server}&email={email}&password={password}", self.origin()));
        let said = timeout(BOUND, self.said.recv()).await;
        let said = said.unwrap_or_else(|_| panic!("the page says nothing; its browser: {}", chromium.log()));
        drop(chromium);
        serde_json::from_str(&said.unwrap()).unwrap()
    }
}

/// A browser with a profile of its own, which goes with it.
struct Chromium {
    child: Child,
    profile: TempDir,
}

impl Chromium {
    fn start(url: &str) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let log = std::fs::File::create(profile.path().join("log")).unwrap();
        let mut command = Command::new(tool("chromium"));
        command
            .args(["--headless", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-sync"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-default-apps"])
            // As root, and in containers, it has no sandbox. It sees pages of ours alone.
            .args(["--no-sandbox", "--no-proxy-server", "--ignore-certificate-errors"])
            .arg(format!("--user-data-dir={}", profile.path().join("profile").display()))
            .arg(url)
            .env("HOME", profile.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true);
        Self { child: command.spawn().unwrap(), profile }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.profile.path().join("log")).unwrap()
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        let id = self.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(group) = id {
            // Its helpers as well. They may be gone already.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// That a page was let in, and could read everything that is meant for it.
#[track_caller]
fn assert_served(said: &Value, email: &str) {
    assert_eq!(
        said,
        &json!({
            "register": email,
            "wrongPassword": {"failed": {"code": "Unauthenticated", "reason": "INVALID_CREDENTIALS"}},
            "noToken": {"failed": {"code": "Unauthenticated", "reason": "ACCESS_TOKEN_MISSING"}},
            "login": "tokens",
            "getAccount": {"email": email, "requestId": "of-a-page"},
            "inTime": email,
            "watch": "revoked",
            "fetch": 200,
            // There are no cookies.
            "fetchWithCookies": {"failed": {"name": "TypeError"}},
            "fetchBlindly": "opaque",
        })
    );
}

async fn serve(place: Place, site: &Site) -> (Place, Server) {
    let place = place.set("grpc.web_origins", &format!("https://app.example.com,{}", site.origin()));
    let server = place.serve().await;
    (place, server)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_signs_in_from_a_page_of_a_listed_origin_and_from_no_other() {
    let (mut listed, mut stranger) = (Site::open().await, Site::open().await);
    let (place, server) = serve(Place::new(Backend::Sqlite).await, &listed).await;
    let address = format!("http://{}", server.grpc);
    assert_served(&listed.visit(&address, "ada@example.com").await, "ada@example.com");

    assert_refused(&stranger.visit(&address, "mallory@example.com").await);
    let client = Client::of(&server).await;
    for kind in ["", "fetch-", "cookies-", "blindly-"] {
        // The address is free: nothing that the page sent was carried out.
        client.register(&format!("{kind}mallory@example.com")).await.unwrap();
    }
    // The other page's blind call did nothing either: what a page does not ask for is not gRPC-Web.
    client.register("blindly-ada@example.com").await.unwrap();
    client.register("fetch-ada@example.com").await.unwrap_err();
    drop(client);
    server.stop().await;
    place.remove().await;
}

/// That a page could read nothing.
#[track_caller]
fn assert_refused(said: &Value) {
    for step in ["register", "wrongPassword", "noToken", "login", "getAccount", "inTime", "fetch", "fetchWithCookies"] {
        let failed = &said[step]["failed"];
        assert_eq!(failed["name"], "TypeError", "{step}: {said}");
        assert_eq!(failed["reason"], Value::Null, "{step}: {said}");
    }
    // That one was sent, and its answer kept from the page.
    assert_eq!(said["fetchBlindly"], "opaque", "{said}");
}

/// By HTTP/2, which browsers agree on with every server that has TLS.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_signs_in_over_tls() {
    let (mut listed, mut stranger) = (Site::open().await, Site::open().await);
    let ours = Authority::new("ours");
    let place = with_tls(Place::new(Backend::Sqlite).await, "grpc", &ours.server(), None);
    let (place, server) = serve(place, &listed).await;
    let address = format!("https://localhost:{}", server.grpc.port());
    assert_served(&listed.visit(&address, "ada@example.com").await, "ada@example.com");
    assert_refused(&stranger.visit(&address, "mallory@example.com").await);
    let mut auth = v1::auth_service_client::AuthServiceClient::new(
        channel(ours.connector("h2", None), server.grpc).await.unwrap(),
    );
    auth.login(crate::support::login_request("ada@example.com", PASSWORD)).await.unwrap();
    for kind in ["", "fetch-", "cookies-", "blindly-"] {
        // The address is free.
        auth.register(register(&format!("{kind}mallory@example.com"))).await.unwrap();
    }
    drop(auth);
    server.stop().await;
    place.remove().await;
}
