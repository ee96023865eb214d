//! Files of users to import: CSV with a line of headings, or JSON Lines.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    path::Path,
};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{super::args::ImportFormat, Failure, values};
use crate::{domain::time::Timestamp, pb::v1};

/// Rows as they are read, each with the number of its line.
pub(super) type Rows = Box<dyn Iterator<Item = Result<(u64, v1::ImportUser), Failure>> + Send>;

/// A row. The fields are those of `ImportUser`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Row {
    email: String,
    username: String,
    display_name: String,
    email_verified: Flag,
    password_hash: String,
    roles: Names,
    suspended: Flag,
    attributes: Object,
    custom_claims: Object,
    create_time: String,
}

/// `true` or `false`; in CSV also empty, `1` and `0`.
#[derive(Clone, Copy, Default)]
struct Flag(bool);

/// A list; in CSV names with spaces or semicolons between them.
#[derive(Default)]
struct Names(Vec<String>);

/// An object; in CSV its JSON.
#[derive(Default)]
struct Object(Map<String, Value>);

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Bool(bool),
            Number(i64),
            Text(String),
        }
        match Form::deserialize(deserializer)? {
            Form::Bool(flag) => Ok(Self(flag)),
            Form::Number(number @ (0 | 1)) => Ok(Self(number == 1)),
            Form::Text(text) => match text.trim().to_ascii_lowercase().as_str() {
                "" | "0" | "f" | "false" => Ok(Self(false)),
                "1" | "t" | "true" => Ok(Self(true)),
                _ => Err(serde::de::Error::custom("write true or false")),
            },
            Form::Number(_) => Err(serde::de::Error::custom("write true or false")),
        }
    }
}

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            List(Vec<String>),
            Text(String),
        }
        Ok(Self(match Form::deserialize(deserializer)? {
            Form::List(names) => names,
            Form::Text(text) => text.split([' ', ';']).filter(|name| !name.is_empty()).map(str::to_owned).collect(),
        }))
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Object(Map<String, Value>),
            Text(String),
        }
        match Form::deserialize(deserializer)? {
            Form::Object(map) => Ok(Self(map)),
            Form::Text(text) if text.trim().is_empty() => Ok(Self::default()),
            Form::Text(text) => match serde_json::from_str(&text) {
                Ok(map) => Ok(Self(map)),
                Err(_) => Err(serde::de::Error::custom("attributes and custom_claims are JSON objects")),
            },
        }
    }
}

impl Row {
    fn into_user(self) -> Result<v1::ImportUser, String> {
        let Self {
            email,
            username,
            display_name,
            email_verified,
            password_hash,
            roles,
            suspended,
            attributes,
            custom_claims,
            create_time,
        } = self;
        let create_time = match create_time.trim() {
            "" => None,
            text => Some(parse_time(text).ok_or("create_time is not like 2026-11-22T12:00:00Z")?),
        };
        Ok(v1::ImportUser {
            email,
            username,
            display_name,
            email_verified: email_verified.0,
            password_hash,
            roles: roles.0,
            suspended: suspended.0,
            attributes: (!attributes.0.is_empty()).then(|| values::structure(attributes.0)),
            create_time,
            custom_claims: (!custom_claims.0.is_empty()).then(|| values::structure(custom_claims.0)),
        })
    }
}

fn parse_time(text: &str) -> Option<prost_types::Timestamp> {
    let time: prost_types::Timestamp = text.parse().ok()?;
    // What cannot be shown cannot be kept either.
    (time.nanos >= 0 && Timestamp::from_seconds(time.seconds).as_seconds() == time.seconds).then_some(time)
}

/// The rows of a file, one after the other, with the number of the line that each begins on.
pub(super) fn read(path: &Path, format: ImportFormat) -> Result<Rows, Failure> {
    let file = File::open(path).map_err(|e| Failure(format!("cannot read {}: {e}", path.display())))?;
    let file = BufReader::with_capacity(1 << 20, file);
    let name = path.display().to_string();
    let bad = move |line: u64, problem: String| Failure(format!("{name}, line {line}: {problem}"));
    Ok(match format {
        ImportFormat::Csv => {
            let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::Headers).from_reader(file);
            let headings = reader.headers().map_err(|e| bad(1, e.to_string()))?;
            if !headings.iter().any(|heading| heading == "email") {
                return Err(bad(1, "the first line must name the columns, and one of them must be email".to_owned()));
            }
            let rows = reader.into_deserialize::<Row>().map(move |row| match row {
                Ok(row) => row.into_user().map_err(|problem| (0, problem)),
                Err(error) => Err((error.position().map_or(0, csv::Position::line), csv_problem(&error))),
            });
            // The reader tells the line of a row only where it is malformed; rows may be longer than a line.
            Box::new((2..).zip(rows).map(move |(row, user)| match user {
                Ok(user) => Ok((row, user)),
                Err((line, problem)) => Err(bad(if line == 0 { row } else { line }, problem)),
            }))
        }
        ImportFormat::Jsonl => {
            let lines = (1..).zip(file.lines());
            let lines = lines.filter(|(_, line)| !line.as_ref().is_ok_and(|line| line.trim().is_empty()));
            Box::new(lines.map(move |(number, line)| {
                let line = line.map_err(|e| bad(number, e.to_string()))?;
                let row: Row = serde_json::from_str(&line).map_err(|e| bad(number, json_problem(&e)))?;
                row.into_user().map(|user| (number, user)).map_err(|problem| bad(number, problem))
            }))
        }
    })
}

