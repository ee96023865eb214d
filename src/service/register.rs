//! `Register`: creates an account, at once or when its address is verified.

use super::{
    RequestContext, Service, ServiceError,
    in_step::in_step,
    mailed_codes::{Mailbox, asked},
    password_rules::ChosenFor,
    throttle::{MessageKind, Target},
};
use crate::{
    crypto::Place,
    domain::{
        audit::Act,
        custom_claims::CustomClaims,
        email::Email,
        field::{FieldViolations, optional},
        id::UserId,
        locale::Locale,
        mailed_code::CodePurpose,
        notice::Notice,
        password::Password,
        time::Timestamp,
        user::{Attributes, Identifier, Label, PhcString, User, UserState, Username},
    },
    store::port::{CreateUser, Mailing, NewRegistration, NewUser},
    telemetry::RegistrationOutcome,
};

/// A registration as it was asked for, nothing of it checked.
#[derive(Clone)]
pub struct RegisterFields {
    /// The e-mail address.
    pub email: String,
    /// The user name; may be empty.
    pub username: String,
    /// The password; empty for an account without.
    pub password: String,
    /// A name to show; may be empty.
    pub display_name: String,
    /// Whether the account is to have no password.
    pub passwordless: bool,
    /// The language of messages; may be empty.
    pub locale: String,
}

/// A registration whose every field may be as it is.
#[derive(Clone, Debug)]
pub struct RegisterCommand {
    /// The e-mail address.
    pub email: Email,
    /// The user name, if one was chosen.
    pub username: Option<Username>,
    /// The password, if there is to be one.
    pub password: Option<Password>,
    /// A name to show.
    pub display_name: Label,
    /// The language of messages.
    pub locale: Option<Locale>,
}

/// The account that a registration asks for.
pub fn new_user(
    id: UserId,
    command: &RegisterCommand,
    hash: Option<PhcString>,
    roles: Vec<String>,
    now: Timestamp,
) -> NewUser {
    let user = User {
        id,
        email: command.email.clone(),
        email_verified_time: None,
        username: command.username.clone(),
        display_name: command.display_name.clone(),
        phone_number: None,
        locale: command.locale.clone(),
        has_password: hash.is_some(),
        totp_enrolled: false,
        state: UserState::Active,
        epoch: 1,
        roles,
        attributes: Attributes::default(),
        custom_claims: CustomClaims::default(),
        revision: 1,
        create_time: now,
        update_time: now,
    };
    NewUser { user, password_hash: hash }
}

impl Service {
    /// Creates an account, or lets it wait for its address to be verified.
    pub async fn register(&self, fields: RegisterFields, context: &RequestContext) -> Result<User, ServiceError> {
        let registering = self.try_register(fields, context);
        // Elsewhere the answer itself tells whether the address has an account.
        let result = if self.policy.verified_email_required { in_step(registering).await } else { registering.await };
        self.metrics.registration(RegistrationOutcome::of(&result));
        result
    }

    async fn try_register(&self, fields: RegisterFields, context: &RequestContext) -> Result<User, ServiceError> {
        if !self.policy.registration_open {
            return Err(ServiceError::RegistrationClosed);
        }
        // Before the password is judged and hashed, which is what makes registrations dear.
        self.spend_registration(context)?;
        let command = self.check_registration(&fields, context).await?;
        if command.password.is_none() {
            // Nobody could sign in to it.
            self.needs_mail()?;
        }
        let mut place = self.may_be_made(&command, context).await?;
        let (typed, key) = (command.email.as_typed(), command.email.key());
        let spent = if self.policy.sends_email {
            self.spend_message(MessageKind::Registration, typed, Some(key), context).await
        } else {
            Ok(false)
        };
        let mailed = match spent {
            // The account does not need the mail: another one can be asked for, when there is a budget for it.
            Err(ServiceError::TooManyAttempts { .. }) if !self.policy.verified_email_required => false,
            spent => spent?,
        };
        let hash = match &command.password {
            Some(password) => {
                let deadline = self.hash_deadline(context);
                Some(self.passwords.hash_at(&mut place, password.clone(), self.random(), deadline).await?)
            }
            None => None,
        };
        let now = self.clock.now();
        let new = new_user(UserId::new(now, &self.random()), &command, hash, Vec::new(), now);
        if self.policy.verified_email_required {
            self.wait_for_address(new, mailed, context).await
        } else {
            self.create_at_once(new, mailed, context).await
        }
    }

    /// Refuses what would come to nothing before a message is spent on it: else whoever tries names, or comes in a storm, uses up what
    /// the address may be sent. User names are public. Answers with the place where the password will be hashed.
    async fn may_be_made(
        &self,
        command: &RegisterCommand,
        context: &RequestContext,
    ) -> Result<Option<Place>, ServiceError> {
        let deadline = self.hash_deadline(context);
        let place =
            command.password.as_ref().map(|password| self.passwords.keep_place(password, deadline)).transpose()?;
        match &command.username {
            Some(name) if self.store.is_username_taken(name.clone()).await? => Err(ServiceError::UsernameTaken),
            Some(_) | None => Ok(place),
        }
    }

