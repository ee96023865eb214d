//! What was said to people, as only the holder of database and master key can read it.
//!
//! A server takes messages out of the outbox as it sends them, so a test that wants to read them has the database keep a copy.

use std::sync::Arc;

use uuid::Uuid;
use vouchsafe::{
    crypto::{MasterKey, MessageSeal},
    domain::notice::{Message, Notice, Recipient},
    service::open_message,
};

use super::{MASTER_KEY, TestDatabase};

/// From now on a copy is kept of every message.
pub(crate) async fn outbox_keep(database: &TestDatabase) {
    if database.postgres_pool().is_some() {
        let columns = "n BIGSERIAL PRIMARY KEY, id TEXT, sealed TEXT, user_id UUID";
        database.execute(&format!("CREATE TABLE outbox_kept ({columns})")).await;
        database
            .execute(
                "CREATE FUNCTION keep_message() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                 INSERT INTO outbox_kept (id, sealed, user_id) \
                 VALUES (replace(NEW.id::text, '-', ''), encode(NEW.message_sealed, 'hex'), NEW.user_id); \
                 RETURN NULL; END $$",
            )
            .await;
        database
            .execute("CREATE TRIGGER keep AFTER INSERT ON outbox FOR EACH ROW EXECUTE FUNCTION keep_message()")
            .await;
    } else {
        let columns = "n INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT, sealed TEXT, user_id BLOB";
        database.execute(&format!("CREATE TABLE outbox_kept ({columns})")).await;
        database
            .execute(
                "CREATE TRIGGER keep AFTER INSERT ON outbox BEGIN INSERT INTO outbox_kept (id, sealed, user_id) \
                 VALUES (hex(NEW.id), hex(NEW.message_sealed), NEW.user_id); END",
            )
            .await;
    }
}

/// Every message since [`outbox_keep`], the newest last; those to nobody among them.
pub(crate) async fn outbox_messages(database: &TestDatabase) -> Vec<Message> {
    let seal = MessageSeal::new(Arc::new(MasterKey::parse(MASTER_KEY).unwrap()));
    let rows = database.texts("SELECT id || ' ' || sealed FROM outbox_kept ORDER BY n").await;
    let opened = rows.iter().map(|row| {
        let (id, sealed) = row.split_once(' ').unwrap();
        let sealed: Vec<u8> =
            (0..sealed.len()).step_by(2).map(|i| u8::from_str_radix(&sealed[i..i + 2], 16).unwrap()).collect();
        open_message(&seal, Uuid::try_parse(id).unwrap(), &sealed).unwrap()
    });
    opened.collect()
}

/// The newest code that was sent to an address or a number.
pub(crate) async fn outbox_code(database: &TestDatabase, to: &str) -> String {
    let messages = outbox_messages(database).await;
    let code =
        messages.iter().rev().filter(|message| outbox_is_to(message, to)).find_map(|m| outbox_code_in(&m.notice));
    code.unwrap_or_else(|| panic!("no code was sent there"))
}

/// Whether a message goes to an address or a number.
pub(crate) fn outbox_is_to(message: &Message, to: &str) -> bool {
    match &message.to {
        Recipient::Email(email) => email.key() == to.to_lowercase(),
        Recipient::Sms(number) => number.as_str() == to,
        Recipient::Nobody => false,
    }
}

/// The code in a message, if there is one.
pub(crate) fn outbox_code_in(notice: &Notice) -> Option<String> {
    match notice {
        Notice::VerifyEmail { code }
        | Notice::ResetPassword { code }
        | Notice::LoginCode { code }
        | Notice::LeaveEmail { code, new_email: _ }
        | Notice::AdoptEmail { code }
        | Notice::VerifyPhone { code } => Some(code.clone()),
        _ => None,
    }
}
