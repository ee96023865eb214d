//! The gRPC edge: thin handlers, proto ↔ domain, errors ↔ status. Proto types stop here.

use std::sync::Arc;

use tonic::service::{Routes, RoutesBuilder};
use tonic_health::pb::health_server::{Health, HealthServer};

use crate::{
    pb::v1::{
        account_service_server::AccountServiceServer, audit_service_server::AuditServiceServer,
        auth_service_server::AuthServiceServer, key_admin_service_server::KeyAdminServiceServer,
        role_admin_service_server::RoleAdminServiceServer,
        service_account_admin_service_server::ServiceAccountAdminServiceServer,
        verifier_service_server::VerifierServiceServer,
    },
    service::Service,
};

mod access;
mod account;
mod audit;
mod auth;
mod call;
mod client_address;
mod connections;
mod convert;
mod imports;
mod key_admin;
mod newcomers;
mod operator;
mod qr_code;
mod recording;
mod role_admin;
mod server;
mod service_accounts;
mod status;
mod user_admin;
mod user_routes;
mod verifier;
mod watch;
mod web;

pub use access::{Access, markdown_table, paths, permissions};
pub use call::{CallLayer, CallPolicy};
pub use connections::Peer;
pub(crate) use connections::descriptors;
pub(crate) use newcomers::Newcomers;
pub use operator::Operator;
pub use server::{Limits, Server};

use self::user_routes::UserRoutes;

/// Largest message a caller may send. A registration or a token is a few KiB.
const MAX_MESSAGE: usize = 64 * 1024;
/// The same for health and reflection, whose messages are a name each. Anybody may send them, and without a bound of ours
/// tonic would hold 4 MiB for every stream.
const MAX_NAME_MESSAGE: usize = 16 * 1024;

/// The handlers of every service of `vouchsafe.v1`.
#[derive(Clone)]
struct Handlers {
    service: Arc<Service>,
}

/// Our services.
fn own_routes(service: Arc<Service>) -> RoutesBuilder {
    let handlers = Handlers { service };
    let mut routes = RoutesBuilder::default();
    routes
        .add_service(AuthServiceServer::new(handlers.clone()).max_decoding_message_size(MAX_MESSAGE))
        .add_service(AccountServiceServer::new(handlers.clone()).max_decoding_message_size(MAX_MESSAGE))
        .add_service(UserRoutes::new(handlers.clone()))
        .add_service(RoleAdminServiceServer::new(handlers.clone()).max_decoding_message_size(MAX_MESSAGE))
        .add_service(ServiceAccountAdminServiceServer::new(handlers.clone()).max_decoding_message_size(MAX_MESSAGE))
        .add_service(AuditServiceServer::new(handlers.clone()).max_decoding_message_size(MAX_MESSAGE))
        .add_service(KeyAdminServiceServer::new(handlers.clone()).max_decoding_message_size(MAX_MESSAGE))
        .add_service(VerifierServiceServer::new(handlers).max_decoding_message_size(MAX_MESSAGE));
    routes
}

/// Our services, health and reflection.
///
/// # Errors
/// If the compiled-in descriptors cannot be read, which a build that passed its tests does not have.
fn routes(service: Arc<Service>, health: HealthServer<impl Health>) -> Result<Routes, tonic_reflection::server::Error> {
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(crate::pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
    };
    let mut routes = own_routes(service);
    routes
        .add_service(health.max_decoding_message_size(MAX_NAME_MESSAGE))
        .add_service(reflection().build_v1()?.max_decoding_message_size(MAX_NAME_MESSAGE))
        // grpcurl before 1.9 knows only the old name.
        .add_service(reflection().build_v1alpha()?.max_decoding_message_size(MAX_NAME_MESSAGE));
    Ok(routes.routes())
}
