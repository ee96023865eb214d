//! What templates promise: everybody is told in a language there is, and nothing that somebody wrote acts in the message.

use super::*;

fn locale(tag: &str) -> Locale {
    Locale::parse(tag).unwrap()
}

fn built_in() -> Templates {
    Templates::load(None, &locale("en")).unwrap()
}

fn variables(kind: &str) -> Variables {
    samples().into_iter().find(|(name, _)| *name == kind).unwrap().1
}

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    folder
}

fn problem(files: &[(&str, &str)]) -> String {
    let folder = folder(files);
    let error = Templates::load(Some(folder.path()), &locale("en")).unwrap_err().to_string();
    assert!(error.contains(&folder.path().display().to_string()), "{error}");
    error
}

#[test]
fn every_kind_is_worded_in_every_language_that_is_built_in() {
    let templates = built_in();
    let kinds: Vec<_> = samples().iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, KINDS);
    for (kind, mut variables) in samples() {
        let mut subjects = Vec::new();
        for tag in ["en", "de"] {
            for link in ["", "https://app.example.com/x"] {
                variables.link = variables.link.map(|_| link.to_owned());
                let wording = templates.word(kind, Some(&locale(tag)), false, &variables).unwrap();
                assert!(!wording.subject.is_empty() && !wording.subject.contains(['{', '\n']), "{kind}");
                assert!(wording.text.contains("id.example.com") && !wording.text.contains('{'), "{}", wording.text);
                assert!(wording.html.contains(&format!("<html lang=\"{tag}\">")), "{}", wording.html);
                assert!(
                    wording.html.contains("id.example.com") && wording.html.contains("</html>"),
                    "{}",
                    wording.html
                );
                assert!(wording.html.contains("<p>") && !wording.html.contains("&lt;p&gt;"), "{}", wording.html);
                if let Some(code) = &variables.code {
                    assert!(wording.text.contains(code) && wording.html.contains(code), "{kind}");
                    assert!(!wording.subject.contains(code), "{kind}: subjects are logged on their way");
                }
                let has_link = wording.text.contains("https://") && wording.html.contains("href=\"https:");
                assert_eq!(has_link, variables.link.is_some() && !link.is_empty(), "{kind}: {}", wording.text);
                subjects.push(wording.subject);
            }
        }
        assert_ne!(subjects[0], subjects[2], "{kind}");
    }
}

#[test]
fn a_phone_gets_a_text_and_no_page() {
    for kind in ["login_code", "verify_phone"] {
        let wording = built_in().word(kind, None, true, &variables(kind)).unwrap();
        assert!(wording.text.starts_with("12345678 ") && wording.text.lines().count() == 1, "{}", wording.text);
        assert!(wording.text.len() <= 160 && wording.html.is_empty());
    }
}

#[test]
fn a_language_that_there_is_not_falls_back() {
    let subject = |own: &str, theirs: Option<&str>| {
        let theirs = theirs.map(locale);
        let templates = Templates::load(None, &locale(own)).unwrap();
        templates.word("reset_password", theirs.as_ref(), false, &variables("reset_password")).unwrap().subject
    };
    let (english, german) = ("Set a new password", "Neues Passwort setzen");
    assert_eq!(subject("en", Some("de")), german);
    assert_eq!(subject("en", Some("de-CH-1996")), german);
    assert_eq!(subject("en", Some("fr")), english);
    assert_eq!(subject("de-AT", Some("fr")), german);
    assert_eq!(subject("de-AT", Some("en-GB")), english);
    assert_eq!(subject("de", None), german);
}

#[test]
fn the_server_s_own_language_is_one_there_is() {
    let refused = Templates::load(None, &locale("fr-CA")).unwrap_err().to_string();
    assert!(refused.starts_with("notify.locale is fr-CA, ") && refused.contains("notify.templates"), "{refused}");
    let french = folder(&[("fr/reset_password.subject", "Nouveau mot de passe")]);
    let templates = Templates::load(Some(french.path()), &locale("fr-CA")).unwrap();
    let subject = |kind: &str| templates.word(kind, Some(&locale("es")), false, &variables(kind)).unwrap().subject;
    assert_eq!(subject("reset_password"), "Nouveau mot de passe");
    assert!(subject("login_code").is_ascii(), "what is not written in it is in English");
}

#[test]
fn a_file_of_the_operator_s_takes_the_place_of_one_that_is_built_in() {
    let folder = folder(&[
        ("en/verify_email.subject", "Welcome to {{ service }}"),
        ("de-AT/verify_email.subject", "Servus bei {{ service }}"),
        ("de-AT/verify_email.txt", "{{ code }}"),
        ("en/layout.html", "<html lang={{ lang }}><title>{{ subject }}</title>{{ content }} {{ service }}</html>"),
        (".hidden", "left alone"),
    ]);
    let templates = Templates::load(Some(folder.path()), &locale("en")).unwrap();
    let words =
        |tag: &str| templates.word("verify_email", Some(&locale(tag)), false, &variables("verify_email")).unwrap();
    assert_eq!(words("en").subject, "Welcome to id.example.com");
    assert!(words("en").text.contains("Enter this code") || words("en").text.contains("Or enter this code"));
    assert!(words("en").html.starts_with("<html lang=en><title>Welcome to id.example.com</title><p>Hello"));
    assert_eq!(words("de-AT").subject, "Servus bei id.example.com");
    assert_eq!(words("de-AT").text, variables("verify_email").code.unwrap());
    assert_eq!(words("de").subject, "Best\u{e4}tigen Sie Ihre E-Mail-Adresse");
}

