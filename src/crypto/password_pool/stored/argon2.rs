//! argon2 hashes in the PHC string format: `$argon2id$v=19$m=19456,t=2,p=1$salt$hash`, salt and hash in unpadded standard
//! base64. Our own are among them.

use argon2::{Algorithm, Params, Version};
use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};

use super::{BadHash, OUTPUT_LEN, SALT_LEN, StoredHash, text};
use crate::{
    crypto::password_pool::{Argon2Params, HashError},
    domain::user::PhcString,
};

/// Passes beyond which no hash is computed. With 256 MiB that was measured at 2.9 s of a core.
pub(in crate::crypto::password_pool) const MAX_ITERATIONS: u32 = 16;
/// Lanes beyond which no hash is computed.
pub(in crate::crypto::password_pool) const MAX_PARALLELISM: u32 = 8;

/// How an argon2 hash is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::crypto::password_pool) struct Recipe {
    pub(in crate::crypto::password_pool) algorithm: Algorithm,
    pub(in crate::crypto::password_pool) version: Version,
    pub(in crate::crypto::password_pool) params: Argon2Params,
    /// Length of the hash in bytes.
    pub(in crate::crypto::password_pool) output_len: usize,
}

impl Recipe {
    /// What new hashes are made with: argon2id, version 19, 32 bytes.
    pub(in crate::crypto::password_pool) const fn today(params: Argon2Params) -> Self {
        Self { algorithm: Algorithm::Argon2id, version: Version::V0x13, params, output_len: 32 }
    }

    /// The argon2 crate's form; none where argon2 itself has no such hash.
    fn checked(&self) -> Option<Params> {
        let Argon2Params { memory_kib, iterations, parallelism } = self.params;
        Params::new(memory_kib, iterations, parallelism, Some(self.output_len)).ok()
    }

    /// The argon2 crate's form.
    pub(in crate::crypto::password_pool) fn params(&self) -> Result<Params, HashError> {
        self.checked().ok_or(HashError::Failed)
    }

    /// The work, in KiB filled. Time grows with it nearly in proportion.
    pub(in crate::crypto::password_pool) fn cost(&self) -> u64 {
        u64::from(self.params.memory_kib) * u64::from(self.params.iterations)
    }

    /// The PHC string.
    pub(in crate::crypto::password_pool) fn to_phc(self, salt: &[u8], output: &[u8]) -> PhcString {
        let Argon2Params { memory_kib, iterations, parallelism } = self.params;
        PhcString::new(format!(
            "${}$v={}$m={memory_kib},t={iterations},p={parallelism}${}${}",
            self.algorithm.as_str(),
            u32::from(self.version),
            STANDARD_NO_PAD.encode(salt),
            STANDARD_NO_PAD.encode(output),
        ))
    }
}

/// Reads what follows `$argon2`.
pub(super) fn read(rest: &str) -> Result<StoredHash, BadHash> {
    let (algorithm, rest) = rest.split_once('$').unwrap_or_default();
    let algorithm = match algorithm {
        "id" => Algorithm::Argon2id,
        "i" => Algorithm::Argon2i,
        "d" => Algorithm::Argon2d,
        _ => return Err(BadHash::Malformed("it is not argon2id, argon2i or argon2d")),
    };
    // Hashes older than version 19 carry no version.
    let (version, rest) = match rest.strip_prefix("v=").map(|rest| rest.split_once('$').unwrap_or_default()) {
        None => (Version::V0x10, rest),
        Some(("16", rest)) => (Version::V0x10, rest),
        Some(("19", rest)) => (Version::V0x13, rest),
        Some(_) => return Err(BadHash::Malformed("its version is unknown")),
    };
    let [numbers, salt, output] = text::fields(rest)?;
    let params = params(numbers)?;
    let salt = text::bytes(&STANDARD_NO_PAD, salt, SALT_LEN)?;
    let output = text::bytes(&STANDARD_NO_PAD, output, OUTPUT_LEN)?;
    let recipe = Recipe { algorithm, version, params, output_len: output.len() };
    recipe.checked().ok_or(BadHash::Malformed("argon2 allows no such parameters"))?;
    Ok(StoredHash { recipe: super::Recipe::Argon2(recipe), salt, output })
}

