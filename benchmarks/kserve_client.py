"""KServe's Python client asks the local server; its answers are compared with the other protocol's.

The client needs older packages than this one, so it has an environment of its own:

    robustcls serve exports/shirts &
    python -m venv /tmp/kserve && /tmp/kserve/bin/pip install kserve==0.21.0
    /tmp/kserve/bin/python benchmarks/kserve_client.py --model shirts --shape 28 28 1

Ends with status 1 when an answer differs in a bit.
"""

import argparse
import asyncio
import json
import sys
import urllib.request

import numpy as np


def known_answer(rest: str, model: str, images: np.ndarray) -> dict:
    """Returns the outputs by name, as TensorFlow Serving's REST interface gives them."""
    body = json.dumps({"inputs": {"images": images.tolist()}}).encode()
    with urllib.request.urlopen(f"http://{rest}/v1/models/{model}:predict", body) as answer:
        return json.load(answer)["outputs"]


def question(kserve, model: str, images: np.ndarray, *, binary: bool):
    """Returns the client's request."""
    images_input = kserve.InferInput("images", list(images.shape), "FP32")
    images_input.set_data_from_numpy(images, binary_data=binary)
    return kserve.InferRequest(model_name=model, infer_inputs=[images_input], request_id="1")


def differences(form: str, answer, expected: dict) -> list[str]:
    """Returns the outputs that are not the same, bit for bit."""
    found = []
    for output in answer.outputs:
        values = output.as_numpy().tolist()
        if output.datatype == "BYTES":
            values = np.vectorize(lambda one: getattr(one, "decode", lambda: one)())(
                values
            ).tolist()
        same = values == expected[output.name]
        print(f"{form:12} {output.name:16} {output.datatype:6} {'same' if same else 'DIFFERENT'}")
        if not same:
            found.append(output.name)
    return found


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rest", default="127.0.0.1:8501")
    parser.add_argument("--grpc", default="127.0.0.1:8500")
    parser.add_argument("--model", required=True)
    parser.add_argument("--shape", type=int, nargs=3, required=True)
    chosen = parser.parse_args()
    # On its import KServe's package reads the command line, too.
    del sys.argv[1:]
    import kserve
    from kserve.inference_client import RESTConfig

    images = np.random.default_rng(0).random((4, *chosen.shape), np.float32)
    expected = known_answer(chosen.rest, chosen.model, images)
    url = f"http://{chosen.rest}"
    rest = kserve.InferenceRESTClient(RESTConfig(protocol="v2"))
    ready = [
        await rest.is_server_live(url),
        await rest.is_server_ready(url),
        await rest.is_model_ready(url, chosen.model),
    ]
    wrong = []
    for binary in (True, False):
        request = question(kserve, chosen.model, images, binary=binary)
        answer = await rest.infer(url, request, model_name=chosen.model)
        wrong += differences("REST, bytes" if binary else "REST, JSON", answer, expected)
    async with kserve.InferenceGRPCClient(chosen.grpc) as client:
        ready += [
            await client.is_server_live(),
            await client.is_server_ready(),
            await client.is_model_ready(chosen.model),
        ]
        for binary in (True, False):
            request = question(kserve, chosen.model, images, binary=binary)
            answer = await client.infer(request)
            wrong += differences("gRPC, bytes" if binary else "gRPC, values", answer, expected)
    print("live and ready:", ready)
    return 0 if all(ready) and not wrong else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
