//! What there is to say in a message: the words for its kind, and the variables of its templates.

use serde::Serialize;

use crate::domain::{
    notice::{Message, Notice, Recipient},
    percent::percent_encoded,
    time::Timestamp,
};

/// Every kind of message, as it is called in the names of templates and for a webhook.
pub const KINDS: [&str; 16] = [
    "verify_email",
    "already_registered",
    "reset_password",
    "login_code",
    "leave_email",
    "adopt_email",
    "verify_phone",
    "new_device",
    "password_changed",
    "email_changed",
    "phone_changed",
    "totp_enrolled",
    "totp_removed",
    "recovery_codes_replaced",
    "recovery_code_used",
    "account_deleted",
];

/// What somebody else chose is cut after this many characters.
const MAX_FOREIGN: usize = 200;

/// The name of a device after this many: whoever got in with somebody's password writes it to the owner.
const MAX_DEVICE: usize = 64;

/// The variables of a template. Those that a kind has nothing to say of are not there, so that a template that asks for them is
/// refused at the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Variables {
    /// The host of the issuer.
    pub(super) service: String,
    /// Where the message goes.
    pub(super) to: String,
    /// After it the message, and a code in it, is of no use.
    pub(super) expire_time: String,
    /// The code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) code: Option<String>,
    /// Where the code can be used by a click; empty where no page is configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) link: Option<String>,
    /// The address that is to replace the old one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) new_email: Option<String>,
    /// What the device calls itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) device: Option<String>,
    /// From which address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ip_address: Option<String>,
    /// When it happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) time: Option<String>,
    /// How many recovery codes are left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) left: Option<u32>,
}

/// The word for what a notice says; `None` for one that says nothing.
pub fn kind(notice: &Notice) -> Option<&'static str> {
    Some(match notice {
        Notice::VerifyEmail { .. } => "verify_email",
        Notice::AlreadyRegistered => "already_registered",
        Notice::ResetPassword { .. } => "reset_password",
        Notice::LoginCode { .. } => "login_code",
        Notice::LeaveEmail { .. } => "leave_email",
        Notice::AdoptEmail { .. } => "adopt_email",
        Notice::VerifyPhone { .. } => "verify_phone",
        Notice::NewDevice { .. } => "new_device",
        Notice::PasswordChanged => "password_changed",
        Notice::EmailChanged => "email_changed",
        Notice::PhoneChanged => "phone_changed",
        Notice::TotpEnrolled => "totp_enrolled",
        Notice::TotpRemoved => "totp_removed",
        Notice::RecoveryCodesReplaced => "recovery_codes_replaced",
        Notice::RecoveryCodeUsed { .. } => "recovery_code_used",
        Notice::AccountDeleted => "account_deleted",
        Notice::Nothing => return None,
    })
}

/// The code that a notice tells, if it tells one.
pub(super) fn code(notice: &Notice) -> Option<&str> {
    match notice {
        Notice::VerifyEmail { code }
        | Notice::ResetPassword { code }
        | Notice::LoginCode { code }
        | Notice::LeaveEmail { code, new_email: _ }
        | Notice::AdoptEmail { code }
        | Notice::VerifyPhone { code } => Some(code),
        Notice::AlreadyRegistered
        | Notice::NewDevice { .. }
        | Notice::PasswordChanged
        | Notice::EmailChanged
        | Notice::PhoneChanged
        | Notice::TotpEnrolled
        | Notice::TotpRemoved
        | Notice::RecoveryCodesReplaced
        | Notice::RecoveryCodeUsed { .. }
        | Notice::AccountDeleted
        | Notice::Nothing => None,
    }
}

/// Whether a click may use the code. Digits are typed where they were asked for.
const fn is_clicked(notice: &Notice) -> bool {
    matches!(
        notice,
        Notice::VerifyEmail { .. }
            | Notice::ResetPassword { .. }
            | Notice::LeaveEmail { .. }
            | Notice::AdoptEmail { .. }
    )
}

impl Variables {
    /// The variables of a message. Links lead to `link_url` and nowhere else.
    pub(super) fn of(message: &Message, service: &str, link_url: Option<&str>, expire_time: Timestamp) -> Self {
        let Message { to, locale: _, notice } = message;
        let code = code(notice);
        let link = is_clicked(notice).then(|| link(link_url, kind(notice), code));
        let mut variables = Self {
            service: service.to_owned(),
            to: address(to),
            expire_time: moment(expire_time),
            code: code.map(str::to_owned),
            link,
            ..Self::default()
        };
        match notice {
            Notice::LeaveEmail { new_email, code: _ } => variables.new_email = Some(one_line(new_email, MAX_FOREIGN)),
            Notice::NewDevice { device, ip_address, time } => {
                variables.device = Some(device_name(device));
                variables.ip_address = Some(one_line(ip_address, MAX_FOREIGN));
                variables.time = Some(moment(*time));
            }
            Notice::RecoveryCodeUsed { left } => variables.left = Some(*left),
            _ => {}
        }
        variables
    }
}

/// Where a message goes, as who delivers it wants it: the local part as it was typed, since only its host knows whether its case
/// counts, and the domain in ASCII.
pub(super) fn address(to: &Recipient) -> String {
    match to {
        Recipient::Email(email) => {
            let local = email.as_typed().rsplit_once('@').map_or("", |(local, _)| local);
            let domain = email.key().rsplit_once('@').map_or("", |(_, domain)| domain);
            format!("{local}@{domain}")
        }
        Recipient::Sms(number) => number.as_str().to_owned(),
        Recipient::Nobody => String::new(),
    }
}

