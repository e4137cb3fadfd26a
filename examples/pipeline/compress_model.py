#!/usr/bin/env python3
"""One step of a deployment pipeline: compresses a model on a Tensorpress server and lets the pipeline go on only if the result
keeps to a requirement. The artifact appears under its name only when it does; the report is kept either way.

  compress_model.py --model mnist.onnx --recipe int8 --dataset t10k.npz --require metric=top1,maxDrop=0.01 \
                    --output mnist.int8.onnx --report report.html

Environment: TENSORPRESS_URL (http://127.0.0.1:8080), TENSORPRESS_API_KEY or TENSORPRESS_API_KEY_FILE (none),
TENSORPRESS_TIMEOUT_SECONDS (3600: for the whole step).
Status: 0 done; 1 server or network failed, or out of time; 2 wrong arguments or recipe; 3 the server refuses the model, the
data or the key; 4 the requirement is not met or the artifact failed validation. The same numbers as `tensorpress compress`.
Needs Python 3.9 and nothing else. Uploads and downloads go on where they broke off.
"""

import argparse
import base64
import contextlib
import hashlib
import http.client
import json
import os
import sys
import time
import urllib.parse
import uuid

PIECE_BYTES = 16 * 2**20
ATTEMPTS = 6
POLL_SECONDS = 5

# Statuses of error codes; every other refusal of the server is 3.
STATUS_OF_CODE = {
    "requirement_not_met": 4, "validation_failed": 4,
    "recipe_invalid": 2, "request_invalid": 2,
    "worker_crashed": 1, "worker_timeout": 1, "device_lost": 1, "device_unavailable": 1,
    "store_failed": 1, "disk_full": 1, "internal": 1,
}


class Refused(Exception):
    """Ends the step with a status and a reason."""

    def __init__(self, status, reason):
        super().__init__(reason)
        self.status = status


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)

    def refusal(self):
        """The reason that a problem document or a proxy's page gives."""
        try:
            problem = self.json()
            code = problem["code"]
            return Refused(STATUS_OF_CODE.get(code, 3), f"{problem['detail']} [{code}]")
        except (ValueError, KeyError, TypeError):
            return Refused(3 if self.status < 500 else 1, f"the server answered with status {self.status}")


class Server:
    """Sends requests, again after what may pass: a full queue (429) until the time is up, anything else six times."""

    def __init__(self, url, key, seconds):
        self.url = urllib.parse.urlsplit(url.rstrip("/"))
        self.key = key
        self.deadline = time.monotonic() + seconds

    def seconds_left(self):
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise Refused(1, "out of time: see TENSORPRESS_TIMEOUT_SECONDS")
        return left

    def once(self, method, path, headers=None, body=None):
        """One request on a connection of its own. Returns connection and response; raises OSError or HTTPException."""
        kind = http.client.HTTPSConnection if self.url.scheme == "https" else http.client.HTTPConnection
        connection = kind(self.url.hostname, self.url.port, timeout=min(120, self.seconds_left()))
        all_headers = dict(headers or {})
        if self.key:
            all_headers["Authorization"] = f"Bearer {self.key}"
        try:
            connection.request(method, self.url.path + path, body=body, headers=all_headers)
            return connection, connection.getresponse()
        except BaseException:
            connection.close()
            raise

    def send(self, method, path, headers=None, body=None):
        attempt = 1
        while True:
            pause = attempt * 2
            try:
                connection, response = self.once(method, path, headers, body)
                with contextlib.closing(connection):
                    answer = Answer(response.status, response.headers, response.read())
                if answer.status not in (429, 502, 503, 504) or (answer.status != 429 and attempt >= ATTEMPTS):
                    return answer
                asked = answer.headers.get("Retry-After", "")
                pause = int(asked) if asked.isdigit() else pause
                reason = f"status {answer.status}"
            except (OSError, http.client.HTTPException) as error:
                if attempt >= ATTEMPTS:
                    raise Refused(1, f"no answer from {self.url.geturl()}: {error}") from error
                reason = str(error) or type(error).__name__
            attempt += 1
            print(f"compress_model: {reason}, again in {pause} s", file=sys.stderr)
            time.sleep(min(pause, self.seconds_left()))

    def get_json(self, path):
        answer = self.send("GET", path)
        if answer.status != 200:
            raise answer.refusal()
        return answer.json()


