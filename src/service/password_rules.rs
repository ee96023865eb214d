//! Whether a password may be chosen.

use std::{io, sync::Arc, time::Instant};

use self::aside::Aside;
use super::{RequestContext, Service, ServiceError};
use crate::{
    breached::Filter,
    crypto::{HashError, Verdict},
    domain::{
        field::FieldViolation,
        id::UserId,
        password::Password,
        password_policy::{ContextWords, Estimable, Weakness, check, least_strength},
        user::PhcString,
    },
};

mod aside;

/// Whose password it is to be.
#[derive(Clone, Copy, Debug)]
pub struct ChosenFor<'a> {
    /// The field of the request that it came in.
    pub field: &'static str,
    /// The user, if there is one already: then the present password and those before it are refused as well.
    pub user: Option<UserId>,
    /// What must not be in it: address, user name, display name.
    pub words: &'a [&'a str],
    /// Whether a second factor stands beside it.
    pub second_factor: bool,
}

/// What an operator has decided of passwords.
pub struct RuleOptions<'a> {
    /// The strength that is asked for, 0 to 4; 0 for any.
    pub min_strength: u8,
    /// How many former passwords are refused.
    pub history: u32,
    /// The issuer, whose name must not be in a password.
    pub issuer: &'a str,
    /// The passwords that are known to others.
    pub breached: Option<Filter>,
}

/// The rules.
pub struct PasswordRules {
    min_strength: u8,
    history: u32,
    words: ContextWords,
    breached: Option<Arc<Filter>>,
    aside: Aside,
}

impl std::fmt::Debug for PasswordRules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PasswordRules")
    }
}

impl PasswordRules {
    /// Makes them ready.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn new(options: RuleOptions<'_>) -> io::Result<Self> {
        let RuleOptions { min_strength, history, issuer, breached } = options;
        let (words, breached) = (ContextWords::of_issuer(issuer), breached.map(Arc::new));
        Ok(Self { min_strength, history, words, breached, aside: Aside::start()? })
    }

    /// What is wrong with a password as far as that is told at once: its length, that it is common, or made of the context. To
    /// be said together with what is wrong with other fields. Everything else is [`PasswordRules::check`]'s, which says this too.
    pub fn violations(&self, password: &Password, chosen_for: &ChosenFor<'_>) -> Vec<FieldViolation> {
        let refused = check(password, &self.context(chosen_for), chosen_for.second_factor).err();
        refused.map(|weakness| FieldViolation::new(chosen_for.field, weakness)).into_iter().collect()
    }

    /// Refuses a password for what it is; who had it before is not asked here.
    ///
    /// # Errors
    /// `Invalid` if it must not be chosen, `Overloaded` if that cannot be told by the deadline.
    pub async fn check(
        &self,
        password: &Password,
        chosen_for: &ChosenFor<'_>,
        deadline: Instant,
    ) -> Result<(), ServiceError> {
        let violations = self.violations(password, chosen_for);
        if !violations.is_empty() {
            return Err(ServiceError::Invalid(violations));
        }
        let least = least_strength(self.min_strength, chosen_for.second_factor);
        if least > 0 {
            let estimable = Estimable::of(password, &self.context(chosen_for));
            let estimate = self.aside.run(deadline, move || estimable.estimate()).await?;
            if estimate.score < least {
                return Err(refused(chosen_for.field, Weakness::Guessable { advice: estimate.advice }));
            }
        }
        if self.is_breached(password, deadline).await? {
            return Err(refused(chosen_for.field, Weakness::Breached));
        }
        Ok(())
    }

    /// Whether the password is known to be known. A file that cannot be read refuses nobody: the log says so.
    async fn is_breached(&self, password: &Password, deadline: Instant) -> Result<bool, ServiceError> {
        let Some(filter) = self.breached.clone() else { return Ok(false) };
        let forms: Vec<Password> = std::iter::once(password.clone()).chain(password.as_typed()).collect();
        let found = self.aside.run(deadline, move || {
            forms
                .iter()
                .try_fold(false, |found, form| Ok::<_, io::Error>(found || filter.look_up(form.expose())?.found))
        });
        Ok(found.await?.unwrap_or_else(|error| {
            tracing::error!(%error, "passwords.breached_filter cannot be read: a password was accepted without it");
            false
        }))
    }

    fn context(&self, chosen_for: &ChosenFor<'_>) -> ContextWords {
        ContextWords::of(chosen_for.words.iter().copied()).and(&self.words)
    }
}

fn refused(field: &'static str, weakness: Weakness) -> ServiceError {
    FieldViolation::new(field, weakness).into()
}

impl Service {
    /// Refuses a password that must not be chosen, and says why. For a user who is there, this tells whether a password is theirs
    /// or was: whoever asks must have proved who they are before.
    pub(super) async fn check_chosen(
        &self,
        password: &Password,
        chosen_for: ChosenFor<'_>,
        context: &RequestContext,
    ) -> Result<(), ServiceError> {
        self.rules.check(password, &chosen_for, self.hash_deadline(context)).await?;
        if let Some(user) = chosen_for.user {
            let hashes = self.store.password_hashes(user, self.rules.history).await?;
            self.refuse_known(password, chosen_for.field, hashes, context).await?;
        }
        Ok(())
    }

    /// Refuses a password that one of these hashes is of.
    pub(super) async fn refuse_known(
        &self,
        password: &Password,
        field: &'static str,
        hashes: Vec<PhcString>,
        context: &RequestContext,
    ) -> Result<(), ServiceError> {
        let deadline = self.hash_deadline(context);
        for hash in hashes {
            match self.passwords.verify(password.clone(), Some(hash), deadline).await {
                Ok(Verdict::Match { .. }) => return Err(refused(field, Weakness::Known)),
                // What cannot be checked lets nobody in either.
                Ok(Verdict::Mismatch) | Err(HashError::Stored(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// How many former passwords are refused.
    pub(super) const fn password_history(&self) -> u32 {
        self.rules.history
    }
}
