"A PostgreSQL server for tests: on a socket in a folder of its own, as another user than root."

import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

# Debian keeps each version's programs in a folder of its own, outside PATH
PLACES = [*Path("/usr/lib/postgresql").glob("*/bin"), *map(Path, os.get_exec_path())]
PROGRAMS = ("initdb", "pg_ctl", "postgres", "psql")
BIN = next((place for place in PLACES if all((place / name).exists() for name in PROGRAMS)), None)
HOW = "no PostgreSQL found: apt-get install postgresql"
NEEDED = "VIT_MNIST_POSTGRES"  # set where tests must not be skipped
USER, PASSWORD = "student", "pa/ss@{word}%1é"


class Server:
    "A server of `folder`, which may be stopped, killed and started again"

    def __init__(self, folder, safe=False):
        self.folder, self.process = folder, None
        self.options = ["-c", "listen_addresses=", "-k", folder]
        if not safe:
            self.options += ["-c", "fsync=off", "-c", "full_page_writes=off"]
        self.before = []
        if os.geteuid() == 0:  # which the server refuses
            shutil.chown(folder, "nobody")
            owner = ["--reuid=nobody", f"--regid={os.stat(folder).st_gid}", "--clear-groups"]
            self.before = ["setpriv", *owner]
        secret = Path(folder, "secret")
        secret.write_text("admin")
        secret.chmod(0o644)
        self.run("initdb", "-D", folder / "data", "-U", "admin", "-A", "scram-sha-256",
                 "--pwfile", secret, "-E", "UTF8", "--no-locale", "--no-sync")  # fmt: skip

    def words(self, name, *words):
        return [*self.before, BIN / name, *words]

    def run(self, name, *words, **kwargs):
        "Run a program of PostgreSQL to its end"
        words = self.words(name, *words)
        env = {**os.environ, "PGPASSWORD": "admin"}
        kept = {"capture_output": True, "text": True, "env": env, "cwd": self.folder, **kwargs}
        return subprocess.run(words, check=True, **kept)

    def sql(self, command, database="postgres"):
        "Run a command as the administrator; return what it prints"
        words = ["-h", self.folder, "-U", "admin", "-d", database, "-Atqc", command]
        return self.run("psql", *words).stdout.strip()

    def start(self):
        words = ["-D", self.folder / "data", "-l", self.folder / "log", "-s", "-w", "start"]
        self.run("pg_ctl", "-o", subprocess.list2cmdline(map(str, self.options)), *words)

    def stop(self, mode="fast"):
        self.run("pg_ctl", "-D", self.folder / "data", "-m", mode, "-s", "-w", "stop")

    def url(self, database, password=PASSWORD, user=USER):
        from urllib.parse import quote

        secret = quote(password, safe="")
        return f"postgresql+psycopg://{user}:{secret}@/{database}?host={self.folder}"


@contextmanager
def running_server(safe=False):
    "Start a server with a user that may make databases; stop it and remove its folder"
    # not in TMPDIR: the path of a socket has at most some hundred characters
    folder = Path(tempfile.mkdtemp(prefix="vit-mnist-pg-", dir="/tmp"))
    server = None
    try:
        server = Server(folder, safe)
        server.start()
        server.sql(f"create role {USER} login createdb password '{PASSWORD}'")
        yield server
    finally:
        if server and (folder / "data" / "postmaster.pid").exists():
            server.stop("immediate")
        shutil.rmtree(folder, ignore_errors=True)
