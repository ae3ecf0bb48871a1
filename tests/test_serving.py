"""The service from outside: equal to vit_mnist_predict, no torch, hostile requests, the end under
load, and what a broken log may not break."""

import asyncio
import http.client
import json
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from io import BytesIO

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from conftest import real_words
from vit_mnist import serving
from vit_mnist.core import UserError
from vit_mnist.data import load_data
from vit_mnist.explanation import explain
from vit_mnist.prediction import predict
from vit_mnist.serving import PackedModel, ServeSettings, make_app, pack_model
from vit_mnist.serving import read_serve_settings
from vit_mnist.trust import load_trust, make_strangers
from vit_mnist.weights import load_pretrained


@pytest.fixture(scope="module")
def model():
    return load_pretrained("explain")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return pack_model("explain", tmp_path_factory.mktemp("packed") / "explain")


@pytest.fixture(scope="module")
def packed(folder):
    return PackedModel(folder)


@pytest.fixture
def client(packed):
    with TestClient(make_app(packed, ServeSettings()), raise_server_exceptions=False) as client:
        yield client


def png(image, **options):
    file = BytesIO()
    Image.fromarray(np.asarray(image)).save(file, "PNG", **options)
    return file.getvalue()


SEVEN = png(255 - load_data().test.images[0, 0].numpy())
FORM = "multipart/form-data; boundary=b"
JSON = {"Content-Type": "application/json"}


def form(*files, end=b"--\r\n"):
    "Return the body of a form with these files, and its headers"
    head = b'--b\r\nContent-Disposition: form-data; name="files"; filename="x.png"\r\n\r\n'
    body = b"".join(head + file + b"\r\n" for file in files) + b"--b" + end
    return body, {"Content-Type": FORM}


# ---- answers


def test_answers_equal_those_of_vit_mnist_predict(client, model, tmp_path):
    digits = [255 - image[0].numpy() for image in load_data().test.images[:200]]
    strangers = [image[0].numpy() for image in make_strangers("letters", 20, seed=3)]
    paths = [tmp_path / f"{i}.png" for i in range(220)]
    for path, pixels in zip(paths, digits + strangers):
        path.write_bytes(png(pixels))
    trust = load_trust(model)
    expected = [predict(model, str(path), trust) for path in paths]
    sent = [("files", (path.name, path.read_bytes())) for path in paths]
    given = client.post("/predict", files=sent).json()["predictions"]
    for ours, theirs, path in zip(given, expected, paths, strict=True):
        assert (ours["file"], ours["digit"]) == (path.name, theirs.name)
        assert np.abs(np.array(ours["probabilities"]) - theirs.probabilities.numpy()).max() < 1e-4
        assert (ours["trusted"], ours["reason"]) == (theirs.trusted, theirs.reason)
    assert {each.trusted for each in expected} == {True, False}


def test_pixels_are_answered_as_python_answers_them(client, model):
    images = load_data().test.images[:3, 0].numpy()
    for pixels in images, images[:1]:
        given = client.post("/predict", json={"pixels": pixels.tolist()}).json()["predictions"]
        expected = [predict(model, image).probabilities.numpy() for image in pixels]
        assert np.abs(np.array([g["probabilities"] for g in given]) - expected).max() < 1e-4


def test_the_map_is_that_of_occlusion(client, model):
    image = load_data().test.images[:1]
    seen = predict(model, image[0]).image[None]
    for target in 7, 1:
        address = f"/explain?format=json&target={target}"
        told = client.post(address, json={"pixels": image[0, 0].tolist()}).json()
        cells = explain(model, seen, "occlusion", target=target, tokens=True)[1][0]
        assert (told["digit"], told["target"]) == (7, target)
        assert np.abs(np.array(told["map"]) - cells.numpy()).max() < 1e-3
    drawn = client.post("/explain", files={"files": SEVEN})
    assert Image.open(BytesIO(drawn.content)).size == (280, 280)


