//! In whose name something is managed, and what that takes.

use super::{
    audit::Actor,
    role::{Permission, Permissions},
};

/// In whose name something is managed.
#[derive(Clone, Debug)]
pub struct Warrant {
    /// Who acts.
    pub actor: Actor,
    /// What it takes.
    pub needs: &'static str,
    /// What the caller's token is limited to, if it is.
    pub limit: Option<Permissions>,
}

impl Warrant {
    /// The operator's, at the command line: whoever reaches the database may do everything.
    pub const OPERATOR: Self = Self { actor: Actor::Operator, needs: Permission::ALL, limit: None };

    /// What the caller may do who holds these permissions, as far as the token goes; `None` if that is not enough.
    pub fn draw_on(&self, held: &Permissions) -> Option<Permissions> {
        let allowed = match &self.limit {
            Some(limit) => held.limited_to(limit),
            None => held.clone(),
        };
        allowed.allow(self.needs).then_some(allowed)
    }
}
