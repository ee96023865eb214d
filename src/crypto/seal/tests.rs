use std::sync::atomic::{AtomicU8, Ordering};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use proptest::prelude::*;

use super::*;

const PLACE: SealContext<'static> = SealContext { table: "totp", row: b"row 1", column: "seed" };

/// Draws 1, 1, …, then 2, 2, …: known to the test, different each time.
#[derive(Default)]
struct Counting(AtomicU8);

impl Entropy for Counting {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(self.0.fetch_add(1, Ordering::Relaxed) + 1);
    }
}

fn master(byte: u8) -> MasterKey {
    MasterKey::new(SecretKey::new([byte; 32]))
}

#[test]
fn a_sealed_value_opens_in_its_place() {
    let (master, entropy) = (master(1), Counting::default());
    for plaintext in [&b""[..], b"x", &[7; 5_000]] {
        let sealed = master.seal(PLACE, plaintext, &entropy);
        assert_eq!(sealed.len(), plaintext.len() + HEADER_LEN + TAG_LEN);
        assert_eq!(sealed[0], VERSION);
        assert_eq!(sealed[1..5], master.id());
        assert_eq!(&**master.open(PLACE, &sealed).unwrap(), plaintext);
    }
    let twice = [master.seal(PLACE, b"same", &entropy), master.seal(PLACE, b"same", &entropy)];
    assert_ne!(twice[0], twice[1], "the nonce is fresh each time");
}

#[test]
fn the_format_is_what_it_was() {
    // Stored values outlive releases: this one must open for ever. Another implementation made it.
    let sealed = master(1).seal(PLACE, b"plaintext", &Counting::default());
    assert_eq!(URL_SAFE_NO_PAD.encode(sealed), "AThyzV4BAQEBAQEBAQEBAQFEiButaf29lesNX9jb4J9WquUaNoP73qCs");
}

#[test]
fn a_sealed_value_opens_nowhere_else() {
    let master = master(1);
    let sealed = master.seal(PLACE, b"secret", &Counting::default());
    for elsewhere in [
        SealContext { table: "totq", ..PLACE },
        SealContext { row: b"row 2", ..PLACE },
        SealContext { column: "seee", ..PLACE },
        SealContext { table: "totpr", row: b"ow 1", ..PLACE },
        SealContext { row: b"row 1s", column: "eed", ..PLACE },
        SealContext { row: b"", ..PLACE },
    ] {
        assert_eq!(master.open(elsewhere, &sealed), Err(SealError::Corrupt), "{elsewhere:?}");
    }
}

#[test]
fn another_key_is_told_from_damage() {
    let (right, wrong) = (master(1), master(2));
    let sealed = right.seal(PLACE, b"secret", &Counting::default());
    let error = wrong.open(PLACE, &sealed).unwrap_err();
    assert_eq!(error, SealError::WrongKey { needed: right.id(), held: wrong.id() });
    assert!(error.to_string().contains(&hex(right.id())), "{error}");

    let mut newer = sealed.clone();
    newer[0] = 2;
    assert_eq!(right.open(PLACE, &newer), Err(SealError::UnknownFormat(2)));

    let mut relabelled = sealed;
    relabelled[1..5].copy_from_slice(&wrong.id());
    assert_eq!(wrong.open(PLACE, &relabelled), Err(SealError::Corrupt));
}

#[test]
fn while_the_key_is_changed_both_open_and_only_the_new_one_seals() {
    let entropy = Counting::default();
    let old = master(1).seal(PLACE, b"secret", &entropy);
    let both = || master(2).beside(master(1)).unwrap();
    assert_eq!(&**both().open(PLACE, &old).unwrap(), b"secret");
    let new = both().seal(PLACE, b"secret", &entropy);
    assert_eq!((key_of(&new), key_of(&old)), (Some(master(2).id()), Some(master(1).id())));

    let resealed = both().reseal(PLACE, &old, &entropy).unwrap().expect("it was under the other key");
    assert_eq!(&**master(2).open(PLACE, &resealed).unwrap(), b"secret");
    assert!(matches!(master(1).open(PLACE, &resealed), Err(SealError::WrongKey { .. })));
    assert_eq!(both().reseal(PLACE, &resealed, &entropy), Ok(None), "it is so already");
    let elsewhere = SealContext { row: b"row 2", ..PLACE };
    assert_eq!(both().reseal(elsewhere, &old, &entropy), Err(SealError::Corrupt), "nothing is moved to another place");
    let third = master(3).seal(PLACE, b"secret", &entropy);
    assert!(matches!(both().reseal(PLACE, &third, &entropy), Err(SealError::WrongKey { .. })));
    assert_eq!(master(1).beside(master(1)).unwrap_err(), MasterKeyError::Same);
    assert_eq!([&b""[..], &[1, 2, 3, 4], &[2, 0, 0, 0, 0]].map(key_of), [None; 3]);
    assert!(both().named(master(1).id()).is_some() && both().named(master(3).id()).is_none());
}

