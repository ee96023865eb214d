use proptest::prelude::*;

use super::*;

const SALT: &str = "AAECAwQFBgcICQoLDA0ODw";
const HASH: &str = "gYJZtjEAJqjg26xdLmknq8/bB7MiWPrE9hsYuA+SkIU";
/// 22 characters of salt and 31 of hash.
const BCRYPT: &str = "abcdefghijklmnopqrstuuFiPhXf1sVd3pCCRO.uVh34H/qI/ZsuS";
const HASH_64: &str = "gi9YbHaW1mhzhMcVpK027/ad7NlMX/Yefa9S3fTy/Ut4sbmsmsH0WNICGiXc/SjQCqhHhE9Fm07S1ORbiLsM4g==";

fn check(text: &str) -> Result<(), BadHash> {
    import_hash(text).map(|hash| {
        assert_eq!(hash.expose(), text, "kept as it came");
        assert_ne!(password_scheme(&hash), "unknown", "what is taken has a name: {text}");
    })
}

#[test]
fn no_format_hides_another() {
    for (prefix, _) in FORMATS {
        assert_eq!(FORMATS.iter().filter(|(other, _)| other.starts_with(prefix)).count(), 1, "{prefix}");
    }
}

#[test]
fn what_is_no_known_format_is_told_what_would_be() {
    for unknown in [
        "",
        "$",
        "$$$$$",
        "!",
        "!nbPtpOLMR5BHCBOTjbC9ycjaUBbwPyyfE3TsuBdz",
        "correct horse battery staple",
        "5f4dcc3b5aa765d61d8327deb882cf99",
        "md5$salt$5f4dcc3b5aa765d61d8327deb882cf99",
        "sha1$salt$5baa61e4c9b93f3f0682250b6cf8331b7ee68fd8",
        "$1$salt$qJH7.N4xYta3aEG/dfqo/0",
        "$6$saltsalt$qFmFH.bQmmtXzyBY0s9v7Oicd2z4XSIecDzlB5KiA2/jctKu9YterLp8wwnSq.qc.eoxqOmSuNp2xS0ktL3nh/",
        "$bcrypt-sha256$v=2,t=2b,r=12$n79VH.0Q2TMWmt3Oqt9uku$Kq4Noyk3094Y2QlB8NdRT8SvGiI4ft2",
        "$ARGON2ID$v=19$m=64,t=2,p=1$AAECAwQFBgcICQoLDA0ODw$4cyI7gympc2Syh5lstRTFg",
        "argon2id$v=19$m=64,t=2,p=1$AAECAwQFBgcICQoLDA0ODw$4cyI7gympc2Syh5lstRTFg",
        "argon2$$argon2id$v=19$m=64,t=2,p=1$AAECAwQFBgcICQoLDA0ODw$4cyI7gympc2Syh5lstRTFg",
        " $2b$12$abcdefghijklmnopqrstuuFiPhXf1sVd3pCCRO.uVh34H/qI/ZsuS",
        "{SSHA}n79VH0Q2TMWmt3Oqt9uku",
        "$pbkdf2-sha1$1000$AAECAwQFBgcICQoLDA0ODw$5o7ktVb7AWoyrnFctlntCllLAQM",
    ] {
        assert_eq!(check(unknown), Err(BadHash::Unknown), "{unknown}");
    }
    let said = BadHash::Unknown.to_string();
    for (prefix, _) in FORMATS {
        assert!(said.contains(prefix.split_inclusive('$').next_back().unwrap()), "{prefix}: {said}");
    }
}

#[test]
fn what_is_within_bounds_is_taken_as_it_is() {
    for good in [
        &format!("$2b$04${BCRYPT}"),
        &format!("$2a$15${BCRYPT}"),
        &format!("$2y$12${BCRYPT}"),
        &format!("bcrypt$$2b$12${BCRYPT}"),
        &format!("bcrypt_sha256$$2b$12${BCRYPT}"),
        &format!("$scrypt$ln=1,r=1,p=1${SALT}${HASH}"),
        &format!("$scrypt$ln=17,r=8,p=1${SALT}${HASH}"),
        &format!("$scrypt$ln=18,r=8,p=2${SALT}${HASH}"),
        &format!("scrypt$16384$saltsalt$8$5${HASH_64}"),
        &format!("pbkdf2_sha256$1000000$saltsalt${HASH}="),
        &format!("pbkdf2_sha256$5000000$saltsalt${HASH}="),
        &format!("$pbkdf2-sha256$i=1${SALT}${HASH}"),
        &format!("$pbkdf2-sha256$i=5000000,l=32${SALT}${HASH}"),
        &format!("$argon2id$v=19$m=262144,t=16,p=8${SALT}${HASH}"),
        &format!("argon2$argon2i$v=19$m=512,t=2,p=2${SALT}${HASH}"),
    ] {
        assert_eq!(check(good), Ok(()), "{good}");
    }
}

