// Tokens that nobody must accept: one line or a few for every line of SECURITY.md TOKENS that is about a JWS.
//
// Each but the forged ones is *properly signed* by the key given, so that it is the rule that refuses it and not the
// signature. Only the public API is used, so that the same table goes to the verifier core, to the `Verify` RPC and to the
// sidecar, which must give the same answer to the same bytes. (Plain comments, as unit tests include this file.)

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    hmac,
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
        RSA_PKCS1_SHA256, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair,
    },
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};
use vouchsafe::{
    domain::signing_key::Algorithm,
    jose::SigningKeyPair,
    verifier::Inactive::{
        self, BadSignature, Expired, Malformed, NotYetValid, Undecryptable, UnknownKey, WrongIssuer, WrongType,
    },
};

/// A token and why it is refused.
pub(crate) struct Hostile {
    /// What is wrong with it.
    pub(crate) name: String,
    /// The token.
    pub(crate) token: String,
    /// The answer that every door must give.
    pub(crate) reason: Inactive,
}

/// All of them. `genuine` is an access token signed by `key` and good now.
pub(crate) fn all(key: &SigningKeyPair, genuine: &str) -> Vec<Hostile> {
    let forge = Forge::new(key, genuine);
    let mut table = Vec::new();
    forge.shapes(&mut table);
    forge.encodings(&mut table);
    forge.algorithms(&mut table);
    forge.headers(&mut table);
    forge.types(&mut table);
    forge.kids(&mut table);
    forge.signatures(&mut table);
    forge.json(&mut table);
    forge.missing(&mut table);
    forge.dates(&mut table);
    forge.values(&mut table);
    forge.times(&mut table);
    table
}

/// base64url without padding.
pub(crate) fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// What a token's payload says, whether it is authentic or not.
pub(crate) fn payload_of(token: &str) -> Value {
    let part = token.split('.').nth(1).unwrap_or_default();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap_or_default()).unwrap_or_default()
}

/// Signs whatever it is given.
pub(crate) struct Forge<'a> {
    key: &'a SigningKeyPair,
    genuine: &'a str,
    claims: Value,
}

type Table = Vec<Hostile>;

fn add(table: &mut Table, name: impl Into<String>, token: impl Into<String>, reason: Inactive) {
    table.push(Hostile { name: name.into(), token: token.into(), reason });
}

impl<'a> Forge<'a> {
    /// For tokens that differ from `genuine` in one thing.
    pub(crate) fn new(key: &'a SigningKeyPair, genuine: &'a str) -> Self {
        Self { key, genuine, claims: payload_of(genuine) }
    }

