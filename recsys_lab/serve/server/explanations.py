"""Requests for an explanation -> their answers, one after the other."""

from __future__ import annotations

from collections.abc import Sequence

from recsys_lab.serve.server.answers import query_times, read_history
from recsys_lab.serve.server.bodies import ExplainAnswer, ExplainBody
from recsys_lab.serve.server.event_store import StoredEvent
from recsys_lab.serve.server.live_model import LiveModel


def explain_all(
    live: LiveModel, questions: Sequence[ExplainBody], events: dict[str, list[StoredEvent]]
) -> list[ExplainAnswer | Exception]:
    """Answers in the order of the questions; an error is that of one question alone.

    Args:
        events: of the users that are asked for.
    """
    answers: list[ExplainAnswer | Exception] = []
    for question in questions:
        try:
            answers.append(_explained(live, question, events))
        except Exception as error:
            answers.append(error)
    return answers


def _explained(live: LiveModel, body: ExplainBody, events: dict[str, list[StoredEvent]]) -> ExplainAnswer:
    from recsys_lab.serve.explaining import explain  # most servers are never asked

    read = read_history(live, 0, body, events)
    target = body.target_fields
    found = explain(
        live.to_explain,
        read.items,
        item=body.item,
        methods=body.methods,
        times=None if read.times is None else [read.times],
        fields={key: [values] for key, values in read.fields.items()},
        query_time=query_times(live, [read]),
        target_fields=None if target is None else {key: [value] for key, value in target.items()},
    )
    for one in (found["item"], *found["events"]):
        one["title"] = live.titles.get(one["item_id"])
    return ExplainAnswer.model_construct(
        model=live.name, **{key: found[key] for key in ("item", "events", "methods", "fields", "notes")}
    )
