# What a schema cannot say, for schemathesis: valid models and datasets, recipes and requirements (they are languages), where
# webhooks may go, ids of things that exist, and the media type of tus. Requests that are meant to be wrong stay as they are, except
# that none changes or deletes what exists before the run, as a DELETE with a needless query would. Loaded by
# campaigns/api-schemathesis.ts, which gives the seeds in TENSORPRESS_API_SEEDS.

import json
import os
import random
import uuid

import schemathesis
from hypothesis import strategies as st
from schemathesis.specs.openapi.checks import use_after_free

SEEDS = json.loads(os.environ["TENSORPRESS_API_SEEDS"])
MODEL_BYTES = bytes.fromhex(SEEDS["modelHex"])
DATASET_BYTES = bytes.fromhex(SEEDS["datasetHex"])
RECIPES = ["int8", "fp16", "prune-50+int8", {"steps": [{"preset": "int8"}]}, {"steps": [{"method": "cast", "dtype": "fp16"}]}]
SIZE_REQUIREMENTS = ["maxSizeRatio=2", {"maxSizeRatio": 2}]
# Accuracy can be required only where it is measured.
REQUIREMENTS = [*SIZE_REQUIREMENTS, [{"metric": "cosine", "min": 0.5}]]
# One is refused by its address, the other has none: nothing is ever called.
WEBHOOKS = ["https://192.0.2.1/hook", "https://tensorpress.invalid/hook"]
METADATA = ["filename bS5vbm54", "filename ZC5ucHo=,kind ZGF0YXNldA==", "filename bS5vbm54,set YQ=="]
# What schemathesis calls a header that no operation declares.
UNKNOWN_HEADER = "x-schemathesis-unknown-property"
MAX_NAME_BYTES = 200
PATCH_TYPE = "application/offset+octet-stream"

dice = random.Random(int(os.environ.get("TENSORPRESS_API_SEED", "1")))

schemathesis.openapi.media_type(PATCH_TYPE, st.binary(max_size=64))


@schemathesis.serializer(PATCH_TYPE)
def offset_bytes(ctx, value):
    return value if isinstance(value, bytes) else str(value).encode()


@schemathesis.check
def deleted_is_gone(ctx, response, case):
    """In the place of use_after_free: DELETE cancels a job, and its record stays to be read."""
    if kind_of(case.operation.path) == "jobs":
        return None
    return use_after_free(ctx, response, case)


def kind_of(path: str) -> str | None:
    for kind in ("models", "datasets", "jobs", "uploads"):
        if path.startswith(f"/v1/{kind}/{{id}}"):
            return kind
    return None


def model_bytes() -> bytes:
    """A model of its own each time, as the name of its producer (field 2) comes last: what a request made may be deleted by another."""
    return MODEL_BYTES + b"\x12\x10" + dice.randbytes(8).hex().encode()


def dataset_bytes() -> bytes:
    """The same for a dataset: a comment of its own at the end of the archive."""
    return DATASET_BYTES[:-2] + b"\x10\x00" + dice.randbytes(8).hex().encode()


def spare_seeds(case) -> None:
    """Nothing that exists before the run is changed or deleted, so that every read finds it to the end."""
    kind = kind_of(case.operation.path)
    if kind and case.operation.method.upper() in ("DELETE", "PATCH") and case.path_parameters.get("id") == SEEDS[kind]:
        by_content = kind in ("models", "datasets")
        case.path_parameters["id"] = dice.randbytes(32).hex() if by_content else str(uuid.UUID(bytes=dice.randbytes(16), version=4))


@schemathesis.hook
def filter_case(ctx, case):
    # A header that nobody knows makes no request wrong (RFC 9110, 5.1). Schemathesis agrees, except where a declared header is a number,
    # which it takes for wrong because it is sent as text. Everything else that can be wrong with headers comes in cases of its own.
    return UNKNOWN_HEADER not in (case.headers or {})


@schemathesis.hook
def before_call(ctx, case, kwargs):
    spare_seeds(case)
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    method, path = case.operation.method.upper(), case.operation.path
    kind = kind_of(path)
    if kind and method in ("GET", "HEAD") and dice.random() < 0.6:
        case.path_parameters["id"] = SEEDS[kind]
        if path.endswith("/histogram"):
            case.query["tensor"] = SEEDS["tensor"]
        if path.endswith("/artifacts/{name}"):
            case.path_parameters["name"] = SEEDS["artifact"]
    if path == "/v1/uploads" and method == "POST":
        case.headers["Upload-Metadata"] = dice.choice(METADATA)
    if method == "PUT" and isinstance(case.body, bytes) and dice.random() < 0.7:
        case.body = model_bytes()
    if not isinstance(case.body, dict):
        return
    # The main file comes first, and JSON Schema knows no order of members.
    case.body = dict(sorted(case.body.items(), key=lambda entry: entry[0] != "model"))
    # Whether the bytes are a model is left to chance; whether a recipe is one is not.
    for field, content in (("model", model_bytes()), ("dataset", dataset_bytes())):
        if isinstance(case.body.get(field), bytes) and dice.random() < 0.7:
            case.body[field] = content
    multipart = case.media_type == "multipart/form-data"
    if "recipe" in case.body:
        recipe = dice.choice(RECIPES)
        case.body["recipe"] = json.dumps(recipe) if multipart and not isinstance(recipe, str) else recipe
    if "require" in case.body:
        validated = str(case.body.get("validate", True)).lower() != "false"
        require = dice.choice(REQUIREMENTS if validated else SIZE_REQUIREMENTS)
        case.body["require"] = json.dumps(require) if multipart and not isinstance(require, str) else require
    if isinstance(case.body.get("webhook"), dict):
        case.body["webhook"]["url"] = dice.choice(WEBHOOKS)
    # A schema counts the characters of a name, file systems its bytes.
    output = case.body.get("output")
    if isinstance(output, dict) and len(str(output.get("fileName", "")).encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES:
        output["fileName"] = "chosen.onnx"
    if not multipart and "model" in case.body and dice.random() < 0.7:
        case.body["model"] = SEEDS["models"]
        if case.body.get("dataset") is not None:
            case.body["dataset"] = SEEDS["datasets"]
