//! A role as administrators manage it.

use super::{Permissions, RoleName};
use crate::domain::{custom_claims::CustomClaims, time::Timestamp, user::Label};

/// A role as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// Its name.
    pub name: RoleName,
    /// What it is for.
    pub description: Label,
    /// What it allows.
    pub permissions: Permissions,
    /// What it has tokens say beside.
    pub custom_claims: CustomClaims,
    /// Whether it came with the program: then it stays as it is.
    pub built_in: bool,
    /// Another number whenever the role changes, and another one than any that a deleted role of this name had.
    pub revision: i64,
    /// When it was created.
    pub create_time: Timestamp,
    /// When it was last changed.
    pub update_time: Timestamp,
}

/// What is to become of a role. `None`: it stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoleChange {
    /// What it is for.
    pub description: Option<Label>,
    /// What it allows.
    pub permissions: Option<Permissions>,
    /// What it has tokens say beside.
    pub custom_claims: Option<CustomClaims>,
}
