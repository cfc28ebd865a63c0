"""llama.cpp's own HTTP server on the tiny model, as a process; prints its address.

`python -m tests.integration.llama_server DIRECTORY`; ends with its standard input.
"""

from __future__ import annotations

import sys
from pathlib import Path

import xllamacpp

from tests.integration.tiny_model import CONTEXT_TOKENS, write_model


def main(directory: Path) -> None:
    model = directory / "tiny.gguf"
    write_model(model)
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(model)
    parameters.n_ctx = CONTEXT_TOKENS
    parameters.n_parallel = 1
    parameters.n_gpu_layers = 0
    parameters.fit_params = False
    parameters.use_jinja = True
    parameters.endpoint_metrics = True
    parameters.verbosity = 0
    parameters.port = 0
    parameters.sampling.temp = 0.0
    server = xllamacpp.Server(parameters)
    sys.stdout.write(f"{server.listening_address}\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
