//! `vouchsafe user export`: everything that is kept of a user, a JSON object on each line.

use std::io::{BufWriter, Write, stdout};

use serde_json::{Map, Value, json};
use tokio::time::timeout;

use super::{
    Desk, Failure, PATIENCE, answer, refusal,
    values::{audit_event, object, rfc3339, user},
};
use crate::pb::v1::{self, personal_record::Record};

pub(super) async fn run(desk: &Desk, user_id: String) -> Result<(), Failure> {
    let mut messages = answer(desk.users().export_user(v1::ExportUserRequest { user_id })).await?;
    let mut out = BufWriter::new(stdout().lock());
    let mut is_whole = false;
    loop {
        let message = timeout(PATIENCE, messages.message()).await;
        let message = message.map_err(|_| Failure(format!("nothing came for {} s", PATIENCE.as_secs())))?;
        let Some(v1::ExportUserResponse { records }) = message.map_err(|status| refusal(&status))? else { break };
        for v1::PersonalRecord { record } in records {
            // Of a newer server, perhaps.
            let Some(record) = record else { continue };
            is_whole = matches!(record, Record::End(_));
            serde_json::to_writer(&mut out, &line(record))?;
            out.write_all(b"\n")?;
        }
    }
    out.flush()?;
    if is_whole { Ok(()) } else { Err(Failure("the export ends before its end: something is missing".to_owned())) }
}

/// A record with the word for what it is.
fn line(record: Record) -> Value {
    let (word, value) = match record {
        Record::Account(account) => ("account", self::account(account)),
        Record::Role(role) => ("role", self::role(role)),
        Record::Session(session) => ("session", self::session(session)),
        Record::Device(device) => ("device", self::device(device)),
        Record::EmailChange(change) => ("email_change", email_change(change)),
        Record::Registration(registration) => ("registration", self::registration(registration)),
        Record::Code(code) => ("code", self::code(code)),
        Record::Challenge(challenge) => ("challenge", self::challenge(challenge)),
        Record::Message(message) => ("message", self::message(message)),
        Record::Import(import) => ("import", self::import(import)),
        Record::Request(request) => ("request", self::request(request)),
        Record::Revocation(revocation) => ("revocation", self::revocation(revocation)),
        Record::Event(event) => ("event", audit_event(event)),
        Record::End(end) => ("end", self::end(end)),
    };
    let mut line = Map::from_iter([("record".to_owned(), Value::from(word))]);
    if let Value::Object(members) = value {
        line.extend(members);
    }
    Value::Object(line)
}

fn account(account: v1::PersonalAccount) -> Value {
    let v1::PersonalAccount {
        user: account,
        email_verified_time,
        password_scheme,
        password_time,
        former_passwords,
        totp,
        recovery_codes_left,
        recovery_codes_time,
        epoch,
    } = account;
    let former = former_passwords.into_iter().map(|v1::PersonalFormerPassword { scheme, replace_time }| {
        json!({ "scheme": scheme, "replace_time": rfc3339(replace_time) })
    });
    let totp = totp.map(|v1::PersonalTotp { id, create_time, confirm_time, last_code_time }| {
        json!({
            "id": id,
            "create_time": rfc3339(create_time),
            "confirm_time": rfc3339(confirm_time),
            "last_code_time": rfc3339(last_code_time),
        })
    });
    json!({
        "user": account.map(user),
        "email_verified_time": rfc3339(email_verified_time),
        "password_scheme": password_scheme,
        "password_time": rfc3339(password_time),
        "former_passwords": former.collect::<Vec<_>>(),
        "totp": totp,
        "recovery_codes_left": recovery_codes_left,
        "recovery_codes_time": rfc3339(recovery_codes_time),
        "epoch": epoch,
    })
}

fn role(role: v1::PersonalRole) -> Value {
    let v1::PersonalRole { name, assign_time, description, permissions, custom_claims } = role;
    json!({
        "name": name,
        "assign_time": rfc3339(assign_time),
        "description": description,
        "permissions": permissions,
        "custom_claims": object(custom_claims.unwrap_or_default()),
    })
}

