"""Step: what one step of `prepare` left, for the manifest and for the error that names the filter that dropped all."""

from __future__ import annotations

from dataclasses import dataclass

from recsys_lab.words import RecsysLabError


@dataclass(frozen=True)
class Step:
    """What one step of `prepare` left."""

    name: str
    events: int
    users: int
    items: int

    def __str__(self) -> str:
        return f"{self.name}: {self.events:,} events, {self.users:,} users, {self.items:,} items"


def require_events(step: Step, before: Step) -> None:
    """Raises RecsysLabError that names the filter when `step` left nothing of what was there `before`."""
    if step.events == 0:
        raise RecsysLabError(
            f"no event is left: {step.name} dropped all {before.events:,} events of {before.users:,} users that were "
            f"left after '{before.name}'; loosen that filter"
        )
