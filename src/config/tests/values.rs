//! Each setting: that it is accepted everywhere, what its default is, what is refused.

use std::{num::NonZeroUsize, path::PathBuf, time::Duration};

use super::{Given, assert_one, file, from_toml};
use crate::{
    config::{Backend, DefaultText, MasterKey, REFERENCE, RegistrationMode, Settings, dump::entries, names::env_name},
    domain::signing_key::Algorithm,
};

/// A valid value for each setting that is not its default, and what it needs beside it.
const EXAMPLES: &[(&str, &str, &[&str])] = &[
    ("issuer", "https://id.example.com", &[]),
    ("data_dir", "/srv/vouchsafe", &[]),
    ("database.url", "sqlite:/srv/other.db", &[]),
    ("database.max_connections", "8", &[]),
    ("database.acquire_timeout", "500ms", &[]),
    ("database.migrate_on_start", "false", &[]),
    ("database.pgbouncer", "true", &[]),
    ("redis.url", "redis+cluster://a:1,b:2", &[]),
    ("redis.timeout", "100ms", &[]),
    ("redis.tls_roots", "/srv/ca.pem", &["redis.url=rediss://h"]),
    ("grpc.listen", "0.0.0.0:1", &["grpc.allow_plaintext=true"]),
    ("grpc.allow_plaintext", "true", &[]),
    ("grpc.tls_cert", "/etc/tls/cert.pem", &["grpc.tls_key=/etc/tls/key.pem"]),
    ("grpc.tls_key", "/etc/tls/key.pem", &["grpc.tls_cert=/etc/tls/cert.pem"]),
    ("grpc.client_ca", "/etc/tls/ca.pem", &["grpc.tls_cert=cert.pem", "grpc.tls_key=key.pem"]),
    ("grpc.open_verification", "true", &[]),
    ("grpc.max_deadline", "5s", &[]),
    ("grpc.max_concurrent_streams", "10", &[]),
    ("grpc.trusted_proxies", "10.0.0.0/8,fd00::/8,192.0.2.1/32", &[]),
    ("grpc.web_origins", "https://app.example.com,http://localhost:3000", &[]),
    ("http.listen", "[::1]:2", &[]),
    ("http.allow_plaintext", "true", &[]),
    ("http.tls_cert", "/etc/tls/cert.pem", &["http.tls_key=/etc/tls/key.pem"]),
    ("http.tls_key", "/etc/tls/key.pem", &["http.tls_cert=/etc/tls/cert.pem"]),
    ("http.client_ca", "/etc/tls/ca.pem", &["http.tls_cert=cert.pem", "http.tls_key=key.pem"]),
    ("http.public_url", "https://keys.example.com/base", &[]),
    ("tokens.algorithm", "EdDSA", &[]),
    ("tokens.access_ttl", "15m", &[]),
    ("tokens.audiences", "vouchsafe,api", &[]),
    ("tokens.default_audience", "api,vouchsafe", &["tokens.audiences=vouchsafe,api"]),
    ("tokens.encryption_keys", "/srv/encryption.json", &[]),
    ("tokens.scopes", "read,write", &[]),
    ("tokens.permissions", "true", &[]),
    ("tokens.claims", "/etc/vouchsafe/claims.toml", &[]),
    ("tokens.client_id", "web", &[]),
    ("tokens.max_staleness", "5s", &[]),
    ("sessions.idle_timeout", "1d", &[]),
    ("sessions.absolute_timeout", "60d", &[]),
    ("sessions.redelivery_window", "0s", &[]),
    ("sessions.database_grace", "0s", &[]),
    ("sessions.recent_authentication", "30m", &[]),
    ("sessions.max_per_user", "5", &[]),
    ("sessions.at_limit", "refuse", &[]),
    ("login.codes", "email,sms", &[]),
    ("keys.master_key", "c2VjcmV0", &[]),
    ("keys.previous_master_key", "b2xk", &["keys.master_key=c2VjcmV0"]),
    ("keys.rotation_period", "30d", &[]),
    ("keys.publish_lead", "2h", &[]),
    ("registration.mode", "closed", &[]),
    ("registration.require_verified_email", "true", &[]),
    ("passwords.memory_kib", "8192", &[]),
    ("passwords.iterations", "3", &[]),
    ("passwords.parallelism", "2", &[]),
    ("passwords.threads", "4", &[]),
    ("passwords.queue", "10", &[]),
    ("passwords.niceness", "0", &[]),
    ("passwords.max_wait", "1s", &[]),
    ("passwords.min_strength", "4", &[]),
    ("passwords.history", "10", &[]),
    ("passwords.breached_filter", "/srv/known.filter", &[]),
    ("factors.totp_issuer", "Example & Söhne", &[]),
    ("throttle.account_failures", "45", &[]),
    ("throttle.address_failures", "0", &[]),
    ("throttle.overall_failures", "100", &[]),
    ("throttle.messages_per_recipient", "3", &[]),
    ("throttle.messages_overall", "50", &[]),
    ("audit.retention", "0s", &[]),
    ("notify.email", "smtp", &["notify.smtp_url=smtp://h", "notify.from=a@example.com"]),
    ("notify.sms", "off", &[]),
    ("notify.smtp_url", "smtps://mail.example.com:465", &[]),
    ("notify.smtp_tls_roots", "/srv/ca.pem", &["notify.smtp_url=smtp://h"]),
    ("notify.from", "Example <noreply@example.com>", &[]),
    ("notify.webhook_url", "https://sms.example.com/send?key=1", &[]),
    ("notify.webhook_secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", &[]),
    ("notify.templates", "/etc/vouchsafe/templates", &[]),
    ("notify.link_url", "https://app.example.com/verify", &[]),
    ("notify.locale", "pt-BR", &[]),
    ("log.format", "json", &[]),
    ("log.filter", "info,vouchsafe=debug", &[]),
    ("telemetry.metrics", "false", &[]),
    ("telemetry.otlp_endpoint", "https://collector.example.com:4317", &[]),
    ("telemetry.trace_percent", "100", &[]),
    ("shutdown.pause", "0s", &[]),
    ("shutdown.drain", "1m", &[]),
];

