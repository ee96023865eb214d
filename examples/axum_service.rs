//! An HTTP service that verifies its callers itself. Run `make run` in one terminal, `cargo run --example axum_service` in
//! another, and in a third what that prints.

use std::error::Error;

use axum::{Extension, Router, routing::get};
use tokio::net::TcpListener;
use vouchsafe::verifier::{Policy, Principal, Rule, Verifier, VerifierLayer};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let verifier = Verifier::builder("http://localhost:50052", ["vouchsafe"])
        .service_url("http://127.0.0.1:50051")?
        .start()
        .await?;
    // A good token is needed for whatever is not named here, such as /me.
    let policy = Policy::required().at("/", Rule::public()).under("/admin", Rule::required().role("admin"));
    let routes = Router::new()
        .route("/", get(async || "Anybody may read this.\n"))
        .route("/me", get(me))
        .route("/admin/secrets", get(async || "Only administrators read this.\n"))
        .layer(VerifierLayer::new(verifier, policy));
    println!("{TRY}");
    axum::serve(TcpListener::bind("127.0.0.1:50062").await?, routes).await?;
    Ok(())
}

async fn me(Extension(principal): Extension<Principal>) -> String {
    format!("You are {}, and your token is good until {}.\n", principal.subject(), principal.expire_time())
}

const TRY: &str = r#"Listening on 127.0.0.1:50062. To try:

V="grpcurl -plaintext"
$V -d '{"email": "eve@example.com", "username": "eve", "password": "correct horse battery staple"}' localhost:50051 vouchsafe.v1.AuthService/Register
$V -d '{"identifier": "eve", "password": "correct horse battery staple"}' localhost:50051 vouchsafe.v1.AuthService/Login > login.json
ACCESS=$(sed -n 's/.*"accessToken": "\(.*\)".*/\1/p' login.json) REFRESH=$(sed -n 's/.*"refreshToken": "\(.*\)".*/\1/p' login.json)

curl -i localhost:50062/                                                 # 200
curl -i localhost:50062/me                                               # 401
curl -i -H "authorization: Bearer $ACCESS" localhost:50062/me            # 200, and who you are
curl -i -H "authorization: Bearer $ACCESS" localhost:50062/admin/secrets # 403
$V -d "{\"refresh_token\": \"$REFRESH\"}" localhost:50051 vouchsafe.v1.AuthService/Logout
curl -i -H "authorization: Bearer $ACCESS" localhost:50062/me            # 401
"#;
