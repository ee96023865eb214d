//! The wording of messages: templates that are built in, and those of a folder of the operator's in their place.
//!
//! A template is called `<locale>/<kind>.<part>`. The parts are `subject`, `txt`, `html` (put into the page `layout.html`), and
//! `sms` for what goes to phones. HTML is escaped, the others are text. What a locale does not have comes from the next one: those
//! more general than the recipient's, then the server's, then English.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value, context, value::Serde};

use super::{
    NotifyError,
    content::{KINDS, Variables, one_line},
};
use crate::domain::{
    email::Email,
    locale::Locale,
    notice::{Message, Notice, Recipient},
    phone::PhoneNumber,
    time::Timestamp,
};

mod built_in;

/// The language that every message exists in.
pub(super) const LAST_RESORT: &str = "en";
/// The page around every HTML part; it has no kind.
const LAYOUT: &str = "layout.html";
/// Longest subject, in characters.
const MAX_SUBJECT: usize = 200;
/// Largest template of the operator's.
const MAX_FILE: u64 = 256 * 1024;

/// A message in words.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Wording {
    /// In one line.
    pub(super) subject: String,
    /// As text.
    pub(super) text: String,
    /// As a page. Empty for a phone.
    pub(super) html: String,
}

/// The templates, checked.
pub(super) struct Templates {
    environment: Environment<'static>,
    /// The server's own language and what is more general.
    own: Vec<String>,
}

impl Templates {
    /// Those that are built in and those in `folder`, for a server whose own language is `locale`.
    ///
    /// # Errors
    /// [`NotifyError::Template`] names the file, the line, and what is wrong with it; [`NotifyError::Locale`].
    pub(super) fn load(folder: Option<&Path>, locale: &Locale) -> Result<Self, NotifyError> {
        let mut environment = Environment::new();
        environment.set_auto_escape_callback(|name| match name.rsplit_once('.') {
            Some((_, "html")) => AutoEscape::Html,
            _ => AutoEscape::None,
        });
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        for (name, source) in built_in::ALL {
            environment.add_template(name, source).map_err(|error| broken(Path::new(name), &error))?;
        }
        let mut templates = Self { environment, own: locale.fallbacks().map(str::to_owned).collect() };
        for (name, path) in folder.map(files).transpose()?.unwrap_or_default() {
            let source = read(&path)?;
            templates.environment.add_template_owned(name.clone(), source).map_err(|error| broken(&path, &error))?;
            templates.try_out(&name).map_err(|error| broken(&path, &error))?;
        }
        templates.check_own(locale)?;
        Ok(templates)
    }

    /// Refuses a language of the server's that nothing is written in: everybody would get another one, and nobody would notice.
    fn check_own(&self, locale: &Locale) -> Result<(), NotifyError> {
        let in_own = |name: &str| name.split_once('/').is_some_and(|(tag, _)| self.own.iter().any(|own| own == tag));
        if self.environment.templates().any(|(name, _)| in_own(name)) {
            return Ok(());
        }
        Err(NotifyError::Locale(locale.as_str().to_owned()))
    }

    /// None at all.
    pub(super) fn none() -> Self {
        Self { environment: Environment::new(), own: Vec::new() }
    }

    /// Words for a message of this kind.
    ///
    /// # Errors
    /// What is wrong with the template; of those that were tried out at the start, none should be.
    pub(super) fn word(
        &self,
        kind: &str,
        locale: Option<&Locale>,
        to_phone: bool,
        variables: &Variables,
    ) -> Result<Wording, minijinja::Error> {
        let variables = Value::from(Serde(variables));
        let part = |part: &str| self.render(locale, &[format!("{kind}.{part}")], variables.clone());
        // Few kinds have a text of their own for phones. The language comes first: a long text that somebody reads is better than a
        // short one that they do not.
        let text = if to_phone {
            self.render(locale, &[format!("{kind}.sms"), format!("{kind}.txt")], variables.clone())?
        } else {
            part("txt")?
        };
        let text = text.unwrap_or_default();
        let subject = one_line(&part("subject")?.unwrap_or_default(), MAX_SUBJECT);
        let html = if to_phone {
            String::new()
        } else {
            let content = Value::from_safe_string(part("html")?.unwrap_or_default());
            let lang = self.language(locale, kind);
            let page = context! { content, subject => subject.clone(), lang, ..variables.clone() };
            self.render(locale, &[LAYOUT.to_owned()], page)?.unwrap_or_default()
        };
        Ok(Wording { subject, text, html })
    }

    /// By the first template there is of these names, in the first language that has one.
    fn render(
        &self,
        locale: Option<&Locale>,
        names: &[String],
        variables: Value,
    ) -> Result<Option<String>, minijinja::Error> {
        for tag in self.languages(locale) {
            for name in names {
                if let Ok(template) = self.environment.get_template(&format!("{tag}/{name}")) {
                    return template.render(variables).map(Some);
                }
            }
        }
        Ok(None)
    }

    /// In which language the text of this kind is.
    fn language<'a>(&'a self, locale: Option<&'a Locale>, kind: &str) -> &'a str {
        let has_it = |tag: &&str| self.environment.get_template(&format!("{tag}/{kind}.txt")).is_ok();
        self.languages(locale).find(has_it).unwrap_or(LAST_RESORT)
    }

