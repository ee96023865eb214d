// Encrypts or decrypts an access token with jose, the JWT library of Node.js: jwe_jose.cjs encrypt|decrypt JWK_FILE < TOKEN
//
// Exit status: 0 with the token on standard output, 1 with the reason on standard error, 2 for wrong usage.
// jose is found beside node's bin folder in VOUCHSAFE_TEST_TOOLS.
"use strict";

const fs = require("node:fs");
const path = require("node:path");
const { createRequire } = require("node:module");

const tools = path.join(process.env.VOUCHSAFE_TEST_TOOLS, "..", "package.json");
const jose = createRequire(tools)("jose");
const CONTENT = "A256GCM";

async function encrypt(jwk, token) {
  const header = { alg: jwk.alg, enc: CONTENT, cty: "JWT", kid: jwk.kid };
  const { d: _, ...others } = jwk;
  const key = await jose.importJWK(others, jwk.alg);
  return new jose.CompactEncrypt(new TextEncoder().encode(token)).setProtectedHeader(header).encrypt(key);
}

async function decrypt(jwk, token) {
  const key = await jose.importJWK(jwk, jwk.alg);
  const allowed = { keyManagementAlgorithms: [jwk.alg], contentEncryptionAlgorithms: [CONTENT] };
  const { plaintext, protectedHeader } = await jose.compactDecrypt(token, key, allowed);
  if (protectedHeader.cty !== "JWT" || protectedHeader.kid !== jwk.kid) {
    throw new Error(`the header says ${JSON.stringify(protectedHeader)}`);
  }
  return new TextDecoder().decode(plaintext);
}

const [verb, file] = process.argv.slice(2);
const run = { encrypt, decrypt }[verb];
if (!run || !file) {
  console.error("usage: jwe_jose.cjs encrypt|decrypt JWK_FILE < TOKEN");
  process.exit(2);
}
run(JSON.parse(fs.readFileSync(file, "utf8")), fs.readFileSync(0, "utf8").trim()).then(
  (text) => console.log(text),
  (error) => {
    console.error(`refused: ${error.name}: ${error.message}`);
    process.exit(1);
  },
);
