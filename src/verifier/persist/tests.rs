//! Files as they are written, and as others left them.

use std::os::unix::fs::PermissionsExt as _;

use tempfile::TempDir;

use super::*;
use crate::{
    domain::{
        id::{ServiceAccountId, SessionId, TokenId, UserId},
        signing_key::Algorithm,
    },
    jose::SigningKeyPair,
};

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
const ISSUER: &str = "https://issuer.test";

fn bytes(n: u32) -> [u8; 10] {
    let mut bytes = [0; 10];
    bytes[4..8].copy_from_slice(&n.to_be_bytes());
    bytes[9] = n.to_le_bytes()[0];
    bytes
}

fn revocations(most: u32) -> Vec<Revocation> {
    let (session, token) = (SessionId::new(NOW, &bytes(0)), TokenId::new(NOW, &bytes(1)));
    let (user, account) = (UserId::new(NOW, &bytes(2)), ServiceAccountId::new(NOW, &bytes(3)));
    let mut all = vec![
        Revocation::Session { session },
        Revocation::Token { token },
        Revocation::User { user, epoch: 3, spared: None },
        Revocation::User { user, epoch: 7, spared: Some(session) },
        Revocation::ServiceAccount { account, epoch: 5 },
        Revocation::Key { kid: "a \"key\"\nof somebody's".into() },
    ];
    all.extend((0..most).map(|n| Revocation::Session { session: SessionId::new(NOW, &bytes(n + 10)) }));
    all
}

fn set(most: u32) -> RevocationSet {
    let set = RevocationSet::new();
    for revocation in revocations(most) {
        set.apply(&FeedEntry { number: 1, revocation, time: NOW, expire_time: NOW.plus(Duration::from_mins(1)) });
    }
    set
}

fn everything(set: &RevocationSet) -> Vec<String> {
    let (mut place, mut all) = (DumpPlace::default(), Vec::new());
    while let Some(page) = set.dump(&mut place, PAGE) {
        all.extend(page.into_iter().map(|(revocation, expire_time)| format!("{revocation:?} {expire_time:?}")));
    }
    all.sort();
    all
}

struct Saved {
    directory: TempDir,
    keeper: Keeper,
    keys: KeySet,
}

/// A file with these revocations and the rest.
fn saved(revocations: &RevocationSet) -> Saved {
    let directory = tempfile::tempdir().unwrap();
    let keeper = Keeper { file: file(directory.path().to_owned()), issuer: ISSUER.into() };
    let pairs = [Algorithm::Es256, Algorithm::EdDsa].map(|algorithm| SigningKeyPair::generate(algorithm).unwrap());
    let keys = KeySet::from_keys(pairs.iter().map(|pair| pair.public_key().clone()).collect()).unwrap();
    keeper.write(&head(&keys), revocations).unwrap();
    Saved { directory, keeper, keys }
}

fn head(keys: &KeySet) -> Head {
    Head {
        format: FORMAT.into(),
        version: VERSION,
        issuer: ISSUER.into(),
        keys: keys.to_jwks(),
        cursor: "c-17".into(),
        complete_time: Some(NOW),
    }
}

#[test]
fn what_is_saved_is_known_again() {
    let set = set(30_000);
    let Saved { directory, keeper, keys } = saved(&set);
    let known = load(&keeper.file, ISSUER).unwrap();
    assert_eq!((&known.keys, known.cursor.as_str(), known.complete_time), (&keys, "c-17", Some(NOW)));
    assert_eq!(everything(&known.revocations), everything(&set));
    assert_eq!(known.revocations.len(), 30_005);
    assert_eq!(fs::metadata(&keeper.file).unwrap().permissions().mode() & 0o777, 0o600);
    // Over the old one, and nothing else is left behind.
    keeper.write(&Head { cursor: "c-18".into(), complete_time: None, ..head(&keys) }, &RevocationSet::new()).unwrap();
    let known = load(&keeper.file, ISSUER).unwrap();
    assert_eq!((known.cursor.as_str(), known.complete_time, known.revocations.len()), ("c-18", None, 0));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn a_file_that_is_cut_short_or_changed_anywhere_is_of_no_use() {
    let Saved { keeper, directory: _kept, .. } = saved(&set(3));
    let good = fs::read(&keeper.file).unwrap();
    let refused = |content: &[u8]| {
        fs::write(&keeper.file, content).unwrap();
        matches!(load(&keeper.file, ISSUER), Err(Unusable::Damaged(_)))
    };
    for end in 0..good.len() {
        assert!(refused(&good[..end]), "{end} of {} bytes", good.len());
    }
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert!(refused(&bad), "the byte at {at}");
    }
    let twice = [&good[..], &good[..]].concat();
    assert!(refused(&twice) && refused(&[&good[..], b"\n"].concat()) && refused(b"\0") && refused(&[0xff; 9]));
    fs::write(&keeper.file, &good).unwrap();
    assert!(load(&keeper.file, ISSUER).is_ok());
}

#[test]
fn a_file_of_somebody_else_or_of_another_version_is_of_no_use() {
    let Saved { directory, keeper, keys } = saved(&set(0));
    assert!(matches!(load(&keeper.file, "https://issuer.test/"), Err(Unusable::OtherIssuer)));
    assert!(matches!(load(&directory.path().join("x"), ISSUER), Err(Unusable::Missing)));
    assert!(matches!(load(directory.path(), ISSUER), Err(Unusable::Unreadable(_))));
    let write = |head: &Head| keeper.write(head, &RevocationSet::new()).unwrap();
    write(&Head { version: VERSION + 1, ..head(&keys) });
    assert!(matches!(load(&keeper.file, ISSUER), Err(Unusable::Version(2))));
    write(&Head { format: "other".into(), ..head(&keys) });
    assert!(matches!(load(&keeper.file, ISSUER), Err(Unusable::Damaged(_))));
    write(&Head { keys: serde_json::json!({"keys": [{"kty": "EC"}]}), ..head(&keys) });
    assert!(matches!(load(&keeper.file, ISSUER), Err(Unusable::Damaged("the keys"))));
}

#[test]
fn a_line_that_never_ends_is_not_read_to_its_end() {
    let Saved { keeper, directory: _kept, .. } = saved(&set(0));
    fs::write(&keeper.file, vec![b'a'; 4 << 20]).unwrap();
    assert!(matches!(load(&keeper.file, ISSUER), Err(Unusable::Damaged(_))));
}

#[test]
fn a_place_that_cannot_be_written_is_an_error_and_leaves_nothing() {
    let Saved { directory, keys, .. } = saved(&set(0));
    let nowhere = Keeper { file: directory.path().join("missing").join("file"), issuer: ISSUER.into() };
    assert!(nowhere.write(&head(&keys), &RevocationSet::new()).is_err());
    // A directory in its place: the move fails when all is written.
    let taken = Keeper { file: directory.path().join("taken"), issuer: ISSUER.into() };
    fs::create_dir_all(taken.file.join("x")).unwrap();
    assert!(taken.write(&head(&keys), &RevocationSet::new()).is_err());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
}

#[test]
fn a_file_that_others_can_write_is_of_no_use() {
    let Saved { keeper, directory: _kept, .. } = saved(&set(0));
    for (mode, good) in [(0o620, false), (0o602, false), (0o666, false), (0o644, true), (0o600, true)] {
        fs::set_permissions(&keeper.file, fs::Permissions::from_mode(mode)).unwrap();
        let loaded = load(&keeper.file, ISSUER);
        assert_eq!(loaded.is_ok(), good, "{mode:o}");
        assert!(good || matches!(loaded, Err(Unusable::Foreign)));
    }
}
