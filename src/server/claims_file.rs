//! The file that says what tokens say beside: by audience, and by the attributes of users. Read when a node starts, and refused as
//! a whole with everything that is wrong with it.

use std::{fmt, fs, io, path::Path};

use serde_json::Value;
use toml::{Table, Value as Toml};

use super::StartError;
use crate::{
    config::Settings,
    domain::{
        audience::Audience,
        claim_rules::{AudienceRules, ClaimRules, Mapping, OwnClaims},
        custom_claims::{CustomClaims, check_name},
    },
};

/// Larger than any file that people write.
const MAX_FILE: u64 = 1 << 20;

/// What is wrong with the file, one a line.
#[derive(Debug)]
pub struct ClaimsProblems(Vec<String>);

impl fmt::Display for ClaimsProblems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

/// What the file that the settings name has tokens say; nothing, if they name none.
///
/// # Errors
/// If it cannot be read, or something in it is wrong.
pub fn claim_rules(settings: &Settings) -> Result<ClaimRules, StartError> {
    let tokens = &settings.tokens;
    let Some(path) = &tokens.claims else { return Ok(ClaimRules::default()) };
    let refused = |problems| StartError::Claims { path: path.clone(), problems };
    let text = read(path).map_err(|error| refused(ClaimsProblems(vec![format!("cannot be read: {error}")])))?;
    parse(&text, &tokens.audiences, &tokens.default_audience).map_err(refused)
}

fn read(path: &Path) -> io::Result<String> {
    if fs::metadata(path)?.len() > MAX_FILE {
        return Err(io::Error::other("is larger than 1 MiB"));
    }
    fs::read_to_string(path)
}

/// Takes the text of a file apart. Tokens exist for `known`, and those of a sign-in that names none are for `default`.
fn parse(text: &str, known: &[Audience], default: &[Audience]) -> Result<ClaimRules, ClaimsProblems> {
    let table: Table = text.parse().map_err(|error: toml::de::Error| {
        let text = error.to_string();
        ClaimsProblems(vec![text.trim_end().to_owned()])
    })?;
    let mut check = Check::default();
    let mut rules = ClaimRules::default();
    for (key, value) in table {
        match (key.as_str(), value) {
            ("attributes", value) => rules.attributes = check.mapping("attributes", value),
            ("audiences", Toml::Table(audiences)) => {
                for (name, value) in audiences {
                    check.audience(&name, value, known, &mut rules);
                }
            }
            ("audiences", _) => check.note("audiences", "is no table: write [audiences.NAME.claims]"),
            (key, _) => check.note(&quoted(key), "is not known here: write [attributes] and [audiences.NAME.claims]"),
        }
    }
    if let Err(error) = rules.claims(default, &CustomClaims::default(), &OwnClaims::default()) {
        check.note("audiences", &format!("of tokens.default_audience together say too much: {error}"));
    }
    if check.problems.is_empty() { Ok(rules) } else { Err(ClaimsProblems(check.problems)) }
}

/// Collects what is wrong.
#[derive(Default)]
struct Check {
    problems: Vec<String>,
}

impl Check {
    fn note(&mut self, place: &str, problem: &str) {
        self.problems.push(format!("{place} {problem}"));
    }

    fn audience(&mut self, name: &str, value: Toml, known: &[Audience], rules: &mut ClaimRules) {
        let place = format!("audiences.{}", quoted(name));
        let Some(audience) = known.iter().find(|known| known.as_str() == name) else {
            let known: Vec<_> = known.iter().map(Audience::as_str).collect();
            return self.note(&place, &format!("is no audience of tokens.audiences, which has {}", known.join(", ")));
        };
        let Toml::Table(table) = value else {
            return self.note(&place, &format!("is no table: write [{place}.claims]"));
        };
        let mut said = AudienceRules::default();
        for (key, value) in table {
            let place = format!("{place}.{}", quoted(&key));
            match key.as_str() {
                "claims" => said.claims = self.claims(&place, value),
                "attributes" => said.attributes = self.mapping(&place, value),
                _ => self.note(&place, "is not known here: write claims or attributes"),
            }
        }
        rules.audiences.insert(audience.clone(), said);
    }

    fn claims(&mut self, place: &str, value: Toml) -> CustomClaims {
        match json(value) {
            Ok(Value::Object(map)) => {
                // Each by itself first, so that every name that will not do is told.
                let before = self.problems.len();
                for name in map.keys() {
                    if let Err(error) = check_name(name) {
                        self.note(place, &error.to_string());
                    }
                }
                if self.problems.len() > before {
                    return CustomClaims::default();
                }
                CustomClaims::new(map).unwrap_or_else(|error| {
                    self.note(place, &error.to_string());
                    CustomClaims::default()
                })
            }
            Ok(_) => {
                self.note(place, "is no table: write claim = value");
                CustomClaims::default()
            }
            Err(problem) => {
                self.note(place, problem);
                CustomClaims::default()
            }
        }
    }