def test_pages(client, packed):
    assert "<vit-page>" in client.get("/").text
    assert client.get("/health").json() == {"status": "ok", "model": "explain"}
    assert client.get("/model").json()["card"]["command"].startswith("vit_mnist_train")
    client.post("/predict", files={"files": SEVEN})
    client.post("/predict", files={"files": b"MZ"})
    client.get("/nowhere")
    counts = client.get("/metrics").text.splitlines()
    assert 'vit_mnist_requests_total{path="/predict",status="200"} 1.0' in counts
    assert 'vit_mnist_errors_total{path="/predict",status="422"} 1.0' in counts
    assert 'vit_mnist_errors_total{path="other",status="404"} 1.0' in counts
    assert 'vit_mnist_predicted_total{digit="7"} 1.0' in counts
    assert "vit_mnist_not_trusted_share 0.0" in counts
    body = client.get("/openapi.json").json()["paths"]["/predict"]["post"]["requestBody"]
    assert set(body["content"]) == {"multipart/form-data", "application/json"}
    example = body["content"]["application/json"]["example"]
    assert client.post("/predict", json=example).status_code == 200


TORCHLESS = """
import sys
sys.modules["torch"] = None  # importing it fails
from fastapi.testclient import TestClient
from vit_mnist import cli
from vit_mnist.serving import PackedModel, make_app
from vit_mnist.watch import RequestLog
with TestClient(make_app(PackedModel(sys.argv[1]))) as client:
    file = {"files": open(sys.argv[2], "rb").read()}
    assert client.post("/predict", files=file).json()["predictions"][0]["digit"] == 7
    assert client.post("/explain", files=file).status_code == 200
loaded = {name.split(".")[0] for name, module in sys.modules.items() if module}
assert not loaded & {"torch", "torchvision", "accelerate"}, loaded
"""


def test_serving_imports_no_torch(folder, tmp_path):
    (tmp_path / "7.png").write_bytes(SEVEN)
    words = real_words("python", "-c", TORCHLESS, folder, tmp_path / "7.png")
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# ---- refused


def bomb():
    return png(np.zeros((6000, 6000), np.uint8))


