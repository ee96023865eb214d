//! How answers are printed: columns for people, JSON for programs.

use serde_json::Value;

use super::super::{Failure, print, text};
use crate::cli::args::Output;

/// What there is to say of one kind of thing.
pub(super) struct Kind {
    /// The columns of a list: the heading and the field.
    pub(super) columns: &'static [(&'static str, &'static str)],
    /// The fields of one, in order.
    pub(super) fields: &'static [&'static str],
}

pub(super) const USER: Kind = Kind {
    columns: &[
        ("ID", "id"),
        ("EMAIL", "email"),
        ("USERNAME", "username"),
        ("STATE", "state"),
        ("ROLES", "roles"),
        ("CREATED", "create_time"),
    ],
    fields: &[
        "id",
        "email",
        "username",
        "display_name",
        "email_verified",
        "state",
        "roles",
        "attributes",
        "custom_claims",
        "create_time",
        "update_time",
        "etag",
    ],
};

pub(super) const SESSION: Kind = Kind {
    columns: &[
        ("ID", "id"),
        ("DEVICE", "device_name"),
        ("ADDRESS", "ip_address"),
        ("SIGNED IN", "create_time"),
        ("LAST USED", "last_used_time"),
        ("ENDS", "expire_time"),
    ],
    fields: &[],
};

pub(super) const ROLE: Kind = Kind {
    columns: &[
        ("NAME", "name"),
        ("BUILT IN", "built_in"),
        ("PERMISSIONS", "permissions"),
        ("DESCRIPTION", "description"),
    ],
    fields: &["name", "description", "permissions", "custom_claims", "built_in", "create_time", "update_time", "etag"],
};

pub(super) const SERVICE_ACCOUNT: Kind = Kind {
    columns: &[
        ("CLIENT ID", "client_id"),
        ("NAME", "display_name"),
        ("ROLES", "roles"),
        ("SPIFFE ID", "spiffe_id"),
        ("CREATED", "create_time"),
    ],
    fields: &["client_id", "display_name", "spiffe_id", "roles", "secrets", "create_time", "update_time", "etag"],
};

pub(super) const AUDIT_EVENT: Kind = Kind {
    columns: &[
        ("TIME", "time"),
        ("ACT", "act"),
        ("OK", "succeeded"),
        ("ACTOR", "actor"),
        ("ACTOR ID", "actor_id"),
        ("SUBJECT", "subject_id"),
        ("ADDRESS", "ip_address"),
        ("DETAIL", "detail"),
    ],
    fields: &[],
};

/// Prints one thing.
pub(super) fn one(kind: &Kind, value: &Value, output: Output) -> Result<(), Failure> {
    print(&match output {
        Output::Table => details(kind, value),
        Output::Json => text::json(value)?,
    })?;
    Ok(())
}

/// Says that something was done of which the API answers nothing.
pub(super) fn done(said: &str, output: Output) -> Result<(), Failure> {
    match output {
        Output::Table => print(said)?,
        Output::Json => print("{}")?,
    };
    Ok(())
}

/// A list that is printed as it comes, as far as its form allows.
pub(super) struct List<'a> {
    kind: &'a Kind,
    output: Output,
    /// The rows of a table, whose columns are as wide as the widest of them.
    rows: Vec<Vec<String>>,
    /// Whether the array has begun.
    begun: bool,
}

impl<'a> List<'a> {
    pub(super) fn new(kind: &'a Kind, output: Output) -> Self {
        Self { kind, output, rows: Vec::new(), begun: false }
    }

    pub(super) fn add(&mut self, value: &Value) -> Result<(), Failure> {
        match self.output {
            Output::Table => {
                let cells = self.kind.columns.iter().map(|(_, field)| cell(field, &value[field]));
                self.rows.push(cells.collect());
            }
            Output::Json => {
                let element = format!("  {}", text::json(value)?.replace('\n', "\n  "));
                let before = if self.begun { ",\n" } else { "[\n" };
                super::write(&format!("{before}{element}"))?;
                self.begun = true;
            }
        }
        Ok(())
    }

    pub(super) fn end(self) -> Result<(), Failure> {
        print(&match self.output {
            Output::Table => table(self.kind.columns.iter().map(|(heading, _)| *heading), &self.rows),
            Output::Json if self.begun => "\n]".to_owned(),
            Output::Json => "[]".to_owned(),
        })?;
        Ok(())
    }
}

/// A row by itself, of a list that has no end.
pub(super) fn line(kind: &Kind, value: &Value) -> String {
    kind.columns.iter().map(|(_, field)| cell(field, &value[field])).collect::<Vec<_>>().join("  ")
}

/// Columns as wide as they need to be.
fn table(headings: impl Iterator<Item = &'static str>, rows: &[Vec<String>]) -> String {
    let headings: Vec<String> = headings.map(str::to_owned).collect();
    let lines: Vec<&Vec<String>> = std::iter::once(&headings).chain(rows).collect();
    let width = |column: usize| lines.iter().map(|cells| cells[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let line = |cells: &Vec<String>| {
        let padded = cells.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    lines.into_iter().map(line).collect::<Vec<_>>().join("\n")
}

/// A line for each field.
fn details(kind: &Kind, value: &Value) -> String {
    let width = kind.fields.iter().map(|field| field.len()).max().unwrap_or_default();
    let line = |field: &&str| format!("{field:<width$}  {}", cell(field, &value[*field]));
    kind.fields.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn cell(field: &str, value: &Value) -> String {
    let nothing = || "-".to_owned();
    match value {
        Value::Null => nothing(),
        Value::String(text) if text.is_empty() => nothing(),
        Value::String(time) if field.ends_with("_time") => match time.split_once('.') {
            Some((seconds, _)) => format!("{seconds}Z"),
            None => time.clone(),
        },
        Value::String(text) => text::on_one_line(text),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Array(values) if values.is_empty() => nothing(),
        Value::Object(fields) if fields.is_empty() => nothing(),
        Value::Array(values) if values.iter().all(Value::is_string) => {
            values.iter().map(|value| cell("", value)).collect::<Vec<_>>().join(", ")
        }
        Value::Number(_) | Value::Array(_) | Value::Object(_) => text::on_one_line(&value.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_aligned_and_hold_one_line_each() {
        let rows = vec![vec!["a".to_owned(), "long".to_owned()], vec!["äöü".to_owned(), "-".to_owned()]];
        assert_eq!(table(["X", "Y"].into_iter(), &rows), "X    Y\na    long\näöü  -");
        let role = json!({
            "name": "ops",
            "description": "a\nb\u{1b}[2J",
            "permissions": ["x:y", "x:z"],
            "built_in": false,
            "create_time": "2026-11-22T12:00:00.25Z",
            "update_time": null,
            "etag": "",
        });
        let shown = details(&ROLE, &role);
        let lines: Vec<_> = shown.lines().collect();
        assert_eq!(lines[1], "description    a\\u{a}b\\u{1b}[2J");
        assert_eq!(lines[2], "permissions    x:y, x:z");
        assert_eq!(lines[3..5], ["custom_claims  -", "built_in       no"]);
        assert_eq!(lines[5..], ["create_time    2026-11-22T12:00:00Z", "update_time    -", "etag           -"]);
    }
}
