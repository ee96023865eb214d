//! How settings are called: in a file, in the environment, and by somebody who mistyped.

use super::reference::REFERENCE;

/// Every environment variable of ours begins with this.
pub(super) const ENV_PREFIX: &str = "VOUCHSAFE_";

/// The variable that sets `key`: `grpc.max_deadline` → `VOUCHSAFE_GRPC__MAX_DEADLINE`, and with two underscores also
/// `issuer` → `VOUCHSAFE__ISSUER`, because the two underscores are what makes a name ours.
pub(super) fn env_name(key: &str) -> String {
    let name = key.to_ascii_uppercase().replace('.', "__");
    let separator = if key.contains('.') { "" } else { "_" };
    format!("{ENV_PREFIX}{separator}{name}")
}

/// The key a variable of ours spells, known or not.
pub(super) fn key_of_env(name: &str) -> String {
    name.trim_start_matches(ENV_PREFIX).trim_start_matches('_').replace("__", ".").to_ascii_lowercase()
}

/// Whether `key` names a section that holds settings.
pub(super) fn is_section(key: &str) -> bool {
    REFERENCE.iter().any(|doc| doc.key.strip_prefix(key).is_some_and(|rest| rest.starts_with('.')))
}

/// The known key most like `wrong`. Also compares names without their sections, because sections are what people forget.
pub(super) fn nearest(wrong: &str) -> &'static str {
    let name = last_part(wrong);
    REFERENCE
        .iter()
        .map(|doc| {
            let whole = strsim::normalized_damerau_levenshtein(wrong, doc.key);
            let part = strsim::normalized_damerau_levenshtein(name, last_part(doc.key));
            (whole.max(part * 0.9), doc.key)
        })
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map_or("", |(_, key)| key)
}

fn last_part(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_its_variable_and_no_two_share_one() {
        assert_eq!(env_name("grpc.max_deadline"), "VOUCHSAFE_GRPC__MAX_DEADLINE");
        assert_eq!(env_name("issuer"), "VOUCHSAFE__ISSUER");
        let names: std::collections::BTreeSet<_> = REFERENCE.iter().map(|doc| env_name(doc.key)).collect();
        assert_eq!(names.len(), REFERENCE.len());
        for doc in REFERENCE {
            assert_eq!(key_of_env(&env_name(doc.key)), doc.key);
            assert!(env_name(doc.key)[ENV_PREFIX.len()..].contains('_'), "{}", doc.key);
            assert!(!doc.key.ends_with("_file"), "{} could not be told from X_FILE", doc.key);
        }
    }

    #[test]
    fn the_nearest_key_is_what_was_meant() {
        for (wrong, right) in [
            ("grpc.lisen", "grpc.listen"),
            ("databse.url", "database.url"),
            ("max_connections", "database.max_connections"),
            ("access_ttl", "tokens.access_ttl"),
            ("token.access_ttl", "tokens.access_ttl"),
            ("isuer", "issuer"),
            ("keys.masterkey", "keys.master_key"),
        ] {
            assert_eq!(nearest(wrong), right, "{wrong}");
        }
    }
}