REFUSED = {
    "nothing": (422, *form()),
    "an empty file": (422, *form(b"")),
    "not an image": (422, *form(b"MZ" * 100)),
    "half an image": (422, *form(SEVEN[:100])),
    "one wrong of two": (422, *form(SEVEN, b"MZ")),
    "a bomb": (422, *form(bomb())),
    "many pixels": (413, *form(*[png(np.eye(4900, dtype=np.uint8) * 255)] * 3)),
    "10,000 files": (400, *form(*[b"x"] * 10_000)),
    "the end missing": (400, *form(SEVEN, end=b"")),
    "the second file cut": (400, form(SEVEN, SEVEN)[0][:-60], form()[1]),
    "no boundary": (400, b"x", {"Content-Type": "multipart/form-data"}),
    "not a form": (400, b"x" * 1000, form()[1]),
    "wrong charset": (400, form(SEVEN)[0][:50], {"Content-Type": f"{FORM}; charset=no"}),
    "too large": (413, b"x" * (2**24 + 1), form()[1]),
    "of no kind": (415, b"x", {}),
    "a picture as it is": (415, SEVEN, {"Content-Type": "image/png"}),
    "no JSON": (422, b"{", JSON),
    "other JSON": (422, b'{"image": []}', JSON),
    "no pixels": (422, b'{"pixels": []}', JSON),
    "NaN": (422, b'{"pixels": [[NaN]]}', JSON),
    "infinite": (422, b'{"pixels": [[1e999]]}', JSON),
    "words": (422, b'{"pixels": [["1"]]}', JSON),
    "ragged": (422, json.dumps({"pixels": [[0] * 28] * 27 + [[0] * 27]}).encode(), JSON),
    "thin": (422, json.dumps({"pixels": [[0] * 2000] * 8}).encode(), JSON),
    "blank": (422, json.dumps({"pixels": [[0] * 28] * 28}).encode(), JSON),
    "nested": (422, b'{"pixels": ' + b"[" * 500_000, JSON),
    "long JSON": (413, b" " * 2**21, JSON),
    "not UTF-8": (422, b'{"pixels": "\xff"}', JSON),
    "a megabyte of mistakes": (422, b'{"pixels": [[' + b'"",' * 340_000 + b'""]]}', JSON),
    "many empty rows": (422, b'{"pixels": [' + b"[]," * 340_000 + b"[]]}", JSON),
    "from another site": (403, form(SEVEN)[0], {**form()[1], "Sec-Fetch-Site": "cross-site"}),
    "of another origin": (403, form(SEVEN)[0], {**form()[1], "Origin": "http://evil.example"}),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_wrong_request_is_refused_in_one_line(client, kind):
    status, body, headers = REFUSED[kind]
    answer = client.post("/predict", content=body, headers=headers)
    assert answer.status_code == status, answer.text
    detail = answer.json()["detail"]
    assert isinstance(detail, str) and "\n" not in detail and len(detail) < 300
    assert client.post("/predict", files={"files": SEVEN}).status_code == 200


def test_mistakes_in_json_are_not_collected():
    for wrong in (
        b'{"pixels": [[' + b'"",' * 999 + b'""]]}',
        b'{"pixels": [' + b"[]," * 99 + b"[]]}",
    ):
        with pytest.raises(UserError) as caught:
            serving._read_json(wrong)
        assert caught.value.__cause__.error_count() <= 2  # one image, or several


def test_a_page_of_the_service_may_ask_it(client):
    for headers in {"Sec-Fetch-Site": "same-origin"}, {"Origin": "http://testserver"}:
        assert client.post("/predict", files={"files": SEVEN}, headers=headers).is_success


def test_a_refusal_comes_before_the_rest_of_the_body_is_read(packed):
    app, sent, at_receive = make_app(packed, ServeSettings()), [], []

    async def receive():
        at_receive.append([message["type"] for message in sent])
        return {"type": "http.request", "body": b"x", "more_body": len(at_receive) < 3}

    async def send(message):
        sent.append(message)

    headers = [(b"content-length", b"100000000"), (b"host", b"x")]
    scope = {"type": "http", "method": "POST", "path": "/predict", "headers": headers}
    asyncio.run(app({**scope, "query_string": b"", "root_path": ""}, receive, send))
    start, body, end = sent
    assert start["status"] == 413 and (b"connection", b"close") in start["headers"]
    assert json.loads(body["body"])["detail"] and body["more_body"]
    assert at_receive == [["http.response.start", "http.response.body"]] * 3
    assert not end.get("more_body")


def test_the_documentation_loads_nothing(client):
    page = client.get("/docs").text
    for path in "/predict", "/explain", "/health", "/model", "/metrics":
        assert path in page
    assert "<script" not in page and "src=" not in page and "https:" not in page
    assert client.get("/redoc").status_code == 404


def test_explain_takes_one_image_and_known_classes(client):
    assert client.post("/explain?target=x", files={"files": SEVEN}).status_code == 422
    assert client.post("/explain?format=gif", files={"files": SEVEN}).status_code == 422
    two = {"pixels": [np.eye(8).tolist()] * 2}
    assert client.post("/explain", json=two).status_code == 413


def test_a_token_opens_all_but_health(packed):
    with TestClient(make_app(packed, ServeSettings(token="secret"))) as client:
        for given in {}, {"Authorization": "Bearer other"}, {"Authorization": b"Bearer \xff"}:
            for path in "/", "/metrics", "/model", "/docs":
                assert client.get(path, headers=given).status_code == 401
            files = {"files": SEVEN}
            assert client.post("/predict", files=files, headers=given).status_code == 401
        assert client.get("/health").status_code == 200
        right = {"Authorization": "bearer secret"}
        assert client.post("/predict", files={"files": SEVEN}, headers=right).status_code == 200


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("TOKEN", "secret\n", "token of the service: it may hold no space"),
        ("TOKEN", "\udcff", "token of the service"),
        ("TOKN", "secret", "did you mean 'VIT_MNIST_SERVE_TOKEN'"),
        ("BODY_SECONDS", "inf", "body_seconds of the service"),
    ],
)
def test_a_wrong_variable_of_the_environment_is_told(monkeypatch, name, value, message):
    monkeypatch.setenv(f"VIT_MNIST_SERVE_{name}", value)
    with pytest.raises(UserError, match=message):
        read_serve_settings()


@pytest.mark.parametrize(
    "wrong",
    [
        {"patch": [0, 4]},
        {"patch": None},
        {"classes": ["0", "1"]},
        {"run": 5},
        {"temperature": 0},
        {"card": {"loss": float("nan")}},
        {"trust": {"weights": [1], "threshold": 1}},
    ],
)
def test_a_damaged_packed_folder_is_refused_before_it_is_served(folder, tmp_path, wrong):
    copy = shutil.copytree(folder, tmp_path / "copy")
    facts = json.loads((copy / "pack.json").read_text())
    (copy / "pack.json").write_text(json.dumps(facts | wrong))
    with pytest.raises(UserError, match="holds no packed model") as caught:
        PackedModel(copy)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_too_many_requests_are_told_to_come_again(packed):
    app = make_app(packed, ServeSettings(max_requests=1))
    gate, begun = threading.Event(), threading.Event()
    inner = app.state.service.model.answer

    def slow(images):
        begun.set()
        gate.wait()
        return inner(images)

    app.state.service.batcher.compute = slow
    with TestClient(app) as client:
        first = threading.Thread(target=lambda: client.post("/predict", files={"files": SEVEN}))
        first.start()
        begun.wait()
        answer = client.post("/predict", files={"files": SEVEN})
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
        assert client.get("/health").status_code == 200
        gate.set()
        first.join()
        assert client.post("/predict", files={"files": SEVEN}).status_code == 200


