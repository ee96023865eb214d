#!/usr/bin/env python3
"""Breaks twenty-one security rules, one at a time, and demands that a test goes red each time.

Works on a copy of the last commit under target/mutations, never on your files. The tests it names that need Postgres are not
used, so nothing has to be started: python3 scripts/mutations.py [NAME ...]
"""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
COPY = ROOT / "target" / "mutations" / "tree"

# (name, file, what stands there, what to put instead, cargo test arguments)
MUTATIONS = [
    ("late-redelivery-is-free", "src/domain/refresh.rs",
     "presented.arrived <= family.made_at.plus(window) || family.late_now",
     "true",
     ["--lib", "domain::refresh"]),
    ("replay-is-overtaken", "src/domain/refresh.rs",
     "if presented.arrived >= family.made_at.plus(CLOCK_SKEW) {",
     "if false {",
     ["--lib", "domain::refresh"]),
    ("sign-in-outlives-a-new-password", "src/store/queries/sessions.rs",
     'if state != "active" || hash.as_deref() != Some(new.checked_hash.expose()) {',
     'if state != "active" {',
     ["--test", "it", "store::sqlite"]),
    ("ended-session-is-not-revoked", "src/store/queries/sessions.rs",
     "self.revoke(Revocation::Session { session });",
     "",
     ["--test", "it", "store::sqlite"]),
    ("refusal-commits", "src/store/queries/transaction.rs",
     "self.abandoned = true;",
     "",
     ["--test", "it", "store::sqlite"]),
    ("transaction-dies-with-its-caller", "src/store/queries/transaction.rs",
     "let task =\n            self.tasks.spawn(async move { this.run(name, &args, body).await }.instrument(span).in_current_span());\n        match task.await {",
     "let task: Result<_, tokio::task::JoinError> = Ok(this.run(name, &args, body).instrument(span).await);\n        match task {",
     ["--test", "it", "store::sqlite"]),
    ("refresh-token-unauthenticated", "src/crypto/refresh_token.rs",
     "aws_lc_rs::constant_time::verify_slices_are_equal(expected.as_ref(), mac)\n"
     "            .map_err(|_| RefreshTokenError::Forged)?;",
     "let _ = (expected, mac);",
     ["--lib", "crypto::refresh_token"]),
    ("expiry-not-checked", "src/verifier/check.rs",
     "if now >= claims.expire_time.plus(leeway) {",
     "if false {",
     ["--lib", "verifier::check"]),
    ("plain-token-is-enough", "src/verifier/wrapping.rs",
     "(Self::Encrypted(_), Signed::Plain(_)) => Err(Inactive::NotEncrypted),",
     "(Self::Encrypted(_), Signed::Plain(_)) => Ok(()),",
     ["--lib", "verifier::check"]),
    ("remembered-token-is-good", "src/verifier/seen.rs",
     "            self.verifier.admit(&seen.token, audience, revocations, now)?;\n",
     "",
     ["--lib", "verifier::seen"]),
    ("any-audience-administers", "src/service/verify.rs",
     "match self.check(token, &[own]).await? {",
     "let _ = own;\n        match self.check(token, &[]).await? {",
     ["--test", "it", "rpc::tokens::sqlite", "rpc::access::sqlite", "rpc::login::sqlite"]),
    ("client-certificate-optional", "src/tls/files.rs",
     "verifier.build()",
     "verifier.allow_unauthenticated().build()",
     ["--lib", "grpc::connections"]),
    ("any-page-calls", "src/grpc/web/mod.rs",
     "(Some(origin), None) if origins.contains(origin) => Ok(Some(origin.clone())),",
     "(Some(origin), None) => Ok(Some(origin.clone())),",
     ["--lib", "grpc::web"]),
    ("suspended-signs-in", "src/service/login.rs",
     "UserState::Suspended => LoginFailure::Suspended,",
     "UserState::Suspended => return Ok(Checked { user: found.user, hash, outdated }),",
     ["--test", "it", "rpc::login::sqlite"]),
    ("weak-rsa-key", "src/jose/rsa.rs",
     "const MODULUS_BITS: RangeInclusive<usize> = 2048..=4096;",
     "const MODULUS_BITS: RangeInclusive<usize> = 512..=4096;",
     ["--lib", "jose"]),
    ("revoked-kid-is-good", "src/verifier/revocation_set.rs",
     "self.keys.load().iter().any(|revoked| revoked == kid)",
     "kid.is_empty()",
     ["--lib", "verifier"]),
    ("revoked-key-comes-back", "src/store/queries/keys.rs",
     'sqlx::query("DELETE FROM signing_keys WHERE kid = $1").bind(kid).execute(tx.conn()).await?;',
     'sqlx::query("UPDATE signing_keys SET remove_time = 1 WHERE kid = $1").bind(kid).execute(tx.conn()).await?;',
     ["--test", "it", "store::sqlite"]),
    ("expired-token-fills-the-feed", "src/service/revoke_token.rs",
     "Err(_) => Ok(None),",
     "Err(_) => {\n"
     "                let keys = self.keys.verification_keys();\n"
     "                Ok(self.verifier.verifier().authenticate(token.expose(), &keys).ok().map(|t| t.into_claims()))\n"
     "            }",
     ["--test", "it", "rpc::revoke_token::sqlite"]),
    ("ended-secret-is-good", "src/domain/service_account.rs",
     "self.expire_time.is_none_or(|end| now < end)",
     "true",
     ["--test", "it", "store::sqlite::a_rotated_secret"]),
    ("stronger-service-account-is-managed", "src/store/queries/service_accounts.rs",
     "if allowed.cover(&held.permissions) { Ok(held) } else { Err(Refused::ExceedsOwn.into()) }",
     "Ok(held)",
     ["--test", "it", "store::sqlite::nobody_manages"]),
    ("deleted-service-account-lives-on", "src/store/queries/service_accounts.rs",
     "tx.revoke(Revocation::ServiceAccount { account: id, epoch: epoch + 1 });",
     "let _ = epoch;",
     ["--test", "it", "store::sqlite::a_deleted_service_account"]),
]