/// A setting's value as it would be written in the environment.
fn shown(settings: &Settings, key: &str) -> Option<String> {
    let (_, value) = entries(settings).into_iter().find(|(name, _)| *name == key)?;
    Some(match value {
        toml::Value::String(text) => text,
        toml::Value::Array(items) => items.iter().filter_map(toml::Value::as_str).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    })
}

#[test]
fn a_password_in_a_url_where_none_belongs_is_not_shown() {
    let long = "S3cret".repeat(50);
    for key in ["telemetry.otlp_endpoint", "http.public_url", "issuer"] {
        for password in ["S3cret", &long] {
            let problems = Given::sets(&[&format!("{key}=http://user:{password}@host:4317/?#")]).problems();
            assert_one(&problems, &[&format!("Set {key} to "), "the value given will not do"]);
            assert!(!problems.concat().contains("S3cret"), "{problems:?}");
        }
    }
}

#[test]
fn what_is_documented_is_what_is_accepted_and_what_has_an_effect() {
    let keys: Vec<_> = REFERENCE.iter().map(|doc| doc.key).collect();
    assert_eq!(EXAMPLES.iter().map(|(key, ..)| *key).collect::<Vec<_>>(), keys);
    let given = Given::sets(&["keys.master_key=x", "http.public_url=https://h"]).load().unwrap();
    assert_eq!(entries(&given).iter().map(|(key, _)| *key).collect::<Vec<_>>(), keys, "every setting is a field");

    let defaults = Given::default().load().unwrap();
    for (key, value, with) in EXAMPLES {
        let mut sets: Vec<_> = with.iter().map(|&set| set.to_owned()).collect();
        let by_env = Given { env: vec![(&env_name(key), value)], sets: sets.clone(), file: None }.load().unwrap();
        let in_file = file(value);
        let variable = format!("{}_FILE", env_name(key));
        let path = in_file.path.to_str().unwrap();
        let by_file = Given { env: vec![(&variable, path)], sets: sets.clone(), file: None }.load().unwrap();
        sets.push(format!("{key}={value}"));
        let by_set = Given { sets, ..Given::default() }.load().unwrap();

        assert_ne!(shown(&by_set, key), shown(&defaults, key), "{key} has no effect");
        let expected = if ["keys.master_key", "keys.previous_master_key", "notify.webhook_secret"].contains(key) {
            "[redacted]"
        } else {
            value
        };
        assert_eq!(shown(&by_set, key).as_deref(), Some(expected), "{key}");
        assert_eq!(by_env, by_set, "{key}");
        assert_eq!(by_file, by_set, "{key}");
    }
}

#[test]
fn documented_defaults_are_the_real_ones() {
    let defaults = Given::default().load().unwrap();
    for doc in REFERENCE {
        match doc.default {
            DefaultText::Fixed(text) => {
                assert_eq!(shown(&defaults, doc.key).as_deref(), Some(text), "{}", doc.key);
                let explicit = Given::sets(&[&format!("{}={text}", doc.key)]).load();
                assert_eq!(explicit.as_ref(), Ok(&defaults), "{}", doc.key);
            }
            DefaultText::Depends(words) => {
                let (expected, word) = match doc.key {
                    "issuer" => (Some("http://localhost:50052"), "required"),
                    "http.public_url" => (None, "the bound address"),
                    "data_dir" => (Some("/home/ada/.local/share/vouchsafe"), "$HOME/.local/share/vouchsafe"),
                    "database.migrate_on_start" => (Some("true"), "`true` on SQLite"),
                    "keys.master_key" => (None, "generated"),
                    "factors.totp_issuer" => (Some("localhost"), "the host of `issuer`"),
                    "notify.email" | "notify.sms" => (Some("log"), "`log` on SQLite"),
                    other => panic!("say here what the default of {other} is"),
                };
                assert_eq!(shown(&defaults, doc.key).as_deref(), expected, "{}", doc.key);
                assert!(words.contains(word), "{words}");
            }
        }
    }
}

