//! The environment: which variables are ours, and what they set.
//!
//! Ours are `VOUCHSAFE_CONFIG` and names that begin with `VOUCHSAFE_` and contain `__`. All others are left alone, because
//! Kubernetes puts names such as `VOUCHSAFE_PORT` there for a service called `vouchsafe`.

use std::{collections::BTreeMap, fs};

use super::{
    names::{ENV_PREFIX, env_name, key_of_env, nearest},
    reader::{Origin, Reader},
    reference::REFERENCE,
    value::Raw,
};

/// What a variable's name ends with if its value is the name of a file that holds the setting.
const FILE_SUFFIX: &str = "_FILE";

/// Gives the reader what the environment sets.
pub(super) fn read(env: &BTreeMap<String, String>, reader: &mut Reader) {
    for (name, value) in env.iter().filter(|(name, _)| is_ours(name)) {
        let stem = name.strip_suffix(FILE_SUFFIX);
        if let Some(key) = key_of(name) {
            reader.give(key, Raw::Text(value.clone()), Origin::Environment(name.clone()));
        } else if let Some((key, stem)) = stem.and_then(|stem| key_of(stem).zip(Some(stem))) {
            if env.contains_key(stem) {
                reader.problem(format!("Unset {stem} or {name}"), "both are set, and only one can count");
            } else {
                read_file(key, name, value, reader);
            }
        } else {
            let mut right = env_name(nearest(&key_of_env(stem.unwrap_or(name))));
            right.push_str(stem.map_or("", |_| FILE_SUFFIX));
            reader.problem(
                format!("Rename environment variable {name} to {right}, or unset it"),
                "there is no such setting, and this is the nearest",
            );
        }
    }
}

fn is_ours(name: &str) -> bool {
    name.starts_with(ENV_PREFIX) && name.contains("__")
}

fn key_of(name: &str) -> Option<&'static str> {
    REFERENCE.iter().map(|doc| doc.key).find(|key| env_name(key) == name)
}

/// Gives the reader what stands in the file at `path`, without a newline at its end: editors add one.
fn read_file(key: &'static str, variable: &str, path: &str, reader: &mut Reader) {
    match fs::read_to_string(path) {
        Ok(text) => {
            let text = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
            let origin = Origin::FileOf { variable: variable.to_owned(), path: path.to_owned() };
            reader.give(key, Raw::Text(text.to_owned()), origin);
        }
        Err(error) => reader.problem(
            format!("Make {path:?} a readable text file, or correct environment variable {variable}"),
            error.to_string(),
        ),
    }
}
