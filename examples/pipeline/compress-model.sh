#!/usr/bin/env bash
# One step of a deployment pipeline: compresses a model on a Tensorpress server and lets the pipeline go on only if the result
# keeps to a requirement. The artifact appears under its name only when it does; the report is kept either way.
#
#   compress-model.sh --model mnist.onnx --recipe int8 --dataset t10k.npz --require metric=top1,maxDrop=0.01 \
#                     --output mnist.int8.onnx --report report.html
#
# Environment: TENSORPRESS_URL (http://127.0.0.1:8080), TENSORPRESS_API_KEY or TENSORPRESS_API_KEY_FILE (none),
# TENSORPRESS_TIMEOUT_SECONDS (3600: for the whole step).
# Status: 0 done; 1 server or network failed, or out of time; 2 wrong arguments or recipe; 3 the server refuses the model, the
# data or the key; 4 the requirement is not met or the artifact failed validation. The same numbers as `tensorpress compress`.
# Needs bash 4, curl 7.55 and sha256sum. Models of one file, artifacts of one file. A model of more than 64 MiB
# (TENSORPRESS_LARGE_BYTES) is uploaded in pieces, so that a broken connection costs one piece.
set -euo pipefail

url=${TENSORPRESS_URL:-http://127.0.0.1:8080}
url=${url%/}
timeout=${TENSORPRESS_TIMEOUT_SECONDS:-3600}
large=${TENSORPRESS_LARGE_BYTES:-67108864}
deadline=$((SECONDS + timeout))
model='' recipe='' require='' dataset='' output='' report=''

fail() { # STATUS MESSAGE
  printf 'compress-model: %s\n' "$2" >&2
  exit "$1"
}

while [ $# -gt 0 ]; do
  case $1 in
    --model | --recipe | --require | --dataset | --output | --report)
      [ $# -ge 2 ] || fail 2 "$1 needs a value"
      printf -v "${1#--}" %s "$2"
      shift 2
      ;;
    *) fail 2 "unknown argument $1; known: --model --recipe --require --dataset --output --report" ;;
  esac
done
for name in model recipe output; do [ -n "${!name}" ] || fail 2 "--$name is missing"; done
for name in model dataset; do [ -z "${!name}" ] || [ -r "${!name}" ] || fail 3 "${!name} cannot be read"; done
report=${report:-$output.report.json}

key=${TENSORPRESS_API_KEY:-}
[ -n "$key" ] || [ -z "${TENSORPRESS_API_KEY_FILE:-}" ] || key=$(<"$TENSORPRESS_API_KEY_FILE")
# The artifact arrives beside its target: the last step is a rename, and nobody sees half a file.
mkdir -p "$(dirname "$output")"
work=$(mktemp -d "$output.XXXXXX")
trap 'rm -rf "$work"' EXIT
# In a file and not on curl's command line, where every user of the machine could read the key.
touch "$work/key" && chmod 600 "$work/key"
[ -z "$key" ] || printf 'Authorization: Bearer %s\n' "$key" >"$work/key"

# Sends a request; headers go to $work/head, the status is printed. A full queue (429) is waited for until the time is up;
# broken connections and passing failures of server or proxy get six attempts. Retry-After is kept to.
request() { # curl arguments
  local status pause attempt=1
  while :; do
    : >"$work/head"
    [ $SECONDS -lt $deadline ] || fail 1 "out of time: TENSORPRESS_TIMEOUT_SECONDS is $timeout"
    status=$(curl --silent --show-error --header "@$work/key" --dump-header "$work/head" --write-out '%{http_code}' \
      --connect-timeout 15 --max-time $((deadline - SECONDS)) "$@") || status=000
    case $status in
      429) ;;
      000 | 502 | 503 | 504) [ $((attempt++)) -lt 6 ] || break ;;
      *) break ;;
    esac
    pause=$(header retry-after)
    [[ $pause =~ ^[0-9]+$ ]] || pause=$((attempt * 2))
    echo "compress-model: status $status, again in $pause s" >&2
    sleep "$pause"
  done
  [ "$status" != 000 ] || fail 1 "no answer from $url"
  printf %s "$status"
}

