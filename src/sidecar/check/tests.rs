use std::collections::{BTreeMap, BTreeSet};

use envoy_types::pb::{
    envoy::{
        config::core::v3::{HeaderMap, HeaderValue, header_value_option::HeaderAppendAction},
        service::auth::v3::check_response::HttpResponse,
    },
    google::protobuf::value::Kind,
};
use proptest::prelude::*;

use super::*;
use crate::{
    domain::{
        claims::{AccessClaims, SignIn},
        custom_claims::CustomClaims,
        id::{ServiceAccountId, SessionId, TokenId, UserId},
        signing_key::Algorithm,
        time::{Clock, Timestamp},
    },
    jose::{KeySet, SigningKeyPair},
    sidecar::config::Config,
    verifier::claims,
};

const ISSUER: &str = "https://id.example.com";
const NOW: Timestamp = Timestamp::from_seconds(1_790_000_000);

struct Stopped;

impl Clock for Stopped {
    fn now(&self) -> Timestamp {
        NOW
    }
}

const POLICY: &str = r#"
[[routes]]
path = "/admin/**"
roles = ["admin"]

[[routes]]
path = "/public/**"
access = "public"

[[routes]]
path = "/maybe"
access = "optional"

[[routes]]
path = "/write"
methods = ["POST"]
scopes = ["orders:write"]

[[routes]]
path = "/read"
methods = ["GET"]
access = "public"

[[routes]]
path = "/closed"
access = "deny"

[[routes]]
path = "/only"
hosts = ["*.example.com"]
access = "public"

[headers.claims]
"x-user-acr" = "acr"
"x-user-amr" = "amr"
"#;

struct World {
    pair: SigningKeyPair,
    checker: Checker,
}

fn claims() -> AccessClaims {
    AccessClaims {
        issuer: ISSUER.into(),
        subject: UserId::new(NOW, &[1; 10]).into(),
        audience: vec!["orders".to_owned().try_into().unwrap()],
        expire_time: NOW.plus(std::time::Duration::from_mins(5)),
        issue_time: NOW,
        token_id: TokenId::new(NOW, &[2; 10]),
        client_id: "web".into(),
        scope: "orders:read".to_owned().try_into().unwrap(),
        roles: vec!["user".into(), "buyer".into()],
        permissions: Vec::new(),
        epoch: 7,
        custom: CustomClaims::default(),
        sign_in: Some(SignIn {
            session_id: SessionId::new(NOW, &[3; 10]),
            auth_time: NOW,
            amr: vec!["pwd".into(), "otp".into()],
            acr: "aal2".into(),
        }),
    }
}

impl World {
    async fn new(policy: &str) -> Self {
        let pair = SigningKeyPair::generate(Algorithm::EdDsa).unwrap();
        let keys = KeySet::from_keys(vec![pair.public_key().clone()]).unwrap();
        let builder = Verifier::builder(ISSUER, ["orders"]).keys(keys).without_revocations().clock(Arc::new(Stopped));
        let verifier = builder.start().await.unwrap();
        let file = format!("issuer = {ISSUER:?}\naudience = [\"orders\"]\nservice = \"http://127.0.0.1:1\"\n{policy}");
        let policy = Config::parse(&file).unwrap().policy;
        let checker =
            Checker { verifier, policy: Arc::new(ArcSwap::from_pointee(policy)), metrics: Arc::new(Metrics::new(NOW)) };
        Self { pair, checker }
    }

    fn token(&self, change: impl FnOnce(&mut AccessClaims)) -> String {
        let mut claims = claims();
        change(&mut claims);
        self.pair.sign("at+jwt", &claims::to_json(&claims)).unwrap()
    }

    async fn ask(&self, request: HttpRequest) -> Answer {
        Answer::of(self.checker.answer(Some(&request)).await)
    }
}

fn get(path: &str, token: Option<&str>) -> HttpRequest {
    request("GET", path, token)
}

fn request(method: &str, path: &str, token: Option<&str>) -> HttpRequest {
    let mut request = HttpRequest {
        method: method.into(),
        path: path.into(),
        host: "shop.example.com:8443".into(),
        ..HttpRequest::default()
    };
    request.headers.extend(token.map(|token| ("authorization".to_owned(), format!("Bearer {token}"))));
    request
}

fn with(mut request: HttpRequest, name: &str, value: &str) -> HttpRequest {
    request.headers.insert(name.into(), value.into());
    request
}

