//! Files, environment and command line: which counts, what is ours, and what is refused.

use std::{path::Path, time::Duration};

use super::{Given, assert_one, file, from_toml};
use crate::{
    config::{DefaultText, Sources, load, names::env_name},
    telemetry::LogFormat,
};

#[test]
fn later_layers_win() {
    let toml = file("[log]\nformat = \"json\"\nfilter = \"warn\"\n[grpc]\nmax_deadline = \"11s\"\n");
    let path = toml.path.to_str().unwrap();
    let env = [("VOUCHSAFE_LOG__FILTER", "debug"), ("VOUCHSAFE_GRPC__MAX_DEADLINE", "12s"), ("VOUCHSAFE_CONFIG", path)];
    let mut given = Given::env(&env);
    given.sets = vec!["grpc.max_deadline=13s".to_owned(), "grpc.max_deadline=14s".to_owned()];
    let settings = given.load().unwrap();
    assert_eq!(settings.log.format, LogFormat::Json, "from the file");
    assert_eq!(settings.log.filter, "debug", "from the environment");
    assert_eq!(settings.grpc.max_deadline, Duration::from_secs(14), "from the last --set");
    assert_eq!(settings.grpc.max_concurrent_streams, 200, "default");
}

#[test]
fn a_flag_wins_over_everything() {
    let env = [("HOME", "/h"), ("VOUCHSAFE__DATA_DIR", "/env")].map(|(n, v)| (n.to_owned(), v.to_owned()));
    let sets = vec!["data_dir=/set".to_owned()];
    let settings = load(Sources { file: None, env, sets, data_dir: Some("/flag".to_owned()) }).unwrap();
    assert!(settings.redacted_dump().contains("data_dir = \"/flag\""));
    let error = load(Sources { file: None, env: [], sets: Vec::new(), data_dir: Some(String::new()) }).unwrap_err();
    assert_one(&[error.to_string()], &["Set data_dir to", "--data-dir"]);
}

#[test]
fn the_flag_names_the_file_before_the_variable_does() {
    let toml = file("[log]\nfilter = \"warn\"\n");
    let mut given = Given::env(&[("VOUCHSAFE_CONFIG", "/does/not/exist")]);
    assert_one(&Given::env(&given.env).problems(), &["/does/not/exist", "VOUCHSAFE_CONFIG", "No such file"]);
    given.file = Some(toml.path.clone());
    assert_eq!(given.load().unwrap().log.filter, "warn");

    let given = Given { file: Some("/does/not/exist".into()), ..Given::default() };
    assert_one(&given.problems(), &["Make \"/does/not/exist\" a readable text file", "--config"]);
    assert_one(&Given::env(&[("VOUCHSAFE_CONFIG", "")]).problems(), &["VOUCHSAFE_CONFIG"]);
}

#[test]
fn no_file_is_read_that_is_not_named() {
    assert!(Given::default().load().is_ok());
}

#[test]
fn what_others_put_into_the_environment_is_not_ours() {
    let links = [
        ("VOUCHSAFE_PORT", "tcp://10.0.0.1:50051"),
        ("VOUCHSAFE_PORT_50051_TCP", "tcp://10.0.0.1:50051"),
        ("VOUCHSAFE_PORT_50051_TCP_ADDR", "10.0.0.1"),
        ("VOUCHSAFE_SERVICE_HOST", "10.0.0.1"),
        ("VOUCHSAFE_ISSUER", "https://ignored.example"),
        ("DATABASE__URL", "postgres://h/db"),
        ("XVOUCHSAFE_LOG__FILTER", "loud="),
        ("vouchsafe_log__filter", "loud="),
    ];
    assert_eq!(Given::env(&links).load(), Given::default().load());
}

