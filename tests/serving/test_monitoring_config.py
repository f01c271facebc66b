"""The dashboard, Prometheus and the autoscaler's metric ask for what TensorFlow Serving counts.

No Prometheus runs here: its own parser reads each expression, and the names are those of the server's source.
"""

from __future__ import annotations

import json
import mmap
import re
from pathlib import Path

import deployment
import promql_parser
import pytest
import tensorflow as tf
from deployment import CONFIG

SERVING = ":tensorflow:serving:"
# Metrics of TensorFlow Serving 2.20 by the names they have in Prometheus (`/` becomes `:`), with their labels.
# https://github.com/tensorflow/serving/tree/2.20.0: servables/tensorflow/util.cc, batching/batching_session.cc
COUNTERS = {
    f"{SERVING}request_count": {"model_name", "status"},
    f"{SERVING}batching_session:wrapped_run_count": set(),
    f"{SERVING}batching:processed_batch_size_v2": {"model_name", "op_name", "batch_size"},
    ":tensorflow:cc:saved_model:load_attempt_count": {"model_path", "status"},
}
HISTOGRAMS = {
    f"{SERVING}request_latency": {"model_name", "API", "entrypoint"},
    f"{SERVING}runtime_latency": {"model_name", "API", "runtime"},
    f"{SERVING}batching_session:queuing_latency": {"thread_pool_name"},
    f"{SERVING}batching:batch_size": {"model_name", "op_name"},
    f"{SERVING}batching:batch_delay_us_v2": {"model_name", "op_name", "processed_batch_size"},
    f"{SERVING}batching:padding_size_v2": {"model_name", "execution_batch_size", "op_name"},
}
SERIES = COUNTERS | {
    f"{name}_{part}": labels | ({"le"} if part == "bucket" else set())
    for name, labels in HISTOGRAMS.items()
    for part in ("bucket", "sum", "count")
}

DASHBOARD = json.loads((CONFIG / "grafana" / "dashboards" / "serving.json").read_text())
PANELS = {panel["title"]: panel for panel in DASHBOARD["panels"]}
EXPRESSIONS = [target["expr"] for panel in PANELS.values() for target in panel["targets"]]
(ADAPTER_RULE,) = deployment.read_yaml("kubernetes/prometheus_adapter.yaml")["rules"]["custom"]


def adapter_query() -> str:
    """The adapter's query with its blanks filled in, as for one pod."""
    (series,) = re.findall(r'__name__="([^"]+)"', ADAPTER_RULE["seriesQuery"])
    query = ADAPTER_RULE["metricsQuery"].replace("<<.Series>>", series)
    return query.replace("<<.LabelMatchers>>", 'namespace="models",pod="serving-1"').replace("<<.GroupBy>>", "pod")


def parsed(expression: str) -> promql_parser.Expr:
    return promql_parser.parse(expression.replace("$__rate_interval", "1m"))


def selectors(expression: promql_parser.Expr) -> list[promql_parser.VectorSelector]:
    found = []

    def visit(part: promql_parser.Expr) -> bool:
        if isinstance(part, promql_parser.VectorSelector):
            found.append(part)
        return True

    promql_parser.walk(expression, visit)
    return found


@pytest.mark.parametrize("expression", [*EXPRESSIONS, adapter_query()])
def test_an_expression_asks_for_series_and_labels_that_the_server_has(expression) -> None:
    found = selectors(parsed(expression))
    assert found
    of_the_scrape = {"namespace", "pod", "instance", "job"}
    for selector in found:
        asked = {matcher.name for matcher in selector.matchers.matchers}
        assert asked <= SERIES[selector.name] | of_the_scrape, selector.name
        grouped = {
            label for labels in re.findall(r"by \(([^)]*)\)", expression) for label in re.findall(r"\w+", labels)
        }
        assert grouped <= SERIES[selector.name] | of_the_scrape, selector.name


def test_the_parser_knows_nonsense() -> None:
    with pytest.raises(ValueError, match="unclosed"):
        parsed("rate(:tensorflow:serving:request_count[1m]")


def test_tensorflow_itself_counts_the_batches_of_its_graphs_under_these_names() -> None:
    """The server is built of the same release of TensorFlow: its library holds the names."""
    (library,) = Path(tf.__file__).parent.glob("libtensorflow_cc.so.2")
    names = [name.encode().replace(b":", b"/") for name in COUNTERS | HISTOGRAMS if f"{SERVING}batching:" in name]
    assert len(names) == 4
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        assert [name for name in names if content.find(b"\0" + name + b"\0") < 0] == []


