//! Where settings come from, and reading them in the order in which they count.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{
    build, env,
    error::ConfigError,
    file,
    names::nearest,
    reader::{Origin, Reader},
    reference,
    settings::Settings,
    value::Raw,
};

/// The environment variable that names the configuration file.
const CONFIG_VARIABLE: &str = "VOUCHSAFE_CONFIG";

/// Everything settings are read from. What comes later in this struct wins.
#[derive(Clone, Debug)]
pub struct Sources<E> {
    /// The TOML file that `--config` names. Without it, the one that `VOUCHSAFE_CONFIG` in `env` names; else none.
    pub file: Option<PathBuf>,
    /// The environment. Build it from `std::env::vars_os`, because `std::env::vars` panics on what is not Unicode.
    pub env: E,
    /// `--set`, each `key=value`. The last one for a key wins.
    pub sets: Vec<String>,
    /// `--data-dir`.
    pub data_dir: Option<String>,
}

/// Reads and checks all settings.
///
/// Reads the files that the sources name, and nothing else: no ambient environment, and nothing is created.
pub fn load<E>(sources: Sources<E>) -> Result<Settings, ConfigError>
where
    E: IntoIterator<Item = (String, String)>,
{
    let Sources { file, env, sets, data_dir } = sources;
    // In the order of names, so that the same problems are always reported alike.
    let env: BTreeMap<String, String> = env.into_iter().collect();
    let mut reader = Reader::default();

    if let Some(path) = file {
        file::read(&path, "--config", &mut reader);
    } else if let Some(path) = env.get(CONFIG_VARIABLE) {
        file::read(Path::new(path), CONFIG_VARIABLE, &mut reader);
    }
    env::read(&env, &mut reader);
    for set in &sets {
        assign(set, &mut reader);
    }
    if let Some(dir) = data_dir {
        reader.give("data_dir", Raw::Text(dir), Origin::Flag("--data-dir"));
    }

    let settings = build::settings(&mut reader, &env);
    let problems = reader.into_problems();
    match settings {
        Some(settings) if problems.is_empty() => Ok(settings),
        _ => Err(ConfigError { problems }),
    }
}

/// One `--set`. What is not understood is not shown whole: it may hold a secret.
fn assign(set: &str, reader: &mut Reader) {
    let Some((key, value)) = set.split_once('=') else {
        reader.problem("Write --set as key=value, for instance --set log.format=json", "one has no =");
        return;
    };
    match reference::find(key) {
        Some(doc) => reader.give(doc.key, Raw::Text(value.to_owned()), Origin::Set),
        None => reader.problem(
            format!("Rename {key:?} to {}, or remove it", nearest(key)),
            "there is no such setting, and this is the nearest (--set)",
        ),
    }
}
