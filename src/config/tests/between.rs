//! What must hold between settings, what a database asks for, and what is never shown.

use super::{Given, assert_one, file, from_toml};
use crate::config::{Backend, MasterKey};

const POSTGRES: &str = "database.url=postgresql://app:S3cret@db.example/vouchsafe?sslmode=verify-full";
const ISSUER: &str = "issuer=https://id.example.com/";
const MASTER_KEY: &str = "keys.master_key=S3cretKey";

#[test]
fn plaintext_leaves_the_machine_only_by_choice() {
    for port in ["grpc", "http"] {
        for open in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "[::ffff:10.0.0.1]:1"] {
            let listen = format!("{port}.listen={open}");
            let words =
                [&format!("Set {port}.listen to a loopback"), &format!("{port}.allow_plaintext to true"), "--set"];
            assert_one(&Given::sets(&[&listen]).problems(), &words);
            let other = if port == "grpc" { "http" } else { "grpc" };
            assert_one(&Given::sets(&[&listen, &format!("{other}.allow_plaintext=true")]).problems(), &words);
            assert!(Given::sets(&[&listen, &format!("{port}.allow_plaintext=true")]).load().is_ok());
        }
        for local in ["127.0.0.2:1", "[::1]:1", "[::ffff:127.0.0.1]:1", "127.0.0.1:0"] {
            assert!(Given::sets(&[&format!("{port}.listen={local}")]).load().is_ok(), "{local}");
        }
    }
}

#[test]
fn with_tls_a_port_may_be_open() {
    for port in ["grpc", "http"] {
        let sets = [format!("{port}.listen=0.0.0.0:1"), format!("{port}.tls_cert=c"), format!("{port}.tls_key=k")];
        let sets: Vec<_> = sets.iter().map(String::as_str).collect();
        assert!(Given::sets(&sets).load().is_ok());
        // What is wrong with TLS is no reason to recommend plaintext.
        assert_one(
            &Given::sets(&sets[..2]).problems(),
            &[&format!("Set {port}.tls_key as well, or remove {port}.tls_cert")],
        );
    }
}

#[test]
fn a_key_is_published_for_longer_than_a_server_goes_on_without_the_database() {
    let (lead, redis) = ("keys.publish_lead=5m", "redis.url=redis://h");
    assert_one(&Given::sets(&[lead, redis]).problems(), &["Set keys.publish_lead to at least sessions.database_grace"]);
    assert!(Given::sets(&[lead]).load().is_ok());
    assert!(Given::sets(&[lead, redis, "sessions.database_grace=5m"]).load().is_ok());
}

#[test]
fn addresses_are_verified_only_where_mail_is_sent() {
    let (required, off) = ("registration.require_verified_email=true", "notify.email=off");
    assert_one(&Given::sets(&[required, off]).problems(), &["Set notify.email to a way", "nobody could register"]);
    assert!(Given::sets(&[off]).load().is_ok());
    assert!(Given::sets(&[required, "notify.email=log"]).load().is_ok());
}

#[test]
fn tls_files_come_together() {
    for port in ["grpc", "http"] {
        for (given, missing) in [
            (&["tls_cert"][..], "tls_key"),
            (&["tls_key"], "tls_cert"),
            (&["client_ca"], "tls_cert"),
            (&["client_ca", "tls_cert"], "tls_key"),
            (&["client_ca", "tls_key"], "tls_cert"),
        ] {
            let sets: Vec<_> = given.iter().map(|name| format!("{port}.{name}=/file")).collect();
            let problems = Given::sets(&sets.iter().map(String::as_str).collect::<Vec<_>>()).problems();
            assert_one(&problems, &[&format!("Set {port}.{missing} "), "as well, or remove", "(--set)"]);
        }
    }
    let file = from_toml("[grpc]\ntls_cert = 5\ntls_key = \"k\"").unwrap_err();
    assert_eq!(file.problems.len(), 1, "{file}");
    assert!(file.to_string().contains("Set grpc.tls_cert to the path of a PEM file"), "{file}");
}

