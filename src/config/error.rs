//! What is wrong with the settings, and what to do about it.

use std::fmt;

/// One thing wrong. Displays as one line that begins with what to do. Never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What to do, as an imperative without a full stop.
    pub advice: String,
    /// What was found, and where.
    pub cause: String,
}

impl Problem {
    /// A problem that `advice` would solve.
    pub fn new(advice: impl Into<String>, cause: impl Into<String>) -> Self {
        Self { advice: advice.into(), cause: cause.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.advice, self.cause)
    }
}

/// Everything wrong with the settings, at least one thing. Displays as one line for each problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The problems in the order in which they were found.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}
