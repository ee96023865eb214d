//! Whether the time of an answer tells that an account exists: calls for nobody, for somebody, for a suspended account and for
//! one without a password, in turn, each for another account.

use std::time::Instant;

use tonic::{Code, Request, transport::Endpoint};
use vouchsafe::pb::v1::{
    ImportOptions, ImportUser, ImportUsersRequest, LoginRequest, RegisterRequest, RequestPasswordResetRequest,
    SendLoginCodeRequest, user_admin_service_client::UserAdminServiceClient,
};

use crate::{
    load::{Client, connect},
    process::Process,
    report::{Bound, Report},
    stats::{Paired, median},
    users::hash,
};

/// Calls of each kind.
const ROUNDS: usize = 500;

/// Kinds of accounts; the first is asked for twice a round, so that it can be compared with itself.
const KINDS: [&str; 5] = ["known", "known-too", "unknown", "suspended", "passwordless"];

/// What nobody is slowed by, since every call is for another account and all of them come from one address.
const SETTINGS: [(&str, &str); 5] = [
    ("throttle.address_failures", "1000000"),
    ("throttle.overall_failures", "0"),
    ("throttle.messages_overall", "1000000"),
    ("notify.email", "log"),
    ("log.filter", "warn,vouchsafe::cli=info"),
];

/// Measures on both databases.
pub(crate) async fn run(report: &mut Report) {
    for required in ["false", "true"] {
        let settings = [&SETTINGS[..], &[("registration.require_verified_email", required)]].concat();
        for (backend, server) in [
            ("Postgres and Redis", Process::on_redis(&settings).await),
            ("SQLite", Process::on_sqlite(&settings).await),
        ] {
            populate(&server).await;
            let mut client = connect(&server).await.remove(0);
            if required == "true" {
                compare(&mut client, backend, "Register", &KINDS[..3], report).await;
            } else {
                for rpc in ["Login", "SendLoginCode", "RequestPasswordReset"] {
                    compare(&mut client, backend, rpc, &KINDS, report).await;
                }
            }
        }
    }
}

/// An address of this kind for every round.
fn address(kind: &str, round: usize) -> String {
    format!("{kind}-{round}@example.com")
}

/// Imports everybody who exists.
async fn populate(server: &Process) {
    let token = server.admin().await.access_token;
    let hash = hash();
    let users: Vec<_> = KINDS
        .iter()
        .filter(|kind| **kind != "unknown")
        .flat_map(|kind| (0..ROUNDS).map(move |round| (*kind, round)))
        .map(|(kind, round)| ImportUser {
            email: address(kind, round),
            email_verified: true,
            suspended: kind == "suspended",
            password_hash: if kind == "passwordless" { String::new() } else { hash.clone() },
            ..ImportUser::default()
        })
        .collect();
    let options = ImportOptions { import_id: uuid::Uuid::from_u128(2).to_string(), validate_only: false };
    let begin = ImportUsersRequest { options: Some(options), ..ImportUsersRequest::default() };
    let chunks: Vec<_> = users
        .chunks(500)
        .enumerate()
        .map(|(chunk, users)| ImportUsersRequest {
            options: None,
            first_row: i64::try_from(chunk * 500 + 1).unwrap(),
            users: users.to_vec(),
        })
        .collect();
    let mut request = Request::new(tokio_stream::iter(std::iter::once(begin).chain(chunks)));
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    let endpoint = Endpoint::try_from(format!("http://{}", server.address)).unwrap();
    let mut client = UserAdminServiceClient::new(endpoint.connect().await.unwrap());
    assert_eq!(client.import_users(request).await.unwrap().into_inner().failed, 0);
}

async fn call(client: &mut Client, rpc: &str, address: String) -> Option<Code> {
    let answer = match rpc {
        "Login" => {
            let request = LoginRequest {
                identifier: address,
                password: "wrong horse battery staple".to_owned(),
                ..LoginRequest::default()
            };
            client.login(request).await.map(|_| ())
        }
        "SendLoginCode" => {
            let request = SendLoginCodeRequest { identifier: address, ..SendLoginCodeRequest::default() };
            client.send_login_code(request).await.map(|_| ())
        }
        "RequestPasswordReset" => {
            client.request_password_reset(RequestPasswordResetRequest { identifier: address }).await.map(|_| ())
        }
        _ => {
            let request = RegisterRequest {
                email: address,
                password: crate::load::PASSWORD.to_owned(),
                ..RegisterRequest::default()
            };
            client.register(request).await.map(|_| ())
        }
    };
    answer.err().map(|status| status.code())
}

async fn compare(client: &mut Client, backend: &str, rpc: &str, kinds: &[&str], report: &mut Report) {
    let expected = (rpc == "Login").then_some(Code::Unauthenticated);
    let mut times = vec![Vec::new(); kinds.len()];
    for round in 0..ROUNDS {
        for turn in 0..kinds.len() {
            // Nobody always comes after the same one.
            let kind = (turn + round) % kinds.len();
            let begun = Instant::now();
            let ended = call(client, rpc, address(kinds[kind], round)).await;
            times[kind].push(begun.elapsed().as_secs_f64() * 1_000.0);
            assert_eq!(ended, expected, "{rpc} for {}", kinds[kind]);
        }
    }
    let pairs = |kind: usize| Paired { a: times[kind].clone(), b: times[0].clone() };
    let floor = pairs(1).ratios();
    for kind in 2..kinds.len() {
        let what = format!("time of `{rpc}` for {} : for a known account, {backend}", kinds[kind]);
        let detail = format!(
            "medians {:.2} and {:.2} ms; who guesses from one answer's time is right {:.0} % of the time (known against \
             known: {:.0} %)",
            median(&times[kind]),
            median(&times[0]),
            100.0 * guessed(&times[kind], &times[0]),
            100.0 * guessed(&times[1], &times[0]),
        );
        report.ratio(&what, pairs(kind).ratios(), Some(floor), Bound::None, &detail);
    }
}

/// How often the better of two guessers, "the slower one is the first" and "the faster one is", is right about two times.
fn guessed(first: &[f64], second: &[f64]) -> f64 {
    let slower = first.iter().flat_map(|a| second.iter().map(move |b| a > b)).filter(|slower| *slower).count();
    #[allow(clippy::cast_precision_loss)]
    let share = slower as f64 / (first.len() * second.len()) as f64;
    share.max(1.0 - share)
}
