#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Data races that a KCSAN kernel reports: which are of UMS, and which are Linux's own.

usage: scripts/kcsan_reports.py LOG...

lists the reports in these kernel logs, each kind once with how often it was seen; exit status
1 when one of them is of UMS. scripts/guest uses the same reader.

A race belongs to UMS when a function of UMS does one of the two accesses, or called the
helper that did: when one is among the first frames of either stack. Linux has races of its
own that every KCSAN kernel reports; those are counted and left to their owners, even where
one that is known to be in a variable of the helper's own is met on a call from UMS.
"""

import collections
import re
import sys

sys.dont_write_bytecode = True
import cli

# Functions of UMS, and what its patches put into kernel/sched.
OURS = re.compile(r"(^|_)ums(_|$)|^(sched|fair)_hand_over")
# Both accesses in Linux, to a variable that UMS does not see.
THEIRS = {
    # hrtimer_sleeper::task, on the stack of who sleeps, is cleared by the timer and read by its
    # owner, without marks on either side.
    "hrtimer_wakeup / schedule_hrtimeout_range_clock",
    # freezer::state of a cgroup (v1), which freezing() reads without the lock of who writes it.
    "cgroup_freezing / freezer_apply_state",
}
# Functions into which rhashtable.h is inlined: the head of a bucket is read by who holds its lock,
# a bit of the same word, which any other of them may try to set meanwhile, by a marked access.
BUCKETS = {"rht_deferred_worker", "ums_home_close", "ums_home_open"}
# Frames looked at, from the access outwards: a helper or two may be between.
FRAMES = 3

STAMP = re.compile(r"^(?:<\d+>)?(?:\[ *\d+\.\d+\])?(?:\[ *([TC]\d+)\])? ?")
TITLE = re.compile(r"^BUG: KCSAN: (.*)")
STACK = re.compile(r"^(?:race at unknown origin, with )?[a-z].* to 0x[0-9a-f]+ of \d+ bytes by .* on cpu \d+:$")
FRAME = re.compile(r"^ +([A-Za-z_][A-Za-z0-9_.]*)\+0x[0-9a-f]+/0x[0-9a-f]+")
RULE = re.compile(r"^={20,}$")


class Report:
    def __init__(self, title):
        self.title = re.sub(r"\+0x[0-9a-f]+/0x[0-9a-f]+", "", title)
        self.lines = []
        self.stacks = []
        self.marked = 0     # accesses

    def add(self, text):
        if STACK.match(text):
            self.stacks.append([])
            self.marked += "read-write (marked) to " in text
            return
        m = FRAME.match(text)
        if m and self.stacks:
            # A copy of a function that the compiler made has a suffix.
            self.stacks[-1].append(m.group(1).split(".")[0])

    def ours(self):
        where = self.title.partition(" in ")[2]
        if where in THEIRS or (self.marked == 1 and set(where.split(" / ")) <= BUCKETS):
            return False
        return any(OURS.search(f) for s in self.stacks for f in s[:FRAMES])


class Reader:
    """Takes a kernel log line by line and finds the reports in it.

    Lines of other CPUs may come between those of a report; with CONFIG_PRINTK_CALLER each
    says whose it is.
    """

    def __init__(self):
        self.open = {}      # caller: the report that it prints

    def line(self, raw):
        """Returns (taken, report): whether the line is part of a report, and one that ends here."""
        m = STAMP.match(raw)
        caller, text = m.group(1), raw[m.end():]
        report = self.open.get(caller)
        title = TITLE.match(text)
        if title:
            self.open[caller] = report = Report(title.group(1))
            report.lines.append(raw)
            return True, None
        if report is None:
            return bool(RULE.match(text)), None
        report.lines.append(raw)
        if RULE.match(text):
            del self.open[caller]
            return True, report
        report.add(text)
        return True, None


def main():
    ours, others = collections.Counter(), collections.Counter()
    for path in cli.files(__doc__, sys.argv[1:], 1):
        reader = Reader()
        with open(path, encoding="utf-8", errors="replace") as f:
            for line in f:
                report = reader.line(line.rstrip("\r\n"))[1]
                if report:
                    (ours if report.ours() else others)[report.title] += 1
        for report in reader.open.values():
            sys.stderr.write(f"{path}: a report is cut short: {report.title}\n")
    for name, reports in (("UMS", ours), ("Linux", others)):
        print(f"{sum(reports.values())} reports of races of {name}, {len(reports)} kinds")
        for title, n in reports.most_common():
            print(f"{n:6} {title}")
    sys.exit(1 if ours else 0)


if __name__ == "__main__":
    main()