    fn mapping(&mut self, place: &str, value: Toml) -> Mapping {
        let Toml::Table(table) = value else {
            self.note(place, "is no table: write claim = \"attribute\"");
            return Mapping::new();
        };
        let mut mapping = Mapping::new();
        for (claim, attribute) in table {
            if let Err(error) = check_name(&claim) {
                self.note(place, &error.to_string());
                continue;
            }
            match attribute {
                Toml::String(attribute) if !attribute.is_empty() => {
                    mapping.insert(claim, attribute);
                }
                _ => self.note(&format!("{place}.{}", quoted(&claim)), "is not the name of an attribute, in quotes"),
            }
        }
        mapping
    }
}

/// A key as it would be written.
fn quoted(key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
    if bare { key.to_owned() } else { format!("{key:.64?}") }
}

fn json(value: Toml) -> Result<Value, &'static str> {
    Ok(match value {
        Toml::String(text) => Value::String(text),
        Toml::Integer(number) => Value::from(number),
        Toml::Float(number) => {
            Value::Number(serde_json::Number::from_f64(number).ok_or("have a number that JSON does not know")?)
        }
        Toml::Boolean(value) => Value::Bool(value),
        Toml::Datetime(_) => return Err("have a date or a time, which JSON does not know: write it in quotes"),
        Toml::Array(values) => Value::Array(values.into_iter().map(json).collect::<Result<_, _>>()?),
        Toml::Table(table) => {
            let member = |(name, value)| json(value).map(|value| (name, value));
            Value::Object(table.into_iter().map(member).collect::<Result<_, _>>()?)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn audiences(names: &[&str]) -> Vec<Audience> {
        names.iter().map(|name| Audience::try_from((*name).to_owned()).unwrap()).collect()
    }

    fn parsed(text: &str) -> Result<ClaimRules, String> {
        let known = audiences(&["vouchsafe", "billing", "https://shop.example.com"]);
        parse(text, &known, &audiences(&["vouchsafe", "billing"])).map_err(|problems| problems.to_string())
    }

    #[test]
    fn a_file_says_what_it_means() {
        let rules = parsed(
            r#"
            [attributes]
            tenant = "tenant_id"
            [audiences.billing.claims]
            region = "eu"
            limits = { orders = 5, rate = 2.5, on = true, list = ["a"] }
            [audiences.billing.attributes]
            plan = "plan"
            [audiences."https://shop.example.com".claims]
            region = "shop"
            "#,
        )
        .unwrap();
        assert_eq!(rules.attributes, Mapping::from([("tenant".to_owned(), "tenant_id".to_owned())]));
        let billing = &rules.audiences[&audiences(&["billing"])[0]];
        let said = serde_json::to_string(&billing.claims).unwrap();
        assert_eq!(said, r#"{"limits":{"list":["a"],"on":true,"orders":5,"rate":2.5},"region":"eu"}"#);
        assert_eq!(billing.attributes, Mapping::from([("plan".to_owned(), "plan".to_owned())]));
        assert_eq!(rules.audiences.len(), 2);
        assert_eq!(parsed(""), Ok(ClaimRules::default()));
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let problems = parsed(
            r#"
            surprise = 1
            [attributes]
            iss = "x"
            tenant = 5
            "a b" = "x"
            [audiences.nobody.claims]
            [audiences.billing]
            more = 1
            [audiences.billing.claims]
            sub = "x"
            exp = 1
            [audiences.vouchsafe.claims]
            when = 2026-11-22
            "#,
        )
        .unwrap_err();
        for wanted in [
            "surprise is not known here",
            "attributes have the claim \"iss\", which is registered",
            "attributes.tenant is not the name of an attribute",
            "attributes have a claim \"a b\": name claims",
            "audiences.nobody is no audience of tokens.audiences, which has vouchsafe, billing",
            "audiences.billing.more is not known here",
            "audiences.billing.claims have the claim \"sub\"",
            "audiences.billing.claims have the claim \"exp\"",
            "audiences.vouchsafe.claims have a date or a time",
        ] {
            assert!(problems.lines().any(|line| line.starts_with(wanted)), "{wanted} in\n{problems}");
        }
        assert_eq!(problems.lines().count(), 9, "{problems}");
    }

    #[test]
    fn what_lies_too_deep_or_is_too_large_is_refused() {
        for (text, wanted) in [
            ("[audiences.billing.claims]\na = [[[[]]]]", "lie too deep"),
            ("[audiences.billing.claims]\na = inf", "a number that JSON does not know"),
            ("[audiences.billing.claims]\na = 9007199254740993", "those beyond 2^53"),
            (&format!("[audiences.billing.claims]\na = \"{}\"", "x".repeat(4096)), "too large"),
            ("[audiences.billing.claims]\na = 1\na = 2", "duplicate key"),
            ("attributes = 1", "attributes is no table"),
            ("audiences = 1", "audiences is no table"),
            ("audiences.billing = 1", "audiences.billing is no table"),
        ] {
            let problems = parsed(text).unwrap_err();
            assert!(problems.contains(wanted), "{wanted} in {problems}");
        }
    }
}
