"""A resumed run takes the steps that the uninterrupted one would have taken: where Lightning's own counting and the
loader's place in the epoch have to be brought together."""

from __future__ import annotations

from typing import Any

from recsys_lab.words import RecsysLabError


def keep_buckets(trainer: Any) -> None:
    """DDP puts gradients into buckets in the order in which those of the first step came, from the second step on. On
    three or more processes a sum rounds in another way in another bucket, so that the first step after a resume was
    another one. Where DDP looks for unused parameters the buckets stay (torch 2.13: `should_rebuild_buckets`)."""
    settings = getattr(trainer.strategy, "_ddp_kwargs", {})
    if trainer.world_size > 2 and "static_graph" not in settings:
        settings.setdefault("find_unused_parameters", True)


def tell_length(trainer: Any) -> None:
    """Tells the training loader how many batches the Trainer takes of it in an epoch (`limit_train_batches`)."""
    if hasattr(trainer.train_dataloader, "limit"):  # not where a user's own loader took the place of ours
        trainer.train_dataloader.limit = trainer.num_training_batches


def end_epoch(trainer: Any) -> None:
    """Tells the training loader that its epoch is over, also where the Trainer left batches of it."""
    if hasattr(trainer.train_dataloader, "end_epoch") and not _stopped_inside(trainer):
        trainer.train_dataloader.end_epoch()
        _count_batches(trainer)


def save(trainer: Any, checkpoint: dict[str, Any]) -> None:
    """An epoch that the Trainer stopped inside (`max_steps`, `max_time`) is finished by a resume. Lightning counts it
    as done, though it goes on with its batches: the next epoch would lose its first ones."""
    progress = checkpoint.get("loops", {}).get("fit_loop", {}).get("epoch_progress")
    if progress is not None and _stopped_inside(trainer):
        for counts in (progress["current"], progress["total"]):
            counts["processed"] = min(counts["processed"], counts["ready"] - 1)


def read(checkpoint: dict[str, Any]) -> list[dict[str, Any]]:
    """-> the states of the training loaders. An epoch whose batches are done counts as completed from now on: where
    `max_steps` is set Lightning forgets that."""
    fit_loop = checkpoint["loops"]["fit_loop"]
    for counts in (fit_loop["epoch_progress"]["current"], fit_loop["epoch_progress"]["total"]):
        if counts["processed"] == counts["ready"]:
            counts["completed"] = counts["processed"]
    states: list[dict[str, Any]] = fit_loop["state_dict"].get("combined_loader", [])
    return states


def load(trainer: Any, states: list[dict[str, Any]]) -> None:
    """Puts the training loader at its place in the epoch.

    Lightning does so when it makes the loader; a schedule that asks for the number of steps makes it before the
    checkpoint was read, and the run would go on with the first batches of the epoch again.

    Raises:
        RecsysLabError: when the checkpoint was written between the batches of one accumulated step: what was
            accumulated is not in it; when the loader makes other batches than the one of the checkpoint.
    """
    tell_length(trainer)
    for state in states:
        trainer.train_dataloader.load_state_dict(state)
        if state.get("batches_done", 0) % trainer.accumulate_grad_batches:
            raise RecsysLabError(
                f"this checkpoint was written after {state['batches_done']} batches of an epoch, inside a step of "
                f"{trainer.accumulate_grad_batches} (trainer.accumulate_grad_batches): the gradients so far are not in "
                "it. Go on from one that was written at an epoch's end, as checkpoints/last.ckpt"
            )
    if _count_batches(trainer):
        iter(trainer.fit_loop._data_fetcher)  # the one that is there stops at the other number
    loop = trainer.fit_loop
    if not states or any(state.get("batches_done") != 0 for state in states):
        return
    progress = loop.epoch_loop.batch_progress.current  # the epoch of the checkpoint is over
    if loop.epoch_progress.current.processed == loop.epoch_progress.current.ready and trainer.max_steps != -1:
        # Where `max_steps` is set Lightning takes any resume for one inside an epoch, and would do an empty one more.
        loop._restarting = loop.epoch_loop.restarting = False
    elif progress.ready:
        # Where an epoch has more batches now (fewer processes), Lightning would look for the rest.
        for name in ("ready", "started", "processed", "completed"):
            setattr(progress, name, max(getattr(progress, name), trainer.num_training_batches))


def _count_batches(trainer: Any) -> bool:
    """An epoch that another number of processes began has as many batches as it had for them, and the next one as many
    as it has here: Lightning counts once. -> whether it had counted another number."""
    loop, loader, limit = trainer.fit_loop, trainer.train_dataloader, trainer.limit_train_batches
    if not hasattr(loader, "end_epoch"):
        return False
    batches = min(limit, len(loader)) if isinstance(limit, int) else int(limit * len(loader))
    if batches == loop.max_batches:
        return False
    if trainer.val_check_batch == loop.max_batches or isinstance(trainer.val_check_interval, float):
        trainer.val_check_batch = max(1, int(batches * trainer.val_check_interval))
    loop.max_batches, loop._combined_loader.limits = batches, [batches]
    tell_length(trainer)
    return True


def _stopped_inside(trainer: Any) -> bool:
    done = trainer.fit_loop.epoch_loop.batch_progress.current.ready
    return 0 < done < trainer.num_training_batches