# ---- the log


class Log:
    "Keep what is added, or fail"

    def __init__(self, broken=False):
        self.broken, self.rows = broken, []

    def add(self, requests):
        if self.broken:
            raise UserError("no database")
        self.rows.append(requests)


def test_a_log_gets_what_was_answered(packed):
    log = Log()
    with TestClient(make_app(packed, watch=log)) as client:
        client.post("/predict", files={"files": SEVEN})
    (row,) = log.rows
    assert row.digit.tolist() == ["7"] and row.trusted.tolist() == [1]
    assert row.tokens.shape == (1, 64) and row.probability[0] > 0.9


def test_a_broken_log_is_counted_told_once_and_nothing_else(packed, caplog):
    app = make_app(packed, watch=Log(broken=True))
    with TestClient(app) as client:
        for _ in range(3):
            assert client.post("/predict", files={"files": SEVEN}).status_code == 200
    assert app.state.service.metrics.unlogged._value.get() == 3
    assert [r.getMessage() for r in caplog.records] == ["requests are not kept: no database"]
    assert app.state.service.watcher.thread.daemon  # a log that hangs holds up no end


def test_images_are_kept_only_where_that_is_asked_for(tmp_path, monkeypatch, folder):
    kept = []
    monkeypatch.setattr("vit_mnist.watch.RequestLog", lambda where, images: kept.append(images))
    monkeypatch.setattr(serving, "listen", lambda settings: (_ for _ in ()).throw(UserError("end")))
    for images in False, True:
        with pytest.raises(UserError, match="end"):
            settings = {"watch": str(tmp_path / "log.db"), "watch_images": images}
            serving.serve(folder, ServeSettings(**settings))
    assert kept == [False, True]


# ---- the process


@pytest.fixture(scope="module")
def service(folder):
    with started(folder, "--body-seconds", "1") as (process, port):
        yield port


class started:
    "Start the command, and end it"

    def __init__(self, *words):
        self.words = real_words("vit_mnist_serve", *words, "--port", "0")

    def __enter__(self):
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen(self.words, text=True, **streams)
        line = self.process.stdout.readline()
        assert "answers on http://127.0.0.1:" in line, self.process.stderr.read()
        return self.process, int(line.split("127.0.0.1:")[1].split(";")[0])

    def __exit__(self, *error):
        self.process.terminate()
        _, said = self.process.communicate()
        assert "Traceback" not in said, said


def ask(port, body, headers, path="/predict"):
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("POST", path, body, headers)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


def get(port, path, method="GET"):
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request(method, path)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body


def memory(process):
    "Return the most memory that a process ever had, bytes"
    with open(f"/proc/{process.pid}/status") as file:
        return 1024 * int(next(line for line in file if line.startswith("VmHWM")).split()[1])


def test_a_slow_sender_is_timed_out_while_others_are_answered(service):
    body, headers = form(SEVEN)
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: {headers['Content-Type']}\r\n"
    slow = socket.create_connection(("127.0.0.1", service))
    slow.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:20])
    mute = socket.create_connection(("127.0.0.1", service))
    half = socket.create_connection(("127.0.0.1", service))
    half.sendall(b"GET / HT")
    assert ask(service, body, headers) == 200
    assert slow.recv(100).startswith(b"HTTP/1.1 408")
    assert mute.recv(100) == b"" and half.recv(100) == b""


def test_a_connection_that_asked_in_time_stays_open_between_two_requests(service):
    asks = http.client.HTTPConnection("127.0.0.1", service)
    asks.connect()
    mute = socket.create_connection(("127.0.0.1", service))
    for _ in range(2):
        asks.request("GET", "/health")
        assert asks.getresponse().read().startswith(b"{")
        assert mute.recv(100) == b""  # so the time in which a request must begin is over


