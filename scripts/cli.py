# SPDX-License-Identifier: GPL-2.0
"""The command line of the scripts that take files."""

import os
import sys


def die(text):
    sys.stderr.write(f"{os.path.basename(sys.argv[0])}: {text}\n")
    sys.exit(2)


def files(doc, arguments, least, most=None):
    """The arguments, which are names of files; doc is what --help prints."""
    if "--help" in arguments or "-h" in arguments:
        print(doc.strip())
        sys.exit(0)
    for a in arguments:
        if a.startswith("-"):
            die(f"unknown option '{a}' (try --help)")
        if not os.path.exists(a) or os.path.isdir(a):
            die(f"there is no file {a}")
    if len(arguments) < least or (most and len(arguments) > most):
        die("wrong number of arguments (try --help)")
    return arguments