#[test]
fn nonsense_is_an_error() {
    for bad in [
        "$2",
        "$2$",
        "$2b$",
        "$2b$12$",
        &format!("$2b$12${BCRYPT}$"),
        &format!("$2b$12${BCRYPT}."),
        &format!("$2b$12${}", &BCRYPT[..52]),
        &format!("$2b$12$ä{}", &BCRYPT[2..]),
        &format!("$2b$12${}ä{}", &BCRYPT[..21], &BCRYPT[23..]),
        // Bits beyond the last byte, of the salt and of the hash.
        &format!("$2b$12${}v{}", &BCRYPT[..21], &BCRYPT[22..]),
        &format!("$2b$12${}T", &BCRYPT[..52]),
        &format!("$2x$12${BCRYPT}"),
        &format!("$2$12${BCRYPT}"),
        &format!("$2b$3${BCRYPT}"),
        &format!("$2b$03${BCRYPT}"),
        &format!("$2b$012${BCRYPT}"),
        &format!("$2b$+5${BCRYPT}"),
        &format!("$2b$32${BCRYPT}"),
        &format!("bcrypt$$2b$12${BCRYPT}\n"),
        &format!("bcrypt_sha256$$2b$12{BCRYPT}"),
        "$scrypt$",
        &format!("$scrypt$ln=0,r=8,p=1${SALT}${HASH}"),
        &format!("$scrypt$ln=10,r=0,p=1${SALT}${HASH}"),
        &format!("$scrypt$ln=10,r=8,p=0${SALT}${HASH}"),
        &format!("$scrypt$ln=10,r=8${SALT}${HASH}"),
        &format!("$scrypt$r=8,ln=10,p=1${SALT}${HASH}"),
        &format!("$scrypt$ln=10,r=8,p=1,x=1${SALT}${HASH}"),
        &format!("$scrypt$ln=010,r=8,p=1${SALT}${HASH}"),
        &format!("$scrypt$ln=10,r=8,p=1${SALT}==${HASH}"),
        &format!("$scrypt$ln=10,r=8,p=1${SALT}${HASH}="),
        &format!("$scrypt$ln=10,r=8,p=1${SALT}${HASH}$"),
        &format!("$scrypt$ln=10,r=8,p=1${SALT}"),
        &format!("$scrypt$ln=10,r=8,p=1$AAECAw${HASH}"),
        "scrypt$",
        &format!("scrypt$16383$saltsalt$8$5${HASH_64}"),
        &format!("scrypt$0$saltsalt$8$5${HASH_64}"),
        &format!("scrypt$1$saltsalt$8$5${HASH_64}"),
        &format!("scrypt$16384$saltsal$8$5${HASH_64}"),
        &format!("scrypt$16384$salt salt$8$5${HASH_64}"),
        &format!("scrypt$16384$sältsält$8$5${HASH_64}"),
        &format!("scrypt$16384${}$8$5${HASH_64}", "s".repeat(65)),
        &format!("scrypt$16384$saltsalt$8$5${HASH}="),
        &format!("scrypt$16384$saltsalt$8$5${}", HASH_64.trim_end_matches('=')),
        &format!("scrypt$16384$saltsalt$8$${HASH_64}"),
        "pbkdf2_sha256$",
        &format!("pbkdf2_sha256$0$saltsalt${HASH}="),
        &format!("pbkdf2_sha256$-1$saltsalt${HASH}="),
        &format!("pbkdf2_sha256$01000$saltsalt${HASH}="),
        &format!("pbkdf2_sha256$1000$saltsalt${HASH}"),
        &format!("pbkdf2_sha256$1000$saltsalt${HASH}=$"),
        &format!("pbkdf2_sha256$1000$saltsalt${HASH_64}"),
        &format!("pbkdf2_sha1$1000$saltsalt${HASH}="),
        &format!("pbkdf2_sha256$1000$${HASH}="),
        "$pbkdf2-sha256$",
        &format!("$pbkdf2-sha256$1000${SALT}${HASH}"),
        &format!("$pbkdf2-sha512$1000${SALT}${}", HASH.replace('+', ".")),
        &format!("$pbkdf2-sha256$i=0,l=32${SALT}${HASH}"),
        &format!("$pbkdf2-sha256$i=1000,l=31${SALT}${HASH}"),
        &format!("$pbkdf2-sha256$i=1000,l=${SALT}${HASH}"),
        &format!("$pbkdf2-sha256$i=1000,l=32,${SALT}${HASH}"),
        &format!("$pbkdf2-sha256$l=32,i=1000${SALT}${HASH}"),
        &format!("$pbkdf2-sha256$i=1000,l=32${SALT}${}", HASH.replace('+', ".")),
        &"$2b$12$".repeat(40),
    ] {
        assert!(matches!(check(bad), Err(BadHash::Malformed(_))), "{bad}: {:?}", check(bad));
    }
}