#[test]
fn a_data_key_is_kept_under_the_master_key() {
    let (master, entropy) = (master(1), Counting::default());
    let key = DataKey::generate(&entropy);
    let wrapped = key.wrap(&master, PLACE, &entropy);
    let again = DataKey::from_wrapped(&master, PLACE, &wrapped).unwrap();

    let sealed = key.seal(PLACE, b"192.0.2.7", &entropy);
    assert_eq!(&**again.open(PLACE, &sealed).unwrap(), b"192.0.2.7");
    assert!(matches!(DataKey::generate(&entropy).open(PLACE, &sealed), Err(SealError::WrongKey { .. })));
    assert!(DataKey::from_wrapped(&master, SealContext { row: b"row 2", ..PLACE }, &wrapped).is_err());

    let short = master.seal(PLACE, b"not 32 bytes", &entropy);
    assert_eq!(DataKey::from_wrapped(&master, PLACE, &short).unwrap_err(), SealError::Corrupt);

    let same_bytes = DataKey::from_wrapped(&master, PLACE, &master.seal(PLACE, &[1; 32], &entropy)).unwrap();
    assert!(same_bytes.open(PLACE, &wrapped).is_err(), "the same bytes are another key as a data key");
}

#[test]
fn a_master_key_is_read_in_every_usual_spelling() {
    let mut bytes = [0xfb; 32];
    bytes[0] = 0;
    let key = MasterKey::new(SecretKey::new(bytes));
    let text = key.to_text().expose().to_owned();
    assert!(text.contains('+') || text.contains('/'), "{text} shows the difference of the alphabets");
    let url = text.replace('+', "-").replace('/', "_");
    for spelling in [
        text.clone(),
        format!(" {text}\n"),
        text.trim_end_matches('=').to_owned(),
        url.clone(),
        url.trim_end_matches('=').to_owned(),
    ] {
        assert_eq!(MasterKey::parse(&spelling).unwrap().id(), key.id(), "{spelling}");
    }
}

#[test]
fn a_bad_master_key_is_refused_without_repeating_it() {
    use MasterKeyError::{NotBase64, Placeholder, WrongLength};
    let short = "c2hvcnQ=";
    for (text, expected) in [
        ("", WrongLength(0)),
        (short, WrongLength(5)),
        ("correct horse!", NotBase64),
        ("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", Placeholder),
        ("+_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", NotBase64),
        ("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB", WrongLength(33)),
    ] {
        let error = MasterKey::parse(text).unwrap_err();
        assert_eq!(error, expected, "{text}");
        assert!(text.is_empty() || !error.to_string().contains(text));
    }
}

#[test]
fn derived_keys_differ_by_label_and_by_master_key() {
    assert_eq!(master(1).derive("a"), master(1).derive("a"));
    assert_ne!(master(1).derive("a"), master(1).derive("b"));
    assert_ne!(master(1).derive("a"), master(2).derive("a"));
    assert_ne!(master(1).derive(""), SecretKey::new([1; 32]));
}

#[test]
fn debug_shows_no_key() {
    let (master, entropy) = (master(0x41), Counting::default());
    assert_eq!(format!("{master:?} {:?}", DataKey::generate(&entropy)), "MasterKey([redacted]) DataKey([redacted])");
}

proptest! {
    #[test]
    fn any_change_is_noticed(plaintext in proptest::collection::vec(any::<u8>(), 0..64), bit in any::<prop::sample::Index>()) {
        let master = master(1);
        let mut sealed = master.seal(PLACE, &plaintext, &Counting::default());
        let bit = bit.index(sealed.len() * 8);
        sealed[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(master.open(PLACE, &sealed).is_err());
    }

    #[test]
    fn any_bytes_at_all_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..80), with_header in any::<bool>()) {
        let master = master(1);
        let mut sealed = bytes;
        if with_header && sealed.len() >= 5 {
            sealed[0] = VERSION;
            sealed[1..5].copy_from_slice(&master.id());
        }
        prop_assert!(master.open(PLACE, &sealed).is_err());
    }
}