/// An answer as a proxy takes it.
#[derive(Debug)]
struct Answer {
    /// Zero for allowed.
    http: i32,
    grpc: i32,
    headers: BTreeMap<String, String>,
    removed: BTreeSet<String>,
    reason: String,
    route: String,
    body: String,
}

impl Answer {
    fn of(response: CheckResponse) -> Self {
        let grpc = response.status.unwrap().code;
        let fields = response.dynamic_metadata.unwrap().fields;
        let field = |name: &str| match fields.get(name).and_then(|value| value.kind.clone()) {
            Some(Kind::StringValue(text)) => text,
            other => panic!("{name}: {other:?}"),
        };
        let (reason, route) = (field("reason"), field("route"));
        let (http, options, removed, body) = match response.http_response.unwrap() {
            HttpResponse::OkResponse(ok) => (0, ok.headers, ok.headers_to_remove, String::new()),
            HttpResponse::DeniedResponse(denied) => {
                (denied.status.unwrap().code, denied.headers, Vec::new(), denied.body)
            }
            HttpResponse::ErrorResponse(error) => panic!("{error:?}"),
        };
        assert_eq!(grpc == 0, http == 0, "one says no and the other yes");
        let headers = options.into_iter().map(|option| {
            assert_eq!(option.append_action, i32::from(HeaderAppendAction::OverwriteIfExistsOrAdd));
            #[allow(deprecated)]
            let append = option.append.unwrap().value;
            assert!(!append);
            let header = option.header.unwrap();
            (header.key, header.value)
        });
        let headers: BTreeMap<_, _> = headers.collect();
        let removed: BTreeSet<_> = removed.into_iter().collect();
        assert!(headers.keys().all(|name| !removed.contains(name)), "a proxy removes what it has set");
        Self { http, grpc, headers, removed, reason, route, body }
    }

    fn allowed(&self) -> bool {
        self.http == 0
    }
}

#[tokio::test]
async fn a_good_token_tells_who_calls() {
    let world = World::new(POLICY).await;
    let answer = world.ask(get("/orders", Some(&world.token(|_| {})))).await;
    assert!(answer.allowed(), "{answer:?}");
    let expected = claims();
    for (name, value) in [
        ("x-vouchsafe-subject", expected.subject.to_string()),
        ("x-vouchsafe-session", expected.session_id().unwrap().to_string()),
        ("x-vouchsafe-roles", "user,buyer".to_owned()),
        ("x-vouchsafe-scope", "orders:read".to_owned()),
        ("x-user-acr", "aal2".to_owned()),
        ("x-user-amr", "pwd,otp".to_owned()),
    ] {
        assert_eq!(answer.headers.get(name), Some(&value), "{name}");
    }
    assert_eq!((answer.headers.len(), answer.removed.len()), (6, 0));
    assert_eq!((answer.reason.as_str(), answer.route.as_str()), ("token", "default"));
}

#[tokio::test]
async fn what_a_client_says_of_itself_never_gets_through() {
    let world = World::new(POLICY).await;
    let forge = |request| {
        let request = with(request, "x-vouchsafe-subject", "root");
        let request = with(with(request, "x_vouchsafe_roles", "admin"), "x-vouchsafe-tenant", "all");
        with(request, "x-user-acr", "aal3")
    };
    // Without a session and without roles, so that there is nothing to set in their place.
    let service = world.token(|claims| {
        claims.subject = ServiceAccountId::from_uuid(*TokenId::new(NOW, &[4; 10]).as_uuid()).into();
        claims.sign_in = None;
        claims.roles.clear();
    });
    let own = ["x-vouchsafe-subject", "x-vouchsafe-session", "x-vouchsafe-roles", "x-vouchsafe-scope", "x-user-acr"];
    for (path, token) in
        [("/public/x", None), ("/maybe", None), ("/public/x", Some(&service)), ("/orders", Some(&service))]
    {
        let answer = world.ask(forge(get(path, token.map(String::as_str)))).await;
        assert!(answer.allowed(), "{answer:?}");
        for name in own {
            assert!(answer.removed.contains(name) || answer.headers.contains_key(name), "{path} {name}: {answer:?}");
        }
        assert!(answer.removed.contains("x_vouchsafe_roles") && answer.removed.contains("x-vouchsafe-tenant"));
        assert!(!answer.headers.values().any(|value| ["root", "admin", "aal3"].contains(&value.as_str())));
        assert!(!answer.removed.contains("authorization"));
    }
}

