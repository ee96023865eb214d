#!/bin/sh
# Checks the files of deploy/ with the linters of what they are for. Runs nothing of them: that is rehearse-deploy.py.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh

# The exposure that `systemd-analyze security` gives the unit, in tenths: 14 now. Higher is worse, 100 the most.
MOST_EXPOSED=15

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

"$TOOLS_DIR/bin/hadolint" deploy/Dockerfile
for script in deploy/*.sh; do sh -n "$script"; done

# Docker Compose itself reads the file. Then what it must not lose: how every service is confined, and that nothing is reachable
# from other machines.
"$TOOLS_DIR/bin/docker-compose" -f deploy/compose.yaml config --format json >"$folder/compose.json"
"$TOOLS_DIR/bin/python" - "$folder/compose.json" <<'PYTHON'
import json, sys

services = json.load(open(sys.argv[1]))["services"]
wrong = []
for name, service in services.items():
    confined = {
        "read_only": service.get("read_only") is True,
        "cap_drop": service.get("cap_drop") == ["ALL"] and not service.get("cap_add"),
        "no-new-privileges": "no-new-privileges:true" in service.get("security_opt", []),
        "privileged": not service.get("privileged"),
        "network_mode": not service.get("network_mode"),
        "ports on loopback": all(port.get("host_ip") == "127.0.0.1" for port in service.get("ports", [])),
        "ports of the stores": name.startswith("node") or not service.get("ports"),
        "a tag": service["image"] == "vouchsafe" or not service["image"].endswith((":latest", service["image"].split(":")[0])),
        "no secret in the environment": not any(
            key.endswith(("PASSWORD", "DATABASE__URL", "REDIS__URL", "MASTER_KEY")) for key in service.get("environment", {})
        ),
    }
    wrong += [f"compose.yaml: {name}: {what}" for what, right in confined.items() if not right]
nodes = [service for name, service in services.items() if name.startswith("node")]
if len(nodes) < 2 or any(node["environment"] != nodes[0]["environment"] for node in nodes):
    wrong.append("compose.yaml: at least two nodes with the same settings are expected")
sys.exit("\n".join(wrong) or None)
PYTHON

# Envoy itself reads its files; that they do what they say is for tests/it/mesh to see.
for file in deploy/envoy/*.yaml; do
    "$TOOLS_DIR/bin/envoy" --mode validate --log-level error --config-path "$file" >"$folder/envoy" 2>&1 ||
        { cat "$folder/envoy" >&2; die "Envoy does not take $file"; }
done

# What nobody here can run is at least YAML, and has not lost what it is for.
"$TOOLS_DIR/bin/python" - <<'PYTHON'
import pathlib, re, sys, yaml

parsed = {path.name: list(yaml.safe_load_all(path.read_text())) for path in pathlib.Path("deploy/istio").glob("*.yaml")}
every = {(one["kind"], one["metadata"]["name"]): one["spec"]
        for name, file in parsed.items() if name != "mesh-config.yaml" for one in file if "spec" in one}
[provider] = parsed["mesh-config.yaml"][0]["spec"]["meshConfig"]["extensionProviders"]
asked = provider["envoyExtAuthzGrpc"]
entry = every["ServiceEntry", "vouchsafe-sidecar"]
policy = every["AuthorizationPolicy", "vouchsafe"]
pod = every["Deployment", "orders"]["template"]["spec"]
mounted = {volume["name"] for volume in pod["volumes"]}
right = {
    "a sidecar that is away denies": asked["failOpen"] is False,
    "a request waits no longer than in Envoy's own recipe": asked["timeout"] == "0.2s",
    "the provider is where the ServiceEntry says": [asked["service"]] == entry["hosts"] and asked["port"] == entry["ports"][0]["number"],
    "it is in the pod": [one["address"] for one in entry["endpoints"]] == ["127.0.0.1"],
    "every request is asked about": policy["rules"] == [{}] and policy["action"] == "CUSTOM",
    "the policy asks the provider": policy["provider"]["name"] == provider["name"],
    "no root": pod["securityContext"]["runAsNonRoot"] is True,
    "no Kubernetes token": pod["automountServiceAccountToken"] is False,
}
# Nobody may forge what backends believe: in both files that work without the sidecar, the very first filter takes away every
# header that the sidecar would set by default, and Envoy's own; with `_` for `-` too. tests/it/mesh runs that filter.
TYPE = "type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation"
told = set(re.findall(r'"(x-vouchsafe-[a-z-]+)"\.to_owned', pathlib.Path("src/sidecar/file.rs").read_text())) | {"x-vouchsafe-claims"}
spelled = {name.replace("-", "_", count) for name in told for count in range(4)} | {name[::-1].replace("-", "_", 1)[::-1] for name in told}
alone = yaml.safe_load(pathlib.Path("deploy/envoy/jwt-authn.yaml").read_text())
[chain] = alone["static_resources"]["listeners"][0]["filter_chains"]
manager = chain["filters"][0]["typed_config"]
stripping = every["EnvoyFilter", "no-forged-headers"]
verifying = every["RequestAuthentication", "vouchsafe"]
[patch] = stripping["configPatches"]
first = {"jwt-authn.yaml": manager["http_filters"][0], "request-authentication.yaml": patch["patch"]["value"]}
set_by_envoy = {one["header_name"] for one in manager["http_filters"][1]["typed_config"]["providers"]["vouchsafe"]["claim_to_headers"]}
set_by_istio = {one["header"] for one in verifying["jwtRules"][0]["outputClaimToHeaders"]}
right |= {
    "the names that the sidecar sets are known": len(told) == 5,
    "what Envoy and Istio set are names that are taken away": set_by_envoy | set_by_istio <= told,
    "forged headers are taken away before everything": patch["patch"]["operation"] == "INSERT_FIRST" and patch["applyTo"] == "HTTP_FILTER",
    "forged headers are taken away on the way in": patch["match"]["context"] == "SIDECAR_INBOUND",
    "forged headers are taken away where tokens are verified": stripping["workloadSelector"]["labels"] == verifying["selector"]["matchLabels"],
    "both files take away the same": len({str(one["typed_config"]) for one in first.values()}) == 1,
}
for name, taken in first.items():
    [mutation] = taken["typed_config"]["mutations"]["request_mutations"]
    pattern = mutation["remove_on_match"]["key_matcher"]["safe_regex"]["regex"]
    kept = sorted(header for header in spelled if not re.fullmatch(pattern, header))
    right[f"{name}: forged headers are taken away, but not {kept}"] = taken["typed_config"]["@type"] == TYPE and not kept
for recipe in ("ext-authz.yaml", "jwt-authn.yaml"):
    listener = yaml.safe_load(pathlib.Path("deploy/envoy", recipe).read_text())["static_resources"]["listeners"][0]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    routes = [route["route"] for host in manager["route_config"]["virtual_hosts"] for route in host["routes"]]
    longest = [route["max_stream_duration"] for route in routes if "max_stream_duration" in route]
    right |= {
        f"{recipe}: no stream outlives a token": manager["common_http_protocol_options"]["max_stream_duration"] == "300s"
        and all(one == {"max_stream_duration": "300s", "grpc_timeout_header_max": "300s"} for one in longest),
        f"{recipe}: hosts are named": all("*" not in host["domains"] for host in manager["route_config"]["virtual_hosts"]),
    }
for container in pod["containers"]:
    confined, name = container["securityContext"], container["name"]
    right |= {
        f"{name}: read-only": confined["readOnlyRootFilesystem"] is True,
        f"{name}: no capabilities": confined["capabilities"] == {"drop": ["ALL"]},
        f"{name}: no new privileges": confined["allowPrivilegeEscalation"] is False,
        f"{name}: mounts are volumes": {mount["name"] for mount in container.get("volumeMounts", [])} <= mounted,
    }
wrong = [what for what, is_so in right.items() if not is_so]
sys.exit("\n".join(f"deploy/: not so any more: {what}" for what in wrong) or None)
PYTHON

# The program is not installed here, and whether it can be executed is looked at.
mkdir "$folder/postgres" "$folder/embedded" "$folder/embedded/vouchsafe.service.d"
for kind in postgres embedded; do
    sed 's|^ExecStart=/usr/local/bin/vouchsafe |ExecStart=/bin/true |' deploy/systemd/vouchsafe.service \
        >"$folder/$kind/vouchsafe.service"
done
cp deploy/systemd/embedded.conf "$folder/embedded/vouchsafe.service.d/"
for kind in postgres embedded; do
    unit=$folder/$kind/vouchsafe.service
    # What it does not understand it only warns of.
    systemd-analyze verify --man=no "$unit" >"$folder/verify" 2>&1 || true
    [ ! -s "$folder/verify" ] || { cat "$folder/verify" >&2; die "systemd-analyze does not like the unit ($kind)"; }
    systemd-analyze security --offline=true --no-pager --threshold="$MOST_EXPOSED" "$unit" >"$folder/security" 2>&1 ||
        { cat "$folder/security" >&2; die "the unit is less confined than it was ($kind)"; }
done
echo "Dockerfile, compose.yaml ($("$TOOLS_DIR/bin/docker-compose" version --short)), vouchsafe.service, files of Envoy and Istio: no complaints"
