//! The sidecar's files in `deploy/` as they are: the program takes them, and has nothing to say against them.

use std::path::Path;

use super::envoy::{recipe, replaced};
use crate::{
    process::harness::Place,
    support::{Backend, certificates::Authority},
};

#[tokio::test]
async fn the_sidecar_takes_its_files() {
    let place = Place::new(Backend::Sqlite).await;
    let own = recipe("sidecar.toml").display().to_string();
    let (secret, authority) =
        (place.file("client_secret", "vss_secret\n"), place.file("ca.crt", Authority::new("A").pem()));
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/istio/workload.yaml");
    let mounts = [("/etc/vouchsafe/secret/client_secret", &*secret), ("/etc/vouchsafe/ca/ca.crt", &authority)];
    let from_map = place.file("from_map.toml", from_config_map(&replaced(&manifest, &mounts)));
    for file in [own, from_map] {
        let ended = place.run(&["sidecar", "--config", &file, "--check"]).await;
        assert_eq!(ended.stderr, "", "{file}");
        let said = ended.ok();
        assert!(said.contains("/admin/**") && !said.contains("warning"), "{file}: {said}");
    }
    place.remove().await;
}

/// What stands in the ConfigMap: the lines that are indented below its name.
fn from_config_map(manifest: &str) -> String {
    let (_, below) = manifest.split_once("  sidecar.toml: |\n").expect("the manifest has a sidecar.toml");
    let lines = below.lines().take_while(|line| line.is_empty() || line.starts_with("    "));
    lines.map(str::trim_start).collect::<Vec<_>>().join("\n")
}