#[test]
fn the_defaults_are_those_of_the_design() {
    let s = Given::default().load().unwrap();
    assert_eq!((s.grpc.listen.to_string().as_str(), s.http.listen.port()), ("127.0.0.1:50051", 50052));
    assert_eq!(s.tokens.algorithm, Algorithm::Es256);
    assert_eq!(s.tokens.access_ttl, Duration::from_mins(5));
    assert_eq!(s.sessions.redelivery_window, Duration::from_secs(10));
    assert_eq!((s.passwords.memory_kib, s.passwords.iterations, s.passwords.parallelism), (19 * 1024, 2, 1));
    assert_eq!((s.passwords.niceness, s.passwords.threads), (5, None));
    assert_eq!(s.registration.mode, RegistrationMode::Open);
    assert!(!s.grpc.allow_plaintext && !s.http.allow_plaintext && !s.grpc.open_verification);
    let data_dir = PathBuf::from("/home/ada/.local/share/vouchsafe");
    assert_eq!(s.keys.master_key, MasterKey::Generated { data_dir: data_dir.clone() });
    assert_eq!(s.database.backend, Backend::Sqlite { file: data_dir.join("vouchsafe.db"), data_dir });
}

#[test]
fn text_that_will_not_do_is_refused_by_name() {
    let cases = [
        ("issuer", ["vouchsafe", "https://h/?q", "https://h/#f", "https://"].as_slice()),
        ("telemetry.otlp_endpoint", &["localhost:4317", "grpc://h:4317", "http://h?x=1"]),
        ("telemetry.trace_percent", &["101", "-1", "0.5", "10%"]),
        ("database.max_connections", &["1", "501", "-1", "2.5", "many", "1e2", " 5", "0x10"]),
        ("database.acquire_timeout", &["2", "0s", "61s", "2 s"]),
        ("database.migrate_on_start", &["yes", "1", "True"]),
        ("redis.timeout", &["9ms", "6s", "1"]),
        ("database.pgbouncer", &["on"]),
        ("grpc.listen", &["localhost:1", "127.0.0.1", ":1", "1", "127.0.0.1:70000", "[::1]"]),
        ("grpc.max_deadline", &["0s", "999ms", "11m"]),
        ("grpc.max_concurrent_streams", &["0", "10001"]),
        ("http.public_url", &["id.example.com", "urn:x:y"]),
        ("tokens.algorithm", &["HS256", "none", "es256", "PS256", "RS512"]),
        ("tokens.access_ttl", &["29s", "25h", "30500ms", "5"]),
        ("tokens.audiences", &["api", "a b,vouchsafe", "vouchsafe,,api", "vouchsafe,"]),
        ("tokens.default_audience", &["api"]),
        ("tokens.scopes", &["a b", "a,,b", "\""]),
        ("tokens.client_id", &["a b", "ä"]),
        ("sessions.idle_timeout", &["0s", "3651d"]),
        ("sessions.redelivery_window", &["-1s", "301s"]),
        ("sessions.database_grace", &["-1s", "3601s"]),
        ("keys.rotation_period", &["59s"]),
        ("keys.publish_lead", &["0s"]),
        ("registration.mode", &["invite", "Open"]),
        ("registration.require_verified_email", &["yes"]),
        ("passwords.memory_kib", &["7", "262145"]),
        ("passwords.iterations", &["0", "17"]),
        ("passwords.parallelism", &["0", "9"]),
        ("passwords.threads", &["-1", "257"]),
        ("passwords.queue", &["0"]),
        ("passwords.niceness", &["-1", "20"]),
        ("passwords.max_wait", &["99ms"]),
        ("factors.totp_issuer", &["a:b", " a", "a\tb"]),
        ("grpc.trusted_proxies", &["10.0.0.0/33", "proxy", "10.0.0.0/8,,", "10.0.0.0/8;fd00::/8"]),
        (
            "grpc.web_origins",
            &[
                "*",
                "null",
                "app.example.com",
                "http://app.example.com",
                "https://app.example.com/",
                "https://a,,https://b",
            ],
        ),
        ("throttle.account_failures", &["4", "46"]),
        ("throttle.address_failures", &["-1", "1000001"]),
        ("throttle.messages_per_recipient", &["0"]),
        ("passwords.min_strength", &["-1", "5"]),
        ("passwords.history", &["25"]),
        ("audit.retention", &["1h", "3651d", "400"]),
        ("log.format", &["xml", "JSON"]),
        ("log.filter", &["vouchsafe=loud", " "]),
        ("shutdown.pause", &["301s"]),
        ("shutdown.drain", &["11m"]),
    ];
    for (key, values) in cases {
        for value in values {
            let problems = Given::sets(&[&format!("{key}={value}")]).problems();
            assert_one(&problems, &[&format!("Set {key} to "), &format!("{value:?} will not do (--set)")]);
        }
    }
}

