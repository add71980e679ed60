#!/usr/bin/python3 -IS
"""Start popbsmtp-wrap with nothing of the environment and no site packages (-I -S).

`popbsmtp dovecot --install-wrapper PATH` writes a copy with the interpreter and ROOT filled in.
"""

import sys

ROOT = ""  # the directory that holds the package; empty: this file lies in it

sys.path.insert(0, ROOT or __file__.rsplit("/", 3)[0])
try:
    from popbsmtp_wrap.wrapper.wrap import main
except Exception as error:  # noqa: BLE001, F841 - an upgrade half-way must not lock mailboxes
    # A text, as to compile it takes longer than all of a login's own work.
    exec("""\
import os
import select
import signal

try:
    # Only what cannot block: a full pipe that nobody reads must not lock mailboxes either.
    if select.select([], [2], [], 0)[1]:
        text = " ".join(f"popbsmtp-wrap: not recorded: {error}".split())
        os.write(2, text.encode("ascii", "backslashreplace") + b"\\n")
except OSError:
    pass
for number in (signal.SIGPIPE, signal.SIGXFSZ):
    signal.signal(number, signal.SIG_DFL)
program = sys.argv[1:]
while program and program[0].startswith("-"):
    option = program.pop(0)
    if option == "--":
        break
    if "=" not in option:
        del program[:1]
try:
    os.execvp(program[0], program)
except (OSError, IndexError, ValueError):
    sys.exit(111 if program else 64)
""")  # noqa: S102 - nothing in it comes from outside
else:
    main()