@pytest.mark.parametrize(
    ("subject", "metric"),
    [
        ("Requests a second", f"{SERVING}request_count"),
        ("Errors a second, by code", f"{SERVING}request_count"),
        ("Latency", f"{SERVING}request_latency_bucket"),
        ("Images in a batch", f"{SERVING}batching:batch_size_sum"),
        ("Wait for a batch in the graph", f"{SERVING}batching:batch_delay_us_v2_bucket"),
        ("Wait for a batch in the server", f"{SERVING}batching_session:queuing_latency_bucket"),
    ],
)
def test_the_dashboard_shows(subject, metric) -> None:
    shown = {one.name for target in PANELS[subject]["targets"] for one in selectors(parsed(target["expr"]))}
    assert metric in shown


def test_errors_are_told_apart_by_code_and_are_not_successes() -> None:
    (target,) = PANELS["Errors a second, by code"]["targets"]
    assert 'status!="OK"' in target["expr"]
    assert "by (status)" in target["expr"]


def test_quantiles_are_of_the_whole_distribution() -> None:
    """A quantile of means, or one that lost `le`, is a number without meaning."""
    quantiles = [expression for expression in EXPRESSIONS if "quantile" in expression]
    assert len(quantiles) == 12
    for expression in quantiles:
        level, series = re.fullmatch(
            r"histogram_quantile\((0\.\d+), sum by \(le\) \(rate\((\S+?)(?:\{.*\})?\[\$__rate_interval\]\)\)\)",
            expression,
        ).groups()
        assert series.endswith("_bucket")
        assert 0 < float(level) < 1


def test_every_panel_says_what_it_shows_and_asks_the_provisioned_source() -> None:
    source = deployment.read_yaml("grafana/provisioning/datasources/prometheus.yaml")["datasources"][0]
    for panel in PANELS.values():
        assert len(panel["description"]) > 40
        assert panel["datasource"] == {"type": source["type"], "uid": source["uid"]}
        assert panel["fieldConfig"]["defaults"]["unit"] in {"reqps", "ops", "short", "µs"}


def test_panels_do_not_cover_each_other() -> None:
    cells = [
        (x, y)
        for panel in PANELS.values()
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24  # the columns that Grafana has
    assert len({panel["id"] for panel in PANELS.values()}) == len(DASHBOARD["panels"])


def test_prometheus_reads_the_server_where_it_writes() -> None:
    prometheus = deployment.read_yaml("prometheus/prometheus.yaml")
    (job,) = prometheus["scrape_configs"]
    assert job["metrics_path"] == deployment.metrics_path()
    compose = deployment.read_yaml("docker-compose.yaml")
    for name in ("serving-gpu", "serving-cpu"):
        server = compose["services"][name]
        port = deployment.flags(server["command"])["rest_api_port"]
        (alias,) = server["networks"]["default"]["aliases"]
        assert job["static_configs"] == [{"targets": [f"{alias}:{port}"]}]


def test_grafana_finds_prometheus_and_its_files() -> None:
    services = deployment.read_yaml("docker-compose.yaml")["services"]
    (source,) = deployment.read_yaml("grafana/provisioning/datasources/prometheus.yaml")["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in services
    interval = deployment.read_yaml("prometheus/prometheus.yaml")["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == interval
    mounted = dict(volume.split(":")[1::-1] for volume in services["grafana"]["volumes"])
    (provider,) = deployment.read_yaml("grafana/provisioning/dashboards/files.yaml")["providers"]
    assert mounted["/etc/grafana/provisioning"] == "./grafana/provisioning"
    assert mounted[provider["options"]["path"]] == "./grafana/dashboards"
    home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (CONFIG / "grafana" / "dashboards" / Path(home).relative_to(provider["options"]["path"])).is_file()
    config = next(flag for flag in services["prometheus"]["command"] if flag.startswith("--config.file="))
    assert config == "--config.file=/etc/prometheus/prometheus.yaml"


def test_the_autoscaler_asks_for_what_the_adapter_makes() -> None:
    (autoscaler,) = deployment.read_objects("kubernetes/autoscaler.yaml")
    (metric,) = autoscaler["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] == ADAPTER_RULE["name"]["as"]
    assert re.fullmatch(r"[a-z_]+", ADAPTER_RULE["name"]["as"])  # a colon would not be a metric of Kubernetes
    assert set(ADAPTER_RULE["resources"]["overrides"]) == {"namespace", "pod"}