#[test]
fn a_broken_template_is_named_with_its_line() {
    let error = problem(&[("en/verify_email.txt", "Hello\n\n{% if link %}\n{{ link }}")]);
    assert!(error.contains("verify_email.txt, line 4") && error.starts_with("notify.templates: "), "{error}");
    let error = problem(&[("en/password_changed.html", "<p>\n{{ code }}")]);
    assert!(error.contains("password_changed.html, line 2: undefined value"), "{error}");
    let error = problem(&[("de/new_device.subject", "{{ device | nonsense }}")]);
    assert!(error.contains("new_device.subject, line 1") && error.contains("nonsense"), "{error}");
    assert!(problem(&[("en/layout.html", "{{ contents }}")]).contains("layout.html, line 1"));
}

/// Where no link is set there is none, which is when a template must do without.
#[test]
fn a_template_is_tried_out_without_a_link_too() {
    let error = problem(&[("en/verify_email.txt", "{% if link %}{{ link }}{% else %}\n{{ cod }}{% endif %}")]);
    assert!(error.contains("verify_email.txt, line 2: undefined value"), "{error}");
    let error = problem(&[("en/verify_email.txt", "{% if link %}\n{{ lin }}{% else %}{{ code }}{% endif %}")]);
    assert!(error.contains("verify_email.txt, line 2: undefined value"), "{error}");
}

#[test]
fn a_phone_gets_its_own_language_before_a_text_for_phones() {
    let folder =
        folder(&[("fr/login_code.txt", "Votre code : {{ code }}"), ("fr/verify_phone.sms", "{{ code }}, svp")]);
    let templates = Templates::load(Some(folder.path()), &locale("en")).unwrap();
    let text = |kind: &str, tag: &str| templates.word(kind, Some(&locale(tag)), true, &variables(kind)).unwrap().text;
    assert_eq!(text("login_code", "fr"), "Votre code : 12345678");
    assert_eq!(text("verify_phone", "fr-CA"), "12345678, svp");
    assert!(text("login_code", "es").contains("is your code"));
}

#[test]
fn what_is_no_template_is_refused() {
    assert!(problem(&[("en/verify-email.txt", "x")]).contains("verify-email.txt"));
    assert!(problem(&[("en/verify_email.text", "x")]).contains("verify_email.text"));
    assert!(problem(&[("german!/verify_email.txt", "x")]).contains("is not a language tag"));
    assert!(problem(&[("en", "x")]).contains("a folder for each language"));
    let twice = problem(&[("pt-BR/verify_email.txt", "x"), ("pt-br/verify_email.subject", "x")]);
    assert!(twice.contains("/pt-br: this is the language of the folder \"pt-BR\" as well"), "{twice}");
    let gone = Templates::load(Some(Path::new("/nowhere/at/all")), &locale("en")).unwrap_err();
    assert!(gone.to_string().starts_with("notify.templates: /nowhere/at/all: "), "{gone}");
}

#[test]
fn what_somebody_wrote_is_text_and_nothing_else() {
    let time = Timestamp::from_seconds(0);
    let wild = "</td><script>alert(1)</script>\r\nBcc: eve\n\n<img src=x onerror=y>{{ service }}\"'&";
    let notices = [
        ("new_device", Notice::NewDevice { device: wild.into(), ip_address: wild.into(), time }),
        ("leave_email", Notice::LeaveEmail { code: "vev_x".into(), new_email: wild.into() }),
    ];
    let folder = folder(&[
        ("en/new_device.subject", "Sign-in on {{ device }}"),
        ("en/leave_email.subject", "Change to {{ new_email }}"),
    ]);
    let templates = Templates::load(Some(folder.path()), &locale("en")).unwrap();
    for (kind, notice) in notices {
        let to = Recipient::Email(Email::stored("ada@example.com".into(), "ada@example.com".into()));
        let message = Message { to, locale: None, notice };
        let variables = Variables::of(&message, "id.example.com", None, time);
        let Wording { subject, text, html } = templates.word(kind, None, false, &variables).unwrap();
        assert!(!subject.contains(['\r', '\n']) && subject.contains("Bcc: eve"), "{subject}");
        // In the text it is what it is, in the line where it belongs.
        assert!(!text.lines().any(|line| line.starts_with("Bcc:") || line.starts_with("<img")), "{text}");
        assert!(text.contains("<script>alert(1)</script> Bcc: eve"), "{text}");
        for markup in ["<script", "<img", "\"'", "</td><script"] {
            assert!(!html.contains(markup), "{markup} in {html}");
        }
        assert!(html.contains("&lt;script&gt;") && html.contains("{{ service }}"), "not expanded twice: {html}");
    }
}
