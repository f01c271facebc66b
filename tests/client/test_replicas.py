"""Several servers behind one address."""

import threading

from colour_server import Server, free_ports
from gradcam_client import GradcamError


def predicted(server):
    return sum(one != "describe" for one in server.signatures_asked())


class Crowd:
    """Threads that keep asking; what goes wrong is in `failures`."""

    def __init__(self, client, picture, count=4):
        self._client = client
        self._picture = picture
        self._stop = threading.Event()
        self.answered = 0
        self.failures = []
        self._threads = [threading.Thread(target=self._ask) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _ask(self):
        while not self._stop.is_set():
            try:
                assert self._client.explain(self._picture, timeout=30).label
                self.answered += 1
            except (GradcamError, AssertionError) as error:
                self.failures.append(error)

    def stop(self):
        self._stop.set()
        for thread in self._threads:
            thread.join()


def wait_for(condition):
    for _ in range(600):
        if condition():
            return
        threading.Event().wait(0.05)
    raise AssertionError("it did not come to that within 30 s")


def test_no_request_is_lost_where_one_server_dies_and_one_joins(connect, pictures):
    ports = free_ports(3)
    addresses = [f"127.0.0.1:{port}" for port in ports]
    first, second = (Server(address) for address in addresses[:2])
    third = None
    with connect(f"ipv4:{','.join(addresses)}", model="colours") as client:
        crowd = Crowd(client, pictures[0])
        try:
            # They take turns.
            wait_for(lambda: min(predicted(first), predicted(second)) > 20)
            third = Server(addresses[2])
            wait_for(lambda: predicted(third) > 20)
            # Calls under way are cut off, as where a process is killed.
            first.stop()
            answered = crowd.answered
            wait_for(lambda: crowd.answered > answered + 100)
        finally:
            crowd.stop()
            for server in (first, second, third):
                if server:
                    server.stop()
    assert crowd.failures == []
    assert crowd.answered > 150


def test_a_server_that_was_restarted_is_asked_again(connect, pictures):
    (port,) = free_ports(1)
    address = f"127.0.0.1:{port}"
    server = Server(address)
    with connect(address, model="colours") as client:
        assert client.explain(pictures[0]).model_version == 1
        server.stop()
        server = Server(address)
        try:
            client.wait_until_ready(timeout=30)
            assert client.explain(pictures[0]).model_version == 1
            assert predicted(server) == 1
        finally:
            server.stop()
