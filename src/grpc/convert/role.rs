//! Roles.

use super::{claims_structure, custom_claims, etag, page_size, timestamp};
use crate::{
    domain::{
        field::{FieldViolation, FieldViolations},
        role::{Permission, Permissions, Role, RoleChange, RoleName},
        user::Label,
    },
    pb::v1,
    store::port::NewRole,
};

/// A role's name in this field of a request.
pub(in crate::grpc) fn name(field: &'static str, text: &str) -> Result<RoleName, FieldViolation> {
    RoleName::parse(text).map_err(|error| FieldViolation::new(field, error))
}

/// The revision that an `etag` stands for; `None`: any will do. What is no `etag` stands for one that no role has.
pub(in crate::grpc) fn revision(text: &str) -> Option<i64> {
    const NONE: i64 = 0;
    let number = text.strip_prefix('r').and_then(|number| number.parse().ok());
    // One revision has one spelling.
    let number = number.filter(|number| etag(*number) == text);
    (!text.is_empty()).then(|| number.unwrap_or(NONE))
}

pub(in crate::grpc) fn new_role(request: v1::CreateRoleRequest) -> Result<NewRole, FieldViolations> {
    let v1::CreateRoleRequest { role } = request;
    let v1::Role {
        name,
        description,
        permissions,
        built_in: _,
        create_time: _,
        update_time: _,
        etag: _,
        custom_claims: claims,
    } = role.unwrap_or_default();
    let mut violations = FieldViolations::new();
    let name = violations.note(self::name("role.name", &name));
    let description = violations.check("role.description", Label::parse(&description));
    let permissions = violations.check("role.permissions", parse_permissions(&permissions));
    let claims = violations.check("role.custom_claims", custom_claims(claims.unwrap_or_default()));
    match (name, description, permissions, claims) {
        (Some(name), Some(description), Some(permissions), Some(custom_claims)) => {
            Ok(NewRole { name, description, permissions, custom_claims })
        }
        _ => Err(violations),
    }
}

/// Which role, what is to become of it, and the revision that it must have.
pub(in crate::grpc) fn role_change(
    request: v1::UpdateRoleRequest,
) -> Result<(RoleName, RoleChange, Option<i64>), FieldViolations> {
    let v1::UpdateRoleRequest { role, update_mask } = request;
    let v1::Role {
        name,
        description,
        permissions,
        built_in: _,
        create_time: _,
        update_time: _,
        etag,
        custom_claims: claims,
    } = role.unwrap_or_default();
    let mut violations = FieldViolations::new();
    let name = violations.note(self::name("role.name", &name));
    let mut change = RoleChange::default();
    let paths = update_mask.unwrap_or_default().paths;
    for path in &paths {
        match path.as_str() {
            "description" => {
                change.description = violations.check("role.description", Label::parse(&description));
            }
            "permissions" => {
                change.permissions = violations.check("role.permissions", parse_permissions(&permissions));
            }
            "custom_claims" => {
                let wanted = custom_claims(claims.clone().unwrap_or_default());
                change.custom_claims = violations.check("role.custom_claims", wanted);
            }
            _ => violations
                .refuse("update_mask", "names what cannot be changed: use description, permissions, custom_claims"),
        }
    }
    if paths.is_empty() {
        violations.refuse("update_mask", "is empty: name what to change, description, permissions or custom_claims");
    }
    match name {
        Some(name) if violations.is_empty() => Ok((name, change, revision(&etag))),
        _ => Err(violations),
    }
}

fn parse_permissions(list: &[String]) -> Result<Permissions, String> {
    const MAX: usize = Permissions::MAX_PER_ROLE;
    let permissions = list.iter().map(|text| {
        // The beginning tells which it is: it may be as long as the message.
        Permission::parse(text)
            .map_err(|error| format!("has {:?}, which {error}", text.chars().take(64).collect::<String>()))
    });
    let permissions = permissions.collect::<Result<Permissions, _>>()?;
    if permissions.len() > MAX {
        return Err(format!("has {} permissions: a role holds at most {MAX}", permissions.len()));
    }
    Ok(permissions)
}

/// After which name a page begins and how long it is.
pub(in crate::grpc) fn page(request: v1::ListRolesRequest) -> Result<(Option<RoleName>, u32), FieldViolations> {
    let v1::ListRolesRequest { page_size, page_token } = request;
    let mut violations = FieldViolations::new();
    let size = violations.note(self::page_size(page_size));
    let parsed = if page_token.is_empty() { Ok(None) } else { RoleName::parse(&page_token).map(Some) };
    let after = violations.check("page_token", parsed.map_err(|_| "is not a next_page_token of an earlier answer"));
    match (after, size) {
        (Some(after), Some(size)) => Ok((after, size)),
        _ => Err(violations),
    }
}

pub(in crate::grpc) fn role(role: Role) -> v1::Role {
    let Role { name, description, permissions, custom_claims, built_in, revision, create_time, update_time } = role;
    v1::Role {
        name: name.as_str().to_owned(),
        description: description.as_str().to_owned(),
        permissions: permissions.iter().map(Permission::to_string).collect(),
        built_in,
        create_time: (!built_in).then(|| timestamp(create_time)),
        update_time: (!built_in).then(|| timestamp(update_time)),
        etag: etag(revision),
        custom_claims: claims_structure(custom_claims),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etag_stands_for_the_revision_that_made_it_and_for_no_other() {
        assert_eq!(revision(""), None);
        for number in [1, 42, i64::MAX] {
            assert_eq!(revision(&etag(number)), Some(number));
        }
        for text in ["1", "r", "r+1", "r01", "R1", "r1 ", "r-1x", "r99999999999999999999", "*"] {
            assert_eq!(revision(text), Some(0), "{text}");
        }
    }

    #[test]
    fn permissions_are_a_set_of_bounded_size() {
        let many = |count: usize| (0..count).map(|n| format!("things:act{n}")).collect::<Vec<_>>();
        assert_eq!(parse_permissions(&many(200)).unwrap().len(), 200);
        assert!(parse_permissions(&many(201)).unwrap_err().contains("at most 200"));
        assert_eq!(parse_permissions(&["a:b".to_owned(), "a:b".to_owned()]).unwrap().len(), 1);
        let error = parse_permissions(&["x".repeat(60_000)]).unwrap_err();
        assert!(error.len() < 300, "{error}");
    }
}