header() { # NAME: its last value in $work/head, without quotes
  awk -v name="$1:" 'tolower($1) == name { sub(/^[^:]*: */, ""); gsub(/["\r]/, ""); value = $0 } END { print value }' "$work/head"
}

json_text() { # NAME FILE: the first member of that name that is a text
  grep -oE "\"$1\":\"([^\"\\\\]|\\\\.)*\"" "$2" | head -n 1 | sed -E 's/^"[^"]*":"(.*)"$/\1/; s/\\(.)/\1/g' || true
}

# A report is there for a finished job, and for one that missed its requirement.
keep_report() { # JOB
  local accept=application/json status
  case $report in *.html) accept=text/html ;; esac
  status=$(request --header "Accept: $accept" --output "$work/report" "$url$1/report")
  [ "$status" = 200 ] || return 0
  mkdir -p "$(dirname "$report")"
  mv "$work/report" "$report"
  echo "report: $report"
}

# Ends the step with the reason that the answer gives: a problem document, or a job that failed.
refuse() { # HTTP-STATUS ANSWER JOB
  local code detail
  code=$(grep -o 'urn:tensorpress:error:[a-z0-9_]*' "$2" | head -n 1 | cut -d : -f 4 || true)
  [ -n "$code" ] || code=$(json_text code "$2")
  detail=$(json_text detail "$2")
  if [ -n "$3" ]; then keep_report "$3"; fi
  case $code in
    requirement_not_met | validation_failed) fail 4 "refused: $detail [$code]" ;;
    recipe_invalid | request_invalid) fail 2 "$detail [$code]" ;;
    worker_* | device_* | store_failed | disk_full | internal) fail 1 "$detail [$code]" ;;
  esac
  case $1 in 4??) fail 3 "status $1: $detail [$code]" ;; *) fail 1 "status $1: $detail [$code]" ;; esac
}

finish() { # JOB: the artifact is in $work/artifact, its SHA-256 in the ETag
  local expected found
  expected=$(header etag) found=$(sha256sum <"$work/artifact" | cut -d ' ' -f 1)
  [ "${expected#W/}" = "$found" ] || fail 1 "the download is damaged: SHA-256 $found, expected $expected"
  keep_report "$1"
  mv "$work/artifact" "$output"
  echo "artifact: $output ($(wc -c <"$output") bytes, $(wc -c <"$model") before; job $1)"
}

# A download goes on where it broke off.
download() { # JOB
  local pause
  for pause in 1 2 5 10 20 0; do
    curl --silent --show-error --fail --header "@$work/key" --dump-header "$work/head" --continue-at - \
      --connect-timeout 15 --output "$work/artifact" "$url$1/artifact" && return
    sleep "$pause"
  done
  fail 1 "the artifact could not be downloaded from $url$1/artifact"
}

