// A page that signs in by gRPC-Web, with the client library that others use too, and tells the server that it came from how each
// step went: /?server=URL&email=ADDRESS&password=PASSWORD. It does not know whether its origin is listed.
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { create, createFileRegistry, fromBinary, toBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";

const given = Object.fromEntries(new URLSearchParams(location.search));
const said = {};

// What a step came to, whatever that is.
async function step(name, work) {
  try {
    said[name] = await work();
  } catch (error) {
    said[name] = { failed: describe(error) };
  }
}

let errorInfo;

function describe(error) {
  if (!(error instanceof ConnectError)) {
    return { name: error.name };
  }
  const info = error.details.find((detail) => detail.type === "google.rpc.ErrorInfo");
  return {
    code: Code[error.code],
    reason: info && fromBinary(errorInfo, info.value).reason,
    name: error.cause?.name,
  };
}

async function registry(name) {
  const bytes = new Uint8Array(await (await fetch(`/descriptors/${name}`)).arrayBuffer());
  return createFileRegistry(fromBinary(FileDescriptorSetSchema, bytes));
}

// The claims of an access token.
function claims(token) {
  return JSON.parse(atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/")));
}

async function walk() {
  const api = await registry("vouchsafe");
  errorInfo = (await registry("rpc")).getMessage("google.rpc.ErrorInfo");
  const transport = createGrpcWebTransport({ baseUrl: given.server });
  const client = (name) => createClient(api.getService(`vouchsafe.v1.${name}`), transport);
  const [auth, account, verifier] = ["AuthService", "AccountService", "VerifierService"].map(client);
  const { email, password } = given;

  await step("register", async () => (await auth.register({ email, password })).user.email);
  await step("wrongPassword", async () => (await auth.login({ identifier: email, password: "not that password" })).outcome.case);
  await step("noToken", async () => (await account.getAccount({})).user.email);
  let tokens;
  await step("login", async () => {
    const { outcome } = await auth.login({ identifier: email, password });
    tokens = outcome.value;
    return outcome.case;
  });
  const headers = { authorization: `Bearer ${tokens?.accessToken}` };
  await step("getAccount", async () => {
    let requestId;
    const onHeader = (answer) => (requestId = answer.get("x-request-id"));
    const { user } = await account.getAccount({}, { headers: { ...headers, "x-request-id": "of-a-page" }, onHeader });
    return { email: user.email, requestId };
  });
  await step("inTime", async () => (await account.getAccount({}, { headers, timeoutMs: 60_000 })).user.email);
  // The end of its own session reaches the page by a stream that was open before.
  await step("watch", async () => {
    const session = claims(tokens.accessToken).sid;
    let told = 0;
    for await (const answer of verifier.watchRevocations({})) {
      if (told++ === 0) {
        await auth.logout({ refreshToken: tokens.refreshToken });
      }
      if (answer.revocations.some(({ revoked }) => revoked.case === "sessionId" && revoked.value === session)) {
        return "revoked";
      }
    }
    return "ended";
  });

  const path = `${given.server}/vouchsafe.v1.AuthService/Register`;
  const request = api.getMessage("vouchsafe.v1.RegisterRequest");
  const register = (email) => ({ method: "POST", body: frame(toBinary(request, create(request, { email, password }))) });
  const kind = { "content-type": "application/grpc-web+proto" };
  // What the browser asks for first, and what it sends to anybody without asking.
  await step("fetch", async () => (await fetch(path, { ...register(`fetch-${email}`), headers: kind })).status);
  await step("fetchWithCookies", async () => {
    return (await fetch(path, { ...register(`cookies-${email}`), headers: kind, credentials: "include" })).status;
  });
  await step("fetchBlindly", async () => (await fetch(path, { ...register(`blindly-${email}`), mode: "no-cors" })).type);
}

// A message in its frame.
function frame(bytes) {
  const framed = new Uint8Array(5 + bytes.length);
  new DataView(framed.buffer).setUint32(1, bytes.length);
  framed.set(bytes, 5);
  return framed;
}

try {
  await walk();
} catch (error) {
  said.page = String(error);
}
await fetch("/said", { method: "POST", body: JSON.stringify(said) });