    /// A signature of this key over anything.
    pub(crate) fn signature(&self, message: &[u8]) -> Vec<u8> {
        let document = self.key.to_pkcs8().unwrap();
        match self.key.public_key().algorithm() {
            Algorithm::Es256 => EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &document)
                .unwrap()
                .sign(&SystemRandom::new(), message)
                .unwrap()
                .as_ref()
                .to_vec(),
            Algorithm::EdDsa => Ed25519KeyPair::from_pkcs8(&document).unwrap().sign(message).as_ref().to_vec(),
            Algorithm::Rs256 => self.rsa_signature(&RSA_PKCS1_SHA256, message),
        }
    }

    /// An RSA signature of this key by any scheme.
    fn rsa_signature(&self, scheme: &'static dyn RsaEncoding, message: &[u8]) -> Vec<u8> {
        let pair = RsaKeyPair::from_pkcs8(&self.key.to_pkcs8().unwrap()).unwrap();
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(scheme, &SystemRandom::new(), message, &mut signature).unwrap();
        signature
    }

    /// A token with a good signature over these texts.
    pub(crate) fn signed(&self, header: &str, payload: &str) -> String {
        self.signed_parts(&encode(header), &encode(payload))
    }

    fn signed_parts(&self, header: &str, payload: &str) -> String {
        let input = format!("{header}.{payload}");
        let signature = self.signature(input.as_bytes());
        format!("{input}.{}", encode(signature))
    }

    fn header(&self) -> Value {
        json!({
            "alg": self.key.public_key().algorithm().as_str(),
            "typ": "at+jwt",
            "kid": self.key.public_key().kid(),
        })
    }

    /// A token with a good signature and one header member replaced, or removed by null.
    pub(crate) fn with_header(&self, name: &str, value: Value) -> String {
        self.signed(&replaced(self.header(), name, value).to_string(), &self.claims.to_string())
    }

    /// A token with a good signature and one claim replaced.
    pub(crate) fn with_claim(&self, name: &str, value: Value) -> String {
        let mut claims = self.claims.clone();
        claims[name] = value;
        self.signed(&self.header().to_string(), &claims.to_string())
    }

    /// A token with a good signature whose claim `name` is this text, which need not be JSON that a `Value` can hold.
    fn with_raw_claim(&self, name: &str, text: &str) -> String {
        let others = replaced(self.claims.clone(), name, Value::Null).to_string();
        self.signed(&self.header().to_string(), &format!("{{\"{name}\":{text},{}", &others[1..]))
    }

    fn parts(&self) -> (&str, &str, &str) {
        let mut parts = self.genuine.split('.');
        let mut next = || parts.next().unwrap_or_default();
        (next(), next(), next())
    }

    fn shapes(&self, table: &mut Table) {
        let (header, payload, signature) = self.parts();
        for (name, token) in [
            ("empty", String::new()),
            ("one part", header.to_owned()),
            ("two parts", format!("{header}.{payload}")),
            ("no first part", format!(".{payload}.{signature}")),
            ("four parts", format!("{}.", self.genuine)),
            ("four full parts", format!("{}.{signature}", self.genuine)),
            ("dots alone", "..".to_owned()),
            ("a million dots", ".".repeat(1_000_000)),
            ("a megabyte", "A".repeat(1 << 20)),
            ("a header of a megabyte", format!("{}.{payload}.{signature}", "A".repeat(1 << 20))),
            ("a signature of a megabyte", format!("{}{}", self.genuine, "A".repeat(1 << 20))),
            ("a good token that is too long", self.with_claim("x", json!("x".repeat(16 * 1024)))),
            (
                "JSON serialisation",
                json!({"payload": payload, "protected": header, "signature": signature}).to_string(),
            ),
            ("an opaque word", "hunter2".to_owned()),
        ] {
            add(table, name, token, Malformed);
        }
        let empty = format!("{}....", encode(r#"{"alg":"dir","enc":"A256GCM","cty":"JWT","kid":"k"}"#));
        let rsa = encode(r#"{"alg":"RSA1_5","enc":"A256GCM","cty":"JWT","kid":"k"}"#);
        for (name, token) in [
            ("five parts, as a JWE", format!("{header}.{payload}.{signature}.{payload}.{signature}")),
            ("a JWE of nothing", empty),
            ("a JWE for RSA", format!("{rsa}.{signature}.AAAAAAAAAAAAAAAA.{payload}.AAAAAAAAAAAAAAAAAAAAAA")),
            ("four dots", "....".to_owned()),
            ("four dots and a megabyte", format!("....{}", "A".repeat(1 << 20))),
        ] {
            add(table, name, token, Undecryptable);
        }
        add(table, "a refresh token", "vrt_AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA", WrongType);
    }

    fn encodings(&self, table: &mut Table) {
        let (header, payload, signature) = self.parts();
        for junk in ["=", "==", "\n", "\r\n", " ", "\t", "\0", "%3D", "+", "/", "é"] {
            for (part, token) in [
                ("header", format!("{header}{junk}.{payload}.{signature}")),
                ("payload", format!("{header}.{payload}{junk}.{signature}")),
                ("signature", format!("{header}.{payload}.{signature}{junk}")),
            ] {
                add(table, format!("{junk:?} after the {part}"), token, Malformed);
            }
            add(table, format!("{junk:?} before it"), format!("{junk}{}", self.genuine), Malformed);
        }
        // Under a good signature, too: a signature covers the text, not what it decodes to.
        add(table, "a padded payload, signed", self.signed_parts(header, &pad(payload)), Malformed);
        add(table, "a padded header, signed", self.signed_parts(&pad(header), payload), Malformed);
        add(table, "a padded signature", format!("{header}.{payload}.{}", pad(signature)), Malformed);
        // 64 bytes are 86 letters, of whose last the lower four bits mean nothing; of 256 bytes and 342 letters likewise.
        let loose = format!("{header}.{payload}.{}", next_letter(signature));
        add(table, "stray bits at the end of the signature", loose, Malformed);
        let spaced = format!("{} ", self.claims);
        let loose = (0..3).map(|n| encode(format!("{spaced}{}", " ".repeat(n)))).find(|p| p.len() % 4 != 0);
        let loose = next_letter(&loose.unwrap_or_default());
        add(table, "stray bits at the end of the payload", self.signed_parts(header, &loose), Malformed);
    }

    fn algorithms(&self, table: &mut Table) {
        let public = self.key.public_key();
        let claims = self.claims.to_string();
        let jwk = public.to_jwk();
        let numbers: &[&str] = if public.algorithm() == Algorithm::Rs256 { &["n", "e"] } else { &["x", "y"] };
        let raw: Vec<u8> = numbers
            .iter()
            .flat_map(|c| URL_SAFE_NO_PAD.decode(jwk[*c].as_str().unwrap_or_default()).unwrap_or_default())
            .collect();
        let (der, pem) = encodings(self.key);
        for alg in ["none", "None", "NONE", "nOnE", "none ", "", "null", "\u{0}none"] {
            let input =
                format!("{}.{}", encode(replaced(self.header(), "alg", json!(alg)).to_string()), encode(&claims));
            add(table, format!("alg {alg:?}, no signature"), format!("{input}."), Malformed);
            add(table, format!("alg {alg:?}, a good signature"), self.with_header("alg", json!(alg)), Malformed);
        }
        for (name, secret) in [
            ("the public key's bytes", raw.clone()),
            ("the public point", [&[4], &raw[..]].concat()),
            ("the public JWK", jwk.to_string().into_bytes()),
            ("its first number as text", jwk[numbers[0]].as_str().unwrap_or_default().into()),
            ("the public key in DER", der),
            ("the public key in PEM", pem.clone().into_bytes()),
            ("the public key in PEM without its last line end", pem.trim_end().into()),
            ("the kid", public.kid().into()),
            ("nothing", Vec::new()),
        ] {
            let input =
                format!("{}.{}", encode(replaced(self.header(), "alg", json!("HS256")).to_string()), encode(&claims));
            let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), input.as_bytes());
            add(table, format!("HS256 with {name} as the secret"), format!("{input}.{}", encode(tag)), Malformed);
        }
        for alg in [
            "HS256", "HS384", "HS512", "RS384", "RS512", "PS256", "PS384", "PS512", "RS1", "rs256", "ES384", "ES512",
            "ES256K", "Ed25519", "es256", "EDDSA", "A256KW",
        ] {
            add(table, format!("alg {alg}"), self.with_header("alg", json!(alg)), Malformed);
        }
        for other in Algorithm::ALL.into_iter().filter(|other| *other != public.algorithm()) {
            let named = self.with_header("alg", json!(other.as_str()));
            add(table, format!("the name of {other}"), named, BadSignature);
            let stranger = SigningKeyPair::generate(other).unwrap();
            let header = replaced(self.header(), "alg", json!(other.as_str())).to_string();
            let token = Forge::new(&stranger, self.genuine).signed(&header, &claims);
            add(table, format!("another key, of {other}, under this kid"), token, BadSignature);
        }
        for value in [Value::Null, json!(1), json!(["ES256"]), json!({"alg": "ES256"}), json!(true)] {
            let header = self.header().to_string();
            let good = format!("\"{}\"", public.algorithm());
            let token = self.signed(&header.replace(&good, &value.to_string()), &claims);
            add(table, format!("alg as {value}"), token, Malformed);
        }
    }

    fn headers(&self, table: &mut Table) {
        for (name, value) in [
            ("crit", json!([])),
            ("crit", json!(["exp"])),
            ("crit", json!(["b64"])),
            ("crit", json!(["x"])),
            ("crit", json!("exp")),
            ("crit", json!(true)),
            ("b64", json!(false)),
            ("b64", json!(true)),
        ] {
            add(table, format!("{name} {value}"), self.with_header(name, value), Malformed);
        }
        let null =
            self.signed(&format!("{{\"crit\":null,{}", &self.header().to_string()[1..]), &self.claims.to_string());
        add(table, "crit null", null, Malformed);
        let (header, payload) = (self.header().to_string(), self.claims.to_string());
        let escaped = header.replacen('{', r#"{"\u0063rit":["exp"],"#, 1);
        add(table, "crit under another spelling", self.signed(&escaped, &payload), Malformed);
        for name in ["alg", "kid", "typ"] {
            let twice = header.replacen('{', &format!("{{\"{name}\":{},", self.header()[name]), 1);
            add(table, format!("{name} twice"), self.signed(&twice, &payload), Malformed);
        }
        for (name, text) in [
            ("an unknown member twice", header.replacen('{', r#"{"x":1,"x":1,"#, 1)),
            ("a member twice within a member", header.replacen('{', r#"{"x":{"y":1,"y":2},"#, 1)),
            ("alg twice, once escaped", header.replacen('{', r#"{"\u0061lg":"none","#, 1)),
            ("a header and more", format!("{header}{{}}")),
            ("an array as header", format!("[{header}]")),
            ("a string as header", "\"header\"".to_owned()),
            ("an empty header", String::new()),
            ("a header without members", "{}".to_owned()),
            ("a deep header", header.replacen('{', &format!("{{\"x\":{}{},", "[".repeat(1000), "]".repeat(1000)), 1)),
        ] {
            add(table, name, self.signed(&text, &payload), Malformed);
        }
        let bytes = [header.as_bytes(), b"\xff"].concat();
        add(table, "a header that is no UTF-8", self.signed_parts(&encode(bytes), &encode(&payload)), Malformed);
        // A key of one's own, offered in the header, in every way there is.
        let own = SigningKeyPair::generate(self.key.public_key().algorithm()).unwrap();
        for (name, value) in [
            ("jwk", own.public_key().to_jwk()),
            ("jku", json!("http://127.0.0.1:9/jwks.json")),
            ("x5u", json!("http://127.0.0.1:9/cert.pem")),
            ("x5c", json!(["MIIB"])),
        ] {
            let header = replaced(self.header(), name, value);
            let token = Forge::new(&own, self.genuine).signed(&header.to_string(), &payload);
            add(table, format!("one's own key in {name}"), token, BadSignature);
            let named = replaced(header, "kid", json!(own.public_key().kid()));
            let token = Forge::new(&own, self.genuine).signed(&named.to_string(), &payload);
            add(table, format!("one's own key in {name}, and its kid"), token, UnknownKey);
        }
    }

    fn types(&self, table: &mut Table) {
        for typ in [
            "JWT",
            "jwt",
            "rt+jwt",
            "id+jwt",
            "dpop+jwt",
            "secevent+jwt",
            "at",
            "at+jwt ",
            " at+jwt",
            "at+jwt\u{0}",
            "",
            "text/at+jwt",
            "application/application/at+jwt",
        ] {
            add(table, format!("typ {typ:?}"), self.with_header("typ", json!(typ)), WrongType);
        }
        add(table, "no typ", self.with_header("typ", Value::Null), WrongType);
        add(table, "typ as an array", self.with_header("typ", json!(["at+jwt"])), Malformed);
        add(table, "typ as a number", self.with_header("typ", json!(1)), Malformed);
    }

    fn kids(&self, table: &mut Table) {
        let kid = self.key.public_key().kid();
        for strange in [
            "",
            "x",
            "../../../../../../dev/null",
            "/dev/null",
            "file:///dev/null",
            "http://127.0.0.1:9/key",
            "' OR '1'='1",
            "x' UNION SELECT 'AA",
            "| whoami",
            "\u{0}",
            "*",
            &format!("{kid}\u{0}"),
            &format!("{kid} "),
            &format!("./{kid}"),
            &kid.to_lowercase(),
            &kid[..kid.len() - 1],
            &"k".repeat(8192),
        ] {
            add(
                table,
                format!("kid {:?}", &strange[..strange.len().min(40)]),
                self.with_header("kid", json!(strange)),
                UnknownKey,
            );
        }
        add(table, "no kid", self.with_header("kid", Value::Null), Malformed);
        add(table, "kid as a number", self.with_header("kid", json!(0)), Malformed);
        add(table, "kid as an array", self.with_header("kid", json!([kid])), Malformed);
        let stranger = SigningKeyPair::generate(self.key.public_key().algorithm()).unwrap();
        let token = Forge::new(&stranger, self.genuine).signed(&self.header().to_string(), &self.claims.to_string());
        add(table, "another key under this kid", token, BadSignature);
        let token = stranger.sign("at+jwt", &self.claims).unwrap();
        add(table, "another key under its own kid", token, UnknownKey);
    }

    fn signatures(&self, table: &mut Table) {
        let (header, payload, signature) = self.parts();
        let good = URL_SAFE_NO_PAD.decode(signature).unwrap_or_default();
        let input = format!("{header}.{payload}");
        let mut bad: Vec<(&str, Vec<u8>)> = vec![
            ("no signature", Vec::new()),
            ("a byte short", good[..good.len() - 1].to_vec()),
            ("a byte more", [&good[..], &[0]].concat()),
            ("a zero first", [&[0], &good[..]].concat()),
            ("twice", good.repeat(2)),
            ("its first half", good[..good.len() / 2].to_vec()),
            ("all zero", vec![0; good.len()]),
            ("all ones", vec![0xff; good.len()]),
            ("one", [&vec![0; good.len() - 1][..], &[1]].concat()),
            ("first 32 bytes zero", [&[0; 32], &good[32..]].concat()),
            ("from the 32nd byte on zero", [&good[..32], &vec![0; good.len() - 32]].concat()),
            ("first 32 bytes one", [&ONE[..], &good[32..]].concat()),
            ("rotated", [&good[32..], &good[..32]].concat()),
            ("the neutral element and zero", [&[1], &vec![0; good.len() - 1][..]].concat()),
        ];
        match self.key.public_key().algorithm() {
            Algorithm::Es256 => {
                bad.push(("r the group's order", [&P256_ORDER[..], &good[32..]].concat()));
                bad.push(("s the group's order", [&good[..32], &P256_ORDER[..]].concat()));
                let document = self.key.to_pkcs8().unwrap();
                let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &document).unwrap();
                let der = pair.sign(&SystemRandom::new(), input.as_bytes()).unwrap();
                bad.push(("DER instead of r and s", der.as_ref().to_vec()));
            }
            Algorithm::EdDsa => {
                bad.push(("s and the group's order", [&good[..32], &plus(&good[32..], &ED25519_ORDER)].concat()));
            }
            Algorithm::Rs256 => {
                let modulus = URL_SAFE_NO_PAD.decode(self.key.public_key().to_jwk()["n"].as_str().unwrap()).unwrap();
                bad.push(("the modulus", modulus));
                bad.push(("PSS instead of PKCS #1", self.rsa_signature(&RSA_PSS_SHA256, input.as_bytes())));
                bad.push(("SHA-512 instead of SHA-256", self.rsa_signature(&RSA_PKCS1_SHA512, input.as_bytes())));
                let shorter = SigningKeyPair::generate(Algorithm::Es256).unwrap();
                bad.push(("64 bytes of another kind", Forge::new(&shorter, self.genuine).signature(input.as_bytes())));
                // What a careless verifier takes for PS256 is refused by its name already.
                let header = replaced(self.header(), "alg", json!("PS256")).to_string();
                let pss = format!("{}.{payload}", encode(header));
                let signature = self.rsa_signature(&RSA_PSS_SHA256, pss.as_bytes());
                add(table, "a good PS256 signature", format!("{pss}.{}", encode(signature)), Malformed);
            }
        }
        for (name, signature) in bad {
            add(table, format!("signature: {name}"), format!("{input}.{}", encode(signature)), BadSignature);
        }
        for bit in [0, 255, 256, 511] {
            let mut flipped = good.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            add(table, format!("signature: bit {bit} flipped"), format!("{input}.{}", encode(flipped)), BadSignature);
        }
        let mut claims = self.claims.clone();
        claims["roles"] = json!(["admin"]);
        let swapped = format!("{header}.{}.{signature}", encode(claims.to_string()));
        add(table, "another payload under the signature", swapped, BadSignature);
        add(table, "no payload under the signature", format!("{header}..{signature}"), BadSignature);
        let header = encode(format!(" {}", self.header()));
        add(table, "another header under the signature", format!("{header}.{payload}.{signature}"), BadSignature);
    }

    fn json(&self, table: &mut Table) {
        let (header, claims) = (self.header().to_string(), self.claims.to_string());
        let deep = format!("{{\"x\":{}1{},", "{\"y\":".repeat(200), "}".repeat(200));
        for (name, text) in [
            ("an empty payload", String::new()),
            ("a payload without members", "{}".to_owned()),
            ("null as payload", "null".to_owned()),
            ("an array as payload", format!("[{claims}]")),
            ("a string as payload", json!(claims).to_string()),
            ("a payload and more", format!("{claims}x")),
            ("two payloads", format!("{claims}{claims}")),
            ("a cut payload", claims[..claims.len() - 1].to_owned()),
            ("a byte order mark", format!("\u{feff}{claims}")),
            ("a comment", format!("{claims}// good")),
            ("a trailing comma", format!("{},}}", &claims[..claims.len() - 1])),
            ("a nested token", self.genuine.to_owned()),
            ("an unknown claim twice", claims.replacen('{', r#"{"x":1,"x":1,"#, 1)),
            ("a member twice within a claim", claims.replacen('{', r#"{"x":[{"y":1,"y":1}],"#, 1)),
            ("sub twice, once escaped", claims.replacen('{', &format!("{{\"\\u0073ub\":{},", self.claims["sub"]), 1)),
            ("a deep claim", claims.replacen('{', &deep, 1)),
        ] {
            add(table, name, self.signed(&header, &text), Malformed);
        }
        for (name, value) in self.claims.as_object().into_iter().flatten() {
            let twice = claims.replacen('{', &format!("{{\"{name}\":{value},"), 1);
            add(table, format!("{name} twice"), self.signed(&header, &twice), Malformed);
        }
        let bytes = [claims.as_bytes(), b"\xff"].concat();
        add(table, "a payload that is no UTF-8", self.signed_parts(&encode(&header), &encode(bytes)), Malformed);
        add(table, "a lone surrogate", self.with_raw_claim("client_id", r#""\ud800""#), Malformed);
    }

    fn missing(&self, table: &mut Table) {
        for name in
            ["iss", "sub", "aud", "exp", "iat", "jti", "sid", "client_id", "roles", "auth_time", "amr", "acr", "epoch"]
        {
            let without = replaced(self.claims.clone(), name, Value::Null).to_string();
            add(table, format!("no {name}"), self.signed(&self.header().to_string(), &without), Malformed);
            add(table, format!("{name} null"), self.with_claim(name, Value::Null), Malformed);
            add(table, format!("{name} an object"), self.with_claim(name, json!({"x": 1})), Malformed);
            add(table, format!("{name} true"), self.with_claim(name, json!(true)), Malformed);
        }
        add(table, "scope null", self.with_claim("scope", Value::Null), Malformed);
    }

    fn dates(&self, table: &mut Table) {
        for name in ["exp", "iat", "auth_time", "nbf"] {
            let now = &self.claims["iat"];
            for text in [
                "null",
                "[]",
                &format!("[{now}]"),
                "\"\"",
                &format!("\"{now}\""),
                "\"2100-01-01T00:00:00Z\"",
                "\"Infinity\"",
                "NaN",
                "Infinity",
                "-1",
                "-0.5",
                &format!("-{now}"),
                "1e400",
                "-1e400",
                "1e300",
                "1e19",
                "253402300800",
                "9223372036854775807",
                "9223372036854775808",
                "18446744073709551615",
                "18446744073709551616",
                "99999999999999999999999999999999999999",
                "0x7fffffff",
                "01700000000",
                "+1700000000",
                "1700000000.",
                "true",
                "{}",
            ] {
                add(table, format!("{name} {text}"), self.with_raw_claim(name, text), Malformed);
            }
        }
    }

    fn values(&self, table: &mut Table) {
        for (name, value) in [
            ("aud", json!([])),
            ("aud", json!("")),
            ("aud", json!([""])),
            ("aud", json!(["vouchsafe", 1])),
            ("aud", json!(["vouchsafe", null])),
            ("aud", json!([["vouchsafe"]])),
            ("aud", json!(1)),
            ("aud", json!("a b")),
            ("sub", json!("")),
            ("sub", json!("admin")),
            ("sub", json!(self.claims["sub"].as_str().unwrap_or_default().to_uppercase())),
            ("sub", json!(self.claims["sub"].as_str().unwrap_or_default().replace('-', ""))),
            ("jti", json!("1")),
            ("sid", json!("")),
            ("iss", json!("")),
            ("iss", json!([self.claims["iss"]])),
            ("client_id", json!("")),
            ("client_id", json!(["x"])),
            ("scope", json!(["a"])),
            ("scope", json!("a\"b")),
            ("roles", json!("admin")),
            ("roles", json!([1])),
            ("roles", json!([null])),
            ("amr", json!("pwd")),
            ("acr", json!(1)),
            ("epoch", json!("1")),
            ("epoch", json!(-1)),
            ("epoch", json!(1.5)),
            ("epoch", json!(u64::MAX)),
        ] {
            add(table, format!("{name} {value}"), self.with_claim(name, value), Malformed);
        }
        let iss = self.claims["iss"].as_str().unwrap_or_default();
        for other in [
            "https://evil.example".to_owned(),
            format!("{iss}/"),
            format!("{iss} "),
            format!("{iss}\u{0}"),
            format!("{iss}.evil.example"),
            iss.to_uppercase(),
            iss[..iss.len() - 1].to_owned(),
        ] {
            add(table, format!("iss {other:?}"), self.with_claim("iss", json!(other)), WrongIssuer);
        }
    }

    fn times(&self, table: &mut Table) {
        let issued = self.claims["iat"].as_i64().unwrap_or_default();
        for exp in [json!(0), json!(1), json!(issued), json!(issued - 3600), json!(0.5)] {
            add(table, format!("exp {exp}"), self.with_claim("exp", exp), Expired);
        }
        add(table, "exp -0", self.with_raw_claim("exp", "-0"), Expired);
        add(table, "nbf in an hour", self.with_claim("nbf", json!(issued + 3600)), NotYetValid);
        add(table, "iat in an hour", self.with_claim("iat", json!(issued + 3600)), NotYetValid);
    }
}

/// The public key as a `SubjectPublicKeyInfo` in DER and in PEM: what people hand to a library that takes either for a secret.
fn encodings(key: &SigningKeyPair) -> (Vec<u8>, String) {
    let document = key.to_pkcs8().unwrap();
    let der = match key.public_key().algorithm() {
        Algorithm::Es256 => {
            let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &document).unwrap();
            AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key()).unwrap().as_ref().to_vec()
        }
        Algorithm::EdDsa => {
            let pair = Ed25519KeyPair::from_pkcs8(&document).unwrap();
            AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key()).unwrap().as_ref().to_vec()
        }
        Algorithm::Rs256 => {
            let pair = RsaKeyPair::from_pkcs8(&document).unwrap();
            AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key()).unwrap().as_ref().to_vec()
        }
    };
    let text = STANDARD.encode(&der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"));
    (der, pem)
}

fn replaced(mut object: Value, name: &str, value: Value) -> Value {
    if let Some(members) = object.as_object_mut() {
        members.remove(name);
        if !value.is_null() {
            members.insert(name.to_owned(), value);
        }
    }
    object
}

/// With as much padding as other people write, and with one letter where they write none.
fn pad(part: &str) -> String {
    let padding = match part.len() % 4 {
        2 => "==",
        _ => "=",
    };
    format!("{part}{padding}")
}

/// The text with its last letter replaced by the next of the alphabet: the bits that mean nothing are no longer zero.
fn next_letter(part: &str) -> String {
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let last = part.chars().next_back().and_then(|c| ALPHABET.find(c)).unwrap_or_default();
    let next = ALPHABET.chars().nth((last + 1) % 64).unwrap_or('A');
    format!("{}{next}", &part[..part.len() - 1])
}

/// Little-endian addition.
fn plus(a: &[u8], b: &[u8; 32]) -> Vec<u8> {
    let mut carry = 0;
    let digits = a.iter().zip(b).map(|(a, b)| {
        let sum = u16::from(*a) + u16::from(*b) + carry;
        carry = sum >> 8;
        sum.to_le_bytes()[0]
    });
    digits.collect()
}

/// One, big-endian.
const ONE: [u8; 32] = {
    let mut one = [0; 32];
    one[31] = 1;
    one
};

/// SEC 2 §2.4.2, big-endian.
const P256_ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa,
    0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

/// RFC 8032 §5.1, little-endian.
const ED25519_ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];
