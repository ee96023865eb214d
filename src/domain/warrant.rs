//! In whose name something is managed, and what that takes.

use super::{
    audit::{Actor, Origin},
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

    /// The service's own, for what it does by itself.
    pub const SYSTEM: Self = Self { actor: Actor::System, needs: Permission::ALL, limit: None };

    /// What the caller may do who holds these permissions, as far as the token goes; `None` if that is not enough.
    pub fn draw_on(&self, held: &Permissions) -> Option<Permissions> {
        let allowed = match &self.limit {
            Some(limit) => held.limited_to(limit),
            None => held.clone(),
        };
        allowed.allow(self.needs).then_some(allowed)
    }
}

/// In whose name something is changed, and where they call from.
#[derive(Clone, Debug)]
pub struct Authority {
    /// In whose name.
    pub warrant: Warrant,
    /// From where.
    pub origin: Origin,
}

impl Authority {
    /// The operator's, at the command line.
    pub fn operator() -> Self {
        Self { warrant: Warrant::OPERATOR, origin: Origin::default() }
    }

    /// The service's own.
    pub fn system() -> Self {
        Self { warrant: Warrant::SYSTEM, origin: Origin::default() }
    }
}
