//! The sidecar's file: checked before it is used, and taken up while the sidecar runs.

use rustix::process::Signal;

use super::world::{Sidecar, file, run, token};
use crate::{
    process::harness::until,
    support::{Backend, TestNode, certificates},
};

const OPEN: &str = "[[routes]]\npath = \"/a\"\naccess = \"public\"\n";

#[tokio::test]
async fn a_new_file_takes_effect_and_a_broken_one_does_not() {
    let node = TestNode::start(Backend::Sqlite).await;
    let sidecar = Sidecar::beside(&node, "").await;
    let status = async || sidecar.get("/a", None).await.status;
    let beyond = |line: &String| line.contains("restart the sidecar for the rest");
    assert_eq!(status().await, 401);
    sidecar.rewrite(OPEN);
    until("the route is open", async || (status().await == 200).then_some(())).await;
    assert!(!sidecar.log.so_far().iter().any(beyond), "only routes have changed");

    sidecar.rewrite("[[routes]]\npath = \"/a\"\naccess = \"everybody\"\n");
    sidecar.signal(Signal::HUP);
    let told = sidecar.log.wait(|line| line.contains("cannot be used")).await;
    assert!(told.contains("everybody") && told.contains("ERROR"), "{told}");
    assert_eq!(status().await, 200, "the policy in force stays");
    let scrape = sidecar.http("/metrics").await.body;
    assert!(scrape.contains("vouchsafe_sidecar_policy_current 0\n"), "{scrape}");
    assert!(scrape.contains("vouchsafe_sidecar_policy_reloads_total{outcome=\"failed\"} 1\n"), "{scrape}");

    sidecar.rewrite("leeway = \"5s\"\n");
    until("the route is closed", async || (status().await == 401).then_some(())).await;
    sidecar.log.wait(|line| beyond(&line.to_owned())).await;
    let scrape = sidecar.http("/metrics").await.body;
    assert!(scrape.contains("vouchsafe_sidecar_policy_current 1\n"), "{scrape}");
    assert_eq!(sidecar.get("/a", Some(&token(&node, &[], "").await)).await.status, 200);
    sidecar.stop().await;
    node.remove().await;
}

#[tokio::test]
async fn a_file_that_names_one_which_is_not_there_yet_is_tried_again() {
    let node = TestNode::start(Backend::Sqlite).await;
    let sidecar = Sidecar::beside(&node, "").await;
    let late = sidecar.dir.path().join("late.pem");
    sidecar.rewrite(&format!("ca_file = {:?}\n{OPEN}", late.to_str().unwrap()));
    sidecar.log.wait(|line| line.contains("cannot be used") && line.contains("late.pem")).await;
    assert_eq!(sidecar.get("/a", None).await.status, 401);
    // The file itself stays as it is.
    std::fs::write(&late, certificates::Authority::new("A").pem()).unwrap();
    until("the route is open", async || (sidecar.get("/a", None).await.status == 200).then_some(())).await;
    let scrape = sidecar.http("/metrics").await.body;
    assert!(scrape.contains("vouchsafe_sidecar_policy_current 1\n"), "{scrape}");
    assert!(
        scrape.contains("vouchsafe_sidecar_policy_reloads_total{outcome=\"failed\"} 1\n"),
        "counted once: {scrape}"
    );
    sidecar.stop().await;
    node.remove().await;
}

#[tokio::test]
async fn check_says_what_the_file_means() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sidecar.toml");
    let path = path.to_str().unwrap();
    let check = async |service: &str, listen: &str, policy: &str| {
        std::fs::write(path, file(service, listen, policy)).unwrap();
        run(&["--check", "--config", path]).await
    };
    let near = "http://127.0.0.1:50051";
    let table = check(near, "127.0.0.1:0", &format!("{OPEN}[[routes]]\npath = \"/a\"\nroles = [\"x\"]\n")).await.ok();
    let rows: Vec<_> = table.lines().filter(|line| line.contains("any")).collect();
    assert_eq!(rows[0].split_whitespace().collect::<Vec<_>>(), ["1", "/a", "any", "any", "public"]);
    assert_eq!(rows[2].split_whitespace().collect::<Vec<_>>(), ["otherwise", "any", "any", "required"]);
    assert!(table.contains("warning: line 8: route \"/a\" is never used"), "{table}");

    let hosts = "[[routes]]\npath = \"/admin/**\"\nhosts = [\"a\"]\nroles = [\"x\"]\n";
    let table = check(near, "127.0.0.1:0", hosts).await.ok();
    assert!(table.contains("warning: line 5: route \"/admin/**\" is for some hosts alone"), "{table}");

    for (service, listen, policy, advice) in [
        (near, "127.0.0.1:0", "audiences = 1\n", "unknown field `audiences`"),
        (near, "0.0.0.0:1", "", "allow_plaintext"),
        (near, "127.0.0.1:0", "[[routes]]\npath = \"a\"\n", "line 5: route \"a\": does not begin with /"),
        (near, "127.0.0.1:0", "[service_account]\nclient_id = \"svc_x\"\nsecret_file = \"/none\"\n", "secret_file"),
        ("http://10.0.0.1:50051", "127.0.0.1:0", "", "http://10.0.0.1:50051"),
        ("nowhere at all", "127.0.0.1:0", "", "service"),
    ] {
        let told = check(service, listen, policy).await.refused();
        assert!(told.contains(advice), "{advice}: {told}");
    }
    let told = run(&["--check", "--config", "/nowhere/sidecar.toml"]).await.refused();
    assert!(told.contains("/nowhere/sidecar.toml"), "{told}");
}

/// The example of the documentation, as it stands there.
#[tokio::test]
async fn the_example_of_the_documentation_is_a_file() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/SIDECAR.md")).unwrap();
    let example = page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "a secret\n").unwrap();
    let path = dir.path().join("sidecar.toml");
    // The one thing in it that must exist.
    let text = example.replace("/run/secrets/vouchsafe", secret.to_str().unwrap());
    assert_ne!(text, example);
    std::fs::write(&path, text).unwrap();
    let shown = run(&["--check", "--config", path.to_str().unwrap()]).await.ok();
    assert!(!shown.contains("warning"), "{shown}");
}
