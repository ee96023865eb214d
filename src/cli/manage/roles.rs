//! `vouchsafe role`.

use serde_json::Value;

use super::{
    Desk, Failure, answer,
    args::{CreateRole, DeleteRole, ListRoles, OneRole, RoleChanges, RoleCommand, UpdateRole},
    can_ask, confirm,
    link::Calls,
    list, promised, show,
    users::mask,
    values,
};
use crate::pb::v1::{self, role_admin_service_client::RoleAdminServiceClient};

/// The largest page.
const ROLES: u16 = 100;

pub(super) async fn run(desk: &Desk, command: RoleCommand) -> Result<(), Failure> {
    match command {
        RoleCommand::List(args) => list_roles(desk, args).await,
        RoleCommand::Get(OneRole { name, common: _ }) => show_role(desk, desk.role(name).await?),
        RoleCommand::Create(args) => create(desk, args).await,
        RoleCommand::Update(args) => update(desk, args).await,
        RoleCommand::Delete(args) => delete(desk, args).await,
    }
}

impl Desk {
    fn roles(&self) -> RoleAdminServiceClient<Calls> {
        RoleAdminServiceClient::new(self.calls.clone())
    }

    async fn role(&self, name: String) -> Result<v1::Role, Failure> {
        promised(answer(self.roles().get_role(v1::GetRoleRequest { name })).await?.role)
    }
}

fn show_role(desk: &Desk, role: v1::Role) -> Result<(), Failure> {
    show::one(&show::ROLE, &values::role(role), desk.output)
}

async fn list_roles(desk: &Desk, ListRoles { list: which, common: _ }: ListRoles) -> Result<(), Failure> {
    let page = async |page_size, page_token| {
        let request = v1::ListRolesRequest { page_size, page_token };
        let v1::ListRolesResponse { roles, next_page_token } = answer(desk.roles().list_roles(request)).await?;
        Ok((roles.into_iter().map(values::role).collect::<Vec<Value>>(), next_page_token))
    };
    list(desk, &show::ROLE, which, ROLES, page).await
}

async fn create(desk: &Desk, args: CreateRole) -> Result<(), Failure> {
    let CreateRole { name, description, permissions, custom_claims, common: _ } = args;
    let description = description.unwrap_or_default();
    let custom_claims = custom_claims.map(values::structure);
    let role = v1::Role { name, description, permissions, custom_claims, ..v1::Role::default() };
    let request = v1::CreateRoleRequest { role: Some(role) };
    show_role(desk, promised(answer(desk.roles().create_role(request)).await?.role)?)
}

async fn update(desk: &Desk, args: UpdateRole) -> Result<(), Failure> {
    let UpdateRole { name, changes, etag, common: _ } = args;
    let RoleChanges { description, permissions, added, removed, no_permissions, custom_claims } = changes;
    let mut etag = etag.etag.unwrap_or_default();
    let by_difference = !added.is_empty() || !removed.is_empty();
    let named = [
        ("description", description.is_some()),
        ("permissions", by_difference || no_permissions || !permissions.is_empty()),
        ("custom_claims", custom_claims.is_some()),
    ];
    let permissions = if by_difference {
        let role = desk.role(name.clone()).await?;
        etag = if etag.is_empty() { role.etag } else { etag };
        differing(role.permissions, added, &removed)
    } else {
        permissions
    };
    let role = v1::Role {
        name,
        description: description.unwrap_or_default(),
        permissions,
        custom_claims: custom_claims.map(values::structure),
        etag,
        ..v1::Role::default()
    };
    let request = v1::UpdateRoleRequest { role: Some(role), update_mask: Some(mask(&named)) };
    show_role(desk, promised(answer(desk.roles().update_role(request)).await?.role)?)
}

/// What there is, with some more and without some.
pub(super) fn differing(mut present: Vec<String>, added: Vec<String>, removed: &[String]) -> Vec<String> {
    for new in added {
        if !present.contains(&new) {
            present.push(new);
        }
    }
    present.retain(|one| !removed.contains(one));
    present
}

async fn delete(desk: &Desk, args: DeleteRole) -> Result<(), Failure> {
    let DeleteRole { name, etag, confirm: asked, common: _ } = args;
    can_ask(asked.yes)?;
    confirm(&format!("Delete role {name}?"), asked.yes)?;
    let request = v1::DeleteRoleRequest { name: name.clone(), etag: etag.etag.unwrap_or_default() };
    answer(desk.roles().delete_role(request)).await?;
    show::done(&format!("role {name} deleted"), desk.output)
}