    /// Every field that is refused is named at once; the password is looked at beside those that are not.
    async fn check_registration(
        &self,
        fields: &RegisterFields,
        context: &RequestContext,
    ) -> Result<RegisterCommand, ServiceError> {
        let RegisterFields { email, username, password, display_name, passwordless, locale } = fields;
        let mut violations = FieldViolations::new();
        let email = violations.check("email", Email::parse(email));
        let username = violations.check("username", optional(username, Username::parse));
        let words = [
            email.as_ref().map_or("", Email::key),
            username.as_ref().and_then(Option::as_ref).map_or("", Username::as_str),
            display_name,
        ];
        let password = if *passwordless {
            if !password.is_empty() {
                violations.refuse("password", "is set though the account is to have none: leave it empty");
            }
            Some(None)
        } else {
            self.check_password_field(password, &words, &mut violations, context).await?.map(Some)
        };
        let display_name = violations.check("display_name", Label::parse(display_name));
        let locale = violations.check("locale", optional(locale, Locale::parse));
        match (email, username, password, display_name, locale) {
            (Some(email), Some(username), Some(password), Some(display_name), Some(locale))
                if violations.is_empty() =>
            {
                Ok(RegisterCommand { email, username, password, display_name, locale })
            }
            _ => Err(violations.into()),
        }
    }

    async fn check_password_field(
        &self,
        text: &str,
        words: &[&str],
        violations: &mut FieldViolations,
        context: &RequestContext,
    ) -> Result<Option<Password>, ServiceError> {
        let Some(password) = violations.check("password", Password::presented(text)) else { return Ok(None) };
        let chosen_for = ChosenFor { field: "password", user: None, words, second_factor: false };
        match self.check_chosen(&password, chosen_for, context).await {
            Ok(()) => Ok(Some(password)),
            Err(ServiceError::Invalid(refused)) => {
                for violation in refused {
                    violations.note::<()>(Err(violation));
                }
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn create_at_once(&self, new: NewUser, mailed: bool, context: &RequestContext) -> Result<User, ServiceError> {
        let user = new.user.clone();
        let target = Target::Registration(user.email.key());
        self.admit(target, context).await?;
        let mailing = mailed.then(|| self.verification(Mailbox::of(&user)));
        let event = asked(Act::Registered, Some(user.id), context);
        let created = self.store.register_user(new, mailing, event).await;
        if matches!(created, Ok(CreateUser::EmailTaken)) {
            // Whoever tries addresses one after the other to see which are taken is slowed like one who guesses passwords.
            self.note_failure(target, context).await?;
        } else {
            self.forgive(target).await;
        }
        match created? {
            CreateUser::Created => Ok(user),
            CreateUser::EmailTaken => Err(ServiceError::EmailTaken),
            CreateUser::UsernameTaken => Err(ServiceError::UsernameTaken),
        }
    }

    /// The same rows and the same answer whether or not the address has an account. Its owner is told.
    async fn wait_for_address(
        &self,
        new: NewUser,
        mailed: bool,
        context: &RequestContext,
    ) -> Result<User, ServiceError> {
        let user = new.user.clone();
        let owner = self.store.find_user(Identifier::Email(user.email.clone())).await?;
        let event = asked(Act::EmailVerificationRequested, owner.as_ref().map(|owner| owner.id), context);
        let email = mailed.then(|| user.email.clone());
        let mailing = if let Some(owner) = owner {
            // It goes with the account, should that be deleted before; the code is nobody's.
            let to = Mailbox { email, locale: owner.locale, about: Some(owner.id), ..Mailbox::default() };
            self.mailing(CodePurpose::Register, to, |_| Notice::AlreadyRegistered)
        } else {
            let locale = user.locale.clone();
            let to = Mailbox { email, locale, registration: Some(user.id), ..Mailbox::default() };
            self.mailing(CodePurpose::Register, to, |code| Notice::VerifyEmail { code })
        };
        let expire_time = mailing.code.expire_time;
        let mailing = keyed_by(mailing, &user.email);
        let registration = NewRegistration { new, expire_time, mailing, event };
        match self.store.await_verification(registration).await? {
            CreateUser::Created => Ok(user),
            CreateUser::UsernameTaken => Err(ServiceError::UsernameTaken),
            CreateUser::EmailTaken => {
                Err(ServiceError::internal("a registration that waits cannot find its address taken"))
            }
        }
    }

    /// A code to verify the address of an account.
    pub(super) fn verification(&self, to: Mailbox) -> Mailing {
        self.mailing(CodePurpose::Verify, to, |code| Notice::VerifyEmail { code })
    }
}

/// A code for an address, whether or not anything is sent there.
fn keyed_by(mut mailing: Mailing, email: &Email) -> Mailing {
    email.key().clone_into(&mut mailing.code.email_key);
    mailing
}
