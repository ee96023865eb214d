//! An issuer that says nothing, and an account of which the secret is rotated.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::*;

fn account() -> Account {
    Account { client_id: "svc_x".into(), secret: Secret::Given(SecretString::new("vss_x".into())) }
}

/// Takes connections and says nothing.
async fn black_hole() -> (Endpoint, tokio::net::TcpListener) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (Endpoint::from_shared(url).unwrap(), listener)
}

#[tokio::test]
async fn who_waits_for_a_token_that_does_not_come_fails_with_who_asked_for_it() {
    let (endpoint, _listener) = black_hole().await;
    let issuer = Arc::new(Issuer::new(endpoint, Some(account())));
    let mut callers = JoinSet::new();
    for _ in 0..20 {
        let issuer = Arc::clone(&issuer);
        callers.spawn(async move { issuer.keys().await.unwrap_err().message().to_owned() });
    }
    while let Some(ended) = callers.join_next().await {
        // The limit of the one request for a token, and not that of each call.
        assert_eq!(ended.unwrap(), format!("no answer within {} s", ISSUE.as_secs()));
    }
}

/// A caller whose token takes long is not waited for without end either.
#[tokio::test]
async fn a_call_is_limited_with_all_that_it_needs() {
    let (endpoint, _listener) = black_hole().await;
    let issuer = Issuer::new(endpoint, Some(account()));
    let held = issuer.token.lock().await;
    assert_eq!(issuer.watch(String::new()).await.unwrap_err().code(), Code::DeadlineExceeded);
    drop(held);
}

#[tokio::test]
async fn a_secret_is_read_from_its_file_each_time() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("secret");
    let secret = Secret::File(file.clone());
    assert_eq!(secret.get().await.unwrap_err().code(), Code::FailedPrecondition);
    for (text, expected) in [("vss_1\n", "vss_1"), ("  vss_2 \nnot this\n", "vss_2")] {
        fs::write(&file, text).unwrap();
        assert_eq!(secret.get().await.unwrap().expose(), expected);
    }
    for empty in ["", "\nvss_3\n", " \n"] {
        fs::write(&file, empty).unwrap();
        assert!(read_secret(&file).is_err(), "{empty:?}");
    }
}