#[test]
fn an_unknown_variable_of_ours_is_refused_with_the_nearest() {
    let cases = [
        ("VOUCHSAFE_GRPC__LISEN", "VOUCHSAFE_GRPC__LISTEN,"),
        ("VOUCHSAFE_Grpc__listen", "VOUCHSAFE_GRPC__LISTEN,"),
        ("VOUCHSAFE__ISUER", "VOUCHSAFE__ISSUER,"),
        ("VOUCHSAFE_KEYS__MASTERKEY_FILE", "VOUCHSAFE_KEYS__MASTER_KEY_FILE,"),
        ("VOUCHSAFE_GRPC__LISTEN__PORT", "VOUCHSAFE_GRPC__LISTEN,"),
        ("VOUCHSAFE_CONFIG__FILE", "VOUCHSAFE_"),
    ];
    for (wrong, right) in cases {
        let problems = Given::env(&[(wrong, "S3cret")]).problems();
        assert_one(&problems, &[&format!("Rename environment variable {wrong} to {right}")]);
        assert!(!problems[0].contains("S3cret"));
    }
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_and_its_place() {
    assert_one(&Given::sets(&["grpc.lisen=S3cret"]).problems(), &["Rename \"grpc.lisen\" to grpc.listen", "--set"]);
    assert_one(&Given::sets(&["=x"]).problems(), &["Rename \"\" to"]);
    assert_one(&Given::sets(&["S3cret"]).problems(), &["Write --set as key=value"]);
    assert!(!Given::sets(&["S3cret"]).problems()[0].contains("S3cret"));

    let cases = [
        ("\n[grpc]\nlisen = \"x\"\n", "\"grpc.lisen\" to grpc.listen", "line 3"),
        ("[grcp]\n", "\"grcp\" to ", "line 1"),
        ("isuer = \"x\"\n", "\"isuer\" to issuer", "line 1"),
        ("grpc.deep.listen = 1\n", "\"grpc.deep\" to ", "line 1"),
        ("grpc = 5\n", "Write [grpc] as a section", "line 1"),
        ("[[grpc]]\nlisten = \"x\"\n", "Write [grpc] as a section", "line 1"),
        ("[issuer]\na = 1\n", "Set issuer to", "line 1"),
    ];
    for (toml, what, line) in cases {
        let problems: Vec<_> = from_toml(toml).unwrap_err().problems.iter().map(ToString::to_string).collect();
        assert_one(&problems, &[what, "vouchsafe.toml", line]);
    }
}

#[test]
fn broken_toml_is_refused_without_showing_the_line() {
    let error = from_toml("[keys]\nmaster_key = \"S3cret\n").unwrap_err().to_string();
    assert!(error.starts_with("Correct the TOML in ") && error.contains("vouchsafe.toml, line 2"), "{error}");
    assert!(!error.contains("S3cret"), "{error}");
    let twice = from_toml("[log]\nfilter = \"S3cret\"\nfilter = \"S3cret\"\n").unwrap_err().to_string();
    assert!(twice.contains("line 3") && !twice.contains("S3cret"), "{twice}");
}

#[test]
fn any_setting_can_come_from_a_file_of_its_own() {
    let secret = file("tops3cret\n");
    let path = secret.path.to_str().unwrap();
    let settings = Given::env(&[("VOUCHSAFE_TOKENS__CLIENT_ID_FILE", path)]).load().unwrap();
    assert_eq!(settings.tokens.client_id, "tops3cret", "without the newline");

    let crlf = file("tops3cret\r\n");
    let settings = Given::env(&[("VOUCHSAFE_TOKENS__CLIENT_ID_FILE", crlf.path.to_str().unwrap())]).load().unwrap();
    assert_eq!(settings.tokens.client_id, "tops3cret");

    let both = [("VOUCHSAFE_TOKENS__CLIENT_ID", "x"), ("VOUCHSAFE_TOKENS__CLIENT_ID_FILE", path)];
    let words = ["Unset VOUCHSAFE_TOKENS__CLIENT_ID or VOUCHSAFE_TOKENS__CLIENT_ID_FILE"];
    assert_one(&Given::env(&both).problems(), &words);

    let missing = [("VOUCHSAFE_KEYS__MASTER_KEY_FILE", "/run/secrets/none")];
    let words = ["/run/secrets/none", "VOUCHSAFE_KEYS__MASTER_KEY_FILE", "No such file"];
    assert_one(&Given::env(&missing).problems(), &words);

    let wrong = [("VOUCHSAFE_GRPC__LISTEN_FILE", path)];
    assert_one(&Given::env(&wrong).problems(), &["Set grpc.listen to", path, "VOUCHSAFE_GRPC__LISTEN_FILE"]);
}

#[test]
fn an_empty_value_counts_as_set() {
    for doc in crate::config::REFERENCE {
        let name = env_name(doc.key);
        let problems = Given::env(&[(&name, "")]).problems();
        // An empty list of ways to send codes is one: none are sent.
        if doc.default == DefaultText::Fixed("") || doc.key == "login.codes" {
            assert_eq!(problems, Vec::<String>::new(), "{}", doc.key);
        } else {
            assert_one(&problems, &[&format!("Set {} to ", doc.key), &name]);
        }
    }
}

#[test]
fn all_problems_are_reported_at_once() {
    let toml = file("[grpc]\nlisten = 5\nfoo = 1\n[passwords]\nthreads = \"4\"\n");
    let mut given = Given::env(&[("VOUCHSAFE_LOG__FORMAT", "xml"), ("VOUCHSAFE_LOG__FORMATT", "json")]);
    given.file = Some(toml.path.clone());
    given.sets = vec!["tokens.access_ttl=1s".to_owned(), "nonsense".to_owned(), "keys.publish_lead=91d".to_owned()];
    let problems = given.problems();
    let words = [
        "\"grpc.foo\"",
        "VOUCHSAFE_LOG__FORMATT",
        "key=value",
        "Set grpc.listen",
        "Set tokens.access_ttl",
        "Set keys.publish_lead",
        "Set passwords.threads",
        "Set log.format",
    ];
    assert_eq!(problems.len(), words.len(), "{problems:#?}");
    for (problem, word) in problems.iter().zip(words) {
        assert!(problem.contains(word), "{word:?} is not in {problem:?}");
    }
}

#[test]
fn the_data_directory_follows_xdg() {
    let dir = |env: &[(&'static str, &'static str)]| {
        let settings = Given::env(env).load().unwrap();
        match settings.database.backend {
            crate::config::Backend::Sqlite { file, data_dir } => {
                assert_eq!(file, data_dir.join("vouchsafe.db"));
                data_dir
            }
            crate::config::Backend::Postgres { .. } => panic!("not the default"),
        }
    };
    assert_eq!(dir(&[]), Path::new("/home/ada/.local/share/vouchsafe"));
    assert_eq!(dir(&[("XDG_DATA_HOME", "/x")]), Path::new("/x/vouchsafe"));
    for ignored in ["", "relative"] {
        assert_eq!(dir(&[("XDG_DATA_HOME", ignored)]), Path::new("/home/ada/.local/share/vouchsafe"));
    }
    assert_eq!(dir(&[("VOUCHSAFE__DATA_DIR", "/data")]), Path::new("/data"));
    assert_one(&Given::env(&[("HOME", "")]).problems(), &["Set data_dir", "--data-dir", "VOUCHSAFE__DATA_DIR"]);
    let elsewhere = [("HOME", ""), ("VOUCHSAFE_DATABASE__URL", "sqlite:/srv/v.db"), ("VOUCHSAFE__DATA_DIR", "/data")];
    assert!(Given::env(&elsewhere).load().is_ok());
}