fn link(link_url: Option<&str>, kind: Option<&str>, code: Option<&str>) -> String {
    match (link_url, kind, code) {
        (Some(url), Some(kind), Some(code)) => format!("{url}?kind={kind}&code={}", percent_encoded(code)),
        _ => String::new(),
    }
}

/// To the minute, as people read it.
fn moment(time: Timestamp) -> String {
    let text = time.rounded_down(std::time::Duration::from_mins(1)).to_string();
    // RFC 3339 of a whole minute ends so.
    match text.strip_suffix(":00Z") {
        Some(minute) => format!("{} UTC", minute.replace('T', " ")),
        None => text,
    }
}

/// In one line: whatever could begin another, hide itself or turn the direction of the text is a space; and cut after `most`
/// characters.
pub(super) fn one_line(text: &str, most: usize) -> String {
    let plain = |c: char| match c {
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' => ' ',
        c if c.is_control() => ' ',
        c => c,
    };
    let line: String = text.chars().map(plain).take(most).collect();
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What a device calls itself; if that would become a link, none of it.
fn device_name(text: &str) -> String {
    let name = one_line(text, MAX_DEVICE);
    // Before it is cut: what lies beyond must not make a link harmless that mail programs complete.
    if is_link_like(&one_line(text, MAX_FOREIGN)) { "a device".to_owned() } else { name }
}

/// Whether mail programs may make a link of it: `https://…`, `www.…`, `example.com`, `example.com:8080/…`, `somebody@example.com`. What looks
/// like a host is one, whether or not there is such a domain: new ones come every year.
fn is_link_like(text: &str) -> bool {
    // Browsers take these for dots.
    let text = text.to_lowercase().replace(['\u{3002}', '\u{ff0e}', '\u{ff61}'], ".");
    let is_host_like = |word: &str| {
        let host = word.split(['/', '?', '#', ':']).next().unwrap_or_default();
        let labels: Vec<&str> = host.split('.').collect();
        let is_name = |label: &str| label.chars().take_while(|c| c.is_alphabetic()).count() >= 2;
        labels.windows(2).any(|pair| pair[0].ends_with(char::is_alphanumeric) && is_name(pair[1]))
    };
    text.contains("://")
        || text.contains("www.")
        || text.contains(['@', '\u{ff20}'])
        || text.split_whitespace().any(is_host_like)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{email::Email, locale::Locale};

    fn variables(notice: Notice, link_url: Option<&str>) -> Variables {
        let to = Recipient::Email(Email::parse("Ada.L@B\u{fc}cher.example").unwrap());
        let message = Message { to, locale: Some(Locale::parse("de").unwrap()), notice };
        Variables::of(&message, "id.example.com", link_url, Timestamp::from_seconds(1_800_000_059))
    }

    #[test]
    fn links_lead_where_the_operator_says_and_only_with_what_is_clicked() {
        let code = || "vev_a-b&c=d".to_owned();
        let with = variables(Notice::VerifyEmail { code: code() }, Some("https://app.example/verify"));
        assert_eq!(with.link.as_deref(), Some("https://app.example/verify?kind=verify_email&code=vev_a-b%26c%3Dd"));
        assert_eq!(with.to, "Ada.L@xn--bcher-kva.example");
        assert_eq!(with.expire_time, "2027-01-15 08:00 UTC");
        let without = variables(Notice::VerifyEmail { code: code() }, None);
        assert_eq!((without.link.as_deref(), without.code), (Some(""), Some(code())));
        assert_eq!(variables(Notice::LoginCode { code: code() }, Some("https://app.example")).link, None);
        assert_eq!(variables(Notice::PasswordChanged, Some("https://app.example")).link, None);
    }

    #[test]
    fn a_device_is_no_link_and_its_name_is_short() {
        for link in [
            "https://evil.example",
            "see hxxp://x",
            "WWW.evil.example",
            "evil.example/login",
            "Your account is locked: evil.example/a?b now",
            "x (evil.example/a)",
            "evil.example",
            "Call evil.example.",
            "see (evil.example)",
            "evil.example:8080",
            "evil.example?a",
            "evil.example#a",
            "123.evil.xn--p1ai",
            "evil\u{3002}example",
            "security@evil",
            "laptop.local",
        ] {
            assert_eq!(device_name(link), "a device", "{link}");
        }
        for name in [
            "Ada's iPhone 15.1",
            "Mozilla/5.0 (X11; Linux)",
            "Pixel 9/Work",
            "v1.2/3",
            "Dr. Strange",
            "a.b",
            "iOS 18.2b1",
        ] {
            assert_eq!(device_name(name), name);
        }
        assert_eq!(device_name(&"\u{e4}".repeat(65)), "\u{e4}".repeat(64));
        assert_eq!(device_name(&format!("{} evil.example/x", "y".repeat(60))), "a device");
    }

    #[test]
    fn what_others_chose_stays_in_one_line() {
        let device = format!("Phone\r\nBcc: eve\u{2028}\u{202e}x\u{0}{}", "y".repeat(500));
        let new = Notice::NewDevice { device, ip_address: "::1".into(), time: Timestamp::from_seconds(0) };
        let variables = variables(new, None);
        let device = variables.device.unwrap();
        assert!(device.starts_with("Phone Bcc: eve x y"), "{device}");
        assert!(device.chars().count() <= MAX_DEVICE);
        assert_eq!(variables.time.as_deref(), Some("1970-01-01 00:00 UTC"));
    }
}