#[test]
fn a_file_has_types_of_its_own() {
    let settings = from_toml(
        "issuer = \"urn:example:id\"\n[http]\npublic_url = \"https://h/\"\n[database]\nmax_connections = 0x10\n\
         [grpc]\nopen_verification = true\n[tokens]\naudiences = [\"vouchsafe\", \"api\", \"api\"]\nscopes = []\n\
         [passwords]\nthreads = 3\n",
    )
    .unwrap();
    assert_eq!((settings.issuer.as_str(), settings.http.public_url.as_deref()), ("urn:example:id", Some("https://h")));
    assert_eq!((settings.database.max_connections, settings.grpc.open_verification), (16, true));
    assert_eq!((settings.tokens.audiences.len(), settings.passwords.threads), (2, NonZeroUsize::new(3)));

    for (toml, words) in [
        ("issuer = 5", ["Set issuer to", "5 will not do", "line 1"]),
        ("data_dir = true", ["Set data_dir to", "true will not do", "line 1"]),
        ("[database]\nmax_connections = \"16\"", ["database.max_connections", "500, without quotes", "line 2"]),
        ("[database]\nmax_connections = 99999999999999999999", ["database.max_connections", "99999999999", "line 2"]),
        ("[database]\nmax_connections = 2.5", ["database.max_connections", "2.5 will not do", "line 2"]),
        ("[grpc]\nopen_verification = \"true\"", ["grpc.open_verification", "true or false, without quotes", "line 2"]),
        ("[grpc]\nopen_verification = 1", ["grpc.open_verification", "1 will not do", "line 2"]),
        ("[grpc]\nmax_deadline = 30", ["grpc.max_deadline", "a duration from 1s to 10m", "line 2"]),
        ("[grpc]\nlisten = 1979-05-27", ["grpc.listen", "1979-05-27 will not do", "line 2"]),
        ("[tokens]\nscopes = \"a,b\"", ["tokens.scopes", "[\"one\", \"two\"]", "line 2"]),
        ("[tokens]\nscopes = [\"a\", 5]", ["tokens.scopes", "in quotes", "line 2"]),
        ("[tokens]\nscopes = [\"a b\"]", ["tokens.scopes", "[\"a b\"] will not do", "line 2"]),
        ("[tokens]\nclient_id = [\"a\"]", ["tokens.client_id", "[\"a\"] will not do", "line 2"]),
        ("[log]\nformat = {}", ["log.format", "a section will not do", "line 2"]),
    ] {
        let problems: Vec<_> = from_toml(toml).unwrap_err().problems.iter().map(ToString::to_string).collect();
        assert_one(&problems, &words);
    }
}

#[test]
fn a_long_or_wild_value_is_shown_short_and_escaped() {
    let wild = format!("log.format=\u{1b}[2J{}", "x".repeat(1_000));
    let problem = &Given::sets(&[&wild]).problems()[0];
    assert!(!problem.contains('\u{1b}') && problem.len() < 200, "{problem}");
}

proptest::proptest! {
    #[test]
    fn any_text_for_any_key_is_settings_or_a_problem_that_names_the_key(
        index in 0..REFERENCE.len(),
        text in "[ -~]{0,12}|[0-9]{1,4}(ms|s|m|h|d)?|true|false|\\PC{0,4}",
    ) {
        let doc = REFERENCE[index];
        let by_set = Given::sets(&[&format!("{}={text}", doc.key)]).load();
        let by_env = Given::env(&[(&env_name(doc.key), &text)]).load();
        match (by_set, by_env) {
            (Ok(by_set), Ok(by_env)) => proptest::prop_assert_eq!(by_set, by_env),
            (Err(by_set), Err(by_env)) => {
                proptest::prop_assert!(by_set.to_string().contains(doc.key));
                proptest::prop_assert!(by_env.to_string().contains(doc.key));
            }
            (by_set, by_env) => proptest::prop_assert!(false, "{by_set:?} but {by_env:?}"),
        }
    }
}
