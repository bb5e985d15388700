"""`recsys-lab estimate`: what a fit will take of memory, time and disk, before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from recsys_lab.arguments import Count, Natural, PassedOn, Positive
from recsys_lab.words import RecsysLabError


def estimate(
    *,
    fit: Annotated[Sequence[str], PassedOn] = (),
    measure: bool = True,
    seconds: Positive = 10.0,
    users: Count | None = None,
    items: Count | None = None,
    events: Natural | None = None,
    length: Positive | None = None,
    tflops: Positive = 0.1,
    json: bool = False,
) -> None:
    """What `recsys-lab fit` with the same options will take: memory of each process, time of an epoch, and disk. Takes
    every option of fit, such as --config, --model and --trainer.devices. A few real steps are taken on this machine,
    in one process, and nothing is written.

    Args:
        fit: options of fit.
        measure: take real steps; false = formulas alone, which know nothing of this machine.
        seconds: of steps that are timed.
        users: of a log that is not prepared yet; with --items, and --events or --length.
        items: of such a log.
        events: of such a log.
        length: its mean events of a user, instead of --events.
        tflops: with --measure false, what a device computes, in 10^12 operations a second.
        json: as JSON, in bytes and seconds.
    """
    from recsys_lab.report.escapes import as_json
    from recsys_lab.runs.fit.estimate_text import estimate_text
    from recsys_lab.runs.fit.fit_estimate import Stated
    from recsys_lab.runs.fit.fit_estimate import estimate as estimated
    from recsys_lab.runs.messages import show_messages

    show_messages()
    stated = None
    if any(value is not None for value in (users, items, events, length)):
        if users is None or items is None or (events is None) == (length is None):
            raise RecsysLabError("a log that is not prepared needs --users, --items, and --events or --length")
        stated = Stated(users, items, events if events is not None else round(users * (length or 0)))
        if stated.events < 3 * users:
            raise RecsysLabError(f"{stated.events:,} events of {users:,} users: at least 3 of each are needed to train")
    found = estimated(list(fit), stated, measure, seconds, tflops)
    print(as_json(found.as_dict()) if json else estimate_text(found, None if measure else tflops))
