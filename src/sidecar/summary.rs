//! What `--check` prints.

use std::fmt::Write as _;

use super::{
    config::Config,
    policy::{Demand, Route},
};
use crate::verifier::{Access, WhenStale};

/// The routes in their order, as a table, and what is probably not meant so.
pub(super) fn summary(config: &Config) -> String {
    let Config { fixed, policy, warnings } = config;
    let mut rows = vec![["", "PATH", "METHODS", "HOSTS", "DEMANDS"].map(str::to_owned)];
    for (index, route) in policy.routes.iter().enumerate() {
        let Route { path, methods, hosts, demand, line: _ } = route;
        let number = (index + 1).to_string();
        rows.push([number, path.as_str().to_owned(), list(methods.iter()), list(hosts.iter()), demands(demand)]);
    }
    let any = || "any".to_owned();
    rows.push([String::new(), "otherwise".to_owned(), any(), any(), demands(&policy.default)]);

    let mut text = String::new();
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(text, "issuer {}, audience {}", fixed.issuer, list(fixed.audience.iter()));
    let _ = writeln!(text, "listens on {} (gRPC) and {} (HTTP)", fixed.grpc, fixed.http);
    let _ = writeln!(text, "sets {}", list(policy.identity.names()));
    if fixed.decryption_key_file.is_some() {
        text.push_str("takes encrypted tokens only\n");
    }
    if policy.strip_token {
        text.push_str("takes the token away\n");
    }
    let widths: [usize; 5] = std::array::from_fn(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0));
    for row in &rows {
        let cells: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        let _ = writeln!(text, "{}", cells.join("  ").trim_end());
    }
    for warning in warnings {
        let _ = writeln!(text, "warning: {warning}");
    }
    text
}

fn list(items: impl Iterator<Item = impl ToString>) -> String {
    let items: Vec<_> = items.map(|item| item.to_string()).collect();
    if items.is_empty() { "any".to_owned() } else { items.join(",") }
}

fn demands(demand: &Demand) -> String {
    let Demand::Rule(rule) = demand else { return "deny".to_owned() };
    let mut text = match rule.access {
        Access::Public => "public",
        Access::Optional => "optional",
        Access::Required => "required",
    }
    .to_owned();
    if !rule.scopes.is_empty() {
        let _ = write!(text, ", scope {}", rule.scopes.join(" "));
    }
    if !rule.roles.is_empty() {
        let _ = write!(text, ", role {}", rule.roles.join(" or "));
    }
    if rule.when_stale == WhenStale::Allow {
        text.push_str(", also when stale");
    }
    text
}
