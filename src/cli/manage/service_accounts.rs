//! `vouchsafe service-account`.

use std::io::Write as _;

use serde_json::{Value, json};

use super::{
    Desk, Failure, answer,
    args::{
        CreateServiceAccount, DeleteServiceAccount, ListServiceAccounts, OneServiceAccount, Output, RotateSecret,
        ServiceAccountChanges, ServiceAccountCommand, UpdateServiceAccount,
    },
    can_ask, confirm,
    link::Calls,
    list, promised,
    roles::differing,
    show,
    users::mask,
    values,
};
use crate::{
    cli::{print, text},
    pb::v1::{self, service_account_admin_service_client::ServiceAccountAdminServiceClient},
};

/// The largest page.
const ACCOUNTS: u16 = 100;

pub(super) async fn run(desk: &Desk, command: ServiceAccountCommand) -> Result<(), Failure> {
    match command {
        ServiceAccountCommand::List(args) => list_accounts(desk, args).await,
        ServiceAccountCommand::Get(OneServiceAccount { client_id, common: _ }) => {
            show_account(desk, desk.account(client_id).await?)
        }
        ServiceAccountCommand::Create(args) => create(desk, args).await,
        ServiceAccountCommand::Update(args) => update(desk, args).await,
        ServiceAccountCommand::RotateSecret(args) => rotate_secret(desk, args).await,
        ServiceAccountCommand::Delete(args) => delete(desk, args).await,
    }
}

impl Desk {
    fn accounts(&self) -> ServiceAccountAdminServiceClient<Calls> {
        ServiceAccountAdminServiceClient::new(self.calls.clone())
    }

    async fn account(&self, client_id: String) -> Result<v1::ServiceAccount, Failure> {
        let request = v1::GetServiceAccountRequest { client_id };
        promised(answer(self.accounts().get_service_account(request)).await?.service_account)
    }

    /// Makes sure that somebody means this account, by its name. The etag of what was shown, if it was.
    async fn sure_of_account(
        &self,
        client_id: &str,
        yes: bool,
        question: impl Fn(&str) -> String,
    ) -> Result<String, Failure> {
        can_ask(yes)?;
        if yes {
            return Ok(String::new());
        }
        let account = self.account(client_id.to_owned()).await?;
        confirm(&question(&format!("{} ({client_id})", account.display_name)), yes)?;
        Ok(account.etag)
    }
}

fn show_account(desk: &Desk, account: v1::ServiceAccount) -> Result<(), Failure> {
    show::one(&show::SERVICE_ACCOUNT, &values::service_account(account), desk.output)
}

/// Prints a new secret. For people it stands alone on standard output, so that it can go into a file or a secret store as it is.
fn show_secret(desk: &Desk, account: v1::ServiceAccount, client_secret: &str) -> Result<(), Failure> {
    match desk.output {
        Output::Table if client_secret.is_empty() => show_account(desk, account),
        Output::Table => {
            let v1::ServiceAccount { client_id, display_name, .. } = account;
            let said = text::on_one_line(&format!("the secret of {display_name} ({client_id}), shown this once:"));
            writeln!(std::io::stderr(), "vouchsafe: {said}")?;
            print(client_secret).map(|_| ())
        }
        Output::Json => {
            let account = values::service_account(account);
            let shown = json!({ "service_account": account, "client_secret": client_secret });
            print(&text::json(&shown)?).map(|_| ())
        }
    }
}

async fn list_accounts(desk: &Desk, args: ListServiceAccounts) -> Result<(), Failure> {
    let ListServiceAccounts { list: which, common: _ } = args;
    let page = async |page_size, page_token| {
        let request = v1::ListServiceAccountsRequest { page_size, page_token };
        let answered = answer(desk.accounts().list_service_accounts(request)).await?;
        let v1::ListServiceAccountsResponse { service_accounts, next_page_token } = answered;
        let accounts: Vec<Value> = service_accounts.into_iter().map(values::service_account).collect();
        Ok((accounts, next_page_token))
    };
    list(desk, &show::SERVICE_ACCOUNT, which, ACCOUNTS, page).await
}

async fn create(desk: &Desk, args: CreateServiceAccount) -> Result<(), Failure> {
    let CreateServiceAccount { display_name, spiffe_id, roles, no_secret, request_id, common: _ } = args;
    let request = v1::CreateServiceAccountRequest {
        display_name,
        spiffe_id: spiffe_id.unwrap_or_default(),
        roles,
        no_secret,
        request_id: request_id.unwrap_or_default(),
    };
    let answered = answer(desk.accounts().create_service_account(request)).await?;
    let v1::CreateServiceAccountResponse { service_account, client_secret } = answered;
    show_secret(desk, promised(service_account)?, &client_secret)
}

async fn update(desk: &Desk, args: UpdateServiceAccount) -> Result<(), Failure> {
    let UpdateServiceAccount { client_id, changes, etag, common: _ } = args;
    let ServiceAccountChanges { display_name, spiffe_id, roles, added, removed, no_roles } = changes;
    let mut etag = etag.etag.unwrap_or_default();
    let by_difference = !added.is_empty() || !removed.is_empty();
    let named = [
        ("display_name", display_name.is_some()),
        ("spiffe_id", spiffe_id.is_some()),
        ("roles", by_difference || no_roles || !roles.is_empty()),
    ];
    let roles = if by_difference {
        let account = desk.account(client_id.clone()).await?;
        etag = if etag.is_empty() { account.etag } else { etag };
        differing(account.roles, added, &removed)
    } else {
        roles
    };
    let account = v1::ServiceAccount {
        client_id,
        display_name: display_name.unwrap_or_default(),
        spiffe_id: spiffe_id.unwrap_or_default(),
        roles,
        etag,
        ..v1::ServiceAccount::default()
    };
    let request = v1::UpdateServiceAccountRequest { service_account: Some(account), update_mask: Some(mask(&named)) };
    show_account(desk, promised(answer(desk.accounts().update_service_account(request)).await?.service_account)?)
}

async fn rotate_secret(desk: &Desk, args: RotateSecret) -> Result<(), Failure> {
    let RotateSecret { client_id, keep_previous, confirm: asked, common: _ } = args;
    // Rounded up: to ask for less than a second is not to ask for nothing.
    let seconds = keep_previous.as_secs() + u64::from(keep_previous.subsec_nanos() > 0);
    if seconds == 0 {
        let question = |account: &str| {
            format!("End the present secret of service account {account} and the tokens it got, at once?")
        };
        desk.sure_of_account(&client_id, asked.yes, question).await?;
    }
    let request = v1::RotateServiceAccountSecretRequest {
        client_id,
        keep_previous_seconds: i64::try_from(seconds).unwrap_or(i64::MAX),
    };
    let answered = answer(desk.accounts().rotate_service_account_secret(request)).await?;
    let v1::RotateServiceAccountSecretResponse { service_account, client_secret } = answered;
    show_secret(desk, promised(service_account)?, &client_secret)
}

async fn delete(desk: &Desk, args: DeleteServiceAccount) -> Result<(), Failure> {
    let DeleteServiceAccount { client_id, etag, confirm: asked, common: _ } = args;
    let question = |account: &str| format!("Delete service account {account}? Nothing brings it back.");
    let seen = desk.sure_of_account(&client_id, asked.yes, question).await?;
    let request = v1::DeleteServiceAccountRequest { client_id: client_id.clone(), etag: etag.etag.unwrap_or(seen) };
    answer(desk.accounts().delete_service_account(request)).await?;
    show::done(&format!("service account {client_id} deleted"), desk.output)
}
