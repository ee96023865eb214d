use proptest::prelude::*;

use super::*;

/// Counts, so that no two keys or nonces of a test are the same.
struct Counting(std::sync::atomic::AtomicU8);

impl Entropy for Counting {
    fn fill(&self, bytes: &mut [u8]) {
        for byte in bytes {
            *byte = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }
}

const SIGNED: &str = "eyJhbGciOiJFUzI1NiJ9.e30.c2lnbmF0dXJl";

fn entropy() -> Counting {
    Counting(7.into())
}

fn shared(alg: &str, kid: &str, first: u8) -> Value {
    let k = base64url::encode(&(first..first + 32).collect::<Vec<_>>());
    json!({"kty": "oct", "alg": alg, "kid": kid, "k": k})
}

/// RFC 7518 appendix C: Bob.
fn curve() -> Value {
    json!({
        "kty": "EC", "crv": "P-256", "alg": "ECDH-ES", "kid": "bob",
        "x": "weNJy2HscCSM6AEDTDg04biOvhFhyyWvOHQfeF_PxMQ",
        "y": "e8lnCO-AlStT-NJVX-crhB7QRYhiix03illJOVAOyck",
        "d": "VEmDZpDXXK8p8N0Cndsxs924q6nS1RXFASRl6BfUqdw",
    })
}

fn key(jwk: &Value) -> JweKey {
    JweKey::from_jwk(jwk).unwrap()
}

fn all() -> [JweKey; 3] {
    [key(&shared("dir", "d", 1)), key(&shared("A256KW", "w", 60)), key(&curve())]
}

fn keys(keys: &[JweKey]) -> DecryptionKeys {
    DecryptionKeys::from_keys(keys.to_vec()).unwrap()
}

fn opens(token: &str, keys: &DecryptionKeys) -> Option<String> {
    decrypt(token, keys).ok().map(|opened| opened.token().to_owned())
}

/// A token with this header, everything else as it should be for `key`.
fn with_header(key: &JweKey, header: &Value) -> String {
    let sealed = key.new_cek(&entropy()).unwrap();
    let mut header = header.clone();
    if let (Some(epk), None) = (sealed.epk, header.get("epk")) {
        header["epk"] = epk;
    }
    let content = Content { header: &header.to_string(), encrypted_key: &sealed.encrypted_key, iv: random(&entropy()) };
    content.encrypt(&sealed.cek, SIGNED).unwrap()
}

#[test]
fn the_content_of_rfc_7516_a_1_comes_out() {
    let cek = Cek::new([
        177, 161, 244, 128, 84, 143, 225, 115, 63, 180, 3, 255, 107, 154, 212, 246, 138, 7, 110, 91, 112, 46, 34, 105,
        47, 130, 203, 46, 122, 234, 64, 252,
    ]);
    let iv = [227, 197, 117, 252, 2, 219, 233, 68, 180, 225, 77, 219];
    let content = Content { header: r#"{"alg":"RSA-OAEP","enc":"A256GCM"}"#, encrypted_key: &[], iv };
    let text = content.encrypt(&cek, "The true sign of intelligence is not knowledge but imagination.").unwrap();
    assert_eq!(
        text,
        concat!(
            "eyJhbGciOiJSU0EtT0FFUCIsImVuYyI6IkEyNTZHQ00ifQ..48V1_ALb6US04U3b.",
            "5eym8TW_c8SuK0ltJ3rpYIzOeDQz7TALvtu6UG9oMo4vpzs9tX_EFShS8iB7j6jiSdiwkIr3ajwQzaBtQD_A.",
            "XFBoMYUZodetZdvTiFvSkQ",
        )
    );
}

#[test]
fn a_token_opens_with_its_own_key_and_no_other() {
    for key in all() {
        let (one, two) = (encrypt(SIGNED, &key, &entropy()).unwrap(), encrypt(SIGNED, &key, &entropy()).unwrap());
        assert_eq!(one == two, key.management() != KeyManagement::EcdhEs, "an ephemeral key is new each time");
        assert!(is_encrypted(&one) && !is_encrypted(SIGNED));
        let opened = decrypt(&one, &keys(&all())).unwrap();
        assert_eq!((opened.token(), opened.key().kid()), (SIGNED, key.kid()));
        let others: Vec<_> = all().into_iter().filter(|other| other.kid() != key.kid()).collect();
        assert_eq!(opens(&one, &keys(&others)), None);
        assert_eq!(opens(&one, &DecryptionKeys::default()), None);
    }
    // Another key of the same name, and the same key for another way.
    let [dir, wrapping, _] = all();
    for (made_for, held) in [
        (&dir, shared("dir", "d", 2)),
        (&wrapping, shared("A256KW", "w", 61)),
        (&dir, shared("A256KW", "d", 1)),
        (&wrapping, shared("dir", "w", 60)),
    ] {
        assert_eq!(opens(&encrypt(SIGNED, made_for, &entropy()).unwrap(), &keys(&[key(&held)])), None);
    }
}

/// With an unknown `kid`, and with one of a key for another way, the work is that of the header's `alg`: how long it takes does not tell
/// whether there is such a key.
#[test]
fn the_work_follows_from_the_header_and_not_from_the_name() {
    let held = keys(&all());
    for key in all() {
        let way = key.management();
        assert!(held.to_work_with(key.kid(), way).is_some_and(|(found, is_it)| is_it && found.kid() == key.kid()));
        for kid in ["unknown", "", "d", "w", "bob"].into_iter().filter(|kid| *kid != key.kid()) {
            let (other, is_it) = held.to_work_with(kid, way).unwrap();
            assert_eq!((other.management(), is_it), (way, false), "{kid}");
        }
        // None of that way is held: one and the same for every name.
        let others: Vec<_> = all().into_iter().filter(|other| other.kid() != key.kid()).collect();
        let others = keys(&others);
        let kids = ["unknown", "d", "w", "bob"].map(|kid| others.to_work_with(kid, way).unwrap());
        assert!(kids.iter().all(|(other, is_it)| other.kid() == kids[0].0.kid() && !is_it));
    }
    assert!(DecryptionKeys::default().to_work_with("d", KeyManagement::Dir).is_none());
}

#[test]
fn how_long_it_gets_is_known_before() {
    let keys = all().into_iter().chain([key(&shared("dir", &"k".repeat(127), 1))]);
    for key in keys {
        for bytes in [1, 2, 3, 4, 1_000, 11_000] {
            let made = encrypt(&"x".repeat(bytes), &key, &entropy()).unwrap();
            assert_eq!(encrypted_len(bytes, &key), made.len(), "{bytes} {key:?}");
        }
    }
}

#[test]
fn what_nobody_can_open_is_told_from_what_another_can() {
    for key in all() {
        let token = encrypt(SIGNED, &key, &entropy()).unwrap();
        assert!(may_be_opened_elsewhere(&token));
        let parts: Vec<_> = token.split('.').collect();
        let empty = format!("{}.{}.{}..{}", parts[0], parts[1], parts[2], parts[4]);
        let long = format!("{token}{}", "A".repeat(MAX_TOKEN_LEN));
        for other in [parts[..4].join("."), empty, long, token.replacen("ey", "xy", 1)] {
            assert!(!may_be_opened_elsewhere(&other), "{other}");
        }
    }
    let with = |header: &str| format!("{}..AAAA.AAAA.AAAA", base64url::encode(header.as_bytes()));
    assert!(may_be_opened_elsewhere(&with(r#"{"alg":"RSA-OAEP-256","enc":"A128CBC-HS256","zip":"DEF"}"#)));
    for header in ["", "x", "[]", "{}", r#"{"alg":"ES256","typ":"at+jwt","kid":"k"}"#, r#"{"alg":1,"enc":"A256GCM"}"#] {
        assert!(!may_be_opened_elsewhere(&with(header)), "{header}");
    }
    for text in ["....", "", SIGNED, "vrt_AAAA"] {
        assert!(!may_be_opened_elsewhere(text), "{text}");
    }
}

#[test]
fn a_public_key_encrypts_and_opens_nothing() {
    let mut public = curve();
    public.as_object_mut().unwrap().remove("d");
    let token = encrypt(SIGNED, &key(&public), &entropy()).unwrap();
    assert_eq!(opens(&token, &keys(&all())).as_deref(), Some(SIGNED));
    assert_eq!(DecryptionKeys::from_keys(vec![key(&public)]).err(), Some(DecryptionKeysError::Public("bob".into())));
}

/// Every byte: one that is not covered by the tag would be a second spelling.
#[test]
fn a_token_with_any_byte_changed_is_refused_with_one_error() {
    let held = keys(&all());
    for key in all() {
        let token = encrypt(SIGNED, &key, &entropy()).unwrap();
        for at in 0..token.len() {
            for with in ['A', 'B', 'w', '_', '.', '='] {
                let mut changed = token.clone();
                changed.replace_range(at..=at, with.encode_utf8(&mut [0; 4]));
                assert_eq!(opens(&changed, &held).is_some(), changed == token, "{with} at {at} of {token}");
            }
        }
        for end in 0..token.len() {
            assert_eq!(opens(&token[..end], &held), None, "{end}");
        }
    }
}

#[test]
fn a_header_is_read_strictly() {
    for key in all() {
        let alg = key.management().as_str();
        let good = json!({"alg": alg, "enc": "A256GCM", "cty": "JWT", "kid": key.kid()});
        let held = keys(std::slice::from_ref(&key));
        for (name, value, opened) in [
            ("typ", json!("JWT"), true),
            ("cty", json!("jwt"), true),
            ("jku", json!("https://x"), true),
            ("p2c", json!(1_000_000_000), true),
            ("cty", json!("at+jwt"), false),
            ("cty", json!(null), false),
            ("alg", json!("RSA1_5"), false),
            ("alg", json!("PBES2-HS256+A128KW"), false),
            ("alg", json!(if alg == "dir" { "A256KW" } else { "dir" }), false),
            ("alg", json!(alg.to_lowercase() + " "), false),
            ("enc", json!("A128GCM"), false),
            ("enc", json!("A256CBC-HS512"), false),
            ("enc", json!(["A256GCM"]), false),
            ("kid", json!("other"), false),
            ("kid", json!(1), false),
            ("zip", json!("DEF"), false),
            ("crit", json!(["exp"]), false),
            ("b64", json!(true), false),
            ("apu", json!("QWxpY2U"), false),
            ("epk", json!({"kty": "EC", "crv": "P-256"}), false),
            ("epk", json!("x"), false),
        ] {
            let mut header = good.clone();
            header[name] = value.clone();
            assert_eq!(opens(&with_header(&key, &header), &held).is_some(), opened, "{alg}: {name} {value}");
        }
        for name in ["alg", "enc", "cty", "kid"] {
            let mut header = good.clone();
            header.as_object_mut().unwrap().remove(name);
            assert_eq!(opens(&with_header(&key, &header), &held), None, "{alg} without {name}");
        }
        assert!(opens(&with_header(&key, &good), &held).is_some());
    }
}

/// The key decides, also where the header asks for what would work.
#[test]
fn a_header_cannot_choose_the_way() {
    let direct = key(&shared("dir", "d", 1));
    let epk = json!({"kty": "EC", "crv": "P-256", "x": curve()["x"], "y": curve()["y"]});
    let header = json!({"alg": "ECDH-ES", "enc": "A256GCM", "cty": "JWT", "kid": "d", "epk": epk});
    assert_eq!(opens(&with_header(&direct, &header), &keys(&[direct])), None);
}

#[test]
fn an_ephemeral_key_must_be_a_point_and_a_public_one() {
    let bob = key(&curve());
    let held = keys(std::slice::from_ref(&bob));
    let header = |epk: Value| json!({"alg": "ECDH-ES", "enc": "A256GCM", "cty": "JWT", "kid": "bob", "epk": epk});
    let zero = base64url::encode(&[0; 32]);
    for epk in [
        json!({"kty": "EC", "crv": "P-256", "x": zero, "y": zero}),
        json!({"kty": "EC", "crv": "P-256", "x": curve()["x"], "y": curve()["x"]}),
        json!({"kty": "EC", "crv": "P-384", "x": curve()["x"], "y": curve()["y"]}),
        json!({"kty": "OKP", "crv": "P-256", "x": curve()["x"], "y": curve()["y"]}),
        json!({"kty": "EC", "crv": "P-256", "x": "AA", "y": curve()["y"]}),
        json!({"kty": "EC", "crv": "P-256", "x": curve()["x"], "y": curve()["y"], "d": zero}),
        // A point, and not the one that was used.
        json!({"kty": "EC", "crv": "P-256", "x": curve()["x"], "y": curve()["y"]}),
    ] {
        assert_eq!(opens(&with_header(&bob, &header(epk.clone())), &held), None, "{epk}");
    }
}

#[test]
fn lengths_are_looked_at_first() {
    let held = keys(&all());
    for text in ["a".repeat(1 << 20), ".".repeat(1 << 20), format!("{}....", "a".repeat(MAX_TOKEN_LEN)), "....".into()]
    {
        assert_eq!(opens(&text, &held), None);
    }
    let long = "x".repeat(MAX_TOKEN_LEN);
    assert_eq!(encrypt(&long, &all()[0], &entropy()), Err(EncryptError::TooLong));
    let fits = "x".repeat(12_000);
    assert_eq!(opens(&encrypt(&fits, &all()[0], &entropy()).unwrap(), &held), Some(fits));
    let padded = json!({"alg": "dir", "enc": "A256GCM", "cty": "JWT", "kid": "d", "x": "x".repeat(MAX_HEADER)});
    assert_eq!(opens(&with_header(&all()[0], &padded), &held), None);
}

#[test]
fn keys_are_read_from_a_jwk_or_a_set() {
    let one = shared("dir", "d", 1);
    assert!(DecryptionKeys::from_json(&one.to_string()).unwrap().get("d").is_some());
    let set = json!({"keys": [one, curve()]}).to_string();
    let set = DecryptionKeys::from_json(&set).unwrap();
    assert!(set.get("bob").is_some() && set.get("x").is_none() && !set.is_empty());
    assert!(!format!("{set:?}").contains(shared("dir", "d", 1)["k"].as_str().unwrap()));
    for text in ["", "[]", "1", r#"{"keys":[]}"#, r#"{"keys":{}}"#, r#"{"keys":[],"keys":[]}"#] {
        assert_eq!(DecryptionKeys::from_json(text).err(), Some(DecryptionKeysError::Malformed), "{text}");
    }
    let refused = |text: &Value| DecryptionKeys::from_json(&text.to_string()).unwrap_err().to_string();
    assert!(refused(&json!({"keys": [one, {"kty": "RSA"}]})).contains("index 1"));
    assert!(refused(&json!({"keys": [one, one]})).contains("two keys with the kid \"d\""));
    assert!(refused(&shared("none", "d", 1)).contains("alg must be dir or A256KW"));
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "[A-Za-z0-9_.=é-]{0,120}") {
        prop_assert!(decrypt(&text, &keys(&all())).is_err());
    }

    #[test]
    fn no_header_makes_it_panic(header: Vec<u8>, wrapped: Vec<u8>, content: Vec<u8>) {
        let [header, wrapped, content] = [&header, &wrapped, &content].map(|bytes| base64url::encode(bytes));
        let text = format!("{header}.{wrapped}.AAAAAAAAAAAAAAAA.{content}.AAAAAAAAAAAAAAAAAAAAAA");
        prop_assert!(decrypt(&text, &keys(&all())).is_err());
    }

    #[test]
    fn no_wrapped_key_and_no_content_makes_it_panic(which in 0..3_usize, wrapped: [u8; 32], content: Vec<u8>) {
        let key = &all()[which];
        let mut header = json!({"alg": key.management().as_str(), "enc": "A256GCM", "cty": "JWT", "kid": key.kid()});
        if which == 2 {
            header["epk"] = json!({"kty": "EC", "crv": "P-256", "x": base64url::encode(&wrapped), "y": curve()["y"]});
        }
        let wrapped = if which == 1 { base64url::encode(&[&wrapped[..], &[0; 8]].concat()) } else { String::new() };
        let (header, content) = (base64url::encode(header.to_string().as_bytes()), base64url::encode(&content));
        let text = format!("{header}.{wrapped}.AAAAAAAAAAAAAAAA.{content}.AAAAAAAAAAAAAAAAAAAAAA");
        prop_assert!(decrypt(&text, &keys(&all())).is_err());
    }
}
