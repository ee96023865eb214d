use super::*;

const HEAD: &str =
    "issuer = \"https://id.example.com\"\naudience = [\"orders\"]\nservice = \"http://127.0.0.1:50051\"\n";

fn problems(rest: &str) -> String {
    Config::parse(&format!("{HEAD}{rest}")).err().map(|problems| problems.to_string()).unwrap_or_default()
}

#[test]
fn the_least_file_asks_for_a_token_everywhere() {
    let config = Config::parse(HEAD).unwrap();
    assert_eq!(config.policy.default, Demand::Rule(Rule::required()));
    assert_eq!(config.fixed.grpc.to_string(), "127.0.0.1:50061");
    let names: Vec<_> = config.policy.identity.names().collect();
    assert_eq!(names, ["x-vouchsafe-roles", "x-vouchsafe-scope", "x-vouchsafe-session", "x-vouchsafe-subject"]);
}

#[test]
fn every_problem_is_named_with_its_line() {
    let found = problems(
        r#"leeway = "2m"
max_staleness = "soon"
[[routes]]
path = "/a//b"
[[routes]]
path = "/a*"
methods = ["get"]
hosts = ["a:1"]
[[routes]]
path = "/c"
access = "public"
roles = ["admin"]
[[routes]]
path = "/d"
scopes = ["a b"]
[headers.claims]
"x-e" = "email"
"host" = "acr"
"#,
    );
    for part in [
        "leeway: the leeway must be at most 60 seconds",
        "max_staleness: is not a duration",
        "line 6: route \"/a//b\": is not how paths are compared: write /a/b",
        "line 8: route \"/a*\": has a * among other characters",
        "\"get\" is no method",
        "\"a:1\" is not a host",
        "line 12: route \"/c\": no token is looked at",
        "line 16: route \"/d\": \"a b\" is not one scope token",
        "\"email\" is no claim",
        "host means something else already",
    ] {
        assert!(found.contains(part), "{part}\n{found}");
    }
}

#[test]
fn a_key_that_is_not_known_is_an_error() {
    for text in [
        "strip_tokens = true",
        "[[routes]]\npath = \"/a\"\nrole = [\"x\"]",
        "[listen]\nport = 1",
        "[default]\npath = \"/\"",
    ] {
        assert!(problems(text).contains("unknown field"), "{text}: {}", problems(text));
    }
    assert!(problems("[[routes]]\npath = \"/a\"\naccess = \"open\"").contains("line 6"));
}

#[test]
fn nobody_far_away_can_ask_unless_the_file_says_so() {
    assert!(problems("[listen]\ngrpc = \"0.0.0.0:50061\"").contains("allow_plaintext"));
    assert!(problems("[listen]\nhttp = \"10.0.0.1:50062\"").contains("listen.http"));
    assert_eq!(problems("[listen]\ngrpc = \"0.0.0.0:50061\"\nallow_plaintext = true"), "");
    assert_eq!(problems("[listen]\ngrpc = \"unix:/run/s.sock\""), "");
    assert!(problems("[listen]\ngrpc = \"unix:s.sock\"").contains("whole path"));
}

#[test]
fn files_are_looked_at() {
    let found =
        problems("ca_file = \"/nowhere/ca\"\n[service_account]\nclient_id = \"svc_x\"\nsecret_file = \"/nowhere/s\"");
    assert!(found.contains("ca_file: cannot read") && found.contains("secret_file: cannot be read"), "{found}");
}

#[test]
fn routes_that_are_never_used_are_warned_of() {
    let routes = r#"
[[routes]]
path = "/a/**"
methods = ["GET"]
[[routes]]
path = "/a/b"
methods = ["HEAD"]
[[routes]]
path = "/a/b"
[[routes]]
path = "/a/b"
access = "deny"
"#;
    let config = Config::parse(&format!("{HEAD}{routes}")).unwrap();
    assert_eq!(
        config.warnings,
        [
            "line 8: route \"/a/b\" is never used: everything it fits is decided before, by line 5 (\"/a/**\")",
            "line 13: route \"/a/b\" is never used: it is there before, by line 11 (\"/a/b\")",
        ]
    );
}

fn warned(rest: &str) -> Vec<String> {
    Config::parse(&format!("{HEAD}{rest}")).unwrap().warnings
}

#[test]
fn a_route_that_another_host_gets_around_is_warned_of() {
    let admin = "[[routes]]\npath = \"/admin/**\"\nhosts = [\"shop.example.com\"]\nroles = [\"admin\"]\n";
    let around =
        "line 4: route \"/admin/**\" is for some hosts alone, and whoever sends another one is asked for less, by";
    assert_eq!(warned(admin), [format!("{around} the default: take its hosts away")]);
    let open = "[[routes]]\npath = \"/**\"\naccess = \"public\"\n";
    assert_eq!(warned(&format!("{admin}{open}")), [format!("{around} line 8 (\"/**\"): take its hosts away")]);
    for behind in [
        "[default]\naccess = \"deny\"\n",
        "[default]\nroles = [\"admin\"]\n",
        "[[routes]]\npath = \"/**\"\nroles = [\"admin\"]\n",
        "[[routes]]\npath = \"/admin/**\"\naccess = \"deny\"\n",
    ] {
        assert_eq!(warned(&format!("{admin}{behind}")), [""; 0], "{behind}");
    }
    // Less of any kind.
    for (strict, behind) in [
        ("access = \"deny\"", ""),
        ("scopes = [\"a\", \"b\"]", "scopes = [\"a\"]"),
        ("roles = [\"a\"]", "roles = [\"a\", \"b\"]"),
        ("", "access = \"optional\""),
        ("", "when_stale = \"allow\""),
    ] {
        let found = warned(&format!(
            "[[routes]]\npath = \"/x\"\nhosts = [\"a\"]\n{strict}\n[[routes]]\npath = \"/x\"\n{behind}\n"
        ));
        assert_eq!(found.len(), 1, "{strict} {behind}: {found:?}");
    }
    let lax = "[[routes]]\npath = \"/x\"\nhosts = [\"a\"]\naccess = \"public\"\n";
    assert_eq!(warned(lax), [""; 0], "where others are asked for more, nobody gets around anything");
}

#[test]
fn methods_that_are_asked_for_less_are_meant_only_where_it_is_written() {
    let write = "[[routes]]\npath = \"/orders/*\"\nmethods = [\"POST\"]\nscopes = [\"w\"]\n";
    let [found] = &warned(write)[..] else { panic!() };
    assert!(found.starts_with("line 4: route \"/orders/*\" is for some methods alone"), "{found}");
    assert!(found.contains("by the default"), "{found}");
    let broader = format!("{write}[[routes]]\npath = \"/**\"\n");
    assert!(warned(&broader)[0].contains("by line 8 (\"/**\")"), "{:?}", warned(&broader));
    assert_eq!(warned(&format!("{write}[[routes]]\npath = \"/orders/*\"\n")), [""; 0]);
}