#[test]
fn a_key_in_place_of_its_path_is_refused_and_not_shown() {
    let key = file("-----BEGIN PRIVATE KEY-----\nS3cret\n-----END PRIVATE KEY-----\n");
    for port in ["GRPC", "HTTP"] {
        let cert = format!("VOUCHSAFE_{port}__TLS_CERT");
        let name = format!("VOUCHSAFE_{port}__TLS_KEY_FILE");
        let problems = Given::env(&[(&name, key.path.to_str().unwrap()), (&cert, "c")]).problems();
        assert_one(&problems, &[".tls_key to the path of a PEM file", &name]);
        assert!(!problems[0].contains("S3cret"), "{problems:?}");
    }
}

#[test]
fn the_two_ports_differ() {
    let same = ["grpc.listen=127.0.0.1:1", "http.listen=127.0.0.1:1"];
    assert_one(&Given::sets(&same).problems(), &["Set http.listen to another port"]);
    assert!(Given::sets(&["grpc.listen=127.0.0.1:0", "http.listen=127.0.0.1:0"]).load().is_ok());
}

#[test]
fn times_fit_together() {
    let cases: [(&[&str], &[&str]); 4] = [
        (&["sessions.idle_timeout=181d"], &["Set sessions.absolute_timeout to at least", "(default)"]),
        (&["sessions.absolute_timeout=29d"], &["Set sessions.absolute_timeout to at least", "(--set)"]),
        (&["keys.publish_lead=90d"], &["Set keys.publish_lead to less than"]),
        (&["passwords.memory_kib=15", "passwords.parallelism=2"], &["Set passwords.memory_kib to at least 16"]),
    ];
    for (sets, words) in cases {
        assert_one(&Given::sets(sets).problems(), words);
    }
    assert!(Given::sets(&["sessions.idle_timeout=180d", "passwords.memory_kib=8"]).load().is_ok());
}

#[test]
fn default_audiences_exist_and_include_ours() {
    let words = ["Add api to tokens.audiences"];
    assert_one(&Given::sets(&["tokens.default_audience=vouchsafe,api"]).problems(), &words);
    let sets = ["tokens.default_audience=vouchsafe, api", "tokens.audiences=api ,vouchsafe"];
    assert_eq!(Given::sets(&sets).load().unwrap().tokens.default_audience.len(), 2);
}

#[test]
fn postgres_asks_for_what_all_nodes_must_share() {
    let problems = Given::sets(&[POSTGRES]).problems();
    assert_eq!(problems.len(), 2, "{problems:#?}");
    assert!(problems[0].starts_with("Set issuer to") && problems[0].contains("VOUCHSAFE__ISSUER"));
    assert!(problems[1].starts_with("Set keys.master_key to") && problems[1].contains("MASTER_KEY_FILE"));

    // No home directory: a container has none, and Postgres needs none.
    let mut given = Given::sets(&[POSTGRES, ISSUER, MASTER_KEY]);
    given.env = vec![("HOME", "")];
    let settings = given.load().unwrap();
    assert!(matches!(&settings.database.backend, Backend::Postgres { url } if url.expose().contains("S3cret")));
    assert!(matches!(&settings.keys.master_key, MasterKey::Given(key) if key.expose() == "S3cretKey"));
    assert!(!settings.database.migrate_on_start);
    assert_eq!(
        (settings.issuer.as_str(), settings.http.public_url.as_deref()),
        ("https://id.example.com/", Some("https://id.example.com"))
    );
    let migrate = Given::sets(&[POSTGRES, ISSUER, MASTER_KEY, "database.migrate_on_start=true"]).load().unwrap();
    assert!(migrate.database.migrate_on_start);
}

