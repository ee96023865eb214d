//! The configuration file: TOML, with the line of every value kept for the messages.

use std::{fs, ops::Range, path::Path};

use toml::{
    Spanned,
    de::{DeInteger, DeTable, DeValue},
};

use super::{
    names::{is_section, nearest},
    reader::{Origin, Reader},
    reference,
    value::Raw,
};

/// Gives the reader what the file at `path` sets. `named_by` is the flag or variable that names it.
pub(super) fn read(path: &Path, named_by: &str, reader: &mut Reader) {
    match fs::read_to_string(path) {
        Ok(text) => File { path: path.display().to_string(), text: &text, reader }.read(),
        Err(error) => {
            reader.problem(
                format!("Make {} a readable text file, or correct {named_by}", shown(path)),
                error.to_string(),
            );
        }
    }
}

fn shown(path: &Path) -> String {
    format!("{:?}", path.display().to_string())
}

struct File<'a> {
    path: String,
    text: &'a str,
    reader: &'a mut Reader,
}

impl File<'_> {
    fn read(mut self) {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        for error in &errors {
            // Not the error's own text: that shows the line, and there may be a secret on it.
            let place = self.place(&error.span().unwrap_or(0..0));
            self.reader.problem(format!("Correct the TOML in {place}"), error.message());
        }
        // What a broken file seems to say is not worth reporting.
        if errors.is_empty() {
            self.table("", table.get_ref());
        }
    }

    fn table(&mut self, section: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let key =
                if section.is_empty() { name.get_ref().to_string() } else { format!("{section}.{}", name.get_ref()) };
            match value.get_ref() {
                DeValue::Table(inner) if is_section(&key) => self.table(&key, inner),
                // A table where a setting is expected is a value that will not do, and anywhere else unknown.
                _ => self.setting(&key, &name.span(), value),
            }
        }
    }

    fn setting(&mut self, key: &str, span: &Range<usize>, value: &Spanned<DeValue<'_>>) {
        let place = self.place(span);
        if let Some(doc) = reference::find(key) {
            let origin = Origin::File { path: self.path.clone(), line: self.line(span) };
            self.reader.give(doc.key, raw(value.get_ref()), origin);
        } else if is_section(key) {
            self.reader.problem(format!("Write [{key}] as a section with settings under it"), format!("in {place}"));
        } else {
            let advice = format!("Rename {key:?} to {}, or remove it", nearest(key));
            self.reader.problem(advice, format!("there is no such setting, and this is the nearest ({place})"));
        }
    }

    fn line(&self, span: &Range<usize>) -> usize {
        self.text.bytes().take(span.start).filter(|b| *b == b'\n').count() + 1
    }

    fn place(&self, span: &Range<usize>) -> String {
        Origin::File { path: self.path.clone(), line: self.line(span) }.to_string()
    }
}

fn raw(value: &DeValue<'_>) -> Raw {
    match value {
        DeValue::String(text) => Raw::String(text.to_string()),
        DeValue::Integer(number) => integer(number),
        DeValue::Boolean(flag) => Raw::Boolean(*flag),
        DeValue::Array(items) => {
            let texts: Option<Vec<_>> = items.iter().map(|item| item.get_ref().as_str().map(str::to_owned)).collect();
            texts.map_or_else(|| Raw::Other("a list with other things than strings".to_owned()), Raw::List)
        }
        DeValue::Float(number) => Raw::Other(number.to_string()),
        DeValue::Datetime(time) => Raw::Other(time.to_string()),
        DeValue::Table(_) => Raw::Other("a section".to_owned()),
    }
}

fn integer(number: &DeInteger<'_>) -> Raw {
    i64::from_str_radix(number.as_str(), number.radix()).map_or_else(|_| Raw::Other(number.to_string()), Raw::Integer)
}
