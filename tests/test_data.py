"What a notebook cannot test of the data set: several processes, and a folder that may not be written."

import subprocess
import sys

from vit_mnist.core import sha256
from vit_mnist.data import mnist_hashes

UNPACK = "from vit_mnist.data import unpack_mnist; import sys; unpack_mnist(sys.argv[1])"


def test_two_processes_unpack_at_once(tmp_path):
    both = [subprocess.Popen([sys.executable, "-c", UNPACK, tmp_path]) for _ in range(2)]
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    found = {
        path.name: sha256(path.read_bytes()) for path in (tmp_path / "MNIST" / "raw").iterdir()
    }
    assert found == mnist_hashes()


def test_read_only_folder_is_one_line(tmp_path, unprivileged):
    tmp_path.chmod(0o555)
    try:
        done = subprocess.run(
            [*unprivileged, sys.executable, "-c", UNPACK, tmp_path],
            capture_output=True,
            text=True,
            timeout=120,
        )
    finally:
        tmp_path.chmod(0o755)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode and "UserError: can't keep MNIST in" in last and "VIT_MNIST_HOME" in last
    assert list(tmp_path.iterdir()) == []


def test_read_only_folder_that_is_complete_serves(tmp_path, unprivileged):
    subprocess.run([sys.executable, "-c", UNPACK, tmp_path], check=True, timeout=120)
    raw = tmp_path / "MNIST" / "raw"
    raw.chmod(0o555)
    try:
        subprocess.run(
            [*unprivileged, sys.executable, "-c", UNPACK, tmp_path], check=True, timeout=120
        )
    finally:
        raw.chmod(0o755)
