// Protobuf wire primitives shared by the scanner (protobuf-scan.ts) and the writer (protobuf-expand.ts) of skeletons.
// A skeleton is a message without its bulk: each long field ("payload") leaves a marker, an unknown field PAYLOAD_FIELD
// that holds the payload's number and survives decoding and encoding. Spec: https://protobuf.dev/programming-guides/encoding/

/** The largest legal field number: no ONNX schema uses it, and a file that does is refused. */
export const PAYLOAD_FIELD = 2 ** 29 - 1

export const WIRE_VARINT = 0
export const WIRE_FIXED64 = 1
export const WIRE_LENGTH = 2
export const WIRE_FIXED32 = 5

/** Content of a marker field: the payload's number as a varint. */
export function encodePayloadMarker(index: number): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(encodeVarint(index))
}

export function decodePayloadMarker(bytes: Uint8Array): number {
  let value = 0
  let scale = 1
  for (const byte of bytes) {
    value += (byte & 0x7f) * scale
    scale *= 128
  }
  return value
}

export function encodeVarint(value: number): number[] {
  const bytes: number[] = []
  let rest = value
  while (rest > 127) {
    bytes.push((rest % 128) + 128)
    rest = Math.floor(rest / 128)
  }
  bytes.push(rest)
  return bytes
}
