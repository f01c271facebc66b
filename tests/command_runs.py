"""Runs of the command: which server they are told, what they send to it and what they keep."""

import json


def where(server):
    # However slow the machine is at the moment.
    return ["--server", server.target, "--model", "colours", "--timeout", "120"]


def kept(out):
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


def images_sent(server):
    """How many images the server was sent to explain."""
    tensors = (request.inputs["images"] for request in server.requests if "images" in request.inputs)
    return sum(tensor.tensor_shape.dim[0].size for tensor in tensors)
