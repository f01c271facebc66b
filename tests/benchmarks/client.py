"""What the client adds to a server's own time: starting, the first answer, messages, many images.

`make bench` prints the table. A server answers from memory, in a process of its own, with 1000 classes and maps of
7 × 7 for images of 224 × 224: at once, or after so many milliseconds an image, one call at a time, as one model does.
Another computes: a network of `keras.applications`, on the cores that the client has, too. Where sides are compared
they take turns, and the median of the ratios is reported.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from benchmarks.measuring import in_fresh_process, run_task

SIDE, GRID, CLASSES = 224, 7, 1000
STARTS, MESSAGES, ROUNDS = 9, 200, 7
IMAGES, CHUNK, CONCURRENCY = 256, 8, 4
COMMAND_IMAGES, COMMAND_ROUNDS = 1000, 3
EACH = (0, 5, 20)
"""Milliseconds for one image: nothing; MobileNetV2 on a fast CPU, or ResNet50 on a small GPU; ResNet50 on that CPU."""
NETWORKS = ("MobileNetV2", "ResNet50")
THROUGHPUT = (
    "of the bare stub's throughput, with images in memory",
    "`explain_many`, arrays",
    "JPEG files",
    "`gradcam explain`, JPEG files",
    "with `--out`",
    "`--out --format jpeg`",
    "bare images/s",
)
MODEL = "classifier"
PREDICT = "/tensorflow.serving.PredictionService/Predict"


def description() -> bytes:
    """Return the manifest."""
    from colour_server import manifest

    labels = [f"class {number}" for number in range(CLASSES)]
    changed = manifest(labels=labels)
    changed["input"]["shape"] = [SIDE, SIDE, 3]
    changed["explanation"]["grid"] = [GRID, GRID]
    return json.dumps(changed).encode()


def answer(size: int):
    """Return the response for `size` images."""
    import numpy as np
    from gradcam_client import codec
    from gradcam_client.wire import gradcam_wire_pb2 as wire

    rng = np.random.default_rng(0)
    heatmaps = rng.random((size, GRID, GRID), np.float32)
    outputs = {
        "predictions": rng.random((size, CLASSES), np.float32),
        "class_index": np.arange(size, dtype=np.int32),
        "label": np.array([b"class"] * size, object),
        "score": rng.random(size, np.float32),
        "heatmap": heatmaps / heatmaps.max((1, 2), keepdims=True),
        "heatmap_peak": np.ones(size, np.float32),
    }
    response = wire.PredictResponse(outputs={name: codec.encode(array) for name, array in outputs.items()})
    response.model_spec.version.value = 1
    return response


def serve(milliseconds: str) -> None:
    """Answer until standard input ends."""
    import grpc
    import numpy as np
    from gradcam_client import codec
    from gradcam_client.wire import gradcam_wire_pb2 as wire

    answers = [answer(size).SerializeToString() for size in range(1, CHUNK + 1)]
    manifest = wire.PredictResponse(outputs={"value": codec.encode(np.array([description()], object))})
    manifest.model_spec.version.value = 1
    described, one_at_a_time = manifest.SerializeToString(), threading.Lock()

    def predict(request: bytes, context) -> bytes:
        size = len(request) // (SIDE * SIDE * 3)
        if not size:
            return described
        with one_at_a_time:
            time.sleep(size * float(milliseconds) / 1000)
        return answers[size - 1]

    server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.max_receive_message_length", -1)])
    handlers = {"Predict": grpc.unary_unary_rpc_method_handler(predict)}
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("tensorflow.serving.PredictionService", handlers),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    sys.stdin.read()
    server.stop(None).wait()


@contextmanager
def answering(milliseconds: float):
    """Give the address of a server that answers from memory, in a process of its own."""
    command = [sys.executable, __file__, "--serve", str(milliseconds)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield f"127.0.0.1:{process.stdout.readline().strip()}"
        process.stdin.close()


@contextmanager
def computing(network: str):
    """Give the address of a server of that network, in a process of its own."""
    from server_process import ServerProcess

    with tempfile.TemporaryDirectory() as folder:
        base_path = Path(folder, "model")
        in_fresh_process(__file__, "export", network, str(base_path))
        with ServerProcess(base_path, Path(folder, "log"), MODEL) as server:
            yield server.grpc


def export(network: str, directory: str) -> None:
    """Export it with all options as they are."""
    from conditioned import application
    from gradcam_export import export_classifier

    export_classifier(application(network)[0], directory)


def importing(module: str) -> float:
    """Return the seconds that importing takes."""
    start = time.perf_counter()
    __import__(module)
    return time.perf_counter() - start


def first_answer(target: str) -> float:
    """Return the seconds from making a `Client` to its first answer."""
    import numpy as np
    from gradcam_client import Client

    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    start = time.perf_counter()
    with Client(target, model=MODEL) as client:
        client.explain(image)
        return time.perf_counter() - start


def messages() -> float:
    """Return the median seconds of encoding one image and decoding its answer."""
    import numpy as np
    from gradcam_client import codec
    from gradcam_client.answers import EXPLAIN_OUTPUTS, read_explanations
    from gradcam_client.manifest import Manifest
    from gradcam_client.wire import gradcam_wire_pb2 as wire
    from PIL import Image

    manifest, received = Manifest.parse(description(), version=1), answer(1).SerializeToString()
    pixels = np.random.default_rng(0).integers(0, 256, (1, SIDE, SIDE, 3), np.uint8)
    image = Image.fromarray(pixels[0])
    seconds = []
    for _ in range(MESSAGES):
        start = time.perf_counter()
        request = wire.PredictRequest(inputs={"images": codec.encode(pixels)}, output_filter=EXPLAIN_OUTPUTS)
        request.SerializeToString()
        read_explanations(wire.PredictResponse.FromString(received), manifest, [image])
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def images_in_memory() -> list:
    """Return as many images as are asked for at a time, as the model takes them."""
    import numpy as np

    return list(np.random.default_rng(0).integers(0, 256, (IMAGES, SIDE, SIDE, 3), np.uint8))


@contextmanager
def bare_stub(target: str, arrays: list):
    """Give what asks for images in memory, several calls at a time, and does nothing else."""
    import grpc
    import numpy as np
    from gradcam_client import codec
    from gradcam_client.wire import gradcam_wire_pb2 as wire

    requests = [
        wire.PredictRequest(
            model_spec=wire.ModelSpec(name=MODEL),
            inputs={"images": codec.encode(np.stack(arrays[start : start + CHUNK]))},
        )
        for start in range(0, IMAGES, CHUNK)
    ]
    with grpc.insecure_channel(target) as channel:
        stub = channel.unary_unary(
            PREDICT,
            request_serializer=wire.PredictRequest.SerializeToString,
            response_deserializer=wire.PredictResponse.FromString,
        )

        def ask() -> None:
            with ThreadPoolExecutor(CONCURRENCY) as pool:
                list(pool.map(stub, requests))

        yield ask


def command(target: str, folder: str) -> dict:
    """Return what `gradcam explain`, its start included, reaches of the bare stub's throughput."""
    with tempfile.TemporaryDirectory() as out, bare_stub(target, images_in_memory()) as bare:
        explain = [sys.executable, "-m", "gradcam_client.cli", "explain", folder, "--server", target]
        explain += ["--model", MODEL]

        def run(*options: str) -> float:
            return timed(lambda: subprocess.run([*explain, *options], check=True, capture_output=True))

        run()
        rounds = []
        for _ in range(COMMAND_ROUNDS):
            each = timed(bare) / IMAGES
            sides = {side: run(*options) for side, options in written(out).items()}
            rounds.append(sides | {"bare": each * COMMAND_IMAGES})
    return {side: statistics.median(one["bare"] / one[side] for one in rounds) for side in written(out)}