def sha256_of(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(2**20):
            digest.update(piece)
    return digest.hexdigest()


def stored(server, path, kind):
    """The id of a model or dataset: what the server has already is not sent again, the rest in pieces by the tus protocol."""
    try:
        digest, size = sha256_of(path), os.path.getsize(path)
    except OSError as error:
        raise Refused(3, f"{path} cannot be read: {error.strerror}") from error
    if server.send("GET", f"/v1/{kind}s/{digest}").status == 200:
        return digest
    values = {"filename": os.path.basename(path), "kind": kind, "sha256": digest}
    metadata = ",".join(f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in values.items())
    tus = {"Tus-Resumable": "1.0.0"}
    made = server.send("POST", "/v1/uploads", {**tus, "Upload-Length": str(size), "Upload-Metadata": metadata})
    if made.status != 201:
        raise made.refusal()
    upload, offset, stuck = made.headers["Location"], 0, 0
    with open(path, "rb") as file:
        while True:
            if offset < size:
                file.seek(offset)
                headers = {**tus, "Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
                answer = server.send("PATCH", upload, headers, file.read(PIECE_BYTES))
                # 409 and 423: a piece arrived, whole or in part, and its answer was lost. Below the server says where it stands.
                if answer.status not in (204, 409, 423):
                    raise answer.refusal()
            state = server.send("HEAD", upload, tus)
            if state.status != 200:
                raise Refused(1, f"the upload {upload} is gone (status {state.status})")
            result = state.headers.get("Tensorpress-Result")
            if result:
                return result.rsplit("/", 1)[1]
            before, offset = offset, int(state.headers["Upload-Offset"])
            if offset == before:
                stuck += offset < size
                if stuck >= ATTEMPTS:
                    raise Refused(1, f"the upload does not get on at byte {offset}")
                time.sleep(1)


def finished(server, request):
    """Creates the job and waits for its end."""
    # With the same key a request that is sent again, because its answer was lost, gives the same job.
    headers = {"Content-Type": "application/json", "Idempotency-Key": str(uuid.uuid4())}
    answer = server.send("POST", "/v1/jobs", headers, json.dumps(request).encode())
    if answer.status != 202:
        raise answer.refusal()
    job, pause = answer.json(), 0.25
    while job["state"] in ("queued", "running"):
        time.sleep(min(pause, server.seconds_left()))
        pause = min(POLL_SECONDS, pause * 2)
        job = server.get_json(job["links"]["self"])
    return job


def keep_report(server, job, path):
    if job["reportSha256"] is None:
        return
    accept = "text/html" if path.endswith(".html") else "application/json"
    answer = server.send("GET", job["links"]["report"] or job["links"]["self"] + "/report", {"Accept": accept})
    if answer.status != 200:
        raise answer.refusal()
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path, "wb") as file:
        file.write(answer.body)
    print(f"report: {path}")


def keep_artifact(server, job, path):
    """Beside the target first: nobody sees half a file, or one of other bytes than the server has."""
    files = job["artifact"]["files"]
    if len(files) != 1:
        raise Refused(1, f"the artifact has {len(files)} files: {', '.join(file['name'] for file in files)}")
    size, digest = files[0]["sizeBytes"], files[0]["sha256"]
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    temporary = f"{path}.{os.getpid()}.part"
    try:
        with open(temporary, "wb") as file:
            for attempt in range(ATTEMPTS):
                if fetched(server, job["links"]["self"] + "/artifact", digest, file, size):
                    break
                time.sleep(min(2 * attempt + 1, server.seconds_left()))
        if sha256_of(temporary) != digest:
            raise Refused(1, "the artifact could not be downloaded whole")
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)
    print(f"artifact: {path} ({size} bytes; job {job['links']['self']})")


def fetched(server, path, digest, file, size):
    """Adds what is missing at the end of `file`; whether it is whole now."""
    headers = {"Range": f"bytes={file.tell()}-", "If-Match": f'"{digest}"'} if file.tell() > 0 else {}
    try:
        connection, response = server.once("GET", path, headers)
        with contextlib.closing(connection):
            if response.status not in (200, 206):
                if response.status < 500 and response.status != 429:
                    raise Answer(response.status, response.headers, response.read()).refusal()
                return False
            if response.status == 200:
                file.seek(0)
                file.truncate()
            # read(n) gives what has come so far where the connection breaks, read1() too; both end with b"".
            while piece := response.read1(2**20):
                file.write(piece)
    except (OSError, http.client.HTTPException) as error:
        print(f"compress_model: the download broke off: {error}", file=sys.stderr)
    return file.tell() == size


def main():
    parser = argparse.ArgumentParser(description="Compress a model on a Tensorpress server, gated on accuracy.")
    for name in ("model", "recipe", "output"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("require", "dataset", "report"):
        parser.add_argument(f"--{name}")
    options = parser.parse_args()  # ends with status 2 when they are wrong

    key = os.environ.get("TENSORPRESS_API_KEY")
    if not key and os.environ.get("TENSORPRESS_API_KEY_FILE"):
        with open(os.environ["TENSORPRESS_API_KEY_FILE"], encoding="utf-8") as file:
            key = file.read().strip()
    url = os.environ.get("TENSORPRESS_URL", "http://127.0.0.1:8080")
    server = Server(url, key, float(os.environ.get("TENSORPRESS_TIMEOUT_SECONDS", "3600")))

    recipe = options.recipe
    if os.path.isfile(recipe):
        with open(recipe, encoding="utf-8") as file:
            recipe = file.read()
    request = {"model": stored(server, options.model, "model"), "recipe": recipe}
    if options.require:
        request["require"] = options.require
    if options.dataset:
        request["dataset"] = stored(server, options.dataset, "dataset")
    job = finished(server, request)
    keep_report(server, job, options.report or f"{options.output}.report.json")
    if job["state"] == "succeeded":
        keep_artifact(server, job, options.output)
        return
    error = job["error"] or {"code": job["state"], "detail": "the job ended without a result"}
    raise Refused(STATUS_OF_CODE.get(error["code"], 3), f"refused: {error['detail']} [{error['code']}]")


try:
    main()
except Refused as refused:
    print(f"compress_model: {refused}", file=sys.stderr)
    sys.exit(refused.status)
