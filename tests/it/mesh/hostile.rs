//! What attackers send to get past a recipe of `deploy/envoy`.

/// Spellings of `/admin`, and ways around it, that must not get anybody there. Where one is let through, the backend gets
/// something else than what was forbidden.
pub(super) const DODGES: [&str; 20] = [
    "/admin",
    "//admin",
    "/%61dmin",
    "/ADMIN",
    "/admin/",
    "/x/../admin",
    "/admin%2f",
    "/admin;x",
    "/./admin",
    "/admin?x",
    "/admin#x",
    "/x/%2e%2e/admin",
    "/x\\..\\admin",
    "\\admin",
    "admin",
    "http://shop.test/admin",
    "/public/../admin",
    "/public/..%2fadmin",
    "/public/%2e%2e/admin",
    "/healthz/../admin",
];

/// Authorization headers that carry no good token.
pub(super) fn no_tokens(good: &str) -> Vec<Vec<u8>> {
    let [header, payload, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };
    // In the middle: at the end there may be bits that count for nothing, and Envoy does not mind what they are.
    let flipped = |text: &str| {
        let (before, after) = text.split_at(text.len() / 2);
        let other = if after.starts_with('A') { 'B' } else { 'A' };
        format!("{before}{other}{}", &after[1..])
    };
    let none = "eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0";
    let tokens = [
        format!("{header}.{payload}.{}", flipped(signature)),
        format!("{header}.{}.{signature}", flipped(payload)),
        format!("{header}.{payload}."),
        format!("{none}.{payload}."),
        format!("{none}.{payload}.{signature}"),
        format!("{good},{good}"),
        String::new(),
    ];
    let mut lines: Vec<_> = tokens.iter().map(|token| format!("authorization: Bearer {token}").into_bytes()).collect();
    lines.push(format!("authorization: Basic {good}").into_bytes());
    lines.push([b"authorization: Bearer ", good.as_bytes(), b"\xff"].concat());
    lines
}