def run(*command, **options):
    return subprocess.run(command, cwd=COPY, **options)


def prepare():
    """A clean copy of the last commit, with a build folder that survives between runs."""
    if not COPY.exists():
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(COPY)], check=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()
    run("git", "fetch", "--quiet", "origin", check=True)
    run("git", "checkout", "--quiet", "--force", "--detach", head, check=True)


def caught_by(mutation):
    """The tests that go red with the rule broken."""
    _, file, old, new, tests = mutation
    path = COPY / file
    text = path.read_text()
    if text.count(old) != 1:
        sys.exit(f"{file}: expected once, found {text.count(old)} times: {old!r}")
    path.write_text(text.replace(old, new))
    try:
        environment = os.environ | {"CARGO_TARGET_DIR": str(COPY.parent / "build")}
        build = run("cargo", "build", "--quiet", "--tests", "--locked", env=environment, capture_output=True, text=True)
        if build.returncode != 0:
            sys.exit(f"{file} does not compile with the rule broken:\n{build.stderr[-2000:]}")
        kind, *filters = tests
        names = [kind, filters.pop(0)] if kind == "--test" else [kind]
        result = run("cargo", "test", "--locked", *names, "--", *filters, env=environment, capture_output=True, text=True,
                     timeout=900)
        red = [line.split()[1] for line in result.stdout.splitlines() if line.startswith("test ") and line.endswith("FAILED")]
        return red or (["(the run as a whole)"] if result.returncode else [])
    finally:
        path.write_text(text)


def main():
    wanted = sys.argv[1:]
    unknown = set(wanted) - {name for name, *_ in MUTATIONS}
    if unknown:
        sys.exit(f"no such mutation: {', '.join(sorted(unknown))}")
    prepare()
    survivors = 0
    for mutation in MUTATIONS:
        if wanted and mutation[0] not in wanted:
            continue
        red = caught_by(mutation)
        survivors += not red
        more = f" and {len(red) - 1} more" if len(red) > 1 else ""
        print(f"caught    {mutation[0]}: {red[0]}{more}" if red else f"SURVIVED  {mutation[0]}", flush=True)
    sys.exit(1 if survivors else 0)


if __name__ == "__main__":
    main()