# Uploads a file in pieces by the tus protocol, going on where the server says that it stands. Prints /v1/models/ID or
# /v1/datasets/ID.
upload() { # FILE KIND
  local size offset=0 metadata at status result='' before stuck=0
  size=$(wc -c <"$1")
  metadata="filename $(base64_of "$(basename "$1")"),kind $(base64_of "$2")"
  metadata+=",sha256 $(base64_of "$(sha256sum <"$1" | cut -d ' ' -f 1)")"
  status=$(request --request POST --header 'Tus-Resumable: 1.0.0' --header "Upload-Length: $size" \
    --header "Upload-Metadata: $metadata" --output "$work/answer" "$url/v1/uploads")
  [ "$status" = 201 ] || refuse "$status" "$work/answer" ''
  at=$(header location)
  while [ -z "$result" ]; do
    if [ "$offset" -lt "$size" ]; then
      tail -c +$((offset + 1)) "$1" | head -c "$large" >"$work/piece" || true # head ends before tail: no error
      status=$(request --request PATCH --upload-file "$work/piece" --header 'Tus-Resumable: 1.0.0' --header 'Expect:' \
        --header 'Content-Type: application/offset+octet-stream' --header "Upload-Offset: $offset" \
        --output "$work/answer" "$url$at")
      # 409 and 423: a piece arrived, whole or in part, and its answer was lost. The server says below where it stands.
      case $status in 204 | 409 | 423) ;; *) refuse "$status" "$work/answer" '' ;; esac
    fi
    status=$(request --head --header 'Tus-Resumable: 1.0.0' --output "$work/answer" "$url$at")
    [ "$status" = 200 ] || fail 1 "status $status: the upload $url$at is gone"
    before=$offset offset=$(header upload-offset) result=$(header tensorpress-result)
    if [ "$offset" = "$before" ] && [ -z "$result" ]; then
      [ "$offset" = "$size" ] || [ $((++stuck)) -lt 6 ] || fail 1 "the upload does not get on at byte $offset"
      sleep 1
    fi
  done
  rm -f "$work/piece"
  printf %s "$result"
}

base64_of() { printf %s "$1" | base64 | tr -d '\n'; }

quoted() { # a file name for curl's --form
  local name=${1//\\/\\\\}
  printf '"%s"' "${name//\"/\\\"}"
}

json_of() { # a text as JSON
  local text=${1//\\/\\\\}
  text=${text//\"/\\\"}
  text=${text//$'\n'/\\n}
  text=${text//$'\r'/\\r}
  printf '"%s"' "${text//$'\t'/\\t}"
}

# With the same key a request that is sent again, because its answer was lost, gives the same job. Many proxies give a request
# up after 60 seconds: longer jobs are asked about again and again.
once=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
if [ "$(wc -c <"$model")" -le "$large" ]; then
  form=(--form "model=@$(quoted "$model")")
  if [ -f "$recipe" ]; then form+=(--form "recipe=<$recipe"); else form+=(--form-string "recipe=$recipe"); fi
  [ -z "$require" ] || form+=(--form-string "require=$require")
  [ -z "$dataset" ] || form+=(--form "dataset=@$(quoted "$dataset")")
  status=$(request "${form[@]}" --header "Idempotency-Key: $once" --header 'Prefer: wait=45' \
    --output "$work/artifact" "$url/v1/compress")
else
  model_path=$(upload "$model" model)
  if [ -f "$recipe" ]; then recipe=$(<"$recipe"); fi
  body="{\"model\":\"${model_path##*/}\",\"recipe\":$(json_of "$recipe")"
  [ -z "$require" ] || body+=",\"require\":$(json_of "$require")"
  if [ -n "$dataset" ]; then
    dataset_path=$(upload "$dataset" dataset)
    body+=",\"dataset\":\"${dataset_path##*/}\""
  fi
  printf '%s}' "$body" >"$work/body"
  status=$(request --header 'Content-Type: application/json' --data-binary "@$work/body" \
    --header "Idempotency-Key: $once" --output "$work/artifact" "$url/v1/jobs")
fi
job=$(header location)
case $status in
  200)
    finish "$job"
    exit 0
    ;;
  202) ;;
  *) refuse "$status" "$work/artifact" "$job" ;;
esac

rm "$work/artifact"
echo "job: $url$job"
while :; do
  status=$(request --output "$work/job" "$url$job")
  [ "$status" = 200 ] || refuse "$status" "$work/job" ''
  case $(json_text state "$work/job") in
    succeeded) break ;;
    failed) refuse 422 "$work/job" "$job" ;;
    cancelled) fail 1 "the job was cancelled: $url$job" ;;
  esac
  sleep 5
done
download "$job"
finish "$job"
