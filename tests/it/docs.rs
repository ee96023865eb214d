//! What is written down must be true.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{SHA256, digest};

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// `vouchsafe config reference` prints the table that belongs there.
#[test]
fn the_readme_lists_the_settings_as_they_are() {
    let (readme, table) = (read("README.md"), vouchsafe::config::markdown_table());
    let missing: Vec<_> = table.lines().filter(|row| !readme.lines().any(|line| line == *row)).collect();
    assert!(missing.is_empty(), "not in README.md:\n{}", missing.join("\n"));
    assert!(readme.contains(&table), "README.md has every row, but not one after the other");
}

/// Every migration that has landed, and what it was then. A database remembers the migrations it was made with, and refuses
/// a program that has them otherwise: a change is a new migration, and a new line here.
const LANDED: [(&str, &str); 10] = [
    ("postgres/0001_initial.sql", "6ec6c1ba39eb97fe00450e83e377e8334e84908188dbc81aa5db8543f517f8ff"),
    ("postgres/0002_administration.sql", "959a59c75b6feac85dea10594c359bd9e109a5950a43e28a19cd5aae0c300122"),
    ("postgres/0003_revoked_keys.sql", "d1201674aeafdda53ece2eab2b8afb873a2249b600d4cc8bb02a01c4b7ca318e"),
    ("postgres/0004_people.sql", "1402624748a85340f28883cefadd529d6af0a98b7d31e09a289b27a0d889d0d8"),
    ("postgres/0005_trust.sql", "ab24e5d78fb5afd3b6675d089aa908967ced7ed1cb1f752415512c22549cdaf9"),
    ("sqlite/0001_initial.sql", "61a867be88ce33f99db5305fc46a6d57628c0ab8a25abce036e76d886d18cf5c"),
    ("sqlite/0002_administration.sql", "6138a04b0d02116c85fbc99e918b5fc90f5e2c145193675f4c3d82b8af09872f"),
    ("sqlite/0003_revoked_keys.sql", "8214a7fff6fa8cf611814db2de1a92a54715e88a9cf7cb9de54ec50fe01669f1"),
    ("sqlite/0004_people.sql", "ab8941c59c022a600f698ae0aa6e1b51e75ea539afb4ca2610b226946cdc1a92"),
    ("sqlite/0005_trust.sql", "6cc2ead374afa55cbaf68105898e186686debc42f5b698f2c280c8e1915c5ccd"),
];

#[test]
fn a_migration_never_changes_once_it_has_landed() {
    for (name, landed) in LANDED {
        let hash = digest(&SHA256, read(&format!("migrations/{name}")).as_bytes());
        assert_eq!(
            crate::support::hex(hash.as_ref()),
            landed,
            "{name} has changed: undo that, and write a new migration instead"
        );
    }
}

#[test]
fn every_migration_is_recorded() {
    let mut found = Vec::new();
    for database in ["postgres", "sqlite"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(database);
        for entry in std::fs::read_dir(folder).unwrap() {
            found.push(format!("{database}/{}", entry.unwrap().file_name().display()));
        }
    }
    found.sort();
    assert_eq!(found, LANDED.map(|(name, _)| name));
}

/// Who may call what, and for each permission a word of what it is good for.
#[test]
fn the_permissions_are_documented_as_the_protos_ask_for_them() {
    let (document, table) = (read("docs/PERMISSIONS.md"), vouchsafe::grpc::markdown_table());
    assert!(document.contains(&table), "docs/PERMISSIONS.md should have this table:\n{table}");
    let explained: Vec<_> = document.lines().filter_map(|line| line.strip_prefix("- `")?.split_once('`')).collect();
    let names: Vec<_> = explained.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, vouchsafe::grpc::permissions().collect::<Vec<_>>(), "each explained once, in order");
    assert!(explained.iter().all(|(_, text)| text.len() > 20), "explained");
}

/// Every act that is recorded has a row of its own in docs/AUDIT.md, and there is no other row.
#[test]
fn every_act_is_documented_once() {
    let source = read("src/domain/audit.rs");
    let (_, names) = source.split_once("pub const fn name(&self)").unwrap();
    let (names, _) = names.split_once("\n    }\n").unwrap();
    let mut acts: Vec<_> = names.lines().filter_map(|line| line.split_once("=> \"")?.1.split_once('"')).collect();
    assert!(acts.len() > 40 && acts.iter().all(|(_, rest)| *rest == ","), "{acts:?}");
    let document = read("docs/AUDIT.md");
    let mut rows: Vec<_> = document
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
        .filter(|(name, _)| name.contains('.') && !name.contains(' '))
        .collect();
    acts.sort_unstable();
    rows.sort_unstable();
    let names = |rows: &[(&str, &str)]| rows.iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(names(&rows), names(&acts), "docs/AUDIT.md has the rows on the left");
    assert!(rows.iter().all(|(_, text)| text.len() > 15), "explained");
}

