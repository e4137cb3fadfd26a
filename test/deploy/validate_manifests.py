"""Validates Kubernetes manifests (a JSON list in the file argv[1]) strictly against the schemas of the versions argv[2:].

Kinds without a schema there (custom resources) are checked against test/deploy/schemas/<Kind>.json. Prints a JSON list of
findings: manifest, version, message. Used by test/deploy/manifests.test.ts.
"""

import json
import sys
import warnings
from pathlib import Path

import jsonschema
import kubernetes_validate
from kubernetes_validate.utils import InvalidSchemaError, SchemaNotFoundError, VersionNotSupportedError

manifests = json.loads(Path(sys.argv[1]).read_text())
findings = []
checked = 0


def find(manifest, version, message):
    name = f"{manifest['kind']}/{manifest['metadata']['name']}"
    findings.append({"manifest": name, "version": version, "message": message})


for manifest in manifests:
    own = Path(__file__).parent / "schemas" / f"{manifest['kind']}.json"
    if own.exists():
        schema = json.loads(own.read_text())
        jsonschema.Draft202012Validator.check_schema(schema)
        for error in jsonschema.Draft202012Validator(schema).iter_errors(manifest):
            find(manifest, "own schema", f"{error.json_path}: {error.message}")
        checked += 1
        continue
    for version in sys.argv[2:]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                kubernetes_validate.validate(manifest, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            find(manifest, version, f"{'.'.join(str(part) for part in error.path)}: {error.message}")
        except (SchemaNotFoundError, VersionNotSupportedError, InvalidSchemaError) as error:
            find(manifest, version, f"no schema: {error.message}")
        checked += 1

print(json.dumps({"checked": checked, "findings": findings}))