#[test]
fn only_three_kinds_of_database_url() {
    let sqlite = |url: &str| match Given::sets(&[&format!("database.url={url}")]).load().unwrap().database.backend {
        Backend::Sqlite { file, .. } => file.display().to_string(),
        Backend::Postgres { .. } => panic!("{url}"),
    };
    assert_eq!(sqlite("sqlite:/srv/v.db"), "/srv/v.db");
    assert_eq!(sqlite("sqlite:///srv/v.db"), "/srv/v.db");
    assert_eq!(sqlite(""), "/home/ada/.local/share/vouchsafe/vouchsafe.db");
    for bad in [
        "mysql://h/S3cret",
        "S3cret",
        "sqlite:v.db",
        "sqlite::memory:",
        "sqlite://v.db",
        "sqlite:/",
        "sqlite:/v?mode=ro",
        "postgres://",
    ] {
        let problems = Given::sets(&[&format!("database.url={bad}")]).problems();
        assert_one(&problems, &["Set database.url to nothing, sqlite:", "postgres://", "--set"]);
        assert!(!problems[0].contains("S3cret"));
    }
}

#[test]
fn a_redis_url_is_checked_and_shown_without_its_password() {
    for bad in ["redis://S3cret@h", "S3cret", "redis://u:S3/cret@h", "redis://h?password=S3cret"] {
        let problems = Given::sets(&[&format!("redis.url={bad}")]).problems();
        assert_one(&problems, &["Set redis.url to nothing, ", "the value given will not do (--set)"]);
        assert!(!problems[0].contains("S3") && !problems[0].contains("cret"), "{problems:?}");
    }
    let settings = Given::sets(&["redis.url=rediss://app:S3cret@h/1", "redis.tls_roots=/ca.pem"]).load().unwrap();
    let dump = settings.redacted_dump();
    assert!(dump.contains("url = \"rediss://app:[redacted]@h/1\""), "{dump}");
    assert!(!format!("{settings:?}{dump}").contains("S3cret"));
    // With either database.
    assert!(Given::sets(&[POSTGRES, ISSUER, MASTER_KEY, "redis.url=redis://h"]).load().is_ok());
}

#[test]
fn roots_without_tls_are_a_mistake() {
    for url in ["", "redis://h", "redis+cluster://h"] {
        let sets = [format!("redis.url={url}"), "redis.tls_roots=/ca.pem".to_owned()];
        assert_one(&Given::sets(&[&sets[0], &sets[1]]).problems(), &["Set redis.url to one", "redis.tls_roots"]);
    }
}

#[test]
fn an_issuer_that_is_no_url_needs_a_public_url() {
    assert_one(&Given::sets(&["issuer=urn:example:id"]).problems(), &["Set http.public_url to an http(s) URL"]);
    assert!(Given::sets(&["issuer=urn:example:id", "http.public_url=https://h"]).load().is_ok());
}

#[test]
fn an_unknown_parameter_of_the_database_is_refused_without_its_value() {
    let problems = Given::sets(&["database.url=postgres://h/db?sslmode=require&sslpasword=S3cret"]).problems();
    assert_one(&problems, &["Set database.url to a Postgres URL without the unknown parameter sslpasword", "--set"]);
    assert!(!problems[0].contains("S3cret"), "{problems:?}");
}

#[test]
fn the_way_to_another_machine_says_whether_it_is_encrypted() {
    let problems = Given::sets(&["database.url=postgres://app:S3cret@db.example/v", ISSUER, MASTER_KEY]).problems();
    assert_one(&problems, &["Set database.url to a Postgres URL with one sslmode", "verify-full", "--set"]);
    let problems = Given::sets(&["database.url=postgres://localhost/v", ISSUER, MASTER_KEY]).problems();
    assert_one(&problems, &["Set database.url to a Postgres URL that names user, host and database"]);
}

