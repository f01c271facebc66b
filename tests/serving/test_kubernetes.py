"""The objects of `kubernetes/` fit their schemas, each other, and what Compose runs.

No cluster is asked: the schemas ship with the validator, and what kustomize would make of the files is compared where
kubectl is on PATH.
"""

from __future__ import annotations

import shutil
import subprocess

import deployment
import kubernetes_validate
import pytest
import yaml
from deployment import CONFIG

KUSTOMIZATION = deployment.read_yaml("kustomization.yaml")
OBJECTS = {
    (one["kind"], one["metadata"]["name"]): one
    for file in KUSTOMIZATION["resources"]
    for one in deployment.read_objects(file)
}
# Kubernetes 1.34 is the oldest release in which all that is used here needs no feature gate (the sleep of preStop).
VERSIONS = ["1.34", kubernetes_validate.latest_version()]
SERVING = OBJECTS["Deployment", "serving"]["spec"]
POD = SERVING["template"]["spec"]
(CONTAINER,) = POD["containers"]
LABELS = SERVING["template"]["metadata"]["labels"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("which", OBJECTS, ids="-".join)
def test_each_object_fits_its_schema(which, version) -> None:
    kubernetes_validate.validate(OBJECTS[which], version, strict=True)


def test_the_schema_knows_a_misspelling() -> None:
    wrong = yaml.safe_load(yaml.safe_dump(OBJECTS["Deployment", "serving"]).replace("readinessProbe", "readynessProbe"))
    with pytest.raises(kubernetes_validate.ValidationError, match="readynessProbe"):
        kubernetes_validate.validate(wrong, VERSIONS[0], strict=True)


def test_all_that_was_asked_for_is_there() -> None:
    assert set(OBJECTS) == {
        ("Deployment", "serving"),
        ("Service", "serving"),
        ("Service", "serving-rest"),
        ("PodDisruptionBudget", "serving"),
        ("HorizontalPodAutoscaler", "serving"),
        ("PersistentVolumeClaim", "models"),
    }


def test_every_file_of_the_folder_is_used_or_says_that_it_is_not_for_kubectl() -> None:
    found = {f"kubernetes/{file.name}" for file in (CONFIG / "kubernetes").iterdir()}
    (other,) = found - set(KUSTOMIZATION["resources"])
    assert (CONFIG / other).read_text().startswith("# Not for kubectl")


def test_kustomize_reads_files_below_its_folder_alone() -> None:
    for generator in KUSTOMIZATION["configMapGenerator"]:
        for file in generator["files"]:
            assert (CONFIG / file).resolve().parent == CONFIG


@pytest.mark.parametrize(
    ("folder", "count"), [(CONFIG, len(OBJECTS) + 2), (CONFIG / "kserve", 2)], ids=["all", "kserve"]
)
def test_kustomize_makes_valid_objects_of_it(folder, count) -> None:
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not on PATH: what kustomize makes of the files is not compared")
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=True)
    made = list(yaml.safe_load_all(done.stdout))
    assert len(made) == count
    for one in made:
        if not one["apiVersion"].startswith("serving.kserve.io"):
            kubernetes_validate.validate(one, VERSIONS[0], strict=True)


def test_a_label_moves_without_a_restart_and_other_settings_replace_the_pods() -> None:
    """kustomize renames a ConfigMap when its content changes, unless told not to: a new name means new pods."""
    polled, *started = [
        generator
        for keeps_its_name in (True, False)
        for generator in KUSTOMIZATION["configMapGenerator"]
        if generator.get("options", {}).get("disableNameSuffixHash", False) is keeps_its_name
    ]
    assert polled["files"] == ["models.config"]
    assert "models.config" not in [file for generator in started for file in generator["files"]]
    assert int(deployment.flags(CONTAINER["args"])["model_config_file_poll_wait_seconds"]) > 0
    assert not [mount for mount in CONTAINER["volumeMounts"] if "subPath" in mount]  # which would never be renewed


def test_it_runs_what_compose_runs() -> None:
    service = deployment.read_yaml("docker-compose.yaml")["services"]["serving-gpu"]
    assert CONTAINER["image"] == service["image"] == f"{deployment.IMAGE}-gpu"
    assert CONTAINER["command"] == [service["entrypoint"]]
    ours = deployment.flags(CONTAINER["args"])
    assert ours.pop("grpc_channel_arguments")
    assert ours == deployment.flags(service["command"])
    assert {one["name"]: one["value"] for one in CONTAINER["env"]} == service["environment"]


def test_every_file_that_a_flag_names_is_mounted() -> None:
    (config,) = [volume for volume in POD["volumes"] if volume["name"] == "config"]
    mounted = {source["configMap"]["name"] for source in config["projected"]["sources"]}
    made = {generator["name"]: generator["files"] for generator in KUSTOMIZATION["configMapGenerator"]}
    assert mounted == set(made)
    there = {f"/config/{file}" for files in made.values() for file in files}
    assert {value for flag, value in deployment.flags(CONTAINER["args"]).items() if flag.endswith("_file")} - {
        ""
    } <= there


