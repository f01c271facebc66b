"""A pipeline as users run it, in a script: each file of a folder, explained by two processes, a line of JSON each."""

import json
import sys
from pathlib import Path

import apache_beam as beam
from apache_beam.io import WriteToText, fileio
from apache_beam.options.pipeline_options import PipelineOptions
from gradcam_client.beam import ExplainImages

# The DirectRunner's own in Python; by that name, Beam would look on the network for another one first.
RUNNER = "apache_beam.runners.portability.fn_api_runner.fn_runner.FnApiRunner"
PROCESSES = ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]


def main(target: str, model: str, folder: str, out: str) -> None:
    with beam.Pipeline(RUNNER, options=PipelineOptions(PROCESSES)) as pipeline:
        images = (
            pipeline
            | fileio.MatchFiles(f"{folder}/*")
            | beam.Reshuffle()
            | fileio.ReadMatches()
            | beam.Map(lambda file: (Path(file.metadata.path).name, file.read()))
        )
        found = images | ExplainImages(target, model=model)
        lines = found.explained | beam.MapTuple(lambda name, one: json.dumps([name, one.to_json()]))
        _ = lines | WriteToText(f"{out}/explained")
        failures = found.failed | beam.Map(lambda failure: json.dumps([failure.key, failure.error, failure.message]))
        _ = failures | "Failures" >> WriteToText(f"{out}/failed")


if __name__ == "__main__":
    main(*sys.argv[1:])
