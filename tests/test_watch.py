"The log of requests: several processes that write, addresses with passwords, without torch."

import os
import subprocess
import sys

import numpy as np
import pytest

from vit_mnist.core import UserError
from vit_mnist.watch import RequestLog, describe_requests

WRITES = """
import sys, numpy as np
from vit_mnist.watch import RequestLog, describe_requests
assert "torch" not in sys.modules and "fastcore" not in sys.modules
log = RequestLog(sys.argv[1], most=150)
for i in range(20):
    images = np.full((5, 28, 28), i, np.uint8)
    log.add(describe_requests(images, np.eye(10)[:5], sys.argv[2], tokens=np.eye(5), when=i))
"""


def fill(where, writers=3):
    "Let processes write a hundred rows each, all beginning to make the log at once"
    words = [sys.executable, "-c", WRITES, str(where)]
    started = [subprocess.Popen([*words, f"m{i}"]) for i in range(writers)]
    assert [process.wait() for process in started] == [0] * writers


def check_filled(where):
    "Check that the newest rows of all are there, whole, and no more than the bound"
    log = RequestLog(where, most=150, create=False)
    counted, rows = log.count(), log.read()
    assert sum(counted.values()) == len(rows) == 150
    assert all(len(log.read(model=name)) == n for name, n in counted.items())
    assert (rows.tokens.sum(1) == 1).all() and (rows.probability == 1).all()
    log.close()


def test_several_processes_write_to_one_file(tmp_path):
    fill(tmp_path / "requests.db")
    check_filled(tmp_path / "requests.db")


def test_a_batch_is_added_whole_or_not_at_all(tmp_path):
    log = RequestLog(tmp_path / "requests.db")
    rows = describe_requests(np.zeros((3, 28, 28), np.uint8), np.eye(10)[:3], "m")
    rows.time[2] = np.nan  # which no row may have
    with pytest.raises(UserError, match="can't use the log"):
        log.add(rows)
    assert len(log.read()) == 0


def test_a_log_is_never_made_by_reading(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        RequestLog(tmp_path / "none.db", create=False)
    (tmp_path / "empty.db").touch()
    with pytest.raises(UserError, match="no log of requests"):
        RequestLog(tmp_path / "empty.db", create=False)
    assert [path.name for path in tmp_path.iterdir()] == ["empty.db"]


@pytest.mark.parametrize(
    "address",
    [
        "postgresql+psycopg://me:sesame@127.0.0.1:9/x",
        "postgresql://me:sesame@127.0.0.1:9/x?application_name=sesame",
        "postgresql://me@127.0.0.1:9/x?password=sesame",
        "postgresql://me@127.0.0.1:9/x?sesame=sesame",
        "postgresql+none://me:sesame@127.0.0.1:9/x",
        "postgresql://me:sesame@127.0.0.1:sesame/x",
        "mysql://me:sesame@127.0.0.1/x",
    ],
)
def test_a_password_is_in_no_message(address):
    with pytest.raises(UserError) as caught:
        RequestLog(address)
    message = str(caught.value)
    assert "\n" not in message and "me:" not in message
    assert "sesame" not in message
    assert caught.value.__cause__ is None


@pytest.fixture(scope="module")
def server():
    postgres = pytest.importorskip("postgres", reason="no tests/postgres.py beside this file")
    if not postgres.BIN or sys.platform == "win32":
        (pytest.fail if os.environ.get(postgres.NEEDED) else pytest.skip)(postgres.HOW)
    with postgres.running_server() as server:
        yield server


def test_several_processes_write_to_one_database(server):
    server.sql("create database requests owner student")
    fill(server.url("requests"))
    check_filled(server.url("requests"))
    log = RequestLog(server.url("requests"), images=True)
    pixels = np.arange(784, dtype=np.uint32).astype(np.uint8).reshape(1, 28, 28)
    log.add(describe_requests(pixels, np.eye(10)[:1], "m", trusted=[True], when=5.5))
    row = log.read(last=1, images=True)
    assert (row.images == pixels).all() and row.trusted == 1 and row.time == 5.5
    server.stop("immediate")  # a restart loses no log: the next one to ask connects anew
    server.start()
    assert len(log.read()) == 151
    wrong = server.url("requests", password="sesame")
    with pytest.raises(UserError, match="password authentication failed") as caught:
        RequestLog(wrong)
    assert "sesame" not in str(caught.value)
