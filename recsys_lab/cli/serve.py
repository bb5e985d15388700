"""`recsys-lab serve`: a trained model behind HTTP."""

from __future__ import annotations

from typing import Annotated, Literal

from recsys_lab.arguments import Count, Positive, Range
from recsys_lab.serve.server.limits import Limits
from recsys_lab.words import RecsysLabError


def serve(
    run: str,
    *,
    port: Annotated[int, Range(at_least=0, at_most=65535)] = 8000,
    host: str = "127.0.0.1",
    events: str = "events.sqlite",
    keep_days: Positive | None = None,
    token_file: str | None = None,
    unknown: Literal["skip", "error"] = "skip",
    index: Literal["exact", "hnsw", "ivf", "ivf-8bit", "ivf-pq"] = "exact",
    threads: Count = 1,
    data_dir: str | None = None,
    limits: Limits,
) -> None:
    """Serves lists, similar items and the events of users over HTTP, with a page for people. Other machines can ask
    only with `--host`, and then a token is needed. Give RUN a link to a run folder: SIGHUP, or POST /reload, loads the
    model again from where it leads then, with no request lost. docs/server.md has all of it.

    Args:
        run: a run folder, of which the best checkpoint is taken, or a checkpoint.
        port: 0 takes any that is free, and says which.
        host: address to listen at.
        events: a file, or redis://HOST:PORT/NUMBER where several servers share the events.
        keep_days: days after which events are removed (default: never).
        token_file: holds the token that requests must bear; else the variable RECSYS_LAB_TOKEN does.
        unknown: item ids that the model does not know are skipped, or an error.
        index: how lists are searched for where items are many; all but `exact` need the extra `index`.
        threads: that compute one batch together. More answer a lone request of a large model sooner, and under load
            each request then costs more of the processor.
        data_dir: folder of prepared sets, for titles (default: as the run says).
    """
    from recsys_lab.runs.messages import show_messages

    show_messages()
    try:
        from recsys_lab.serve.server.http_server import check_address, read_token, run_server
    except ModuleNotFoundError as error:
        if str(error.name).startswith("recsys_lab"):
            raise
        raise RecsysLabError(
            f"`serve` needs the package {error.name}: pip install 'recsys-lab[serve]' has it and all others"
        ) from None
    import torch

    from recsys_lab.config import allowed_classes
    from recsys_lab.serve.server.event_store import open_store
    from recsys_lab.serve.server.live_model import LiveModel
    from recsys_lab.serve.server.service import Service

    torch.set_num_threads(threads)
    token, allowed = read_token(token_file), allowed_classes()
    check_address(host, token)
    service = Service(
        lambda: LiveModel.load(run, unknown, data_dir, allowed, index), lambda: open_store(events), limits, keep_days
    )
    run_server(service, host, port, token)
