"Training in two processes: the same seed makes the same weights."

from vit_mnist.core import sha256

OPTIONS = [*"--limit 1000 --epochs 1 --valid-size 500 --device cpu".split(), "--tracking=disabled"]


def test_same_seed_same_weights_in_two_processes(tmp_path, brief_train):
    hashes = []
    for name, seed in [("a", "3"), ("b", "3"), ("other", "4")]:
        done = brief_train("--out", tmp_path / name, *OPTIONS, "--seed", seed)
        assert done.returncode == 0, done.stderr
        assert "test accuracy" in done.stdout and str(tmp_path / name) in done.stdout
        hashes.append(sha256((tmp_path / name / "model.safetensors").read_bytes()))
    assert hashes[0] == hashes[1] != hashes[2]
