//! A service mesh, for real: Envoy with the very files of `deploy/envoy`, in front of backends that note what reaches them.
//!
//! Only addresses and durations of the files are replaced. Where a file no longer has what is to be replaced, the test says so.

mod envoy;
mod ext_authz;
mod hostile;
mod jwt_authn;
mod raw;
mod recipes;
mod sidecar;
mod upstream;
mod world;
