"""Work on many things at once, with the results in the order of the things."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

Item = TypeVar("Item")
Done = TypeVar("Done")


def in_order(work: Callable[[Item], Done], items: Iterable[Item], *, threads: int) -> Generator[Done, None, None]:
    """What `work` returns for each item, or raises, in the order of the items.

    Args:
        work: called in the threads.
        items: drawn one at a time, in the caller's thread, at most `2 * threads` ahead of what was handed out.
        threads: how many are worked on at the same time.
    """
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[Done]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                while waiting and (waiting[0].done() or len(waiting) >= 2 * threads):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
