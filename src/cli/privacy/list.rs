//! The list of erasures as a file: JSON Lines, or an export of the audit trail.

use std::{
    collections::BTreeMap,
    io::{BufRead, Read as _},
};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    audit_export::{EXPORT_FORM, EventLine, Line, Moment},
    domain::{audit::Act, id::UserId, time::Timestamp},
    store::port::Erasure,
};

/// Longest line that is read: more than any event of an export has.
const LONGEST: u64 = 1 << 20;

/// An erasure as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Erased {
    user_id: Uuid,
    time: Moment,
}

/// An erasure as a line, without its end.
pub(super) fn line(erasure: &Erasure) -> Result<String, serde_json::Error> {
    serde_json::to_string(&Erased { user_id: *erasure.user.as_uuid(), time: Moment(erasure.time) })
}

/// Every erasure in a list, each user once.
///
/// # Errors
/// Which line is wrong, and what is. Nothing of it is quoted.
pub(super) fn read(mut input: impl BufRead) -> Result<Vec<Erasure>, String> {
    let mut list = List::default();
    let mut text = Vec::new();
    for number in 1_u64.. {
        text.clear();
        let length = (&mut input).take(LONGEST).read_until(b'\n', &mut text);
        let at = |problem: &str| format!("line {number}: {problem}");
        match length {
            Ok(0) => break,
            Ok(_) if text.len() as u64 == LONGEST => return Err(at("it is too long")),
            Ok(_) => list.take(&text).map_err(|problem| at(&problem))?,
            Err(error) => return Err(at(&format!("it cannot be read: {error}"))),
        }
    }
    if list.in_export {
        return Err("the export was cut off: its last line is missing".to_owned());
    }
    let erasures = list.found.into_iter().map(|(user, time)| Erasure { user: UserId::from_uuid(user), time });
    Ok(erasures.collect())
}

#[derive(Default)]
struct List {
    found: BTreeMap<Uuid, Timestamp>,
    /// Between the first line of an export and its last.
    in_export: bool,
}

impl List {
    fn take(&mut self, text: &[u8]) -> Result<(), String> {
        let erased = if self.in_export {
            self.exported(text)?
        } else if let Ok(Erased { user_id, time }) = serde_json::from_slice(text) {
            Some((user_id, time.0))
        } else {
            self.begin_export(text)?;
            None
        };
        let Some((user, time)) = erased else { return Ok(()) };
        if user.is_nil() {
            return Err("it names no user".to_owned());
        }
        // If it is there twice, the first time counts.
        let known = self.found.entry(user).or_insert(time);
        *known = time.min(*known);
        Ok(())
    }

    fn begin_export(&mut self, text: &[u8]) -> Result<(), String> {
        match serde_json::from_slice(text) {
            Ok(Line::Header(header)) if header.form == EXPORT_FORM => {
                self.in_export = true;
                Ok(())
            }
            _ => Err("it is neither an erasure nor the beginning of an export of the audit trail".to_owned()),
        }
    }

    fn exported(&mut self, text: &[u8]) -> Result<Option<(Uuid, Timestamp)>, String> {
        match serde_json::from_slice(text) {
            Ok(Line::Event(event)) => deleted(&event),
            Ok(Line::End(_)) => {
                self.in_export = false;
                Ok(None)
            }
            Ok(Line::Header(_)) | Err(_) => Err("it is no event of an export of the audit trail".to_owned()),
        }
    }
}

/// Who was deleted by an event.
fn deleted(event: &EventLine) -> Result<Option<(Uuid, Timestamp)>, String> {
    if ![Act::UserDeleted.name(), Act::AccountDeleted.name()].contains(&event.act.as_str()) {
        return Ok(None);
    }
    let user = event.subject_id.ok_or("it does not say who was deleted")?;
    Ok(Some((user, event.time.0)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ADA: &str = "01a201df-cd63-7f06-8a56-41ca84f800ad";
    const BOB: &str = "01a201df-cd63-7f06-8a56-41ca84f800b0";

    fn erased(user: &str, time: &str) -> String {
        format!(r#"{{"user_id":"{user}","time":"{time}"}}"#)
    }

    fn header() -> String {
        json!({ "type": "header", "form": EXPORT_FORM, "time": "2026-11-22T12:00:00.000000Z", "lanes": [] }).to_string()
    }

    fn event(act: &str, subject: Option<&str>) -> String {
        json!({
            "type": "event", "id": BOB, "time": "2026-11-22T12:00:00.000001Z", "act": act, "succeeded": true,
            "actor": "operator", "actor_id": null, "subject_id": subject, "session_id": null, "request_id": "",
            "detail": {}, "personal_sealed": null, "lane": 0, "position": 1, "hash": "00".repeat(32),
        })
        .to_string()
    }

    fn end() -> String {
        json!({ "type": "end", "events": 1, "lanes": [] }).to_string()
    }

    fn found(lines: &[String]) -> Result<Vec<String>, String> {
        let erasures = read(lines.join("\n").as_bytes())?;
        Ok(erasures.iter().map(|erasure| line(erasure).unwrap()).collect())
    }

    #[test]
    fn a_list_is_read_as_it_was_written() {
        let (ada, bob) = (erased(ADA, "2026-11-22T12:00:00.000000Z"), erased(BOB, "2026-11-22T12:00:00.000001Z"));
        assert_eq!(found(&[ada.clone(), bob.clone()]), Ok(vec![ada.clone(), bob.clone()]));
        let later = erased(ADA, "2026-12-22T12:00:00.000000Z");
        assert_eq!(found(&[later, ada.clone()]), Ok(vec![ada.clone()]), "once, the first time");
        assert_eq!(found(&[]), Ok(vec![]));
        let export = [header(), event("user.deleted", Some(BOB)), event("login.succeeded", Some(ADA)), end()];
        assert_eq!(found(&export), Ok(vec![bob.clone()]));
        assert_eq!(
            found(&[std::slice::from_ref(&ada), &export[..]].concat()),
            Ok(vec![ada, bob]),
            "one after the other"
        );
        let own = [header(), event("account.deleted", Some(BOB)), end()];
        assert_eq!(found(&own).unwrap().len(), 1);
    }

    #[test]
    fn what_is_wrong_is_named_by_its_line() {
        let ada = erased(ADA, "2026-11-22T12:00:00.000000Z");
        for (lines, expected) in [
            (vec![ada.clone(), "x".into()], "line 2: "),
            (vec![ada.clone(), String::new(), ada.clone()], "line 2: "),
            (vec![erased("ada", "2026-11-22T12:00:00.000000Z")], "line 1: "),
            (vec![erased(ADA, "yesterday")], "line 1: "),
            (vec![erased(&Uuid::nil().to_string(), "2026-11-22T12:00:00.000000Z")], "line 1: it names no user"),
            (vec![json!({ "user_id": ADA }).to_string()], "line 1: "),
            (vec![event("user.deleted", Some(ADA))], "line 1: "),
            (vec![header(), header(), end()], "line 2: "),
            (vec![header(), ada.clone(), end()], "line 2: "),
            (vec![header(), event("user.deleted", None), end()], "line 2: it does not say"),
            (vec![header(), event("user.deleted", Some(ADA))], "the export was cut off"),
            (vec!["x".repeat(1 << 20)], "line 1: it is too long"),
        ] {
            let problem = found(&lines).unwrap_err();
            assert!(problem.starts_with(expected), "{problem}");
        }
    }
}