def written(folder: str) -> dict[str, list[str]]:
    """Return the options of the command for each way of keeping results."""
    out = ["--out", folder]
    return {"alone": [], "PNG": out, "JPEG": [*out, "--format", "jpeg"]}


def many(target: str, folder: str) -> dict:
    """Return what `explain_many` reaches of the bare stub's throughput, with arrays and with JPEG files."""
    from gradcam_client import Client

    arrays = images_in_memory()
    files = sorted(Path(folder).iterdir())[:IMAGES]
    with bare_stub(target, arrays) as bare, Client(target, model=MODEL) as client:

        def ours(images: list) -> None:
            assert all(one.error is None for one in client.explain_many(images, concurrency=CONCURRENCY))

        sides = {"bare": bare, "arrays": lambda: ours(arrays), "files": lambda: ours(files)}
        rounds = [{side: timed(work) for side, work in sides.items()} for _ in range(ROUNDS + 1)][1:]
    ratios = {side: statistics.median(one["bare"] / one[side] for one in rounds) for side in ("arrays", "files")}
    return ratios | {"bare": IMAGES / statistics.median(one["bare"] for one in rounds)}


def timed(work) -> float:
    """Return the seconds that `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def milliseconds(task: str, *arguments: object) -> str:
    """Return the median of a task in fresh processes, once its modules are compiled."""
    in_fresh_process(__file__, task, *arguments)
    return f"{statistics.median(in_fresh_process(__file__, task, *arguments) for _ in range(STARTS)) * 1000:.1f} ms"


@contextmanager
def compiled_modules():
    """Let fresh processes keep what they compile, as pip does for what it installs."""
    unwanted = os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PYTHONPYCACHEPREFIX"] = folder
        yield
        del os.environ["PYTHONPYCACHEPREFIX"]
    if unwanted is not None:
        os.environ["PYTHONDONTWRITEBYTECODE"] = unwanted


def starts() -> None:
    """Print what starting takes."""
    print("\n| the client's own time | median | budget |\n|---|---|---|")
    print(f"| `import gradcam_client` | {milliseconds('importing', 'gradcam_client')} | 250 ms |")
    print(f"| of that, gRPC | {milliseconds('importing', 'grpc.aio')} | |")
    print(f"| of that, numpy | {milliseconds('importing', 'numpy')} | |")
    with answering(0) as target:
        print(f"| `Client` to first answer | {milliseconds('first_answer', target)} | 50 ms |")
    print(f"| one image and its answer, encoded and decoded | {messages() * 1000:.3f} ms | 1 ms |")


def main() -> None:
    """Print the tables."""
    import numpy as np
    from PIL import Image

    with compiled_modules():
        starts()
    print(f"\n| {' | '.join(THROUGHPUT)} |\n{'|---' * len(THROUGHPUT)}|")
    with tempfile.TemporaryDirectory() as folder:
        rng = np.random.default_rng(0)
        for number in range(COMMAND_IMAGES):
            small = Image.fromarray(rng.integers(0, 256, (30, 40, 3), np.uint8))
            small.resize((320, 240)).save(f"{folder}/{number:04}.jpg")
        servers = {f"server takes {each} ms an image": answering(each) for each in EACH}
        servers |= {f"{network} on the same cores": computing(network) for network in NETWORKS}
        for name, server in servers.items():
            with server as target:
                found = in_fresh_process(__file__, "many", target, folder)
                found |= in_fresh_process(__file__, "command", target, folder)
            ratios = " | ".join(f"{found[side]:.2f}" for side in ("arrays", "files", *written("")))
            print(f"| {name} | {ratios} | {found['bare']:.0f} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(sys.argv[2])
    elif not run_task(globals()):
        main()
