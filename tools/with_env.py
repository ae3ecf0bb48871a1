"""Run a command with variables in its environment, on every system: NAME=VALUE ... COMMAND ...

A shell's `NAME=VALUE COMMAND` is unknown to cmd.exe, in which DVC runs its stages on Windows.
"""

import os
import subprocess
import sys

words = sys.argv[1:]
while "=" in words[0]:
    name, _, value = words.pop(0).partition("=")
    os.environ[name] = value
if os.name == "nt":
    sys.exit(subprocess.call(words))
os.execvp(words[0], words)
