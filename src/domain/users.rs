//! Managing users: what may be changed of one, and in which order many are listed.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{
    custom_claims::CustomClaims,
    email::Email,
    id::UserId,
    locale::Locale,
    phone::PhoneNumber,
    time::Timestamp,
    user::{Attributes, Label, User, UserState, Username},
};

/// What is to become of a user; what is `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserChange {
    /// The e-mail address. Another one is not verified, unless `email_verified` says so.
    pub email: Option<Email>,
    /// The user name, or that there is none.
    pub username: Option<Option<Username>>,
    /// The name to show.
    pub display_name: Option<Label>,
    /// Whether the address is known to be the user's.
    pub email_verified: Option<bool>,
    /// What is kept of the user beside the rest.
    pub attributes: Option<Attributes>,
    /// The phone number, or that there is none.
    pub phone_number: Option<Option<PhoneNumber>>,
    /// The language of messages, or that it is the server's own.
    pub locale: Option<Option<Locale>>,
    /// What the user's tokens say beside the rest.
    pub custom_claims: Option<CustomClaims>,
    /// Which attributes tokens say: another value of one is a change of what they say.
    pub said_attributes: BTreeSet<String>,
}

impl UserChange {
    /// The names of what can be changed.
    pub const FIELDS: [&str; 8] = [
        "email",
        "username",
        "display_name",
        "email_verified",
        "attributes",
        "phone_number",
        "locale",
        "custom_claims",
    ];

    /// The user after the change at `now`, and the names of the fields in which they differ.
    pub fn apply(&self, user: &User, now: Timestamp) -> (User, Vec<&'static str>) {
        let Self {
            email,
            username,
            display_name,
            email_verified,
            attributes,
            phone_number,
            locale,
            custom_claims,
            said_attributes: _, // changes nothing
        } = self.clone();
        let mut changed = user.clone();
        if let Some(email) = email {
            if email.key() != user.email.key() {
                changed.email_verified_time = None;
            }
            changed.email = email;
        }
        changed.username = username.unwrap_or(changed.username);
        changed.display_name = display_name.unwrap_or(changed.display_name);
        changed.email_verified_time = match email_verified {
            Some(true) => changed.email_verified_time.or(Some(now)),
            Some(false) => None,
            None => changed.email_verified_time,
        };
        changed.attributes = attributes.unwrap_or(changed.attributes);
        changed.phone_number = phone_number.unwrap_or(changed.phone_number);
        changed.locale = locale.unwrap_or(changed.locale);
        changed.custom_claims = custom_claims.unwrap_or(changed.custom_claims);
        let differs = [
            changed.email != user.email,
            changed.username != user.username,
            changed.display_name != user.display_name,
            changed.email_verified_time != user.email_verified_time,
            changed.attributes != user.attributes,
            changed.phone_number != user.phone_number,
            changed.locale != user.locale,
            changed.custom_claims != user.custom_claims,
        ];
        let fields = Self::FIELDS.into_iter().zip(differs).filter_map(|(field, differs)| differs.then_some(field));
        (changed, fields.collect())
    }

    /// Whether the user's tokens say something else after the change.
    pub fn changes_claims(&self, user: &User) -> bool {
        let said = |attributes: &Attributes| attributes.only(&self.said_attributes);
        self.custom_claims.as_ref().is_some_and(|claims| *claims != user.custom_claims)
            || self.attributes.as_ref().is_some_and(|attributes| said(attributes) != said(&user.attributes))
    }
}

/// The beginning of an e-mail key or a user name. Those are visible ASCII in lower case, and so is this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct KeyPrefix(String);

/// Why nothing can begin like this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not the beginning of any: use at most 254 visible ASCII characters, and of a domain its ASCII form (xn--)")]
pub struct KeyPrefixError;

impl KeyPrefix {
    /// Takes the beginning of an address or a name, in any case.
    pub fn parse(text: &str) -> Result<Self, KeyPrefixError> {
        let visible = (1..=254).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        if visible { Ok(Self(text.to_ascii_lowercase())) } else { Err(KeyPrefixError) }
    }

    /// The first text that begins so.
    pub fn first(&self) -> &str {
        &self.0
    }

    /// A text behind every key that begins so, and before every other that comes later: DEL is behind all that is visible.
    pub fn end(&self) -> String {
        format!("{}\u{7f}", self.0)
    }
}

/// Which users. All conditions that are set hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserFilter {
    /// How the e-mail key begins.
    pub email_prefix: Option<KeyPrefix>,
    /// How the user name begins.
    pub username_prefix: Option<KeyPrefix>,
    /// The state.
    pub state: Option<UserState>,
    /// A role that they have.
    pub role: Option<String>,
    /// Created at this moment or later.
    pub created_since: Option<Timestamp>,
    /// Created before this moment.
    pub created_before: Option<Timestamp>,
}

/// In which order users are listed: each is the order of an index, so that a page is read from it and never sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserOrder {
    /// By e-mail key.
    Email,
    /// By user name.
    Username,
    /// By id.
    Id,
    /// By time of creation.
    Creation,
}

