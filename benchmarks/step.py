"""Compare the processor seconds of a training step in two states of the project, in turn.

python benchmarks/step.py main HEAD --preset fast --steps 200 --rounds 5
"""

import argparse
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
from io import BytesIO
from pathlib import Path

MEASURE = """
import sys, time
from dataclasses import replace
from vit_mnist.data import load_data
from vit_mnist.loop import fit
from vit_mnist.model import model_for
from vit_mnist.presets import find_preset
preset, steps = sys.argv[1], int(sys.argv[2])
settings = find_preset(preset)
settings = replace(settings, epochs=1, limit=steps * settings.batch_size, device="cpu")
data = load_data(settings.data)
model = model_for(data, settings.model, seed=0, **settings.model_args)
began = time.process_time()
run = fit(model, data.train, None, settings.training())
print((time.process_time() - began) / run.step)
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("revisions", nargs=2, help="of git: main HEAD")
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--steps", type=int, default=200, help="in one measurement")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each state")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        places = [Path(folder, str(i)) for i in range(2)]
        for place, revision in zip(places, options.revisions):
            words = ["git", "archive", revision, "vit_mnist"]
            packed = subprocess.run(words, check=True, capture_output=True).stdout
            tarfile.open(fileobj=BytesIO(packed)).extractall(place, filter="data")
        seconds = [[], []]
        for _ in range(options.rounds):
            for place, times in zip(places, seconds):
                words = [sys.executable, "-c", MEASURE, options.preset, str(options.steps)]
                env = {**os.environ, "PYTHONPATH": str(place)}
                done = subprocess.run(
                    words, check=True, cwd=place, env=env, capture_output=True, text=True
                )
                times.append(float(done.stdout))
    for revision, times in zip(options.revisions, seconds):
        shown = ", ".join(f"{1000 * each:.2f}" for each in times)
        middle = 1000 * statistics.median(times)
        print(f"{revision}: median {middle:.2f} processor ms a step ({shown})")
    print(f"ratio of medians: {statistics.median(seconds[1]) / statistics.median(seconds[0]):.3f}")


if __name__ == "__main__":
    main()
