"""What Prometheus reads of the embedded server, line by line, and `--monitoring-config-file`."""

from __future__ import annotations

import http.client
import re
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from gradcam_export.errors import ServeError
from gradcam_export.server import EmbeddedServer, ServedModel, read_monitoring_config
from gradcam_export.server.metrics import BUCKETS_MICROSECONDS, Metrics
from gradcam_export.server.status import invalid_argument

IMAGES = np.ones([1, 4, 4, 3], np.uint8)
PATH = "/monitoring/prometheus/metrics"
SAMPLE = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)\{((?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\[\\"n])*",?)*)\} (\S+)')
LABEL = re.compile(r'([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"')


def samples(page: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample of a page in Prometheus' text format 0.0.4, which each line has to follow."""
    assert page.endswith("\n")
    found = {}
    family = ""
    for line in page.removesuffix("\n").split("\n"):
        if line.startswith("#"):
            _, kind, family, of = line.split(" ")
            assert (kind, of in {"counter", "histogram"}) == ("TYPE", True)
            continue
        name, labels, value = SAMPLE.fullmatch(line).groups()
        assert name.removeprefix(family) in {"", "_bucket", "_sum", "_count"}
        key = name, tuple(LABEL.findall(labels))
        assert key not in found
        found[key] = float(value)
    return found


def scrape(port: int, path: str = PATH) -> dict:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path)
    response = connection.getresponse()
    assert response.status == 200
    assert response.getheader("Content-Type") == "text/plain; version=0.0.4; charset=utf-8"
    page = response.read().decode()
    connection.close()
    return samples(page)


def count(found: dict, name: str, **labels: str) -> float:
    return found.get((f":tensorflow:serving:{name}", tuple(labels.items())), 0)


def test_requests_of_both_ways_are_counted_by_their_status(publish, connect, connect_rest) -> None:
    model = ServedModel(name="toy", base_path=publish(1))
    with EmbeddedServer([model], rest_port=0, metrics_path=PATH) as server:
        stub, rest = connect(server.port), connect_rest(server.rest_port)
        assert {value for (name, _), value in scrape(server.rest_port).items()} <= {0}
        for _ in range(3):
            stub.predict(images=IMAGES)
        for _ in range(2):
            assert rest.predict({"inputs": IMAGES.tolist()})[0] == 200
        for _ in range(4):
            with pytest.raises(grpc.RpcError):
                stub.predict(wrong=IMAGES)
        assert rest.predict(b"{")[0] == 400
        assert rest.predict({"instances": [1]}, "of/nobody")[0] == 400  # no such path: no request to a model
        for name in ("anything", "whatever"):
            assert rest.predict({"instances": [1]}, name)[0] == 404
        found = scrape(server.rest_port)
    assert count(found, "request_count", model_name="toy", status="OK") == 5
    assert count(found, "request_count", model_name="toy", status="INVALID_ARGUMENT") == 5
    assert count(found, "request_count", model_name="unknown", status="NOT_FOUND") == 2
    for api, entrypoint, requests in (("Predict", "GRPC", 3), ("predict", "REST", 2)):
        labels = {"model_name": "toy", "API": api, "entrypoint": entrypoint}
        assert count(found, "request_latency_count", **labels) == requests
        assert count(found, "request_latency_bucket", **labels, le="+Inf") == requests
        assert 0 < count(found, "request_latency_sum", **labels) < 60e6
    labels = {"model_name": "toy", "API": "Predict", "runtime": "TF1"}
    assert count(found, "runtime_latency_count", **labels) == 5
    latencies = sum(value for (name, _), value in found.items() if name.endswith("request_latency_sum"))
    assert count(found, "runtime_latency_sum", **labels) < latencies


def test_the_buckets_are_the_stock_server_s_and_add_up() -> None:
    metrics = Metrics({"m"})
    with metrics.run("m"):
        pass
    labels = (("model_name", "m"), ("API", "Predict"), ("runtime", "TF1"))
    found = samples(metrics.page())
    buckets = [
        (dict(key)["le"], value) for (name, key), value in found.items() if name.endswith("runtime_latency_bucket")
    ]
    assert [bound for bound, _ in buckets[:5]] == ["10", "18", "32.4", "58.32", "104.976"]
    assert len(buckets) == 34
    assert buckets[-1] == ("+Inf", 1)
    assert BUCKETS_MICROSECONDS[-1] / 60e6 == pytest.approx(24.6, abs=0.1)  # minutes
    taken = found[":tensorflow:serving:runtime_latency_sum", labels]
    assert [value for _, value in buckets] == [float(taken <= bound) for bound in (*BUCKETS_MICROSECONDS, np.inf)]


def test_labels_may_hold_any_text() -> None:
    name = 'a"b\\c\nd{}=,'
    metrics = Metrics({name})
    with metrics.request(name, "Predict", "GRPC"):
        pass
    ((_, labels),) = [key for key in samples(metrics.page()) if key[0].endswith("request_count")]
    assert dict(labels)["model_name"] == 'a\\"b\\\\c\\nd{}=,'


def test_a_bug_is_counted_as_unknown() -> None:
    metrics = Metrics({"m"})
    for error in (LookupError("a bug"), invalid_argument("a bad request")):
        with pytest.raises(type(error)), metrics.request("m", "Predict", "GRPC"):
            raise error
        with pytest.raises(type(error)), metrics.run("m"):
            raise error
    found = samples(metrics.page())
    assert {dict(labels)["status"]: value for (_, labels), value in found.items()} == {
        "UNKNOWN": 1,
        "INVALID_ARGUMENT": 1,
    }


def test_nothing_is_lost_between_threads() -> None:
    metrics = Metrics({"m"})

    def work(_: int) -> None:
        for _ in range(500):
            with metrics.request("m", "Predict", "GRPC"), metrics.run("m"):
                pass
            metrics.page() if np.random.default_rng().random() < 0.01 else None

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))
    found = samples(metrics.page())
    assert count(found, "request_count", model_name="m", status="OK") == 4000
    assert count(found, "runtime_latency_count", model_name="m", API="Predict", runtime="TF1") == 4000