#[tokio::test]
async fn the_token_is_taken_away_where_the_file_says_so() {
    let world = World::new(&format!("strip_token = true\n{POLICY}")).await;
    for path in ["/orders", "/public/x"] {
        let answer = world.ask(get(path, Some(&world.token(|_| {})))).await;
        assert!(answer.allowed() && answer.removed.contains("authorization"), "{answer:?}");
    }
}

#[tokio::test]
async fn denials_say_what_the_client_can_do() {
    let world = World::new(POLICY).await;
    let good = world.token(|_| {});
    let expired = world.token(|claims| claims.expire_time = NOW);
    let foreign = world.token(|claims| claims.audience = vec!["billing".to_owned().try_into().unwrap()]);
    let untellable = world.token(|claims| claims.roles = vec!["user,admin".into()]);
    for (request, http, grpc, reason) in [
        (get("/orders", None), 401, 16, "no_token"),
        (get("/orders", Some("junk")), 401, 16, "malformed"),
        (get("/orders", Some(&expired)), 401, 16, "expired"),
        (get("/maybe", Some(&expired)), 401, 16, "expired"),
        (get("/orders", Some(&foreign)), 401, 16, "wrong_audience"),
        (get("/admin/users", Some(&good)), 403, 7, "missing_role"),
        (request("POST", "/write", Some(&good)), 403, 7, "missing_scope"),
        (get("/closed", Some(&good)), 403, 7, "closed"),
        (get("/orders", Some(&untellable)), 403, 7, "untellable"),
        (get("/public/%2e%2e/admin", Some(&good)), 400, 3, "path"),
        (get("admin", Some(&good)), 400, 3, "path"),
        (HttpRequest { host: "a@b".into(), ..get("/orders", Some(&good)) }, 400, 3, "host"),
    ] {
        let path = request.path.clone();
        let answer = world.ask(request).await;
        assert_eq!((answer.http, answer.grpc, answer.reason.as_str()), (http, grpc, reason), "{path}");
        assert_eq!(answer.headers.get("cache-control").map(String::as_str), Some("no-store"));
        assert_eq!(
            answer.headers.contains_key("www-authenticate"),
            reason != "closed" && !matches!(http, 400) && reason != "untellable"
        );
        assert!(!answer.body.contains('\n') && !answer.body.contains("eyJ") && !answer.body.is_empty());
    }
    let nothing = Answer::of(world.checker.answer(None).await);
    assert_eq!((nothing.http, nothing.reason.as_str()), (403, "no_request"));
    let text = world.checker.metrics.to_prometheus(NOW);
    assert!(text.contains(r#"vouchsafe_sidecar_checks_total{decision="deny",reason="expired"} 2"#), "{text}");
}

#[tokio::test]
async fn two_tokens_are_none() {
    let world = World::new(POLICY).await;
    let good = world.token(|_| {});
    let bearer = format!("Bearer {good}");
    let joined = with(get("/maybe", None), "authorization", &format!("{bearer},{bearer}"));
    let raw = |values: &[&[u8]]| {
        let headers = values.iter().map(|value| HeaderValue {
            key: "authorization".into(),
            raw_value: value.to_vec(),
            ..HeaderValue::default()
        });
        HttpRequest { header_map: Some(HeaderMap { headers: headers.collect() }), ..get("/maybe", None) }
    };
    for request in
        [joined, raw(&[bearer.as_bytes(), bearer.as_bytes()]), raw(&[b"Bearer \xff"]), raw(&[b"", bearer.as_bytes()])]
    {
        let answer = world.ask(request).await;
        assert_eq!((answer.http, answer.reason.as_str()), (401, "unclear_token"));
    }
    assert_eq!(world.ask(raw(&[bearer.as_bytes()])).await.reason, "token");
}

#[tokio::test]
async fn routes_look_at_methods_and_hosts() {
    let world = World::new(POLICY).await;
    for (method, path, host, expected) in [
        ("GET", "/read", "x", "public"),
        ("HEAD", "/read", "x", "public"),
        ("POST", "/read", "x", "no_token"),
        // Some backends take it for GET, others do not.
        ("get", "/read", "x", "no_token"),
        ("GET", "/only", "shop.example.com", "public"),
        ("GET", "/only", "SHOP.example.com.:80", "public"),
        ("GET", "/only", "example.com", "no_token"),
        ("GET", "/only", "", "no_token"),
    ] {
        let answer = world.ask(HttpRequest { host: host.into(), ..request(method, path, None) }).await;
        assert_eq!(answer.reason, expected, "{method} {path} {host}");
    }
}

#[tokio::test]
async fn no_spelling_dodges_a_rule() {
    let world = World::new(POLICY).await;
    let user = world.token(|_| {});
    let admin = world.token(|claims| claims.roles = vec!["admin".into()]);
    for spelling in [
        "//admin",
        "/%61dmin",
        "/ADMIN",
        "/admin/",
        "/admin?x",
        "/x/../admin",
        "/public/../admin",
        "/admin/./users",
        "/AdMiN/users",
        "/admin/../public/x",
    ] {
        let denied = world.ask(get(spelling, Some(&user))).await;
        assert_eq!(denied.reason, "missing_role", "{spelling}");
        assert!(world.ask(get(spelling, Some(&admin))).await.allowed(), "{spelling}");
    }
    // Open is only what is written so.
    assert_eq!(world.ask(get("/public/a%20b/c", None)).await.reason, "public");
    for spelling in ["/PUBLIC/x", "//public/x", "/public//x", "/%70ublic/x", "/x/../public/x", "/public/x/../y"] {
        assert_eq!(world.ask(get(spelling, None)).await.reason, "no_token", "{spelling}");
        assert!(world.ask(get(spelling, Some(&user))).await.allowed(), "{spelling}");
    }
}

#[tokio::test]
async fn what_is_spelled_otherwise_satisfies_every_reading() {
    let world = World::new(
        r#"
        [default]
        access = "deny"
        [[routes]]
        path = "/a"
        access = "optional"
        [[routes]]
        path = "/A"
        roles = ["admin"]
        [[routes]]
        path = "/b"
        "#,
    )
    .await;
    let user = world.token(|_| {});
    assert_eq!(world.ask(get("/a", None)).await.reason, "anonymous");
    // To one backend it is the first route's, to another the second's.
    assert_eq!(world.ask(get("/A", None)).await.reason, "no_token");
    assert_eq!(world.ask(get("/A", Some(&user))).await.reason, "missing_role");
    assert_eq!(world.ask(get("/b", Some(&user))).await.reason, "token");
    assert_eq!(world.ask(get("/B", Some(&user))).await.reason, "closed");
}

/// The table for the property below: every kind of demand, at paths of the letters that the property uses.
const MIXED: &str = r#"
[[routes]]
path = "/a/b"
roles = ["admin"]
[[routes]]
path = "/a/*"
access = "public"
[[routes]]
path = "/b/**"
access = "optional"
scopes = ["orders:read"]
[[routes]]
path = "/a/a/**"
access = "deny"
[[routes]]
path = "/**"
roles = ["user"]
"#;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_variant_is_judged_more_laxly(
        segments in proptest::collection::vec("[ab]", 1..4),
        respell in proptest::collection::vec(0..6u8, 4),
        slash in any::<bool>(),
        default in prop_oneof![Just("deny"), Just("required"), Just("public")],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let world = World::new(&format!("[default]\naccess = {default:?}\n{MIXED}")).await;
            let plain = format!("/{}", segments.join("/"));
            let mut variant = String::new();
            for (segment, how) in segments.iter().zip(respell.iter().cycle()) {
                let next = match how {
                    0 => format!("//{segment}"),
                    1 => format!("/%{:02x}", segment.as_bytes()[0]),
                    2 => format!("/{}", segment.to_uppercase()),
                    3 => format!("/b/../{segment}"),
                    4 => format!("/./{segment}"),
                    _ => format!("/{segment}"),
                };
                variant.push_str(&next);
            }
            if slash {
                variant.push('/');
            }
            let tokens = [
                None,
                Some(world.token(|_| {})),
                Some(world.token(|claims| claims.roles = vec!["admin".into()])),
                Some(world.token(|claims| claims.scope = "other".to_owned().try_into().unwrap())),
            ];
            for token in tokens {
                let varied = world.ask(get(&variant, token.as_deref())).await;
                let straight = world.ask(get(&plain, token.as_deref())).await;
                assert!(straight.allowed() || !varied.allowed(), "{plain} as {variant}: {straight:?} {varied:?}");
            }
        });
    }
}
