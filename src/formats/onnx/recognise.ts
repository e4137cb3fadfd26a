// Recognises an ONNX file by its first fields. Entry: matchOnnx.

import { describeContent } from '../detect.ts'

/** ModelProto: field number -> wire type (0 varint, 2 length-delimited). */
const MODEL_FIELDS: Readonly<Record<number, number>> = {
  1: 0, // ir_version
  2: 2, // producer_name
  3: 2, // producer_version
  4: 2, // domain
  5: 0, // model_version
  6: 2, // doc_string
  7: 2, // graph
  8: 2, // opset_import
  14: 2, // metadata_props
  20: 2, // training_info
  25: 2, // functions
  26: 2, // configuration
}

/** Walks the top-level fields inside `head`; how many belong to ModelProto, or 0 when one does not. */
function countModelFields(head: Uint8Array): number {
  let at = 0
  let fields = 0
  const varint = (): number | null => {
    let value = 0
    for (let shift = 0; shift < 63; shift += 7) {
      const byte = head[at++]
      if (byte === undefined) return null
      value += (byte & 0x7f) * 2 ** shift
      if (byte < 0x80) return value
    }
    return null
  }
  while (at < head.length) {
    const tag = varint()
    if (tag === null) break
    const number = Math.floor(tag / 8)
    const wire = tag % 8
    if (MODEL_FIELDS[number] !== wire) return 0
    const value = varint()
    if (value === null) return at > head.length ? fields : 0
    if (number === 1 && (value === 0 || value > 0xffff)) return 0
    if (wire === 2) at += value
    fields++
  }
  return fields
}

/** How much this looks like the main file of an ONNX model: 0 not at all. See ModelFormat.match. */
export function matchOnnx(head: Uint8Array, name: string): number {
  const fields = countModelFields(head)
  const named = name.toLowerCase().endsWith('.onnx')
  // A damaged file that says it is ONNX gets the reader's exact error, unless it is plainly something else.
  if (fields === 0) return named && (head.length === 0 || describeContent(head) === null) ? 1 : 0
  // Nearly every producer writes ir_version first; a raw data file rarely starts with it and then goes on legally.
  const startsWithVersion = head[0] === 0x08
  return (startsWithVersion ? 40 : 10) + Math.min(fields, 10) + (named ? 40 : 0)
}
