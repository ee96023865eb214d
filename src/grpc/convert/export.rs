//! What is kept of a person, as it is told.

use prost_types::Struct;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{audit, claims_structure, timestamp, user};
use crate::{
    crypto::totp::STEP_SECONDS,
    domain::{
        notice::{Message, Notice, Recipient},
        session::{DeviceInfo, Session},
        time::Timestamp,
        user::Label,
    },
    notify,
    pb::v1::{self, personal_record::Record},
    service::{Export, ExportEnd, Waiting},
    store::port::{
        HeldAccount, HeldChallenge, HeldCode, HeldDevice, HeldEmailChange, HeldImport, HeldMessage, HeldRecord,
        HeldRegistration, HeldRequest, HeldRevocation, HeldRole, HeldSession, HeldTotp, ReadEvent,
    },
    verifier::wire,
};

/// A record. What is sealed in it is opened, as far as it is told.
pub(in crate::grpc) fn record(held: HeldRecord, export: &Export) -> v1::PersonalRecord {
    let record = match held {
        HeldRecord::Account(held) => Record::Account(account(*held)),
        HeldRecord::Role(held) => Record::Role(role(held)),
        HeldRecord::Session(held) => {
            let live = export.is_live(&held);
            Record::Session(session(*held, live))
        }
        HeldRecord::Device(held) => Record::Device(device(held)),
        HeldRecord::EmailChange(held) => Record::EmailChange(email_change(held)),
        HeldRecord::Registration(held) => Record::Registration(registration(held)),
        HeldRecord::Code(held) => Record::Code(code(held)),
        HeldRecord::Challenge(held) => {
            let waiting = export.waiting(&held);
            Record::Challenge(challenge(held, waiting))
        }
        HeldRecord::Message(held) => {
            let message = export.message(&held);
            Record::Message(self::message(held, message))
        }
        HeldRecord::Import(held) => Record::Import(import(held)),
        HeldRecord::Request(held) => Record::Request(request(held)),
        HeldRecord::Revocation(held) => Record::Revocation(revocation(held)),
        HeldRecord::Event(read) => Record::Event(event(*read)),
    };
    v1::PersonalRecord { record: Some(record) }
}

/// The last record.
pub(in crate::grpc) fn end(end: ExportEnd) -> v1::PersonalRecord {
    let ExportEnd { records, begin_time, end_time } = end;
    let end = v1::PersonalExportEnd {
        records: i64::try_from(records).unwrap_or(i64::MAX),
        begin_time: time(begin_time),
        end_time: time(end_time),
    };
    v1::PersonalRecord { record: Some(Record::End(end)) }
}

#[expect(clippy::unnecessary_wraps, reason = "messages want it so")]
fn time(time: Timestamp) -> Option<prost_types::Timestamp> {
    Some(timestamp(time))
}

fn text(label: &Label) -> String {
    label.as_str().to_owned()
}

fn id(id: Option<Uuid>) -> String {
    id.map(|id| id.hyphenated().to_string()).unwrap_or_default()
}

fn account(held: HeldAccount) -> v1::PersonalAccount {
    let HeldAccount {
        user: account,
        password_scheme,
        password_time,
        former_passwords,
        totp,
        recovery_codes_left,
        recovery_codes_time,
    } = held;
    let former = former_passwords.into_iter().map(|(scheme, replace_time)| v1::PersonalFormerPassword {
        scheme: scheme.to_owned(),
        replace_time: time(replace_time),
    });
    v1::PersonalAccount {
        email_verified_time: account.email_verified_time.map(timestamp),
        epoch: account.epoch,
        password_scheme: password_scheme.unwrap_or_default().to_owned(),
        password_time: password_time.filter(|_| account.has_password).map(timestamp),
        former_passwords: former.collect(),
        totp: totp.map(self::totp),
        recovery_codes_left: i32::try_from(recovery_codes_left).unwrap_or(i32::MAX),
        recovery_codes_time: recovery_codes_time.map(timestamp),
        user: Some(user(account)),
    }
}