    fn languages<'a>(&'a self, locale: Option<&'a Locale>) -> impl Iterator<Item = &'a str> {
        let theirs = locale.into_iter().flat_map(Locale::fallbacks);
        theirs.chain(self.own.iter().map(String::as_str)).chain([LAST_RESORT])
    }

    /// Renders a template with every message that it could be for, so that what it asks for is known to be there.
    fn try_out(&self, name: &str) -> Result<(), minijinja::Error> {
        let template = self.environment.get_template(name)?;
        let file = name.rsplit('/').next().unwrap_or(name);
        for (kind, variables) in trials() {
            if file == LAYOUT {
                let content = Value::from_safe_string(String::new());
                let more = context! { content, subject => "", lang => LAST_RESORT };
                template.render(context! { ..more, ..Value::from(Serde(&variables)) })?;
            } else if file.strip_prefix(kind).is_some_and(|rest| rest.starts_with('.')) {
                template.render(Value::from(Serde(&variables)))?;
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for Templates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Templates")
    }
}

/// The templates in a folder: their names, and where they are. What does not belong there is refused, so that no typing error goes
/// unnoticed; what is hidden is left alone.
fn files(folder: &Path) -> Result<Vec<(String, PathBuf)>, NotifyError> {
    let (mut found, mut tags) = (Vec::new(), BTreeMap::new());
    for (locale, path) in entries(folder)? {
        let tag = Locale::parse(&locale).map_err(|error| misplaced(&path, format!("{locale:?} {error}")))?;
        if let Some(other) = tags.insert(tag.as_str().to_owned(), locale) {
            return Err(misplaced(&path, format!("this is the language of the folder {other:?} as well")));
        }
        if !path.is_dir() {
            return Err(misplaced(&path, "a folder for each language was expected here".to_owned()));
        }
        for (file, path) in entries(&path)? {
            let known = file == LAYOUT
                || file.rsplit_once('.').is_some_and(|(kind, part)| {
                    KINDS.contains(&kind) && matches!(part, "subject" | "txt" | "html" | "sms")
                });
            if !known {
                let expected = "no message has a part of this name: see docs/MESSAGES.md";
                return Err(misplaced(&path, expected.to_owned()));
            }
            found.push((format!("{}/{file}", tag.as_str()), path));
        }
    }
    Ok(found)
}

fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>, NotifyError> {
    let unreadable = |problem: std::io::Error| misplaced(folder, problem.to_string());
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            entries.push((name, entry.path()));
        }
    }
    entries.sort();
    Ok(entries)
}

fn read(path: &Path) -> Result<String, NotifyError> {
    let size = std::fs::metadata(path).map_err(|problem| misplaced(path, problem.to_string()))?.len();
    if size > MAX_FILE {
        return Err(misplaced(path, format!("it is larger than {} KiB", MAX_FILE / 1024)));
    }
    std::fs::read_to_string(path).map_err(|problem| misplaced(path, problem.to_string()))
}

fn misplaced(path: &Path, problem: String) -> NotifyError {
    NotifyError::Template { place: path.display().to_string(), problem }
}

fn broken(path: &Path, error: &minijinja::Error) -> NotifyError {
    let line = error.line().map_or_else(String::new, |line| format!(", line {line}"));
    let detail = error.detail().map_or_else(String::new, |detail| format!(": {detail}"));
    NotifyError::Template { place: format!("{}{line}", path.display()), problem: format!("{}{detail}", error.kind()) }
}

/// Every kind of message as it is with a link, and, where one can have a link, as it is without.
fn trials() -> Vec<(&'static str, Variables)> {
    let mut trials = samples();
    let without =
        samples().into_iter().filter(|(_, variables)| variables.link.is_some()).map(|(kind, mut variables)| {
            variables.link = Some(String::new());
            (kind, variables)
        });
    trials.extend(without);
    trials
}

/// Every kind of message, with variables that stand for any.
fn samples() -> Vec<(&'static str, Variables)> {
    let code = || "vev_00000000000000000000000000000000000000000000".to_owned();
    let time = Timestamp::from_seconds(1_800_000_000);
    let notices = [
        Notice::VerifyEmail { code: code() },
        Notice::AlreadyRegistered,
        Notice::ResetPassword { code: code() },
        Notice::LoginCode { code: "12345678".to_owned() },
        Notice::LeaveEmail { code: code(), new_email: "ada@example.org".to_owned() },
        Notice::AdoptEmail { code: code() },
        Notice::VerifyPhone { code: "12345678".to_owned() },
        Notice::NewDevice { device: "Phone".to_owned(), ip_address: "192.0.2.1".to_owned(), time },
        Notice::PasswordChanged,
        Notice::EmailChanged,
        Notice::PhoneChanged,
        Notice::TotpEnrolled,
        Notice::TotpRemoved,
        Notice::RecoveryCodesReplaced,
        Notice::RecoveryCodeUsed { left: 3 },
        Notice::AccountDeleted,
    ];
    let sample = |notice: Notice| {
        let to = match &notice {
            Notice::VerifyPhone { .. } => Recipient::Sms(PhoneNumber::stored("+4930123456".to_owned())),
            _ => Recipient::Email(Email::stored("ada@example.com".to_owned(), "ada@example.com".to_owned())),
        };
        let kind = super::content::kind(&notice)?;
        let message = Message { to, locale: None, notice };
        Some((kind, Variables::of(&message, "id.example.com", Some("https://app.example.com"), time)))
    };
    notices.into_iter().filter_map(sample).collect()
}

#[cfg(test)]
mod tests;
