"""The service under load beside a plain one, its start, and its end: `make bench-serve`.

Both answer pictures of digits over loopback, one after the other in the same run, at 1, 8 and 64
connections. The plain one is what is written first: one request, one forward in PyTorch. Each
connection is a coroutine of one process that sends its next request when it has the answer.

    python benchmarks/serve.py --seconds 30 --run explain
"""

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import time
from io import BytesIO

import numpy as np

PLAIN = """
import sys
import torch, uvicorn
from fastapi import FastAPI, UploadFile
from vit_mnist.digits import read_image
from vit_mnist.prediction import predict
from vit_mnist.runs import open_model
from vit_mnist.trust import load_trust

torch.set_num_threads(1)
model = open_model(sys.argv[1])
trust, app = load_trust(model), FastAPI()

@app.post("/predict")
async def answer(files: list[UploadFile]):  # one after the other: hooks are not for threads
    return [predict(model, read_image(await file.read())[0], trust).json for file in files]

uvicorn.run(app, port=int(sys.argv[2]), log_level="warning", http="h11", access_log=False)
"""


def pictures():
    "Return a hundred requests, each with one test digit as a PNG file"
    from PIL import Image

    from vit_mnist.data import load_data

    requests = []
    for image in load_data().test.images[:100]:
        file = BytesIO()
        Image.fromarray(255 - image[0].numpy()).save(file, "PNG")
        head = b'--b\r\nContent-Disposition: form-data; name="files"; filename="x.png"\r\n\r\n'
        body = head + file.getvalue() + b"\r\n--b--\r\n"
        kind = "Content-Type: multipart/form-data; boundary=b"
        start = (
            f"POST /predict HTTP/1.1\r\nHost: x\r\n{kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        requests.append(start.encode() + body)
    return requests


async def read_answer(reader):
    "Read one answer; return its status and whether the connection stays open"
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    await reader.readexactly(int(head.partition("content-length: ")[2].split()[0]))
    return int(head.split()[1]), "connection: close" not in head


async def connection(port, requests, until, times, lost):
    "Ask again and again; note the seconds of each answer, and requests that got none"
    writer, i = None, 0
    while time.perf_counter() < until:
        if writer is None:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                return  # it takes no more
        start = time.perf_counter()
        try:
            writer.write(requests[i % len(requests)])
            status, stays = await read_answer(reader)
        except (OSError, asyncio.IncompleteReadError) as error:
            lost.append(error)
            return
        if status != 200:
            lost.append(status)
        times.append(time.perf_counter() - start)
        i += 1
        if not stays:
            writer.close()
            writer = None


async def load(port, requests, connections, seconds, stop=None):
    "Return the seconds of each answer, and what was lost; `stop` is a process to end half-way"
    times, lost, until = [], [], time.perf_counter() + seconds
    each = [connection(port, requests[i:], until, times, lost) for i in range(connections)]
    running = asyncio.gather(*each)
    if stop:
        await asyncio.sleep(seconds / 2)
        stop.send_signal(signal.SIGTERM)
    await running
    return times, lost


def free_port():
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def first_answer(words, port, request):
    "Start a server; return its process and the seconds to its first answer"

    async def ask():
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        return await read_answer(reader)

    start = time.perf_counter()
    process = subprocess.Popen(words, env={**os.environ, "OMP_NUM_THREADS": "1"})
    while True:
        try:
            asyncio.run(ask())
            return process, time.perf_counter() - start
        except OSError:
            if process.poll() is not None:
                sys.exit("the server did not start")
            time.sleep(0.01)


def measure(name, words, port, requests, seconds):
    "Print a row for each number of connections; return requests a second at each, and the process"
    process, start = first_answer(words, port, requests[0])
    print(f"{name}: first answer {start:.2f} s after its start")
    rates = {}
    for connections in (1, 8, 64):
        asyncio.run(load(port, requests, connections, min(2, seconds)))  # to warm up
        times, lost = asyncio.run(load(port, requests, connections, seconds))
        rates[connections] = len(times) / seconds
        middle, high, highest = 1000 * np.percentile(times, [50, 95, 99])
        print(
            f"{name:8} {connections:3} connections: {rates[connections]:8.1f} requests/s, "
            f"50th {middle:6.1f} ms, 95th {high:6.1f} ms, 99th {highest:6.1f} ms, {len(lost)} lost"
        )
    return rates, process


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30, help="of each load")
    parser.add_argument("--run", default="explain", help="run or weights of the package")
    args = parser.parse_args()
    from vit_mnist.serving import find_pack

    requests, folder = pictures(), find_pack(args.run)
    port = free_port()
    plain, process = measure(
        "plain", [sys.executable, "-c", PLAIN, args.run, str(port)], port, requests, args.seconds
    )
    process.terminate()
    process.wait()
    port = free_port()
    command = "from vit_mnist.cli import vit_mnist_serve; vit_mnist_serve()"
    words = [sys.executable, "-c", command, str(folder), "--port", str(port)]
    served, process = measure("service", words, port, requests, args.seconds)
    print("times the plain one:", {n: round(served[n] / plain[n], 2) for n in served})
    times, lost = asyncio.run(load(port, requests, 64, min(10, args.seconds), stop=process))
    status = process.wait()
    print(f"stopped under load: {len(times)} answered, {len(lost)} lost, exit status {status}")


if __name__ == "__main__":
    main()