fn totp(held: HeldTotp) -> v1::PersonalTotp {
    let HeldTotp { id: enrolment, create_time, confirm_time, last_step } = held;
    let last_code = (last_step > 0).then(|| Timestamp::from_seconds(last_step.saturating_mul(STEP_SECONDS)));
    v1::PersonalTotp {
        id: id(Some(enrolment)),
        create_time: time(create_time),
        confirm_time: confirm_time.map(timestamp),
        last_code_time: last_code.map(timestamp),
    }
}

fn role(held: HeldRole) -> v1::PersonalRole {
    let HeldRole { name, description, permissions, custom_claims, assign_time } = held;
    v1::PersonalRole {
        name,
        assign_time: time(assign_time),
        description,
        permissions: permissions.iter().map(|permission| permission.as_str().to_owned()).collect(),
        custom_claims: claims_structure(custom_claims),
    }
}

fn session(held: HeldSession, live: bool) -> v1::PersonalSession {
    let HeldSession { session, device: device_id, end_time, end_reason, user_epoch: _ } = held;
    let Session { id: session_id, grant, device, create_time, last_used_time, absolute_expire_time, family } = session;
    let DeviceInfo { name, user_agent, ip_address } = device;
    v1::PersonalSession {
        id: session_id.to_string(),
        live,
        device_name: text(&name),
        user_agent: text(&user_agent),
        ip_address: text(&ip_address),
        device_id: id(device_id),
        client_id: grant.client_id,
        audience: grant.audience.into_iter().map(String::from).collect(),
        scope: grant.scope.to_string(),
        auth_time: time(grant.auth_time),
        amr: grant.amr,
        acr: grant.acr,
        create_time: time(create_time),
        last_used_time: time(last_used_time),
        absolute_expire_time: time(absolute_expire_time),
        refreshes: family.generation,
        refresh_time: time(family.made_at),
        end_time: end_time.map(timestamp),
        end_reason,
    }
}

fn device(held: HeldDevice) -> v1::PersonalDevice {
    let HeldDevice { id: device, create_time, last_used_time } = held;
    v1::PersonalDevice { id: id(Some(device)), create_time: time(create_time), last_used_time: time(last_used_time) }
}

fn email_change(held: HeldEmailChange) -> v1::PersonalEmailChange {
    let HeldEmailChange { id: change, old_email, new_email, old_confirmed, new_confirmed, create_time, expire_time } =
        held;
    v1::PersonalEmailChange {
        id: id(change),
        old_email,
        new_email,
        old_confirmed,
        new_confirmed,
        create_time: time(create_time),
        expire_time: time(expire_time),
    }
}

fn registration(held: HeldRegistration) -> v1::PersonalRegistration {
    let HeldRegistration { email, create_time, expire_time } = held;
    v1::PersonalRegistration { email, create_time: time(create_time), expire_time: time(expire_time) }
}

fn code(held: HeldCode) -> v1::PersonalCode {
    let HeldCode { purpose, email, create_time, expire_time } = held;
    v1::PersonalCode { purpose, email, create_time: time(create_time), expire_time: time(expire_time) }
}

fn challenge(held: HeldChallenge, waiting: Waiting) -> v1::PersonalChallenge {
    let HeldChallenge { handle: _, kind, pending: _, failures, create_time, expire_time } = held;
    let Waiting { device: DeviceInfo { name, user_agent, ip_address }, phone_number } = waiting;
    v1::PersonalChallenge {
        kind,
        phone_number,
        device_name: text(&name),
        user_agent: text(&user_agent),
        ip_address: text(&ip_address),
        failures,
        create_time: time(create_time),
        expire_time: time(expire_time),
    }
}