#[test]
fn what_would_cost_too_much_is_refused() {
    for dear in [
        &format!("$2b$16${BCRYPT}"),
        &format!("bcrypt_sha256$$2b$31${BCRYPT}"),
        &format!("$scrypt$ln=19,r=8,p=1${SALT}${HASH}"),
        &format!("$scrypt$ln=17,r=17,p=1${SALT}${HASH}"),
        &format!("$scrypt$ln=17,r=8,p=5${SALT}${HASH}"),
        &format!("$scrypt$ln=1,r=1,p=1025${SALT}${HASH}"),
        &format!("$scrypt$ln=64,r=8,p=1${SALT}${HASH}"),
        &format!("$scrypt$ln=256,r=8,p=1${SALT}${HASH}"),
        &format!("$scrypt$ln=31,r=1024,p=1${SALT}${HASH}"),
        &format!("$scrypt$ln=10,r=4294967295,p=4294967295${SALT}${HASH}"),
        &format!("scrypt$1048576$saltsalt$8$1${HASH_64}"),
        &format!("scrypt$9999999999$saltsalt$8$1${HASH_64}"),
        &format!("scrypt$2147483648$saltsalt$4294967295$4294967295${HASH_64}"),
        &format!("pbkdf2_sha256$5000001$saltsalt${HASH}="),
        &format!("pbkdf2_sha256$9999999999$saltsalt${HASH}="),
        &format!("$pbkdf2-sha256$4294967295${SALT}${}", HASH.replace('+', ".")),
        // Two stretches of output cost twice as much.
        &format!("$pbkdf2-sha256$i=2500001,l=64${SALT}${}", HASH_64.trim_end_matches('=')),
        &format!("$pbkdf2-sha512$i=2500001,l=32${SALT}${HASH}"),
        &format!("argon2$argon2id$v=19$m=262145,t=1,p=1${SALT}${HASH}"),
    ] {
        assert!(matches!(check(dear), Err(BadHash::TooCostly(_))), "{dear}: {:?}", check(dear));
    }
}

proptest! {
    #[test]
    fn no_text_at_all_makes_it_panic(text in "(\\$2[aby]\\$|bcrypt\\$\\$2b\\$)[0-9]{2}\\$[./A-Za-z0-9]{50,55}|\\$scrypt\\$ln=[0-9]{1,3},r=[0-9]{1,10},p=[0-9]{1,10}\\$[A-Za-z0-9+/]{22}\\$[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]|scrypt\\$[0-9]{1,10}\\$[a-z]{8}\\$[0-9]{1,10}\\$[0-9]{1,10}\\$[A-Za-z0-9+/]{85}[AQgw]==|pbkdf2_sha256\\$[0-9]{1,10}\\$\\PC{0,20}\\$[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=|\\$pbkdf2-sha(256|512)\\$(i=)?[0-9]{1,10}(,l=[0-9]{0,2})?\\$[A-Za-z0-9+/.]{0,90}\\$[A-Za-z0-9+/.]{0,90}") {
        if let Ok(stored) = StoredHash::parse(&PhcString::new(text)) {
            prop_assert!(stored.recipe.cost() <= 5_000_000);
            prop_assert!(!stored.salt.is_empty() && stored.output.len() >= 16);
        }
    }
}
