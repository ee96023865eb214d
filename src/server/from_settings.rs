//! Settings as each part wants them.

use std::{num::NonZeroUsize, thread};

use crate::{
    config::{Backend, RegistrationMode, Settings},
    crypto::{Argon2Params, PoolConfig},
    domain::{secret::SecretString, session::SessionPolicy, signing_key::RotationPolicy},
    service::Policy,
    store::{Location, Options},
};

/// Where the settings say that the database is.
pub(super) fn location(settings: &Settings) -> Location {
    match &settings.database.backend {
        Backend::Sqlite { file, .. } => Location::Sqlite(file.clone()),
        Backend::Postgres { url } => Location::Postgres(SecretString::new(url.expose().to_owned())),
    }
}

/// How the settings say that connections are held.
pub(super) fn options(settings: &Settings) -> Options {
    let database = &settings.database;
    Options { max_connections: database.max_connections, acquire_timeout: database.acquire_timeout }
}

/// The operator's decisions, as far as the use cases need them.
pub(super) fn policy(settings: &Settings) -> Policy {
    let Settings { issuer, http, tokens, sessions, keys, registration, passwords, .. } = settings;
    Policy {
        issuer: issuer.clone(),
        public_url: http.public_url.clone(),
        algorithm: tokens.algorithm,
        access_ttl: tokens.access_ttl,
        audiences: tokens.audiences.clone(),
        default_audience: tokens.default_audience.clone(),
        scopes: tokens.scopes.clone(),
        client_id: tokens.client_id.clone(),
        sessions: SessionPolicy { idle: sessions.idle_timeout, absolute: sessions.absolute_timeout },
        redelivery_window: sessions.redelivery_window,
        rotation: RotationPolicy { period: keys.rotation_period, lead: keys.publish_lead },
        registration_open: registration.mode == RegistrationMode::Open,
        max_staleness: tokens.max_staleness,
        hash_wait: passwords.max_wait,
    }
}

/// How the settings say that passwords are hashed.
pub(super) fn pool_config(settings: &Settings) -> PoolConfig {
    let passwords = &settings.passwords;
    let spare = || thread::available_parallelism().map_or(1, |cores| cores.get().saturating_sub(1).max(1));
    PoolConfig {
        threads: passwords.threads.map_or_else(spare, NonZeroUsize::get),
        queue: passwords.queue,
        niceness: passwords.niceness.into(),
        params: Argon2Params {
            memory_kib: passwords.memory_kib,
            iterations: passwords.iterations,
            parallelism: passwords.parallelism,
        },
    }
}
