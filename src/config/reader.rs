//! Takes settings out of what was given, one by one, and notes every problem instead of stopping at the first.

use std::{collections::BTreeMap, fmt};

use super::{
    error::Problem,
    reference::{self, DefaultText},
    value::Raw,
};

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A line of the configuration file.
    File {
        /// Which file.
        path: String,
        /// Which line, counted from 1.
        line: usize,
    },
    /// An environment variable.
    Environment(String),
    /// A file that an environment variable names.
    FileOf {
        /// The variable.
        variable: String,
        /// The file.
        path: String,
    },
    /// `--set`.
    Set,
    /// A named flag.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{path}, line {line}"),
            Self::Environment(variable) => write!(f, "environment variable {variable}"),
            Self::FileOf { variable, path } => write!(f, "file {path}, named by environment variable {variable}"),
            Self::Set => f.write_str("--set"),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

/// A value and where it comes from.
#[derive(Clone, Debug)]
pub(super) struct Given {
    pub(super) raw: Raw,
    pub(super) origin: Origin,
}

/// What was given for each key, the winning layer only, and the problems so far.
#[derive(Debug, Default)]
pub(super) struct Reader {
    given: BTreeMap<&'static str, Given>,
    problems: Vec<Problem>,
}

impl Reader {
    /// Takes a value for a key of [`super::REFERENCE`]. Later ones replace earlier ones.
    pub(super) fn give(&mut self, key: &'static str, raw: Raw, origin: Origin) {
        self.given.insert(key, Given { raw, origin });
    }

    /// Whether any layer sets `key`.
    pub(super) fn is_given(&self, key: &str) -> bool {
        self.given.contains_key(key)
    }

    /// Notes a problem.
    pub(super) fn problem(&mut self, advice: impl Into<String>, cause: impl Into<String>) {
        self.problems.push(Problem::new(advice, cause));
    }

    /// Notes a problem between the value of `key` and others, and where that value comes from.
    pub(super) fn conflict(&mut self, key: &str, advice: impl Into<String>, cause: impl fmt::Display) {
        let place = self.given.get(key).map_or_else(|| "default".to_owned(), |given| given.origin.to_string());
        self.problem(advice, format!("{cause} ({place})"));
    }

    /// The value of `key`, or its fixed default. `None` if it was refused, or if it depends and was not given.
    pub(super) fn read<T>(&mut self, key: &str, parse: impl FnOnce(&Raw) -> Result<T, String>) -> Option<T> {
        let Some(doc) = reference::find(key) else {
            self.problem("Report this to the authors of Vouchsafe", format!("{key} is missing from the reference"));
            return None;
        };
        let (raw, origin) = match (self.given.get(key), doc.default) {
            (Some(given), _) => (given.raw.clone(), given.origin.to_string()),
            (None, DefaultText::Fixed(default)) => (Raw::Text(default.to_owned()), "default".to_owned()),
            (None, DefaultText::Depends(_)) => return None,
        };
        match parse(&raw) {
            Ok(value) => Some(value),
            Err(wanted) => {
                let hidden = doc.secret || raw.may_hold_login();
                let shown = if hidden { "the value given".to_owned() } else { raw.shown() };
                self.problem(format!("Set {key} to {wanted}"), format!("{shown} will not do ({origin})"));
                None
            }
        }
    }

    /// What was noted.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }
}