impl UserFilter {
    /// The order that goes with the filter.
    pub const fn order(&self) -> UserOrder {
        if self.email_prefix.is_some() {
            UserOrder::Email
        } else if self.username_prefix.is_some() {
            UserOrder::Username
        } else if self.role.is_some() {
            UserOrder::Id
        } else {
            UserOrder::Creation
        }
    }

    /// The place right behind a user.
    pub fn behind(&self, user: &User) -> UserCursor {
        match self.order() {
            UserOrder::Email => UserCursor::Email(user.email.key().to_owned()),
            UserOrder::Username => {
                UserCursor::Username(user.username.as_ref().map(|name| name.as_str().to_owned()).unwrap_or_default())
            }
            UserOrder::Id => UserCursor::Id(user.id),
            UserOrder::Creation => UserCursor::Creation(user.create_time, user.id),
        }
    }
}

/// A place in a list of users. It stays where it is, whoever comes and goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UserCursor {
    /// Behind this e-mail key.
    Email(String),
    /// Behind this user name.
    Username(String),
    /// Behind this id.
    Id(UserId),
    /// Behind the user with this time of creation and this id.
    Creation(Timestamp, UserId),
}

impl UserCursor {
    /// The order of the list that it is a place in.
    pub const fn order(&self) -> UserOrder {
        match self {
            Self::Email(_) => UserOrder::Email,
            Self::Username(_) => UserOrder::Username,
            Self::Id(_) => UserOrder::Id,
            Self::Creation(..) => UserOrder::Creation,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);

    fn ada() -> User {
        User {
            id: UserId::new(NOW, &[7; 10]),
            email: Email::parse("ada@example.com").unwrap(),
            email_verified_time: Some(NOW),
            username: Some(Username::parse("ada").unwrap()),
            display_name: Label::parse("Ada").unwrap(),
            phone_number: None,
            locale: None,
            has_password: false,
            totp_enrolled: false,
            state: UserState::Active,
            epoch: 1,
            roles: Vec::new(),
            attributes: Attributes::default(),
            custom_claims: CustomClaims::default(),
            revision: 1,
            create_time: NOW,
            update_time: NOW,
        }
    }

    #[test]
    fn another_address_is_not_verified_unless_it_is_said_to_be() {
        let later = Timestamp::from_seconds(1_700_000_100);
        let email = |text: &str| Some(Email::parse(text).unwrap());
        let change = UserChange { email: email("grace@example.com"), ..Default::default() };
        let (user, fields) = change.apply(&ada(), later);
        assert_eq!((user.email_verified_time, fields), (None, vec!["email", "email_verified"]));
        let (user, fields) = UserChange { email_verified: Some(true), ..change }.apply(&ada(), later);
        assert_eq!((user.email_verified_time, fields), (Some(later), vec!["email", "email_verified"]));
        let (user, fields) = UserChange { email: email("Ada@Example.com"), ..Default::default() }.apply(&ada(), later);
        assert_eq!((user.email_verified_time, fields), (Some(NOW), vec!["email"]), "another spelling of the same one");
        let (user, _) = UserChange { email_verified: Some(false), ..Default::default() }.apply(&ada(), later);
        assert_eq!(user.email_verified_time, None);
    }

    #[test]
    fn what_stays_as_it_was_is_no_change() {
        let change = UserChange {
            email: Some(ada().email),
            username: Some(ada().username),
            display_name: Some(ada().display_name),
            email_verified: Some(true),
            attributes: Some(ada().attributes),
            ..UserChange::default()
        };
        assert_eq!(change.apply(&ada(), NOW), (ada(), Vec::new()));
        let (user, fields) = UserChange { username: Some(None), ..Default::default() }.apply(&ada(), NOW);
        assert_eq!((user.username, fields), (None, vec!["username"]));
    }

    #[test]
    fn tokens_say_something_else_after_a_change_of_claims_or_of_an_attribute_that_they_say() {
        let object = |name: &str| serde_json::Map::from_iter([(name.to_owned(), 1.into())]);
        let claims = Some(CustomClaims::new(object("tenant")).unwrap());
        assert!(UserChange { custom_claims: claims.clone(), ..UserChange::default() }.changes_claims(&ada()));
        let same = User { custom_claims: claims.clone().unwrap(), ..ada() };
        assert!(!UserChange { custom_claims: claims, ..UserChange::default() }.changes_claims(&same));
        for (attribute, changes) in [("said", true), ("kept", false)] {
            let change = UserChange {
                attributes: Some(Attributes::new(object(attribute)).unwrap()),
                said_attributes: BTreeSet::from(["said".to_owned()]),
                ..UserChange::default()
            };
            assert_eq!(change.changes_claims(&ada()), changes, "{attribute}");
        }
    }

    #[test]
    fn a_prefix_bounds_what_begins_with_it_and_nothing_else() {
        let prefix = KeyPrefix::parse("Ad%_").unwrap();
        let within = |key: &str| prefix.first() <= key && key < prefix.end().as_str();
        assert!(within("ad%_") && within("ad%_~") && within("ad%_0@example.com"));
        assert!(!within("ad%") && !within("ad%`") && !within("ada_") && !within("b"));
        for bad in ["", "a b", "ä", "a\0", "a\u{7f}", &"a".repeat(255)] {
            assert_eq!(KeyPrefix::parse(bad), Err(KeyPrefixError), "{bad:?}");
        }
    }
}
