use super::*;

const APP: &str = "https://app.example.com";
const WEB: &str = "application/grpc-web+proto";

fn origins() -> Vec<HeaderValue> {
    vec![HeaderValue::from_static(APP), HeaderValue::from_static("http://localhost:3000")]
}

fn request(version: Version, method: &str, headers: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::builder().version(version).method(method);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap()
}

/// What becomes of it: the status of an answer, the origin of a page, or nothing.
fn verdict(version: Version, method: &str, headers: &[(&str, &str)]) -> String {
    match judge(&origins(), &request(version, method, headers)) {
        Verdict::Call => "call".to_owned(),
        Verdict::PagesCall(origin, _) => origin.to_str().unwrap().to_owned(),
        Verdict::Answer(answer) => answer.status().as_u16().to_string(),
    }
}

#[test]
fn pages_of_listed_origins_call_and_those_of_no_other() {
    for version in [Version::HTTP_11, Version::HTTP_2] {
        for content_type in CONTENT_TYPES {
            let from = |origin| verdict(version, "POST", &[("content-type", content_type), ("origin", origin)]);
            assert_eq!(from(APP), APP);
            assert_eq!(from("http://localhost:3000"), "http://localhost:3000");
            for stranger in [
                "null",
                "",
                "*",
                "http://app.example.com",
                "https://app.example.com:8443",
                "https://app.example.com.evil.test",
                "https://evil.test",
                "https://app.example.com/",
                "HTTPS://APP.EXAMPLE.COM",
            ] {
                assert_eq!(from(stranger), "403", "{stranger}");
            }
            let two = [("content-type", content_type), ("origin", APP), ("origin", "https://evil.test")];
            assert_eq!(verdict(version, "POST", &two), "403");
            assert_eq!(verdict(version, "POST", &[("content-type", content_type)]), "403");
        }
    }
}

/// What a page can send without a preflight is refused by its origin alone.
#[test]
fn strangers_are_refused_whatever_they_send() {
    for version in [Version::HTTP_11, Version::HTTP_2] {
        for method in ["POST", "GET", "OPTIONS", "HEAD", "PUT"] {
            for content_type in ["text/plain", "application/x-www-form-urlencoded", "application/grpc", ""] {
                let headers = [("content-type", content_type), ("origin", "https://evil.test")];
                assert_eq!(verdict(version, method, &headers), "403", "{method} {content_type}");
            }
        }
    }
}

#[test]
fn over_http1_only_pages_are_served() {
    let http1 = |method, content_type| verdict(Version::HTTP_11, method, &[("content-type", content_type)]);
    assert_eq!(http1("POST", "application/grpc"), "505");
    assert_eq!(http1("POST", "application/grpc+proto"), "505");
    assert_eq!(http1("POST", "application/json"), "415");
    assert_eq!(http1("POST", "application/grpc-webby"), "415");
    assert_eq!(http1("GET", WEB), "405");
    assert_eq!(http1("OPTIONS", ""), "405");
    let listed =
        |method, content_type| verdict(Version::HTTP_11, method, &[("content-type", content_type), ("origin", APP)]);
    assert_eq!(listed("POST", "text/plain"), "415");
    assert_eq!(listed("OPTIONS", ""), "405", "no preflight");
    // Pages that may call may read what was wrong.
    for (method, content_type) in [("POST", "text/plain"), ("POST", "application/grpc"), ("GET", "")] {
        let asked = request(Version::HTTP_11, method, &[("content-type", content_type), ("origin", APP)]);
        let Verdict::Answer(answer) = judge(&origins(), &asked) else { panic!() };
        assert_eq!(
            (
                answer.headers()["access-control-allow-origin"].as_bytes(),
                answer.headers().get_all("vary").iter().count()
            ),
            (APP.as_bytes(), 1)
        );
    }
    // Those who speak gRPC are not touched.
    assert_eq!(verdict(Version::HTTP_2, "POST", &[("content-type", "application/grpc")]), "call");
    assert_eq!(verdict(Version::HTTP_2, "POST", &[("content-type", "application/grpc"), ("origin", APP)]), "call");
}

#[test]
fn a_preflight_is_told_what_pages_may_do() {
    let asked = [("access-control-request-method", "POST"), ("access-control-request-headers", "authorization")];
    let ask = |origin| [&[("origin", origin)][..], &asked].concat();
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let Verdict::Answer(answer) = judge(&origins(), &request(version, "OPTIONS", &ask(APP))) else { panic!() };
        assert_eq!(answer.status(), 204);
        let header = |name| answer.headers().get(name).map(|value| value.to_str().unwrap());
        assert_eq!(header("access-control-allow-origin"), Some(APP));
        assert_eq!(header("access-control-allow-methods"), Some("POST"));
        assert!(header("access-control-allow-headers").unwrap().contains("authorization"));
        assert_eq!((header("vary"), header("access-control-max-age")), (Some("origin"), Some("7200")));
        assert_eq!(header("access-control-allow-credentials"), None);
        let stranger = judge(&origins(), &request(version, "OPTIONS", &ask("https://evil.test")));
        let Verdict::Answer(answer) = stranger else { panic!() };
        assert_eq!(answer.status(), 403);
        assert!(!answer.headers().keys().any(|name| name.as_str().starts_with("access-control")));
    }
}

#[test]
fn content_types_of_grpc_are_told_from_others() {
    for yes in
        ["application/grpc", "application/grpc+proto", "application/grpc;charset=utf-8", "Application/gRPC ; a=b"]
    {
        assert!(is_grpc(yes.as_bytes()), "{yes}");
    }
    for no in
        ["", "text/plain", "application/grpc-web", "application/grpcs", "application/grpc-web;a=b", "application/json"]
    {
        assert!(!is_grpc(no.as_bytes()), "{no}");
    }
}

#[test]
fn content_types_of_grpc_web_are_known_however_they_are_written() {
    for (written, known) in [
        ("application/grpc-web+proto; charset=utf-8", Some("application/grpc-web+proto")),
        ("Application/gRPC-Web-Text", Some("application/grpc-web-text")),
        ("application/grpc-web ;a=b", Some("application/grpc-web")),
        ("application/grpc-webs", None),
        ("text/plain; application/grpc-web", None),
        ("application/grpc", None),
        ("", None),
    ] {
        assert_eq!(web_content_type(written.as_bytes()), known, "{written}");
    }
}

#[test]
fn without_origins_there_is_no_layer() {
    assert!(WebLayer::new(&[]).is_none());
    assert!(WebLayer::new(&[WebOrigin::parse(APP).unwrap()]).is_some());
}
