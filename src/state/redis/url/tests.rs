use super::*;

fn parsed(text: &str) -> RedisUrl {
    RedisUrl::parse(text).unwrap_or_else(|_| panic!("{text}"))
}

fn at(host: &str, port: u16) -> Address {
    Address { host: host.to_owned(), port }
}

#[test]
fn every_form_is_recognised() {
    assert_eq!(parsed("redis://h").form, Form::Single(at("h", 6379)));
    assert_eq!(parsed("redis://h:1/").form, Form::Single(at("h", 1)));
    assert_eq!(parsed("rediss://[::1]:7/3").form, Form::Single(at("::1", 7)));
    assert_eq!(parsed("rediss://[::1]:7/3").database, 3);
    assert!(parsed("rediss://h").is_tls() && !parsed("redis://h").is_tls());
    assert_eq!(parsed("redis+unix:///run/r.sock?db=2").form, Form::Unix("/run/r.sock".into()));
    assert_eq!(parsed("redis+unix:///run/r.sock?db=2").database, 2);
    assert_eq!(parsed("redis+cluster://a:1,b").form, Form::Cluster(vec![at("a", 1), at("b", 6379)]));
    assert!(parsed("rediss+cluster://a").is_tls());
    let sentinel = parsed("rediss+sentinel://u:p@a,b:2/main/4?sentinel_user=s&sentinel_password=S3cret");
    let login = Some(Login { user: Some("s".to_owned()), password: SecretString::new("S3cret".to_owned()) });
    let sentinels = vec![at("a", 26379), at("b", 2)];
    assert_eq!(sentinel.form, Form::Sentinel { sentinels, master: "main".to_owned(), login });
    assert_eq!((sentinel.database, sentinel.tls), (4, true));
}

#[test]
fn a_login_is_decoded() {
    let login = |text: &str| parsed(text).login.map(|login| (login.user, login.password.expose().to_owned()));
    assert_eq!(login("redis://h"), None);
    assert_eq!(login("redis://:p%40%2Fq@h"), Some((None, "p@/q".to_owned())));
    assert_eq!(login("redis://%75:a:b@h"), Some((Some("u".to_owned()), "a:b".to_owned())));
    assert_eq!(login("redis+unix:///s?user=u&password=p%26"), Some((Some("u".to_owned()), "p&".to_owned())));
}

#[test]
fn passwords_are_shown_nowhere() {
    for (text, shown, place) in [
        ("redis://u:S3cret@h:1/2", "redis://u:[redacted]@h:1/2", "redis://h:1/2"),
        ("redis://:S3cret@h", "redis://:[redacted]@h", "redis://h"),
        ("redis://a%40:S3cret@h", "redis://[user]:[redacted]@h", "redis://h"),
        ("redis+unix:///s?user=u&password=S3cret&db=1", "redis+unix:///s?db=1", "redis+unix:///s?db=1"),
        (
            "redis+sentinel://u:S3cret@a,b/m?sentinel_password=S3cret",
            "redis+sentinel://u:[redacted]@a,b/m",
            "redis+sentinel://a,b/m",
        ),
    ] {
        let url = parsed(text);
        assert_eq!((url.to_string().as_str(), format!("{url:?}").as_str()), (shown, shown));
        assert_eq!(url.without_login(), place);
        assert!(!format!("{:?} {:?}", url.login, url.form).contains("S3cret"));
    }
}

#[test]
fn what_could_be_misread_is_refused() {
    for bad in [
        "",
        "redis:",
        "redis://",
        "redis://:1",
        "http://h",
        "Redis://h",
        "valkey://h",
        "redis+unix://path",
        "redis+unix:///",
        "rediss+unix:///s",
        "redis+unix:///s?user=S3cret",
        "redis://S3cret@h",
        "redis://S3cret:@h",
        "redis://u:S3@cret@h",
        "redis://u:S3/cret@h",
        "redis://u:S3?cret@h",
        "redis://u:S3#cret@h",
        "redis://u:S3%zzcret@h",
        "redis://u:S3%f@h",
        "redis://u:%ff@h",
        "redis://h:0",
        "redis://h:65536",
        "redis://h:+1",
        "redis://::1",
        "redis://[::1",
        "redis://[h]",
        "redis://h/db",
        "redis://h/99999",
        "redis://h/1/2",
        "redis://a,b",
        "redis://h x",
        "redis+cluster://a,,b",
        "redis+cluster://a/1",
        "redis+sentinel://a",
        "redis+sentinel://a/",
        "redis+sentinel://a/m/x",
        "redis+sentinel://a/m?sentinel_user=S3cret",
        "redis+sentinel://a/m?sentinel_password=S3cret&sentinel_password=S3cret",
    ] {
        assert_eq!(RedisUrl::parse(bad), Err(RedisUrlError::NotOne), "{bad:?}");
    }
    for bad in ["redis://h?S3cret", "redis://h?timeout=1", "redis+unix:///s?pasword=S3cret", "redis+sentinel://a/m?x=1"]
    {
        assert_eq!(RedisUrl::parse(bad), Err(RedisUrlError::UnknownParameter), "{bad:?}");
    }
    assert!(!RedisUrlError::NotOne.to_string().contains("S3cret"));
}
