"""Work in threads, with its results in the order of the items, and no further ahead than it may be."""

import threading
import time

import pytest
from gradcam_client.in_order import in_order
from hypothesis import given
from hypothesis import strategies as st


@given(st.lists(st.integers(), max_size=30), st.integers(1, 5))
def test_results_come_in_the_order_of_the_items(items, threads):
    assert list(in_order(lambda item: item * 2, items, threads=threads)) == [item * 2 for item in items]


def test_the_last_item_may_be_done_first():
    gate = threading.Event()

    def work(item):
        if item == 0:
            assert gate.wait(10)
        else:
            gate.set()
        return item

    assert list(in_order(work, range(4), threads=2)) == [0, 1, 2, 3]


def test_items_are_taken_no_further_ahead_than_twice_the_threads():
    taken = []
    gate = threading.Event()
    found = in_order(lambda item: gate.wait(10) and item, (taken.append(i) or i for i in range(100)), threads=3)
    threading.Timer(0.05, gate.set).start()
    assert next(found) == 0
    assert len(taken) <= 6
    for number in range(1, 50):
        assert next(found) == number
        assert len(taken) <= number + 7
    found.close()


def test_an_error_ends_it_and_leaves_nothing_running():
    before = threading.active_count()
    done = []

    def work(item):
        if item == 2:
            raise OSError("no space")
        time.sleep(0.001)
        done.append(item)

    with pytest.raises(OSError, match="no space"):
        list(in_order(work, range(1000), threads=2))
    assert len(done) < 10
    assert threading.active_count() == before