#[test]
fn every_metric_is_documented_as_it_is() {
    use vouchsafe::telemetry::{CATALOG, Kind};
    let document = read("docs/OBSERVABILITY.md");
    let rows: Vec<_> = document.lines().filter(|line| line.contains("`<br>`")).collect();
    assert_eq!(rows.len(), CATALOG.len(), "one row for each metric");
    for (row, about) in rows.iter().zip(CATALOG) {
        let kind = match about.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let names = format!("| `{}`<br>`{}` | {kind} | ", about.prometheus, about.name);
        assert!(row.starts_with(&names) && row.ends_with(&format!(" | {} |", about.help)), "{names} … {}", about.help);
    }
}

#[test]
fn every_value_of_a_label_is_documented() {
    use vouchsafe::telemetry::{
        Label, LoginOutcome, MessageChannel, MessageOutcome, RefreshPath, RefreshRow, RegistrationOutcome,
        VerificationResult, WatchEnd,
    };
    fn values<L: Label>() -> String {
        let values: Vec<_> = L::ALL.iter().map(|value| format!("`{}`", value.as_str())).collect();
        format!("`{}`: {}", L::KEY, values.join(", "))
    }
    let document = read("docs/OBSERVABILITY.md");
    for values in [
        values::<LoginOutcome>(),
        values::<RegistrationOutcome>(),
        values::<RefreshRow>(),
        values::<RefreshPath>(),
        values::<VerificationResult>(),
        values::<WatchEnd>(),
        values::<MessageChannel>(),
        values::<MessageOutcome>(),
    ] {
        assert!(document.contains(&values), "{values}");
    }
}

/// What docs/COMPLIANCE.md shows as evidence is there: `rpc/login::name` is the test `name` of tests/it/rpc/login.rs.
#[test]
fn every_test_that_is_shown_as_evidence_exists() {
    let document = read("docs/COMPLIANCE.md");
    let shown: BTreeSet<_> = document.split('`').skip(1).step_by(2).filter_map(test_reference).collect();
    assert!(shown.len() > 200, "only {} tests: are they still found?", shown.len());
    let missing: Vec<_> = shown.into_iter().filter(|(file, test)| !is_test(file, test)).collect();
    assert!(missing.is_empty(), "docs/COMPLIANCE.md shows tests that there are not: {missing:#?}");
}

/// File and name, if this is a test as that page names them; `Principal::of` is none.
fn test_reference(code: &str) -> Option<(&str, &str)> {
    let (file, test) = code.split_once("::")?;
    let plain = |text: &str, more: char| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == more)
    };
    (plain(file, '/') && plain(test, '_')).then_some((file, test))
}

/// Whether the file has a function of this name and a test is made of it: by an attribute, or by its name in one of the lists
/// from which tests are made for each database, there or, where the folder is a suite, in that.
fn is_test(file: &str, test: &str) -> bool {
    let folder = if file.starts_with("src/") || file.starts_with("tests/") { "" } else { "tests/it" };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join(file);
    let text_of = |path: PathBuf| std::fs::read_to_string(path).unwrap_or_default();
    let code = text_of(path.with_extension("rs")) + &text_of(path.join("mod.rs"));
    let definition = format!("fn {test}(");
    let mut definitions = code.match_indices(&definition).map(|(at, _)| &code[..at]).peekable();
    if definitions.peek().is_none() {
        return false;
    }
    // The line of the definition comes first, and is as far as its `fn`.
    let marked = |before: &str| {
        let above = before.rsplit('\n').skip(1).map(str::trim_start);
        above
            .take_while(|line| line.starts_with("#[") || line.starts_with("//"))
            .any(|line| line.starts_with("#[") && (line.contains("test]") || line.contains("test(")))
    };
    let suite = text_of(path.with_file_name("mod.rs"))
        + &path.parent().map_or_else(String::new, |folder| text_of(folder.with_extension("rs")));
    definitions.any(marked) || is_listed(&(code.clone() + &suite), test)
}

/// Whether the name stands somewhere by itself: neither defined nor called.
fn is_listed(text: &str, name: &str) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(name).any(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + name.len()..]);
        !before.ends_with(word) && !before.ends_with("fn ") && !after.starts_with(|c: char| word(c) || c == '(')
    })
}

/// Nothing is called by a word that only others could give it.
#[test]
fn nothing_is_called_compliant_or_certified() {
    let document = read("docs/COMPLIANCE.md").to_lowercase();
    for word in ["compliant", "certified", "conformant"] {
        assert!(!document.contains(word), "{word}: the page says what there is, not what it amounts to");
    }
}