fn message(held: HeldMessage, opened: Option<Message>) -> v1::PersonalMessage {
    let HeldMessage {
        id: message,
        channel,
        sealed: _,
        create_time,
        expire_time,
        attempts,
        due_time,
        dead_time,
        last_error,
    } = held;
    let (address, kind, locale, content) = match opened {
        Some(Message { to, locale, notice }) => (
            match to {
                Recipient::Email(email) => email.as_typed().to_owned(),
                Recipient::Sms(number) => number.as_str().to_owned(),
                Recipient::Nobody => String::new(),
            },
            notify::kind(&notice).unwrap_or_default().to_owned(),
            locale.map(|locale| locale.as_str().to_owned()).unwrap_or_default(),
            content(notice),
        ),
        None => Default::default(),
    };
    v1::PersonalMessage {
        id: id(Some(message)),
        channel,
        address,
        kind,
        locale,
        content,
        create_time: time(create_time),
        expire_time: time(expire_time),
        attempts,
        due_time: time(due_time),
        dead_time: dead_time.map(timestamp),
        last_error,
    }
}

/// What a message says beside its kind. Never a code.
fn content(notice: Notice) -> Option<Struct> {
    let content = match notice {
        Notice::LeaveEmail { code: _, new_email } => json!({ "new_email": new_email }),
        Notice::NewDevice { device, ip_address, time } => {
            json!({ "device": device, "ip_address": ip_address, "time": time.to_string() })
        }
        Notice::RecoveryCodeUsed { left } => json!({ "left": left }),
        Notice::VerifyEmail { code: _ }
        | Notice::ResetPassword { code: _ }
        | Notice::LoginCode { code: _ }
        | Notice::AdoptEmail { code: _ }
        | Notice::VerifyPhone { code: _ }
        | Notice::AlreadyRegistered
        | Notice::PasswordChanged
        | Notice::EmailChanged
        | Notice::PhoneChanged
        | Notice::TotpEnrolled
        | Notice::TotpRemoved
        | Notice::RecoveryCodesReplaced
        | Notice::AccountDeleted
        | Notice::Nothing => return None,
    };
    match content {
        Value::Object(members) => Some(wire::structure(members)),
        _ => None,
    }
}

fn import(held: HeldImport) -> v1::PersonalImport {
    let HeldImport { id: import, imported, failed, create_time, update_time } = held;
    v1::PersonalImport {
        id: id(Some(import)),
        imported,
        failed,
        create_time: time(create_time),
        update_time: time(update_time),
    }
}

fn request(held: HeldRequest) -> v1::PersonalRequest {
    let HeldRequest { id: request, asked, create_time } = held;
    v1::PersonalRequest { request_id: id(Some(request)), asked, create_time: time(create_time) }
}

fn revocation(held: HeldRevocation) -> v1::PersonalRevocation {
    let HeldRevocation { session, spared, time: moment, expire_time } = held;
    v1::PersonalRevocation {
        session_id: session.map(|id| id.to_string()).unwrap_or_default(),
        spared_session_id: spared.map(|id| id.to_string()).unwrap_or_default(),
        time: time(moment),
        expire_time: time(expire_time),
    }
}

/// An event, without what is of use to whoever checks the trail only.
fn event(read: ReadEvent) -> v1::AuditEvent {
    v1::AuditEvent { detail_json: String::new(), ..audit::event(read) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_code_is_in_what_is_told_of_a_message() {
        let code = || "canary".to_owned();
        let new_email = "new@example.com".to_owned();
        for notice in [
            Notice::VerifyEmail { code: code() },
            Notice::ResetPassword { code: code() },
            Notice::LoginCode { code: code() },
            Notice::LeaveEmail { code: code(), new_email },
            Notice::AdoptEmail { code: code() },
            Notice::VerifyPhone { code: code() },
        ] {
            let kind = notify::kind(&notice).unwrap();
            let told = format!("{:?}", content(notice));
            assert!(!told.contains("canary"), "{kind}");
            assert_eq!(told.contains("new@example.com"), kind == "leave_email");
        }
    }
}