def test_a_sender_that_goes_is_no_fault_of_the_service(service):
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    gone = socket.create_connection(("127.0.0.1", service))
    gone.sendall(head + b"Content-Length: 1000\r\n\r\n{")
    gone.close()
    counted = rb'vit_mnist_requests_total\{path="/predict",status="(400|500)"\}'
    while not (status := re.findall(counted, get(service, "/metrics")[1])):
        pass
    assert status == [b"400"]


def test_head_is_get_without_a_body(service):
    assert get(service, "/health", "HEAD") == (200, b"")


def test_a_hundred_megabytes_are_refused(folder):
    body, headers = form(SEVEN)
    with started(folder) as (process, port):
        assert ask(port, bytes(100 * 2**20), headers) == 413
        long = iter([body[:90], *[bytes(2**20)] * 100])  # of unknown length
        assert ask(port, long, headers) == 413
        assert ask(port, body, headers) == 200
        assert memory(process) < 2**30


def test_all_that_was_accepted_is_answered_when_the_service_stops(folder):
    body, headers = form(SEVEN)
    counts, lost, lock = [0], [], threading.Lock()

    def load(port):
        connection = http.client.HTTPConnection("127.0.0.1", port)
        while True:
            try:
                connection.connect() if connection.sock is None else None
            except OSError:
                return  # it takes no more
            try:
                connection.request("POST", "/predict", body, headers)
                answer = connection.getresponse()
                answer.read()
                assert answer.status == 200
            except Exception as error:
                return lost.append(error)
            with lock:
                counts[0] += 1

    with started(folder) as (process, port):
        threads = [threading.Thread(target=load, args=[port]) for _ in range(8)]
        for thread in threads:
            thread.start()
        while counts[0] < 50:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join()
        assert process.wait() == 0
    assert not lost, lost


def test_mistakes_are_one_line(folder, script, tmp_path):
    taken = socket.create_server(("127.0.0.1", 0))
    empty = tmp_path / "pack"
    empty.mkdir()
    (empty / "pack.json").write_text("{}")
    for words, said in {
        ("no-run",): "no run no-run",
        (folder, "--port", taken.getsockname()[1]): "can't listen on 127.0.0.1",
        (folder, "--max-body", "-1"): "max_body of the service",
        (empty,): "holds no packed model",
        ("explain", "--pack", folder): "exists already",
    }.items():
        done = script("vit_mnist_serve", *words)
        assert done.returncode == 2 and said in done.stderr, done
        assert len(done.stderr.splitlines()) == 1


def test_a_missing_extra_says_how_to_install_it(monkeypatch):
    from vit_mnist import cli

    monkeypatch.setattr(cli, "find_spec", lambda name: None if name == "fastapi" else name)
    with pytest.raises(UserError, match=r'needs fastapi: pip install "vit_mnist\[serve\]"'):
        cli.vit_mnist_serve(run="fast")


def test_a_run_is_packed_once_under_the_hash_of_its_weights(tmp_path, monkeypatch, folder):
    packed = []

    def elsewhere(run, where):
        packed.append(where)
        where.mkdir(parents=True)
        (where / "pack.json").write_text("{}")

    monkeypatch.setenv("VIT_MNIST_HOME", str(tmp_path))
    monkeypatch.setattr(serving, "_pack_elsewhere", elsewhere)
    first = serving.find_pack("fast")
    assert serving.find_pack("fast") == first and packed == [first]
    assert serving.find_pack("best") != first and len(packed) == 2
    assert serving.find_pack(folder) == folder


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["fast", "best"])
def test_other_weights_are_served_too(preset, tmp_path):
    model = PackedModel(pack_model(preset, tmp_path / preset))
    plain = load_pretrained(preset)
    with TestClient(make_app(model, ServeSettings())) as client:
        assert "/docs" in client.get("/").text
        for image in load_data().test.images[:20]:
            given = client.post("/predict", json={"pixels": image[0].tolist()}).json()
            (answer,), expected = given["predictions"], predict(plain, image)
            assert answer["trusted"] == expected.trusted
            far = np.array(answer["probabilities"]) - expected.probabilities.numpy()
            assert np.abs(far).max() < 1e-4


@pytest.mark.slow
def test_schemathesis_finds_no_fault_of_the_service(packed):
    import schemathesis
    from hypothesis import HealthCheck, given, settings

    app = make_app(packed, ServeSettings())
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    for operation in schema.get_all_operations():

        @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.ok().as_strategy())
        def try_it(case):
            assert case.call().status_code < 500

        try_it()
