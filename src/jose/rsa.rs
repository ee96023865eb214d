//! RSA public keys: which are strong enough to be believed and small enough to cost nothing, and their two encodings.
//!
//! aws-lc takes and gives them as `RSAPublicKey` of RFC 8017 appendix A.1.1; a JWK has the two numbers (RFC 7518 §6.3.1).

use std::ops::RangeInclusive;

use super::{base64url, jwk::JwkError};

/// Bits of a modulus. RFC 7518 §3.3 demands the lower bound; the upper one keeps what a stranger's key costs us within
/// bounds: checking a signature takes four times as long with each doubling.
const MODULUS_BITS: RangeInclusive<usize> = 2048..=4096;

/// The least exponent: smaller ones have a history of forged padding. All there is in practice.
const MIN_EXPONENT: u32 = 65_537;

/// DER's tag of an integer.
const INTEGER: u8 = 0x02;
/// DER's tag of a sequence.
const SEQUENCE: u8 = 0x30;

/// An RSA public key whose numbers are within bounds. Big-endian, without leading zeros.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RsaPublic {
    modulus: Vec<u8>,
    exponent: Vec<u8>,
}

impl RsaPublic {
    /// From the members `n` and `e` of a JWK.
    pub(super) fn from_members(modulus: &str, exponent: &str) -> Result<Self, JwkError> {
        Self::new(unsigned("n", modulus, MODULUS_BITS.end() / 8)?, unsigned("e", exponent, size_of::<u32>())?)
    }

    fn new(modulus: Vec<u8>, exponent: Vec<u8>) -> Result<Self, JwkError> {
        let odd = |number: &[u8]| number.last().is_some_and(|byte| byte & 1 == 1);
        let value = exponent.iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
        let sound = MODULUS_BITS.contains(&bits(&modulus))
            && odd(&modulus)
            && odd(&exponent)
            && exponent.len() <= size_of::<u32>()
            && value >= u64::from(MIN_EXPONENT);
        if sound { Ok(Self { modulus, exponent }) } else { Err(JwkError::Rsa) }
    }

    /// Reads an `RSAPublicKey`.
    pub(super) fn from_der(der: &[u8]) -> Result<Self, JwkError> {
        let read = || {
            let (inner, rest) = element(SEQUENCE, der)?;
            let (modulus, inner) = element(INTEGER, inner)?;
            let (exponent, inner) = element(INTEGER, inner)?;
            (rest.is_empty() && inner.is_empty()).then(|| (without_sign(modulus), without_sign(exponent)))
        };
        let (modulus, exponent) = read().ok_or(JwkError::Rsa)?;
        Self::new(modulus, exponent)
    }

    /// Writes it as an `RSAPublicKey`.
    pub(super) fn to_der(&self) -> Vec<u8> {
        let mut inner = Vec::with_capacity(self.modulus.len() + 16);
        for number in [&self.modulus, &self.exponent] {
            // DER's integers are signed: a zero keeps a large one from being negative.
            let sign = usize::from(number.first().is_some_and(|byte| *byte >= 0x80));
            begin(INTEGER, number.len() + sign, &mut inner);
            inner.extend_from_slice(&[0][..sign]);
            inner.extend_from_slice(number);
        }
        let mut der = Vec::with_capacity(inner.len() + 4);
        begin(SEQUENCE, inner.len(), &mut der);
        der.append(&mut inner);
        der
    }

    /// The members `n` and `e`.
    pub(super) fn members(&self) -> (String, String) {
        (base64url::encode(&self.modulus), base64url::encode(&self.exponent))
    }

    /// Bytes of every signature of this key (RFC 8017 §8.2).
    pub(super) fn signature_len(&self) -> usize {
        bits(&self.modulus).div_ceil(8)
    }
}

/// RFC 7518 §2, Base64urlUInt: no leading zeros.
fn unsigned(name: &'static str, text: &str, limit: usize) -> Result<Vec<u8>, JwkError> {
    // Before decoding, so that a huge one costs nothing: three bytes take four letters.
    if text.len() > limit.div_ceil(3) * 4 {
        return Err(JwkError::Rsa);
    }
    let mut bytes = Vec::with_capacity(limit + 3);
    base64url::decode_onto(text, &mut bytes).map_err(|_| JwkError::Member(name))?;
    if bytes.first().is_some_and(|byte| *byte != 0) { Ok(bytes) } else { Err(JwkError::Member(name)) }
}