/// Without the value, which may be somebody's hash.
fn csv_problem(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("there are {expected_len} columns, and {len} here")
        }
        csv::ErrorKind::Utf8 { .. } => "is not UTF-8".to_owned(),
        csv::ErrorKind::Deserialize { err, .. } => match err.kind() {
            csv::DeserializeErrorKind::Message(message) => message.clone(),
            _ => "cannot be read".to_owned(),
        },
        _ => "cannot be read".to_owned(),
    }
}

fn json_problem(error: &serde_json::Error) -> String {
    match error.classify() {
        serde_json::error::Category::Data => {
            let text = error.to_string();
            // Unknown and repeated fields are named; values that do not fit are not.
            if text.starts_with("unknown field") || text.starts_with("duplicate field") {
                text
            } else {
                "a field is of the wrong kind".to_owned()
            }
        }
        _ => format!("is not a JSON object on one line (column {})", error.column()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn rows(format: ImportFormat, text: &str) -> Vec<Result<(u64, v1::ImportUser), String>> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        match read(file.path(), format) {
            Ok(rows) => rows.map(|row| row.map_err(|failure| failure.0)).collect(),
            Err(failure) => vec![Err(failure.0)],
        }
    }

    #[test]
    fn both_forms_say_the_same() {
        let csv = "username,email,email_verified,roles,attributes,create_time,display_name,custom_claims\n\
                   ada,ada@example.com,true,\"a; b\",\"{\"\"plan\"\": \"\"gold\"\"}\",2020-01-02T03:04:05Z,\"Ada\n, Countess\",\"{\"\"tenant\"\": 7}\"\n\
                   ,bob@example.com,,,,,,\n";
        let jsonl = r#"{"email":"ada@example.com","username":"ada","email_verified":true,"roles":["a","b"],"attributes":{"plan":"gold"},"create_time":"2020-01-02T03:04:05Z","display_name":"Ada\n, Countess","custom_claims":{"tenant":7}}

{"email":"bob@example.com"}"#;
        let users = |rows: Vec<Result<(u64, v1::ImportUser), String>>| {
            rows.into_iter().map(|row| row.unwrap().1).collect::<Vec<_>>()
        };
        let (csv, jsonl) = (users(rows(ImportFormat::Csv, csv)), users(rows(ImportFormat::Jsonl, jsonl)));
        assert_eq!(csv, jsonl);
        assert_eq!(
            (csv[0].roles.clone(), csv[0].create_time.unwrap().seconds),
            (vec!["a".into(), "b".into()], 1_577_934_245)
        );
        assert_eq!(csv[1], v1::ImportUser { email: "bob@example.com".into(), ..v1::ImportUser::default() });
    }

    #[test]
    fn what_is_wrong_is_told_without_what_stands_there() {
        for (format, text, wanted) in [
            (ImportFormat::Csv, "name\nada\n", "must be email"),
            (ImportFormat::Csv, "email,shoe_size\nada@example.com,9\n", "unknown field `shoe_size`"),
            (ImportFormat::Csv, "email,username\nada@example.com\n", "there are 2 columns, and 1 here"),
            (ImportFormat::Csv, "email,suspended\nada@example.com,secret\n", "write true or false"),
            (ImportFormat::Csv, "email,attributes\na,secret\n", "attributes and custom_claims are JSON objects"),
            (ImportFormat::Csv, "email,create_time\na,secret\n", "create_time is not like"),
            (ImportFormat::Jsonl, "{\"emial\":\"secret\"}", "unknown field `emial`"),
            (ImportFormat::Jsonl, "{\"email\":5}", "a field is of the wrong kind"),
            (ImportFormat::Jsonl, "secret", "is not a JSON object on one line"),
        ] {
            let failure = rows(format, text).into_iter().find_map(Result::err).unwrap();
            assert!(failure.contains(wanted) && failure.contains("line ") && !failure.contains("secret"), "{failure}");
        }
    }
}