/// `m=…,t=…,p=…`, in this order and with nothing else (`keyid` and `data` hold what is not stored here).
fn params(numbers: &str) -> Result<Argon2Params, BadHash> {
    let mut fields = numbers.split(',');
    let mut number = |prefix| {
        let digits = fields.next().and_then(|field| field.strip_prefix(prefix)).unwrap_or_default();
        text::decimal(digits).ok_or(BadHash::Malformed("its parameters are not m, t and p"))
    };
    let params = Argon2Params { memory_kib: number("m=")?, iterations: number("t=")?, parallelism: number("p=")? };
    if fields.next().is_some() {
        return Err(BadHash::Malformed("it has parameters other than m, t and p"));
    }
    if params.exceed_bounds() {
        return Err(BadHash::TooCostly("argon2 has at most m=262144 (256 MiB), t=16 and p=8"));
    }
    Ok(params)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SALT: &str = "AAECAwQFBgcICQoLDA0ODw";
    const HASH: &str = "gYJZtjEAJqjg26xdLmknq8/bB7MiWPrE9hsYuA+SkIU";

    fn parse(text: &str) -> Result<StoredHash, BadHash> {
        StoredHash::parse(&PhcString::new(text.to_owned()))
    }

    fn recipe(stored: &StoredHash) -> Recipe {
        match stored.recipe {
            super::super::Recipe::Argon2(recipe) => recipe,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let text = format!("$argon2id$v=19$m=19456,t=2,p=1${SALT}${HASH}");
        let stored = parse(&text).unwrap();
        let params = Argon2Params { memory_kib: 19_456, iterations: 2, parallelism: 1 };
        assert_eq!(recipe(&stored), Recipe::today(params));
        assert_eq!(stored.salt, (0..16).collect::<Vec<u8>>());
        assert_eq!(recipe(&stored).to_phc(&stored.salt, &stored.output).expose(), text);
    }

    #[test]
    fn older_kinds_are_read_for_what_they_are() {
        let kind = |head: &str| recipe(&parse(&format!("{head}$m=64,t=2,p=1${SALT}${HASH}")).unwrap());
        assert_eq!(kind("$argon2i$v=19").algorithm, Algorithm::Argon2i);
        assert_eq!(kind("$argon2d$v=19").algorithm, Algorithm::Argon2d);
        assert_eq!(kind("$argon2id$v=16").version, Version::V0x10);
        assert_eq!(kind("$argon2id").version, Version::V0x10);
    }

    #[test]
    fn nonsense_is_an_error() {
        let with = |params: &str| format!("$argon2id$v=19${params}${SALT}${HASH}");
        for bad in [
            "x".repeat(1_000_000),
            format!("$argon2$v=19$m=64,t=2,p=1${SALT}${HASH}"),
            format!("$argon2id$v=18$m=64,t=2,p=1${SALT}${HASH}"),
            format!("$argon2id$v=019$m=64,t=2,p=1${SALT}${HASH}"),
            format!("$argon2id$v=19$v=19$m=64,t=2,p=1${SALT}${HASH}"),
            with(""),
            with("m=64,t=2"),
            with("t=2,m=64,p=1"),
            with("m=064,t=2,p=1"),
            with("m=+64,t=2,p=1"),
            with("m=-1,t=2,p=1"),
            with("m= 64,t=2,p=1"),
            with("m=64,t=2,p=1,data=AAAA"),
            with("m=64,t=2,p=1,"),
            with("m=64,t=0,p=1"),
            with("m=64,t=2,p=0"),
            with("m=7,t=2,p=1"),
            with("m=15,t=2,p=2"),
            with("m=99999999999,t=2,p=1"),
            format!("$argon2id$v=19$m=64,t=2,p=1${SALT}"),
            format!("$argon2id$v=19$m=64,t=2,p=1${SALT}${HASH}$"),
            format!("$argon2id$v=19$m=64,t=2,p=1${SALT}=={HASH}"),
            format!("$argon2id$v=19$m=64,t=2,p=1${SALT}==${HASH}="),
            format!("$argon2id$v=19$m=64,t=2,p=1$AAECAw${HASH}"),
            format!("$argon2id$v=19$m=64,t=2,p=1${SALT}$AAECAw"),
            format!("$argon2id$v=19$m=64,t=2,p=1${SALT}${}", "A".repeat(88)),
            format!("$argon2id$v=19$m=64,t=2,p=1${}${HASH}", "A".repeat(88)),
            format!("$argon2id$v=19$m=64,t=2,p=1$AAECAwQFBgcICQoLDA0OD_${HASH}"),
            format!("$argon2id$v=19$m=64,t=2,p=1$AAECAwQFBgcICQoLDA0ODx${HASH}"),
        ] {
            assert!(matches!(parse(&bad), Err(BadHash::Malformed(_))), "{bad:.120}");
        }
    }

    #[test]
    fn what_would_cost_too_much_is_refused() {
        let with = |params: &str| parse(&format!("$argon2id$v=19${params}${SALT}${HASH}")).map(|_| ());
        assert_eq!(with("m=262144,t=16,p=8"), Ok(()));
        for params in
            ["m=262145,t=1,p=1", "m=64,t=17,p=1", "m=256,t=1,p=9", "m=4294967295,t=1,p=1", "m=9999999999,t=1,p=1"]
        {
            assert!(matches!(with(params), Err(BadHash::TooCostly(_))), "{params}");
        }
    }

    proptest! {
        #[test]
        fn no_text_at_all_makes_it_panic(text in "(\\$argon2(i|d|id))?(\\$v=(16|19))?\\$m=[0-9]{1,11},t=[0-9]{0,3},p=[0-9]{0,3}\\$[A-Za-z0-9+/=]{0,90}\\$[A-Za-z0-9+/=]{0,90}|\\PC{0,260}") {
            if let Ok(stored) = parse(&text) {
                let recipe = recipe(&stored);
                prop_assert!(!recipe.params.exceed_bounds());
                let again = StoredHash::parse(&recipe.to_phc(&stored.salt, &stored.output)).unwrap();
                prop_assert_eq!((again.recipe, again.salt, again.output), (stored.recipe, stored.salt, stored.output));
            }
        }
    }
}
