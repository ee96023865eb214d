//! Filters made of real lists, whole and broken.

use std::{fs, io::Cursor, path::PathBuf};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

fn place() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("filter");
    (dir, path)
}

fn made(list: &str, input: Input, limits: Limits) -> (TempDir, PathBuf, Result<Built, BuildError>) {
    let (dir, path) = place();
    let built = build(Cursor::new(list), &path, input, limits);
    (dir, path, built)
}

fn small(portion: usize) -> Limits {
    Limits { portion, ..Limits::default() }
}

fn finds(filter: &Filter, password: &str) -> bool {
    filter.look_up(password.as_bytes()).unwrap().found
}

#[test]
fn a_list_of_have_i_been_pwned_is_understood() {
    // The SHA-1 of "password", "hello" and "abc" (FIPS 180-2), in any order and case; one of them was seen once.
    let list = "5BAA61E4C9B93F3F0682250B6CF8331B7EE68FD8:10437277\r\n\
                aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d:3\n\
                A9993E364706816ABA3E25717850C26C9CD0D89D:1\n\
                5BAA61E4C9B93F3F0682250B6CF8331B7EE68FD8";
    let (_dir, path, built) = made(list, Input::Hashes, Limits::default());
    assert_eq!(built.unwrap(), Built { lines: 4, records: 3 });
    let filter = Filter::open(&path).unwrap();
    assert!(["password", "hello", "abc"].iter().all(|known| finds(&filter, known)));
    assert!(!finds(&filter, "Password") && !finds(&filter, ""));

    let (_dir, path, built) = made(list, Input::Hashes, Limits { min_count: 2, ..Limits::default() });
    assert_eq!(built.unwrap().records, 2);
    assert!(!finds(&Filter::open(&path).unwrap(), "abc"), "seen too seldom");
}

#[test]
fn passwords_count_as_they_are_and_as_they_would_be_chosen() {
    let list = "cafe\u{301}\nhello world\n\ncr at the end\r\n";
    let (_dir, path, built) = made(list, Input::Plain, Limits::default());
    assert_eq!(built.unwrap(), Built { lines: 4, records: 4 });
    let filter = Filter::open(&path).unwrap();
    for known in ["cafe\u{301}", "caf\u{e9}", "hello world", "cr at the end"] {
        assert!(finds(&filter, known), "{known}");
    }
}