#[test]
fn variables_of_other_programs_do_not_change_the_way_to_the_database() {
    let with = |env: &[(&'static str, &'static str)]| Given {
        env: env.to_vec(),
        ..Given::sets(&[POSTGRES, ISSUER, MASTER_KEY])
    };
    with(&[("PGHOST", "elsewhere"), ("PGPASSWORD", "S3cret"), ("PGSSLMODE", "disable")]).load().unwrap();
    let problems = with(&[("PGSSLROOTCERT", "/S3cret.pem")]).problems();
    assert_one(&problems, &["Unset environment variable PGSSLROOTCERT, or write sslrootcert in database.url"]);
    assert_one(&with(&[("PGOPTIONS", "-c S3cret=1")]).problems(), &["Unset environment variable PGOPTIONS"]);
    Given { env: vec![("PGOPTIONS", "x"), ("HOME", "/home/ada")], ..Given::sets(&[]) }.load().unwrap();
}

#[test]
fn what_cannot_go_through_pgbouncer_is_refused() {
    let through =
        |more: &[&str]| Given::sets(&[&[POSTGRES, ISSUER, MASTER_KEY, "database.pgbouncer=true"], more].concat());
    assert!(through(&[]).load().unwrap().database.pgbouncer);
    let problems = through(&["database.migrate_on_start=true"]).problems();
    assert_one(&problems, &["Set database.migrate_on_start to false", "PgBouncer"]);
    let url = "database.url=postgres://u:S3cret@localhost/v?options=-c%20x=y";
    assert_one(&through(&[url]).problems(), &["Set database.url to one without options"]);
}

#[test]
fn keys_are_found_at_the_issuer_or_where_the_port_is_bound() {
    let public_url = |sets: &[&str]| Given::sets(sets).load().unwrap().http.public_url;
    assert_eq!(public_url(&[]), None);
    assert_eq!(public_url(&["http.listen=127.0.0.1:1"]), None);
    assert_eq!(public_url(&["issuer=https://id.example/"]).as_deref(), Some("https://id.example"));
    assert_eq!(public_url(&["http.public_url=https://h/"]).as_deref(), Some("https://h"));
    // The same on Postgres, where nothing is derived: all nodes must say the same.
    let shared = public_url(&[POSTGRES, MASTER_KEY, "issuer=http://localhost:50052"]);
    assert_eq!(shared.as_deref(), Some("http://localhost:50052"));
}

#[test]
fn apps_show_the_issuers_host_unless_they_are_told_otherwise() {
    let totp_issuer = |sets: &[&str]| Given::sets(sets).load().unwrap().factors.totp_issuer;
    assert_eq!(totp_issuer(&["issuer=https://id.example:8443/base"]), "id.example");
    assert_eq!(totp_issuer(&["issuer=https://id.example", "factors.totp_issuer=Example Ltd."]), "Example Ltd.");
    // Nothing that a colon is in, nor what is no host.
    assert_eq!(totp_issuer(&["issuer=http://[::1]:50052"]), "Vouchsafe");
    assert_eq!(totp_issuer(&["issuer=urn:example:id", "http.public_url=https://h"]), "Vouchsafe");
    let long = format!("issuer=https://{}.example", "a".repeat(60));
    assert_eq!(totp_issuer(&[&long]), "Vouchsafe", "too long to be shown");
}

#[test]
fn secrets_are_shown_nowhere() {
    let settings = Given::sets(&[POSTGRES, ISSUER, MASTER_KEY]).load().unwrap();
    let dump = settings.redacted_dump();
    assert!(dump.contains("url = \"postgresql://app:[redacted]@db.example/vouchsafe?sslmode=verify-full\""), "{dump}");
    assert!(dump.contains("\nmaster_key = \"[redacted]\""), "{dump}");
    assert!(!format!("{settings:?}{dump}").contains("S3cret"));
    for toml in ["[database]\nurl = [\"S3cret\"]", "[keys]\nmaster_key = [\"S3cret\"]", "[database]\nurl = \"S3cret\""]
    {
        let file = file(toml);
        let problems = Given { file: Some(file.path.clone()), ..Given::default() }.problems();
        assert_one(&problems, &["the value given will not do"]);
        assert!(!problems[0].contains("S3cret"));
    }
}