def test_what_is_mounted_is_declared_and_models_are_read_only() -> None:
    volumes = {volume["name"]: volume for volume in POD["volumes"]}
    mounts = {mount["mountPath"]: mount for mount in CONTAINER["volumeMounts"]}
    assert {mount["name"] for mount in mounts.values()} == set(volumes)
    assert set(mounts) == {"/models", "/config", "/cuda-cache"}
    claim = volumes[mounts["/models"]["name"]]["persistentVolumeClaim"]
    assert ("PersistentVolumeClaim", claim["claimName"]) in OBJECTS
    assert mounts["/models"]["readOnly"] is mounts["/config"]["readOnly"] is claim["readOnly"] is True
    assert {one["name"]: one["value"] for one in CONTAINER["env"]}["CUDA_CACHE_PATH"] in mounts


def test_ports_are_those_of_the_flags() -> None:
    flags = deployment.flags(CONTAINER["args"])
    ports = {port["name"]: port["containerPort"] for port in CONTAINER["ports"]}
    assert ports == {"grpc": int(flags["port"]), "rest": int(flags["rest_api_port"])}
    for name in ("serving", "serving-rest"):
        for port in OBJECTS["Service", name]["spec"]["ports"]:
            assert port["port"] == ports[port["targetPort"]]
    assert CONTAINER["startupProbe"]["tcpSocket"]["port"] in ports
    assert CONTAINER["livenessProbe"]["tcpSocket"]["port"] in ports
    assert CONTAINER["readinessProbe"]["grpc"]["port"] == ports["grpc"]


def test_everything_chooses_the_same_pods() -> None:
    selectors = [
        SERVING["selector"]["matchLabels"],
        OBJECTS["PodDisruptionBudget", "serving"]["spec"]["selector"]["matchLabels"],
        *(OBJECTS["Service", name]["spec"]["selector"] for name in ("serving", "serving-rest")),
        *(one["labelSelector"]["matchLabels"] for one in POD["topologySpreadConstraints"]),
    ]
    assert selectors == [LABELS] * 5
    target = OBJECTS["HorizontalPodAutoscaler", "serving"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) in OBJECTS


def test_clients_balance_over_pods_whose_connections_end() -> None:
    assert OBJECTS["Service", "serving"]["spec"]["clusterIP"] == "None"
    assert "clusterIP" not in OBJECTS["Service", "serving-rest"]["spec"]
    arguments = dict(
        argument.split("=") for argument in deployment.flags(CONTAINER["args"])["grpc_channel_arguments"].split(",")
    )
    assert int(arguments["grpc.max_connection_age_ms"]) > int(arguments["grpc.max_connection_age_grace_ms"]) > 0


def test_the_probes_leave_the_time_that_the_server_takes() -> None:
    startup, liveness, readiness = (CONTAINER[f"{name}Probe"] for name in ("startup", "liveness", "readiness"))
    budget = startup["failureThreshold"] * startup["periodSeconds"]
    assert budget > 6 * 60  # a load and its five retries, a minute apart
    assert SERVING["progressDeadlineSeconds"] > budget
    patience = [probe["failureThreshold"] * probe["periodSeconds"] for probe in (readiness, liveness)]
    assert patience[0] < patience[1]
    assert deployment.flags(CONTAINER["args"])["enable_grpc_healthcheck_service"] == "true"
    assert readiness["grpc"]["service"] == "PredictionService"  # the name that the stock server registers


def test_a_pod_answers_until_nobody_asks_and_is_killed_soon_after() -> None:
    drain = CONTAINER["lifecycle"]["preStop"]["sleep"]["seconds"]
    readiness = CONTAINER["readinessProbe"]
    assert readiness["failureThreshold"] * readiness["periodSeconds"] <= drain
    assert drain < POD["terminationGracePeriodSeconds"] <= drain + 10


def test_no_pod_is_missed_while_versions_or_nodes_change() -> None:
    assert SERVING["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert "replicas" not in SERVING  # which would undo the autoscaler's choice with every apply
    autoscaler = OBJECTS["HorizontalPodAutoscaler", "serving"]["spec"]
    assert autoscaler["minReplicas"] > OBJECTS["PodDisruptionBudget", "serving"]["spec"]["maxUnavailable"]


def test_one_card_is_asked_for_and_batches_have_room_before_more_pods_are() -> None:
    assert CONTAINER["resources"]["limits"]["nvidia.com/gpu"] == 1
    (metric,) = OBJECTS["HorizontalPodAutoscaler", "serving"]["spec"]["metrics"]
    assert int(metric["pods"]["target"]["averageValue"]) * 2 == deployment.batching().max_batch_size.value
    assert (
        int(deployment.flags(CONTAINER["args"])["grpc_max_threads"]) >= 2 * deployment.batching().max_batch_size.value
    )


def test_prometheus_is_told_where_the_metrics_are() -> None:
    assert SERVING["template"]["metadata"]["annotations"] == {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": deployment.flags(CONTAINER["args"])["rest_api_port"],
        "prometheus.io/path": deployment.metrics_path(),
    }
