//! The rules together.

use super::*;

fn refusal(text: &str, second_factor: bool) -> Option<Weakness> {
    let words = ContextWords::of(["ada.lovelace@example.com", "countess", "Ada Lovelace"]);
    check(&Password::presented(text).unwrap(), &words, second_factor).err()
}

#[test]
fn length_is_counted_in_code_points_after_normalisation() {
    let short = |least| Some(Weakness::TooShort { least });
    assert_eq!(refusal(&"ä".repeat(14), false), short(15));
    assert_eq!(refusal(&"🦀".repeat(14), false), short(15));
    assert_eq!(refusal(&"🦀🐢🐇".repeat(5), false), None);
    assert_eq!(refusal(&"e\u{301}".repeat(14), false), short(15), "combining marks are no way around the length");
    assert_eq!(refusal("seven 7", true), short(8));
    assert_eq!(refusal("xK9#mQ2v", true), None);
    assert_eq!(refusal("xK9#mQ2v", false), short(15));
    assert_eq!(refusal(&"a long passphrase of many words ".repeat(32), false), None, "64 and far more will do");
}

#[test]
fn common_and_personal_passwords_are_refused() {
    assert_eq!(refusal("PASSWORD", true), Some(Weakness::Common));
    assert_eq!(refusal("Qwerty123456789", false), Some(Weakness::Common));
    assert_eq!(refusal("ManchesterUnited!", false), Some(Weakness::Common));
    assert_eq!(refusal("AdaLovelace12345", false), Some(Weakness::Personal));
    assert_eq!(refusal("correct horse battery staple", false), None);
}

#[test]
fn no_text_repeats_the_password() {
    for text in ["tiny", "manchesterunited", "adalovelace12345"] {
        let said = refusal(text, false).unwrap().to_string();
        assert!(!said.contains(text), "{said}");
    }
}

#[test]
fn beside_a_second_factor_one_step_less_will_do() {
    assert_eq!([0, 1, 3, 4].map(|wanted| least_strength(wanted, true)), [0, 0, 2, 3]);
    assert_eq!([0, 3].map(|wanted| least_strength(wanted, false)), [0, 3]);
}
