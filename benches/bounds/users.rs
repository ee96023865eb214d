//! A thousand users beside a million: whether anybody waits longer for there being so many.

use std::time::{Duration, Instant};

use argon2::{Algorithm, Argon2, Params, Version};
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use tonic::{Request, transport::Endpoint};
use vouchsafe::pb::v1::{
    ImportOptions, ImportUser, ImportUsersRequest, TokenPair, auth_service_client::AuthServiceClient,
    user_admin_service_client::UserAdminServiceClient,
};

use crate::{
    Plan,
    load::{PASSWORD, Side, alternate, login},
    process::Process,
    report::{Bound, Report},
    rpc::refreshed,
    stats::median,
};

/// How many users each side has.
const FEW: usize = 1_000;
const MANY: usize = 1_000_000;
/// Users of one message of an import.
const CHUNK: usize = 500;
/// Users who are signed in.
const SESSIONS: usize = 32;
/// Calls under way at once that hash or list.
const CALLERS: usize = 4;
/// How long one side calls before it is the other's turn.
const BATCH: Duration = Duration::from_millis(200);

/// Imports into both databases, and compares.
pub(crate) async fn run(plan: &Plan, report: &mut Report) {
    compare("Postgres and Redis", [Process::on_redis(&[]).await, Process::on_redis(&[]).await], plan, report).await;
    compare("SQLite", [Process::on_sqlite(&[]).await, Process::on_sqlite(&[]).await], plan, report).await;
}

async fn compare(backend: &str, [few, many]: [Process; 2], plan: &Plan, report: &mut Report) {
    let few_admin = few.admin().await;
    let many_admin = many.admin().await;
    import(&few, &few_admin.access_token, FEW).await;
    let took = import(&many, &many_admin.access_token, MANY).await;
    let detail = format!("by one stream, {CHUNK} rows a message; a row is an account with its key and its audit event");
    let what = format!("import of a million users, {backend}");
    report.figure(&what, took.as_secs_f64(), "s", Bound::None, &detail);

    let (mut few_pairs, mut many_pairs) = (sign_in(&few, FEW).await, sign_in(&many, MANY).await);
    few_pairs.push(few_admin);
    many_pairs.push(many_admin);
    // `Refresh` last: the newest tokens stay with its callers.
    for rpc in ["Verify", "Login", "ListUsers", "Refresh"] {
        few_pairs = refreshed(&few, &few_pairs).await;
        many_pairs = refreshed(&many, &many_pairs).await;
        let half = SESSIONS / 2;
        let parts = [(&few, FEW, &few_pairs, 0), (&few, FEW, &few_pairs, half), (&many, MANY, &many_pairs, 0)];
        let mut sides = Vec::new();
        for (server, users, pairs, first) in parts {
            let own = &pairs[first..first + half];
            sides.push(match rpc {
                "Verify" => Side::verify(server, own).await,
                "Refresh" => Side::rotate(server, own).await,
                "Login" => Side::login_anybody(server, users, CALLERS).await,
                _ => Side::list_users(server, &pairs[SESSIONS].access_token, CALLERS).await,
            });
        }
        let [a, again, b] = &mut sides[..] else { unreachable!("three were made") };
        let floor = alternate(a, again, BATCH, plan.budget / 4).await;
        let paired = alternate(a, b, BATCH, plan.budget / 2).await;
        let what = format!("time of `{rpc}` with a million users : with a thousand, {backend}");
        let detail = format!(
            "{:.0} and {:.0} per second; time on a processor per call: {}; with a thousand: {}",
            median(&paired.b),
            median(&paired.a),
            b.cpu_per_call(),
            a.cpu_per_call(),
        );
        // With as many callers at once, a rate is a time turned over.
        report.ratio(&what, paired.ratios(), Some(floor.ratios()), Bound::AtMost(1.2), &detail);
    }
}

/// Imports so many users with one and the same hash.
async fn import(server: &Process, token: &str, users: usize) -> Duration {
    let (hash, start) = (hash(), Instant::now());
    let options = ImportOptions { import_id: uuid::Uuid::from_u128(1).to_string(), validate_only: false };
    let begin = ImportUsersRequest { options: Some(options), ..ImportUsersRequest::default() };
    let chunks = (0..users).step_by(CHUNK).map(move |first| {
        let users = (first..users.min(first + CHUNK)).map(|number| ImportUser {
            email: format!("user-{number}@example.com"),
            username: format!("user-{number}"),
            display_name: "Somebody".to_owned(),
            email_verified: true,
            password_hash: hash.clone(),
            ..ImportUser::default()
        });
        ImportUsersRequest { options: None, first_row: i64::try_from(first + 1).unwrap(), users: users.collect() }
    });
    let mut request = Request::new(tokio_stream::iter(std::iter::once(begin).chain(chunks)));
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    let endpoint = Endpoint::try_from(format!("http://{}", server.address)).unwrap();
    let mut client = UserAdminServiceClient::new(endpoint.connect().await.unwrap());
    let answer = client.import_users(request).await.unwrap().into_inner();
    assert_eq!((answer.imported, answer.failed), (i64::try_from(users).unwrap(), 0), "{:?}", answer.errors.first());
    start.elapsed()
}

/// The hash of everybody's password, as the server makes them by default.
pub(crate) fn hash() -> String {
    let (mut out, salt) = ([0; 32], [7; 16]);
    let params = Params::new(19 * 1024, 2, 1, Some(32)).unwrap();
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(PASSWORD.as_bytes(), &salt, &mut out)
        .unwrap();
    format!("$argon2id$v=19$m=19456,t=2,p=1${}${}", STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(out))
}

/// Signs in users from everywhere among so many.
async fn sign_in(server: &Process, users: usize) -> Vec<TokenPair> {
    let endpoint = Endpoint::try_from(format!("http://{}", server.address)).unwrap();
    let mut client = AuthServiceClient::new(endpoint.connect().await.unwrap());
    let mut pairs = Vec::new();
    for user in (0..users).step_by(users / SESSIONS).take(SESSIONS) {
        pairs.push(login(&mut client, &format!("user-{user}"), PASSWORD).await.unwrap());
    }
    pairs
}