def test_they_are_where_the_file_says(publish, connect_rest, tmp_path) -> None:
    (tmp_path / "monitoring").write_text('prometheus_config { enable: true path: "/v1/metrics" }')
    path = read_monitoring_config(tmp_path / "monitoring")
    with EmbeddedServer([ServedModel(name="toy", base_path=publish(1))], rest_port=0, metrics_path=path) as server:
        scrape(server.rest_port, "/v1/metrics?x=y")
        assert connect_rest(server.rest_port)("GET", PATH)[0] == 404


def test_metrics_need_a_rest_port(tmp_path) -> None:
    with pytest.raises(ServeError, match="Metrics are read on the REST port, and there is none"):
        EmbeddedServer([ServedModel(name="toy", base_path=tmp_path)], metrics_path=PATH)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("", None),
        ('prometheus_config { path: "/x" }', None),
        ("prometheus_config { enable: true }", PATH),
        ('prometheus_config: { enable: true path: "/x" }  # a remark', "/x"),
    ],
)
def test_a_file_may_enable_them(tmp_path, text, path) -> None:
    (tmp_path / "monitoring").write_text(text)
    assert read_monitoring_config(tmp_path / "monitoring") == path


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('prometheus_config { enable: true path: "x" }', "must begin with a slash, not be 'x'"),
        ("prometheus_config { enable: 7 }", "monitoring is not a readable MonitoringConfig: 1:29"),
        ("prometheus { }", 'not a readable MonitoringConfig: 1:1 : .*has no field named "prometheus"'),
    ],
)
def test_a_file_that_says_something_else_is_refused(tmp_path, text, match) -> None:
    (tmp_path / "monitoring").write_text(text)
    with pytest.raises(ServeError, match=match):
        read_monitoring_config(tmp_path / "monitoring")