#[test]
fn portions_of_any_size_make_the_same_file() {
    let words: Vec<String> = (0..3_000).map(|n| format!("word {}", n % 2_500)).collect();
    let list = words.join("\n");
    let (_dir, whole, built) = made(&list, Input::Plain, Limits::default());
    assert_eq!(built.unwrap(), Built { lines: 3_000, records: 2_500 });
    let whole = fs::read(whole).unwrap();
    for portion in [1, 7, 100, 2_999, 3_000] {
        // Each portion of one record is a file; that many are not needed to see it.
        let list = if portion == 1 { words[..50].join("\n") } else { list.clone() };
        let (dir, path, built) = made(&list, Input::Plain, small(portion));
        built.unwrap();
        if portion > 1 {
            assert!(fs::read(&path).unwrap() == whole, "{portion}");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
        Filter::open(&path).unwrap();
    }
}

#[test]
fn a_filter_of_nothing_is_none() {
    let once = "5BAA61E4C9B93F3F0682250B6CF8331B7EE68FD8:1\n";
    for (list, min_count) in [("", 0), ("\n\n", 0), (once, 2)] {
        let (dir, path) = place();
        fs::write(&path, "the one that was there").unwrap();
        let limits = Limits { min_count, ..Limits::default() };
        let built = build(Cursor::new(list), &path, Input::Hashes, limits);
        assert!(matches!(built, Err(BuildError::Empty)), "{list:?}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "the one that was there");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    }
}

/// What lies there is another build's, and stays as it is.
#[test]
fn builds_at_once_do_not_write_into_each_other_s_files() {
    let (dir, path) = place();
    let others = ["part-0", "run0-0", "merged-0"].map(|suffix| dir.path().join(format!("filter.{suffix}")));
    for other in &others {
        fs::write(other, "another's").unwrap();
    }
    let built = build(Cursor::new("c\nb\na\n"), &path, Input::Plain, small(1)).unwrap();
    assert_eq!(built.records, 3);
    assert!(finds(&Filter::open(&path).unwrap(), "b"));
    for other in &others {
        assert_eq!(fs::read_to_string(other).unwrap(), "another's");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4, "nothing else is left beside it");
}

#[test]
fn a_sorted_list_needs_no_memory() {
    let mut keys: Vec<u64> = (0..5_000_u32).map(|n| key(&n.to_be_bytes())).collect();
    keys.sort_unstable();
    let lines: Vec<String> = keys.iter().map(|key| format!("{key:016X}{}:1\n", "0".repeat(24))).collect();
    let list = lines.concat();
    // No portion could ever be sorted in this.
    let (_dir, path, built) = made(&list, Input::Hashes, small(1));
    assert_eq!(built.unwrap().records, 5_000);
    let filter = Filter::open(&path).unwrap();
    let reads = |key| {
        let Lookup { found, reads } = filter.search(key).unwrap();
        assert!(found);
        reads
    };
    let most = keys.iter().map(|key| reads(*key)).max().unwrap();
    assert!(most <= 3, "{most} reads for one look-up");
    for absent in [0, u64::MAX, keys[0] - 1, keys[4_999] + 1, keys[2_500] + 1] {
        assert!(!filter.search(absent).unwrap().found);
    }
}

#[test]
fn what_is_no_list_is_refused_without_a_word_of_it() {
    for (list, input, part) in [
        ("5BAA61E4C9B93F3F0682250B6CF8331B7EE68FD8:1\nsecret password\n", Input::Hashes, "line 2"),
        ("5BAA61E4C9B93F3F0682250B6CF8331B7EE68FD8:secret", Input::Hashes, "line 1"),
        ("5BAA61E4C9B93F3F0682250B6CF8331B7EE68FD8 secret", Input::Hashes, "line 1"),
        ("+BAA61E4C9B93F3F0682250B6CF8331B7EE68FD8:1", Input::Hashes, "line 1"),
        (&"secret".repeat(1_000), Input::Plain, "4096"),
    ] {
        let (dir, path, built) = made(list, input, Limits::default());
        let said = built.unwrap_err().to_string();
        assert!(said.contains(part) && !said.contains("secret"), "{said}");
        assert!(!path.exists() && fs::read_dir(dir.path()).unwrap().count() == 0);
    }
}

#[test]
fn a_file_that_is_no_filter_is_refused() {
    let (_dir, path, built) = made("a\nb\nc\nd\n", Input::Plain, Limits::default());
    built.unwrap();
    let good = fs::read(&path).unwrap();
    let refusal = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        Filter::open(&path).unwrap_err().to_string()
    };
    let changed = |at: usize, byte| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    for (bytes, part) in [
        (Vec::new(), "is no filter"),
        (b"password\n".repeat(9), "is no filter"),
        (changed(0, b'v'), "is no filter"),
        (changed(11, 2), "version 2"),
        (changed(15, 7), "header"),
        (changed(31, 1), "header"),
        (changed(23, 5), "length"),
        (changed(16, 255), "length"),
        (good[..good.len() - 1].to_vec(), "length"),
        ([&good[..], &[0; 8]].concat(), "length"),
        (changed(32, 255), "sorted"),
    ] {
        let said = refusal(&bytes);
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(matches!(Filter::open(path.parent().unwrap()), Err(FilterError::Foreign)), "a directory");
    assert!(matches!(Filter::open(&path.join("x")), Err(FilterError::Io(_))));
    fs::write(&path, header(0)).unwrap();
    assert_eq!(Filter::open(&path).unwrap().look_up(b"x").unwrap(), Lookup { found: false, reads: 0 });
}

/// A file whose inside is not sorted, which is not looked at when it is opened.
#[test]
fn disorder_ends_a_search_all_the_same() {
    let (_dir, path) = place();
    let mut bytes = header(100_000).to_vec();
    bytes.extend((0..100_000_u64).flat_map(|n| if n == 0 { 0 } else { u64::MAX - n }.to_be_bytes()));
    bytes[HEADER_LEN + 99_999 * 8..].copy_from_slice(&u64::MAX.to_be_bytes());
    fs::write(&path, bytes).unwrap();
    let filter = Filter::open(&path).unwrap();
    for key in [1, u64::MAX / 2, u64::MAX - 1, u64::MAX - 50_000] {
        assert!(filter.search(key).unwrap().reads <= GUESSES + 17);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_record_is_found_and_no_other(mut keys in prop::collection::btree_set(any::<u64>(), 1..3_000), others in prop::collection::vec(any::<u64>(), 50), clustered in any::<bool>()) {
        if clustered {
            // Not spread at all.
            keys = keys.into_iter().map(|key| key >> 40).collect();
        }
        let (_dir, path) = place();
        let records: Vec<u8> = keys.iter().flat_map(|key| key.to_be_bytes()).collect();
        fs::write(&path, [&header(keys.len() as u64)[..], &records].concat()).unwrap();
        let filter = Filter::open(&path).unwrap();
        for key in &keys {
            prop_assert!(filter.search(*key).unwrap().found);
        }
        for other in others {
            prop_assert_eq!(filter.search(other).unwrap().found, keys.contains(&other));
        }
    }
}