#[test]
fn a_second_master_key_stands_beside_one_that_is_given() {
    let previous = "keys.previous_master_key=S3cretToo";
    assert_one(&Given::sets(&[previous]).problems(), &["Set keys.master_key as well", "rotate-master", "(--set)"]);
    let settings = Given::sets(&[MASTER_KEY, previous]).load().unwrap();
    assert_eq!(settings.keys.previous_master_key.as_ref().unwrap().expose(), "S3cretToo");
    let dump = settings.redacted_dump();
    assert!(dump.contains("previous_master_key = \"[redacted]\""), "{dump}");
    assert!(!format!("{settings:?}{dump}").contains("S3cret"));
}

#[test]
fn a_dump_without_secrets_is_a_file_that_gives_the_same_settings() {
    let sets =
        ["tokens.scopes=read,write", "data_dir=relative \"dir\"", "shutdown.pause=1500ms", "passwords.threads=3"];
    let settings = Given::sets(&sets).load().unwrap();
    let file = file(&settings.redacted_dump());
    let again = Given { file: Some(file.path.clone()), ..Given::default() }.load().unwrap();
    assert_eq!(again, settings);
}

#[test]
fn a_way_of_sending_messages_says_where_it_leads() {
    let secret = "notify.webhook_secret=MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    for (sets, missing) in [
        (&["notify.email=smtp", "notify.from=a@example.com"][..], "Set notify.smtp_url as well, or notify.email to"),
        (&["notify.email=smtp", "notify.smtp_url=smtp://h"], "Set notify.from as well, or notify.email to"),
        (&["notify.email=webhook", secret], "Set notify.webhook_url as well, or notify.email to"),
        (
            &["notify.sms=webhook", "notify.webhook_url=https://h"],
            "Set notify.webhook_secret as well, or notify.sms to",
        ),
    ] {
        assert_one(&Given::sets(sets).problems(), &[missing, "cannot do without", "(--set)"]);
    }
    assert!(Given::sets(&["notify.sms=webhook", "notify.webhook_url=https://h", secret]).load().is_ok());
    assert_one(&Given::sets(&["notify.sms=smtp"]).problems(), &["Set notify.sms to"]);
    for url in ["", "smtp://localhost?tls=none"] {
        let sets = [format!("notify.smtp_url={url}"), "notify.smtp_tls_roots=/ca.pem".to_owned()];
        assert_one(&Given::sets(&[&sets[0], &sets[1]]).problems(), &["Set notify.smtp_url to one with TLS"]);
    }
}

#[test]
fn secrets_of_messages_are_shown_nowhere() {
    for (key, bad) in
        [("smtp_url", "smtp://u:S3cret:x@h"), ("webhook_secret", "S3cret"), ("webhook_url", "http://u:S3cret@h")]
    {
        let problems = Given::sets(&[&format!("notify.{key}={bad}")]).problems();
        assert_one(&problems, &[&format!("Set notify.{key} to "), "the value given will not do"]);
        assert!(!problems[0].contains("S3cret"), "{problems:?}");
    }
    let sets = ["notify.smtp_url=smtp://mailer:S3cret@h", "notify.webhook_secret=S3cretS3cretS3cretS3cretS3cretS3"];
    let settings = Given::sets(&sets).load().unwrap();
    let dump = settings.redacted_dump();
    assert!(dump.contains("smtp_url = \"smtp://mailer:[redacted]@h\""), "{dump}");
    assert!(dump.contains("webhook_secret = \"[redacted]\""), "{dump}");
    assert!(!format!("{settings:?}{dump}").contains("S3cret"));
}
