"""What a bench measures: contenders, each in a process of its own, and what they say. Imports no TensorFlow."""

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Subject:
    """What a contender's process made, ready to be run.

    Attributes:
        run: Does so many repetitions and returns when their result is there. It may return seconds of its own, where
            not all that it does counts; None: the whole call is timed.
        work: What one repetition does, in the unit of the bench's limit (floating point operations, bytes, images).
        items: What one repetition does in the unit that people ask for, such as images.
        facts: What else is worth saying: versions, sizes.
        warm_up: Repetitions at the beginning of each turn that do not count: while others had theirs, the caches, and on
            some machines the memory, were taken away. 0 where a repetition has many steps, or is a beginning itself.
    """

    run: Callable[[int], float | None]
    work: float = 0.0
    items: float = 0.0
    facts: Mapping[str, Any] = field(default_factory=dict)
    warm_up: int = 1


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One row of a bench.

    Attributes:
        name: As the table shows it.
        make: `module:function` that makes the `Subject`.
        arguments: What the function takes; must survive `pickle`.
        role: `ours` (all others are compared with it, and there is one), `variant` of ours, `peer` or `limit`.
        limit: The limit that its work is compared with, by name; empty: none.
        needs: Packages without which it is left out.
        why_not: Why it cannot take part, where that is known before.
    """

    name: str
    make: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    role: str = "peer"
    limit: str = ""
    needs: tuple[str, ...] = ()
    why_not: str = ""

    def missing(self) -> str:
        """Why it is left out; empty: it is not."""
        absent = [name for name in self.needs if importlib.util.find_spec(name) is None]
        return self.why_not or (f"{', '.join(absent)} not installed" if absent else "")
