use super::*;

/// RFC 7518 appendix C: Bob.
fn bob() -> Value {
    json!({
        "kty": "EC", "crv": "P-256", "alg": "ECDH-ES",
        "x": "weNJy2HscCSM6AEDTDg04biOvhFhyyWvOHQfeF_PxMQ",
        "y": "e8lnCO-AlStT-NJVX-crhB7QRYhiix03illJOVAOyck",
        "d": "VEmDZpDXXK8p8N0Cndsxs924q6nS1RXFASRl6BfUqdw",
    })
}

fn oct(alg: &str) -> Value {
    let k = base64url::encode(&std::array::from_fn::<u8, 32, _>(|at| u8::try_from(at).unwrap()));
    json!({"kty": "oct", "alg": alg, "kid": "billing-1", "k": k})
}

fn with(mut jwk: Value, name: &str, value: impl Into<Value>) -> Value {
    jwk[name] = value.into();
    jwk
}

fn without(mut jwk: Value, name: &str) -> Value {
    jwk.as_object_mut().unwrap().remove(name);
    jwk
}

#[test]
fn the_agreement_of_rfc_7518_appendix_c_comes_out() {
    let ephemeral = json!({
        "kty": "EC", "crv": "P-256", "alg": "ECDH-ES",
        "x": "gI0GAILBdu7T53akrFmMyGcsF3n5dO7MmwNBHKW5SV0",
        "y": "SLW_xSffzlPWrHEVI30DHM_4egVwt3NQqeUD7nMFpps",
    });
    let alice = JweKey::from_jwk(&ephemeral).unwrap();
    let bob = JweKey::from_jwk(&bob()).unwrap();
    let (Secret::EcdhEs { public, .. }, Secret::EcdhEs { private: Some(private), .. }) =
        (&alice.0.secret, &bob.0.secret)
    else {
        panic!("both are keys on a curve");
    };
    let z = agree(private, UnparsedPublicKey::new(&ECDH_P256, public), (), |z| Ok(z.to_vec())).unwrap();
    let expected = [
        158, 86, 217, 29, 129, 113, 53, 211, 114, 131, 66, 131, 191, 132, 38, 156, 251, 49, 110, 163, 218, 128, 106,
        72, 246, 218, 167, 121, 140, 254, 144, 196,
    ];
    assert_eq!(z, expected);
    let derived = concat_kdf(&z, ("A128GCM", 128), [b"Alice", b"Bob"]);
    assert_eq!(base64url::encode(&derived[..16]), "VqqN6vgjbSBcIijNcacQGg");
}

#[test]
fn the_wrapping_of_rfc_3394_4_6_comes_out_and_opens() {
    let kek = SecretKey::new(std::array::from_fn(|at| u8::try_from(at).unwrap()));
    let cek: Vec<u8> = (0..16).map(|at| at * 0x11).chain(0..16).collect();
    let wrapped = [
        0x28, 0xc9, 0xf4, 0x04, 0xc4, 0xb8, 0x10, 0xf4, 0xcb, 0xcc, 0xb3, 0x5c, 0xfb, 0x87, 0xf8, 0x26, 0x3f, 0x57,
        0x86, 0xe2, 0xd8, 0x0e, 0xd3, 0x26, 0xcb, 0xc7, 0xf0, 0xe7, 0x1a, 0x99, 0xf4, 0x3b, 0xfb, 0x98, 0x8b, 0x9b,
        0x7a, 0x02, 0xdd, 0x21,
    ];
    assert_eq!(wrap(&kek, &Cek::new(cek.clone().try_into().unwrap())), Some(wrapped));
    assert_eq!(&unwrap(&kek, &wrapped).unwrap().0.expose()[..], cek);
    for at in 0..wrapped.len() {
        let mut changed = wrapped;
        changed[at] ^= 1;
        assert!(unwrap(&kek, &changed).is_none(), "{at}");
    }
    assert!(unwrap(&kek, &wrapped[..32]).is_none() && unwrap(&kek, &[]).is_none());
}

