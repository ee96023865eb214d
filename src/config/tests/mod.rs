//! What loading promises, by layer and by setting.

mod between;
mod layers;
mod values;

use std::path::PathBuf;

use super::{ConfigError, Settings, Sources, load};

/// The few inputs of a test, none of them ambient.
#[derive(Default)]
struct Given<'a> {
    file: Option<PathBuf>,
    env: Vec<(&'a str, &'a str)>,
    sets: Vec<String>,
}

impl<'a> Given<'a> {
    fn env(variables: &[(&'a str, &'a str)]) -> Self {
        Self { env: variables.to_vec(), ..Self::default() }
    }

    fn sets(sets: &[&str]) -> Self {
        Self { sets: sets.iter().map(|&set| set.to_owned()).collect(), ..Self::default() }
    }

    /// Loads it, with a home directory unless there is one.
    fn load(self) -> Result<Settings, ConfigError> {
        let home = [("HOME", "/home/ada")].into_iter().filter(|_| !self.env.iter().any(|(name, _)| *name == "HOME"));
        let env: Vec<_> =
            home.chain(self.env.clone()).map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        load(Sources { file: self.file, env, sets: self.sets, data_dir: None })
    }

    /// Every problem as a line.
    fn problems(self) -> Vec<String> {
        match self.load() {
            Ok(_) => Vec::new(),
            Err(error) => error.to_string().lines().map(str::to_owned).collect(),
        }
    }
}

/// A file that lives as long as the test.
struct TempFile {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

fn file(text: &str) -> TempFile {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vouchsafe.toml");
    std::fs::write(&path, text).unwrap();
    TempFile { _dir: dir, path }
}

/// What a TOML file with this text leads to.
fn from_toml(text: &str) -> Result<Settings, ConfigError> {
    let file = file(text);
    Given { file: Some(file.path.clone()), ..Given::default() }.load()
}

/// One problem that holds all of these words.
#[track_caller]
fn assert_one(problems: &[String], words: &[&str]) {
    assert_eq!(problems.len(), 1, "{problems:#?}");
    for word in words {
        assert!(problems[0].contains(word), "{word:?} is not in {:?}", problems[0]);
    }
}
