//! `vouchsafe passwords build-filter`, and a server that goes by what it made.

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use super::{
    client::Client,
    harness::{Place, finish},
    tools::python,
};
use crate::support::{Backend, PASSWORD, bearer, fields};
use vouchsafe::pb::v1::{self, account_service_client::AccountServiceClient};

const STOLEN: &str = "seven lanterns over quiet marsh";
const FREE: &str = "paper tigers dislike heavy rain";

/// A line as Have I Been Pwned writes it.
fn line(password: &str, count: u64) -> String {
    let mut line =
        digest(&SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes()).as_ref().iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02X}").unwrap();
            text
        });
    write!(line, ":{count}\r\n").unwrap();
    line
}

/// What an independent reader says of passwords: how many are in the filter, and which of these.
async fn read(filter: &str, passwords: &[&str]) -> Vec<String> {
    let said = finish(python("read_filter.py", &[filter]), &passwords.join("\n")).await.ok();
    said.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn a_filter_is_made_of_either_kind_of_list_and_read_by_others_alike() {
    let place = Place::new(Backend::Sqlite).await;
    let mut hashes: Vec<String> = (0..2_000).map(|n| line(&format!("word {n}"), n)).collect();
    hashes.push(line(STOLEN, 7));
    let unsorted = place.file("unsorted", hashes.concat());
    hashes.sort();
    let sorted = place.file("sorted", hashes.concat());
    let mut plain: Vec<String> = (0..2_000).map(|n| format!("word {n}")).collect();
    plain.push(STOLEN.to_owned());
    let plain = place.file("plain", plain.join("\n"));

    let output = place.path("known.filter").display().to_string();
    let build = |input: &str, flags: &[&str]| {
        let args = [&["passwords", "build-filter", "--input", input, "--output", &output], flags].concat();
        place.command(&args)
    };
    let mut files = Vec::new();
    for (input, flags) in [(&unsorted, &[][..]), (&sorted, &[]), (&plain, &["--plain"])] {
        let said = finish(build(input, flags), "").await.ok();
        assert!(said.starts_with("2001 passwords of 2001 lines"), "{said}");
        assert_eq!(read(&output, &["word 0", STOLEN, FREE, "word 2000"]).await, ["2001", "yes", "yes", "no", "no"]);
        files.push(std::fs::read(&output).unwrap());
    }
    assert!(files[0] == files[1] && files[1] == files[2]);
    // From a pipe, without what was seen seldom.
    finish(build("-", &["--min-count", "1000"]), &hashes.concat()).await.ok();
    assert_eq!(read(&output, &["word 999", "word 1000", STOLEN]).await, ["1000", "no", "yes", "no"]);

    let said = finish(build(&plain, &[]), "").await.refused();
    assert!(said.contains("line 1 ") && said.contains("--plain") && !said.contains("word 0"), "{said}");
    let said = finish(build("/nowhere/list", &[]), "").await.refused();
    assert!(said.contains("/nowhere/list"), "{said}");
    assert_eq!(read(&output, &[]).await, ["1000"], "what was there is there still");
    place.remove().await;
}

#[tokio::test]
async fn a_server_goes_by_the_filter_or_does_not_start() {
    let place = Place::new(Backend::Sqlite).await;
    let filter = place.path("known.filter").display().to_string();
    let place = place.set("passwords.breached_filter", &filter);
    let check: &[&str] = &["config", "check"];
    let refused = async |part: &str| {
        for command in [&["serve"][..], check] {
            let said = place.run(command).await.refused();
            assert!(said.contains("passwords.breached_filter") && said.contains(part), "{part}: {said}");
            assert!(said.contains(&filter), "{said}");
        }
    };
    refused("cannot be read").await;
    place.file("known.filter", "password\n".repeat(20));
    refused("build-filter").await;

    let list = place.file("list", STOLEN);
    let args = ["passwords", "build-filter", "--plain", "--input", &list, "--output", &filter];
    place.run(&args).await.ok();
    place.run(check).await.ok();
    let create = ["admin", "create", "--email", "root@example.com", "--password-stdin"];
    let said = place.run_with_input(&create, STOLEN).await.refused();
    assert!(said.contains("stolen") && !said.contains(STOLEN), "{said}");
    let said = place.run_with_input(&create, "root.example12345").await.refused();
    assert!(said.contains("made of your address"), "{said}");
    let said = place.run_with_input(&create, "abcdefghijklmnopqrst").await.refused();
    assert!(said.contains("easy to guess"), "{said}");
    place.run_with_input(&create, PASSWORD).await.ok();

    let server = place.serve().await;
    let client = Client::of(&server).await;
    let token = client.login("root@example.com").await.unwrap().access_token;
    let mut account = AccountServiceClient::new(client.channel.clone());
    let mut change = async |new: &str| {
        let request = v1::ChangePasswordRequest { current_password: PASSWORD.into(), new_password: new.into() };
        account.change_password(bearer(&token, request)).await
    };
    assert_eq!(fields(&change(STOLEN).await.unwrap_err()), ["new_password"]);
    change(FREE).await.unwrap();
    server.stop().await;
    place.remove().await;
}