fn bits(number: &[u8]) -> usize {
    number.first().map_or(0, |first| number.len() * 8 - first.leading_zeros() as usize)
}

fn without_sign(number: &[u8]) -> Vec<u8> {
    number.strip_prefix(&[0]).unwrap_or(number).to_vec()
}

/// An element with this tag, and what follows it. Lengths of one byte or of two more are all that these keys have.
fn element(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = match der {
        [found, 0x82, high, low, rest @ ..] if *found == tag => (usize::from(u16::from_be_bytes([*high, *low])), rest),
        [found, 0x81, len, rest @ ..] if *found == tag => (usize::from(*len), rest),
        [found, len @ ..=0x7f, rest @ ..] if *found == tag => (usize::from(*len), rest),
        _ => return None,
    };
    rest.split_at_checked(len)
}

/// The tag and length of an element. No key within bounds has one longer than two bytes can say.
fn begin(tag: u8, len: usize, der: &mut Vec<u8>) {
    der.push(tag);
    let [high, low] = u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes();
    match len {
        ..0x80 => der.push(low),
        0x80..0x100 => der.extend_from_slice(&[0x81, low]),
        _ => der.extend_from_slice(&[0x82, high, low]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(bits: usize) -> String {
        let mut bytes = vec![0xff; bits.div_ceil(8)];
        bytes[0] >>= bytes.len() * 8 - bits;
        base64url::encode(&bytes)
    }

    #[test]
    fn only_strong_and_affordable_keys_are_keys() {
        let read = |bits: usize, e: &[u8]| RsaPublic::from_members(&number(bits), &base64url::encode(e)).err();
        for bits in [2048, 2049, 3072, 4096] {
            assert_eq!(read(bits, &[1, 0, 1]), None, "{bits}");
        }
        for bits in [512, 1024, 2040, 2047, 4097, 8192, 65_536] {
            assert_eq!(read(bits, &[1, 0, 1]), Some(JwkError::Rsa), "{bits}");
        }
        for e in [&[1][..], &[3], &[17], &[0xff, 0xff], &[1, 0, 0], &[1, 0, 0, 0, 1], &[1, 0, 0, 0, 0, 0, 0, 1]] {
            assert_eq!(read(2048, e), Some(JwkError::Rsa), "{e:?}");
        }
        assert_eq!(read(2048, &[0xff; 4]), None);
        let even = base64url::encode(&[0xfe; 256]);
        assert_eq!(RsaPublic::from_members(&even, "AQAB"), Err(JwkError::Rsa));
    }

    #[test]
    fn a_number_has_one_spelling() {
        let good = number(2048);
        for n in ["", "AAAA", &format!("{good}="), "ä", &format!("AA{}", &good[2..])] {
            assert_eq!(RsaPublic::from_members(n, "AQAB"), Err(JwkError::Member("n")), "{n}");
        }
        for e in ["", "AAEAAQ", "AQAB=", "AQAC="] {
            assert_eq!(RsaPublic::from_members(&good, e), Err(JwkError::Member("e")), "{e}");
        }
    }

    #[test]
    fn a_key_survives_der_of_every_length() {
        for bits in [2048, 2047 + 8, 3072, 4095, 4096] {
            for e in [&[1, 0, 1][..], &[0x7f, 0xff, 0xff, 0xff], &[0x80, 0, 0, 1]] {
                let key = RsaPublic::from_members(&number(bits), &base64url::encode(e)).unwrap();
                let der = key.to_der();
                assert_eq!(RsaPublic::from_der(&der), Ok(key.clone()));
                assert_eq!(RsaPublic::from_der(&der[..der.len() - 1]), Err(JwkError::Rsa));
                assert_eq!(RsaPublic::from_der(&[&der[..], &[0]].concat()), Err(JwkError::Rsa));
                assert_eq!(key.signature_len(), bits.div_ceil(8));
            }
        }
        assert_eq!(RsaPublic::from_der(&[]), Err(JwkError::Rsa));
        assert_eq!(RsaPublic::from_der(&[SEQUENCE, 0x84, 1, 1, 1, 1]), Err(JwkError::Rsa));
    }
}
