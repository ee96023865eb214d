//! The log at its most talkative: no secret in it, whoever's library writes the line.

use vouchsafe::pb::v1::{GetAccountRequest, account_service_client::AccountServiceClient};

use super::{client::Client, harness::Place};
use crate::{
    rpc::on_both_databases,
    support::{Backend, PASSWORD, bearer},
};

on_both_databases!(no_secret_is_logged_even_when_everything_is);

async fn no_secret_is_logged_even_when_everything_is(backend: Backend) {
    let place = Place::new(backend).await.set("log.filter", "trace");
    let server = place.serve().await;
    let client = Client::of(&server).await;
    let tokens = client.join("ada@example.com").await;
    let wrong = "wrong horse battery staple";
    client.login_with("ada@example.com", wrong).await.unwrap_err();
    // A password typed into the wrong field.
    client.login_with("tr0ub4dor and three more", wrong).await.unwrap_err();
    client.claims(&tokens.access_token).await;
    let mut account = AccountServiceClient::new(client.channel.clone());
    account.get_account(bearer(&tokens.access_token, GetAccountRequest {})).await.unwrap();
    let renewed = client.refresh(&tokens.refresh_token).await.unwrap();
    client.refresh(&format!("{}x", renewed.refresh_token)).await.unwrap_err();
    client.logout(&renewed.refresh_token).await.unwrap();
    account.get_account(bearer(&tokens.access_token, GetAccountRequest {})).await.unwrap_err();

    // At this level every call leaves a line of ours.
    server.log.wait(|line| line.contains("AccountService/GetAccount")).await;
    let log = server.log.clone();
    server.stop().await;
    for secret in [PASSWORD, wrong, "tr0ub4dor", &tokens.access_token, &renewed.access_token, &renewed.refresh_token] {
        for line in log.so_far() {
            assert!(!line.contains(secret), "{secret}: {line}");
        }
    }
    place.remove().await;
}