#[test]
fn a_key_is_named_and_shows_nothing() {
    let secret = JweKey::from_jwk(&oct("A256KW")).unwrap();
    assert_eq!((secret.kid(), secret.management(), secret.can_decrypt()), ("billing-1", KeyManagement::A256Kw, true));
    assert_eq!(format!("{secret:?}"), r#"JweKey { management: A256Kw, kid: "billing-1", .. }"#);
    assert_eq!(JweKey::from_jwk(&oct("dir")).unwrap().management(), KeyManagement::Dir);

    let (private, public) = (JweKey::from_jwk(&bob()).unwrap(), JweKey::from_jwk(&without(bob(), "d")).unwrap());
    assert_eq!(private.kid(), public.kid(), "its thumbprint");
    assert_eq!(private.kid().len(), 43);
    assert!(private.can_decrypt() && !public.can_decrypt());
    let named = with(with(bob(), "kid", "b"), "use", "enc");
    assert_eq!(JweKey::from_jwk(&with(named, "key_ops", json!(["deriveBits"]))).unwrap().kid(), "b");
}

#[test]
fn what_is_no_key_to_encrypt_for_is_refused_with_its_reason() {
    use JweKeyError::{Algorithm, Kind, Length, Member, NoName, NotAnObject, Pair, Placeholder, Point, Purpose};
    let bytes = |length: u8| base64url::encode(&(0..length).collect::<Vec<_>>());
    for (jwk, error) in [
        (json!([]), NotAnObject),
        (json!({}), Member("kty")),
        (with(oct("dir"), "kty", "RSA"), Kind),
        (json!({"kty": "OKP", "crv": "X25519", "alg": "ECDH-ES", "x": bytes(32)}), Kind),
        (with(bob(), "crv", "P-384"), Kind),
        (without(oct("dir"), "alg"), Algorithm),
        (oct("A128KW"), Algorithm),
        (oct("A256GCM"), Algorithm),
        (oct("PBES2-HS256+A128KW"), Algorithm),
        (oct("ECDH-ES"), Algorithm),
        (with(bob(), "alg", "dir"), Algorithm),
        (with(bob(), "alg", "ECDH-ES+A256KW"), Algorithm),
        (with(bob(), "alg", 1), Member("alg")),
        (with(oct("dir"), "use", "sig"), Purpose),
        (with(oct("dir"), "key_ops", json!(["sign"])), Purpose),
        (with(oct("dir"), "key_ops", "encrypt"), Member("key_ops")),
        (without(oct("dir"), "k"), Member("k")),
        (with(oct("dir"), "k", bytes(31)), Length),
        (with(oct("dir"), "k", bytes(33)), Length),
        (with(oct("dir"), "k", format!("{}=", bytes(32))), Length),
        (with(oct("dir"), "k", base64url::encode(&[7; 32])), Placeholder),
        (without(oct("dir"), "kid"), NoName),
        (with(oct("dir"), "kid", ""), NoName),
        (with(bob(), "kid", "x".repeat(129)), NoName),
        (with(bob(), "kid", 1), Member("kid")),
        (without(bob(), "crv"), Member("crv")),
        (without(bob(), "y"), Member("y")),
        (with(bob(), "x", bytes(31)), Member("x")),
        (with(bob(), "d", bytes(31)), Member("d")),
        (with(bob(), "d", bytes(32)), Pair),
        (with(bob(), "d", base64url::encode(&[0; 32])), Pair),
        (with(bob(), "y", bytes(32)), Point),
        (with(with(bob(), "x", base64url::encode(&[0; 32])), "y", base64url::encode(&[0; 32])), Point),
    ] {
        assert_eq!(JweKey::from_jwk(&jwk).err(), Some(error), "{jwk}");
    }
}
