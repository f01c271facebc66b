"""The InferenceService of `kserve/`, by structure: KServe ships no schema that installs beside TensorFlow.

What it shares with every pod (arguments, environment, ports, resources, volumes) is held
against the schema of Kubernetes.
"""

from __future__ import annotations

import deployment
import kubernetes_validate

SERVICE = deployment.read_yaml("kserve/inference_service.yaml")
PREDICTOR = SERVICE["spec"]["predictor"]
MODEL = PREDICTOR["model"]

# Of serving.kserve.io/v1beta1, beside the fields of a pod and of a container.
OF_THE_PREDICTOR = {
    "annotations": dict,
    "canaryTrafficPercent": int,
    "containerConcurrency": int,
    "maxReplicas": int,
    "minReplicas": int,
    "model": dict,
    "scaleMetric": str,
    "scaleTarget": int,
    "timeout": int,
}
OF_THE_MODEL = {"modelFormat": dict, "protocolVersion": str, "runtimeVersion": str, "storageUri": str}

# The arguments of KServe's runtime kserve-tensorflow-serving, to which ours are added.
RUNTIME = {"model_name": "flowers", "port": "9000", "rest_api_port": "8080", "model_base_path": "/mnt/models"}


def as_pod() -> dict:
    """The predictor without what is KServe's own: a pod, whose one container KServe completes."""
    container = {name: value for name, value in MODEL.items() if name not in OF_THE_MODEL}
    pod = {name: value for name, value in PREDICTOR.items() if name not in OF_THE_PREDICTOR}
    spec = pod | {"containers": [container | {"name": "kserve-container", "image": "tensorflow/serving"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "flowers"}, "spec": spec}


def test_what_a_pod_has_fits_the_schema_of_pods() -> None:
    kubernetes_validate.validate(as_pod(), "1.34", strict=True)


def test_what_is_kserve_s_own_has_its_types() -> None:
    assert (SERVICE["apiVersion"], SERVICE["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    assert set(SERVICE) == {"apiVersion", "kind", "metadata", "spec"}
    for fields, types in ((PREDICTOR, OF_THE_PREDICTOR), (MODEL, OF_THE_MODEL)):
        for name, kind in types.items():
            assert isinstance(fields[name], kind), name
    assert MODEL["modelFormat"] == {"name": "tensorflow"}
    assert MODEL["protocolVersion"] == "grpc-v1"
    assert 0 < PREDICTOR["canaryTrafficPercent"] < 100
    assert PREDICTOR["scaleMetric"] in {"concurrency", "rps", "cpu", "memory"}


def test_a_canary_needs_knative() -> None:
    assert SERVICE["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == "Knative"


def test_the_server_is_the_same_release() -> None:
    assert f"tensorflow/serving:{MODEL['runtimeVersion']}" == f"{deployment.IMAGE}-gpu"
    assert ("-gpu" in MODEL["runtimeVersion"]) == ("nvidia.com/gpu" in MODEL["resources"]["limits"])


def test_the_model_is_called_as_everywhere() -> None:
    assert SERVICE["metadata"]["name"] == RUNTIME["model_name"]
    assert SERVICE["metadata"]["name"] in deployment.models()


def test_the_one_port_is_grpc_without_tls() -> None:
    (port,) = MODEL["ports"]
    assert (port["name"], port["containerPort"]) == ("h2c", int(RUNTIME["port"]))


def test_ours_are_flags_that_the_runtime_does_not_set_and_compose_sets_alike() -> None:
    ours = deployment.flags(MODEL["args"])
    assert not ours.keys() & RUNTIME.keys()
    compose = deployment.flags(deployment.read_yaml("docker-compose.yaml")["services"]["serving-gpu"]["command"])
    assert ours.items() <= compose.items()


def test_metrics_are_where_kserve_looks_in_a_file_that_is_mounted() -> None:
    assert deployment.metrics_path("kserve/monitoring.pbtxt") == "/metrics"
    (generator,) = deployment.read_yaml("kserve/kustomization.yaml")["configMapGenerator"]
    assert generator["files"] == ["monitoring.pbtxt"]
    assert generator["options"] == {"disableNameSuffixHash": True}
    (volume,), (mount,) = PREDICTOR["volumes"], MODEL["volumeMounts"]
    assert volume["configMap"]["name"] == generator["name"]
    assert mount["name"] == volume["name"]
    assert deployment.flags(MODEL["args"])["monitoring_config_file"] == f"{mount['mountPath']}/{generator['files'][0]}"


def test_it_scales_as_on_plain_kubernetes() -> None:
    (autoscaler,) = deployment.read_objects("kubernetes/autoscaler.yaml")
    (metric,) = autoscaler["spec"]["metrics"]
    assert str(PREDICTOR["scaleTarget"]) == metric["pods"]["target"]["averageValue"]
    assert str(PREDICTOR["containerConcurrency"]) == deployment.flags(MODEL["args"])["grpc_max_threads"]


def test_each_version_has_a_folder_of_its_own() -> None:
    """The folder is copied whole when a pod starts, so that one for all versions would change what a restart serves."""
    scheme, _, path = MODEL["storageUri"].partition("://")
    assert scheme in {"gs", "s3", "pvc", "https"}
    assert path.endswith("-1")
