"""Installed scripts and Python code run in children of one process that has imported the package.

Importing torch takes seconds, which every start of an installed script pays again. Here a server
imports the package once; `python forked.py SOCKET WORDS...` is a small client that hands its
streams, folder, environment and words to the server. This forks a child, which is to the caller
what a start of its own would be: same output, same files, same exit status. The exception is what
a library reads from the environment when it is imported, like the number of torch's threads.

    python tests/forked.py --serve FOLDER PARENT       # ends with the folder, or with that process
    python tests/forked.py FOLDER/socket [--refused] vit_mnist_train --epochs 1
    python tests/forked.py FOLDER/socket python -c "import torch"
"""

import atexit
import ctypes
import json
import os
import select
import signal
import socket
import struct
import sys
import threading

PRELOADED = [  # what a run imports sooner or later, and what takes long
    *("vit_mnist.all", "vit_mnist.cli", "vit_mnist.training", "vit_mnist.adapters"),
    *("accelerate", "matplotlib.pyplot", "pandas", "sklearn.metrics", "torch._dynamo"),
    *("dvc.cli", "dvc.commands.repro", "dvc.repo", "torch.distributed.run"),
]

REFUSED = "--refused"  # before the words: permissions of files hold for root, too

# ---- the client: it must start at once, so it imports little


def ask(path, words):
    "Have the server run `words` as this process would; return the exit status"
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(path)
        refused = words[0] == REFUSED
        here = {"cwd": os.getcwd(), "env": dict(os.environ), "refused": refused}
        request = json.dumps({"words": words[refused:], **here})
        content = struct.pack("!I", len(request)) + request.encode()
        sent = socket.send_fds(server, [content], [0, 1, 2])
        server.sendall(content[sent:])
        (pid,) = struct.unpack("!I", read(server, 4))
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, frame: os.kill(pid, number))
        (status,) = struct.unpack("!i", read(server, 4))
    return status


def read(connection, size):
    "Read that many bytes"
    content = b""
    while len(content) < size:
        part = connection.recv(size - len(content))
        if not part:
            raise SystemExit("the server has ended")
        content += part
    return content


# ---- the server


def serve(folder, parent):
    "Answer clients until the folder or the parent process is gone"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.join(folder, "starting"))
        server.listen(64)
        os.rename(os.path.join(folder, "starting"), os.path.join(folder, "socket"))
        server.settimeout(1)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no zombies of children that have answered
        while os.path.exists(folder) and alive(parent):
            try:
                connection, _ = server.accept()
            except TimeoutError:
                continue
            if os.fork() == 0:
                server.close()
                answer(connection)
                os._exit(0)
            connection.close()


def alive(pid):
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except ProcessLookupError:
        return False
    return True


def answer(connection):
    "Fork once more, wait for that child and tell the client how it ended"
    connection.settimeout(None)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    start, streams, _, _ = socket.recv_fds(connection, 4, 3)
    (size,) = struct.unpack("!I", start + read(connection, 4 - len(start)))
    request = json.loads(read(connection, size))
    pid = os.fork()
    if pid == 0:
        connection.close()
        os._exit(be_the_script(streams, **request))
    for stream in streams:
        os.close(stream)
    connection.sendall(struct.pack("!I", pid))
    ended, status = os.waitpid(pid, os.WNOHANG)
    while not ended:
        if select.select([connection], [], [], 0.02)[0]:  # the client was killed: so is the child
            os.kill(pid, signal.SIGKILL)
            return
        ended, status = os.waitpid(pid, os.WNOHANG)
    connection.sendall(struct.pack("!i", os.waitstatus_to_exitcode(status)))


def be_the_script(streams, words, cwd, env, refused):
    "Take over streams, folder, environment and arguments; run; return the exit status"
    os.setpgrp()
    if refused:
        obey_permissions()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin = open(0, closefd=False)
    sys.stdout = open(1, "w", closefd=False)
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.path[:0] = filter(None, env.get("PYTHONPATH", "").split(os.pathsep))
    status = status_of(run, words)
    threading._shutdown()  # waits for threads, as the interpreter does
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            status = status or 120  # as the interpreter does
    return status


def obey_permissions():
    "Give up the two capabilities by which root reads and writes what is not its own"
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3 of the call, this process
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; twice for 64 capabilities
    libc = ctypes.CDLL(None)
    assert libc.capget(header, sets) == 0
    for i in range(2):
        sets[i] &= ~(1 << 1 | 1 << 2)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    assert libc.capset(header, sets) == 0


def status_of(function, *args):
    "Run a function; return the exit status an interpreter would end with"
    try:
        sys.exit(function(*args))
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    return 1


def run(words):
    "Run an installed script, or what stands after `python`: a file, or -c and code"
    from importlib.metadata import entry_points

    name, *rest = words
    if name == "python":  # -c CODE, or FILE
        sys.argv = rest if rest[0] != "-c" else ["-c", *rest[2:]]
        sys.path.insert(0, "" if rest[0] == "-c" else os.path.dirname(rest[0]))
        source = rest[1] if rest[0] == "-c" else open(rest[0], encoding="utf-8").read()
        main = sys.modules["__main__"] = type(sys)("__main__")
        if rest[0] != "-c":
            main.__file__ = rest[0]
        exec(compile(source, sys.argv[0], "exec"), main.__dict__)
        return None
    sys.argv = words
    (entry,) = entry_points(group="console_scripts", name=name)
    return entry.load()()


if __name__ == "__main__":
    if sys.argv[1] == "--serve":
        from importlib import import_module

        sys.path.pop(0)
        for module in PRELOADED:
            import_module(module)
        serve(sys.argv[2], int(sys.argv[3]))
    else:
        ended = ask(sys.argv[1], sys.argv[2:])
        if ended < 0:  # killed: so is the client
            if -ended not in (signal.SIGKILL, signal.SIGSTOP):
                signal.signal(-ended, signal.SIG_DFL)
            os.kill(os.getpid(), -ended)
        sys.exit(ended)