fn session(session: v1::PersonalSession) -> Value {
    let v1::PersonalSession {
        id,
        live,
        device_name,
        user_agent,
        ip_address,
        device_id,
        client_id,
        audience,
        scope,
        auth_time,
        amr,
        acr,
        create_time,
        last_used_time,
        absolute_expire_time,
        refreshes,
        refresh_time,
        end_time,
        end_reason,
    } = session;
    json!({
        "id": id,
        "live": live,
        "device_name": device_name,
        "user_agent": user_agent,
        "ip_address": ip_address,
        "device_id": device_id,
        "client_id": client_id,
        "audience": audience,
        "scope": scope,
        "auth_time": rfc3339(auth_time),
        "amr": amr,
        "acr": acr,
        "create_time": rfc3339(create_time),
        "last_used_time": rfc3339(last_used_time),
        "absolute_expire_time": rfc3339(absolute_expire_time),
        "refreshes": refreshes,
        "refresh_time": rfc3339(refresh_time),
        "end_time": rfc3339(end_time),
        "end_reason": end_reason,
    })
}

fn device(device: v1::PersonalDevice) -> Value {
    let v1::PersonalDevice { id, create_time, last_used_time } = device;
    json!({ "id": id, "create_time": rfc3339(create_time), "last_used_time": rfc3339(last_used_time) })
}

fn email_change(change: v1::PersonalEmailChange) -> Value {
    let v1::PersonalEmailChange { id, old_email, new_email, old_confirmed, new_confirmed, create_time, expire_time } =
        change;
    json!({
        "id": id,
        "old_email": old_email,
        "new_email": new_email,
        "old_confirmed": old_confirmed,
        "new_confirmed": new_confirmed,
        "create_time": rfc3339(create_time),
        "expire_time": rfc3339(expire_time),
    })
}

fn registration(registration: v1::PersonalRegistration) -> Value {
    let v1::PersonalRegistration { email, create_time, expire_time } = registration;
    json!({ "email": email, "create_time": rfc3339(create_time), "expire_time": rfc3339(expire_time) })
}

fn code(code: v1::PersonalCode) -> Value {
    let v1::PersonalCode { purpose, email, create_time, expire_time } = code;
    json!({
        "purpose": purpose,
        "email": email,
        "create_time": rfc3339(create_time),
        "expire_time": rfc3339(expire_time),
    })
}

fn challenge(challenge: v1::PersonalChallenge) -> Value {
    let v1::PersonalChallenge {
        kind,
        phone_number,
        device_name,
        user_agent,
        ip_address,
        failures,
        create_time,
        expire_time,
    } = challenge;
    json!({
        "kind": kind,
        "phone_number": phone_number,
        "device_name": device_name,
        "user_agent": user_agent,
        "ip_address": ip_address,
        "failures": failures,
        "create_time": rfc3339(create_time),
        "expire_time": rfc3339(expire_time),
    })
}

fn message(message: v1::PersonalMessage) -> Value {
    let v1::PersonalMessage {
        id,
        channel,
        address,
        kind,
        locale,
        content,
        create_time,
        expire_time,
        attempts,
        due_time,
        dead_time,
        last_error,
    } = message;
    json!({
        "id": id,
        "channel": channel,
        "address": address,
        "kind": kind,
        "locale": locale,
        "content": object(content.unwrap_or_default()),
        "create_time": rfc3339(create_time),
        "expire_time": rfc3339(expire_time),
        "attempts": attempts,
        "due_time": rfc3339(due_time),
        "dead_time": rfc3339(dead_time),
        "last_error": last_error,
    })
}

fn import(import: v1::PersonalImport) -> Value {
    let v1::PersonalImport { id, imported, failed, create_time, update_time } = import;
    json!({
        "id": id,
        "imported": imported,
        "failed": failed,
        "create_time": rfc3339(create_time),
        "update_time": rfc3339(update_time),
    })
}

fn request(request: v1::PersonalRequest) -> Value {
    let v1::PersonalRequest { request_id, asked, create_time } = request;
    json!({ "request_id": request_id, "asked": asked, "create_time": rfc3339(create_time) })
}

fn revocation(revocation: v1::PersonalRevocation) -> Value {
    let v1::PersonalRevocation { session_id, spared_session_id, time, expire_time } = revocation;
    json!({
        "session_id": session_id,
        "spared_session_id": spared_session_id,
        "time": rfc3339(time),
        "expire_time": rfc3339(expire_time),
    })
}

fn end(end: v1::PersonalExportEnd) -> Value {
    let v1::PersonalExportEnd { records, begin_time, end_time } = end;
    json!({ "records": records, "begin_time": rfc3339(begin_time), "end_time": rfc3339(end_time) })
}
