"""An estimate as lines for people."""

from __future__ import annotations

from recsys_lab.report.terminal import wrapped
from recsys_lab.runs.fit.fit_estimate import Estimate
from recsys_lab.words import number_of

COLUMN = 24
UNSTEADY = 0.05
"""Spread that is worth a line."""


def estimate_text(found: Estimate, tflops: float | None) -> str:
    """tflops: what the formulas took a device to compute; None = steps were measured."""
    many = number_of(found.processes, "process", "processes")
    counts = ((found.users, "user"), (found.items, "item"), (found.events, "event"))
    lines = [
        f"{found.model} on {found.dataset}: {', '.join(number_of(*one) for one in counts)}",
        f"{many} on {found.device}, {number_of(found.steps_per_epoch, 'step')} of each in an epoch",
        "",
        f"{'memory of a process':{COLUMN}}{size_of(found.memory_total)}",
        *(f"  {name:{COLUMN - 2}}{size_of(value)}" for name, value in found.memory.items()),
        f"{'time of an epoch':{COLUMN}}{duration_of(found.seconds_per_epoch)}",
        *(f"  {name:{COLUMN - 2}}{duration_of(value)}" for name, value in found.seconds.items()),
        f"{f'{found.epochs} epochs at most':{COLUMN}}{duration_of(found.epochs * found.seconds_per_epoch)}",
        f"{'disk':{COLUMN}}{size_of(found.disk_total)}",
        *(f"  {name:{COLUMN - 2}}{size_of(value)}" for name, value in found.disk.items()),
        "",
    ]
    if tflops is not None:
        lines.append(
            f"By formulas: nothing was run, and a device is taken to compute {tflops:g} x 10^12 operations a second "
            "(--tflops)."
        )
    else:
        steps = number_of(found.measured_steps, "timed step")
        lines.append(
            f"Time and memory are from {steps} in one process on this machine. These differ so much that an epoch is "
            f"known to {2 * (found.spread or 0):.0%}."
        )
        if (found.spread or 0) > UNSTEADY:
            lines.append(
                "That is much: other programs use these cores, or there were few steps. On an idle machine, or with "
                "more --seconds, it is better."
            )
    if found.processes > 1:
        lines.append(
            f"In a step each process sends {size_of(found.sent_per_step)} to the others. That takes time too, which is "
            "not in it."
        )
    return "\n".join(wrapped(line) for line in lines)


def size_of(value: float) -> str:
    """Bytes, with three digits."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if abs(value) >= size:
            return f"{_three_digits(value / size)} {unit}"
    return f"{_three_digits(value / 1e3)} kB"


def duration_of(seconds: float) -> str:
    for unit, size, below in (("s", 1, 120), ("min", 60, 7200), ("h", 3600, 172_800)):
        if seconds < below:
            return f"{_three_digits(seconds / size)} {unit}"
    return f"{_three_digits(seconds / 86_400)} days"


def _three_digits(value: float) -> str:
    """More, where the number has more before its point."""
    return f"{value:.3g}" if abs(value) < 999.5 else f"{value:,.0f}"
