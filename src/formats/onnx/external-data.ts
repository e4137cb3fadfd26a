// External data of tensors: finding and checking the byte range that a TensorProto names in one of the model's own files,
// and naming ranges of the artifact's data file. Entry: resolveExternalData. No path is ever opened by what a model says:
// a location is only looked up among the names of the files that were given.
// Spec: https://github.com/onnx/onnx/blob/main/docs/ExternalData.md

import { create } from '@bufbuild/protobuf'
import { type ModelProto, StringStringEntryProtoSchema, type TensorProto, TensorProto_DataLocation } from 'onnx-buf'
import { AppError } from '../../errors.ts'
import { byteLength } from '../../tensor/dtype.ts'
import type { SourceFile } from '../../tensor/model.ts'
import { type Payload, payloadIndices, setPayload, visitTensors } from './structure.ts'
import { checkedShape, clearElements } from './tensor-content.ts'
import { dtypeFromOnnx, TENSOR_FIELD } from './tensor-types.ts'

interface Claim {
  tensor: string
  start: number
  end: number
}

export function isExternal(tensor: TensorProto): boolean {
  return tensor.dataLocation === TensorProto_DataLocation.EXTERNAL
}

/** The `location` of every external tensor, as written, each once. */
export function externalLocations(model: ModelProto): string[] {
  const locations = new Set<string>()
  visitTensors(model, (tensor) => {
    if (!isExternal(tensor)) return
    const location = tensor.externalData.find((entry) => entry.key === 'location')?.value
    if (location !== undefined && location !== '') locations.add(location)
  })
  return [...locations]
}

/**
 * Turns every external tensor of the model into one with a payload in files[...], and says whether there were any.
 * Ranges must lie inside their file and either be equal (tied tensors) or not overlap. Throws external_data_invalid.
 */
export function resolveExternalData(
  model: ModelProto,
  payloads: Payload[],
  files: readonly SourceFile[],
  mainIndex: number,
): boolean {
  const claims = new Map<number, Claim[]>()
  let found = false
  visitTensors(model, (tensor) => {
    if (!isExternal(tensor)) return
    found = true
    const range = locate(tensor, files, mainIndex)
    if (payloadIndices(tensor).length > 0 || tensor.rawData.length > 0) {
      throw invalid(tensor, 'it is external and holds elements in the model file too')
    }
    clearElements(tensor)
    payloads.push({
      kind: 'data',
      field: TENSOR_FIELD.rawData,
      data: { kind: 'file', ...range },
      lengthBytes: range.lengthBytes,
    })
    setPayload(tensor, payloads.length - 1)
    const list = claims.get(range.file) ?? []
    list.push({ tensor: tensor.name, start: range.offsetBytes, end: range.offsetBytes + range.lengthBytes })
    claims.set(range.file, list)
  })
  for (const [file, list] of claims) refuseOverlap(list, files[file]!.name)
  return found
}

function invalid(tensor: TensorProto, what: string, context: Record<string, unknown> = {}): AppError {
  return new AppError('external_data_invalid', `tensor "${tensor.name}": ${what}`, { tensor: tensor.name, ...context })
}

function locate(
  tensor: TensorProto,
  files: readonly SourceFile[],
  mainIndex: number,
): { file: number; offsetBytes: number; lengthBytes: number } {
  const entries = new Map<string, string>()
  for (const { key, value } of tensor.externalData) {
    if (entries.has(key)) throw invalid(tensor, `its external data gives "${key}" twice`)
    entries.set(key, value)
  }
  const location = entries.get('location')
  if (location === undefined || location === '') throw invalid(tensor, 'its external data has no location')
  const file = findFile(tensor, location, files, mainIndex)
  const sizeBytes = files[file]!.sizeBytes
  const offsetBytes = parseCount(tensor, 'offset', entries.get('offset') ?? '0')
  const dtype = dtypeFromOnnx(tensor.dataType)
  if (dtype === null || dtype === 'string') {
    throw invalid(tensor, `elements of type ${tensor.dataType} cannot be external`)
  }
  const { elements } = checkedShape(tensor)
  const expected = byteLength(dtype, elements)
  const lengthBytes = entries.has('length') ? parseCount(tensor, 'length', entries.get('length')!) : expected
  if (lengthBytes !== expected) {
    throw invalid(tensor, `its external length is ${lengthBytes} bytes; its shape and type take ${expected}`, {
      found: lengthBytes,
      expected,
    })
  }
  if (offsetBytes + lengthBytes > sizeBytes) {
    throw invalid(
      tensor,
      `bytes ${offsetBytes} to ${offsetBytes + lengthBytes} were asked of "${location}", which has ${sizeBytes}`,
      { location, offsetBytes, lengthBytes, sizeBytes },
    )
  }
  return { file, offsetBytes, lengthBytes }
}

function parseCount(tensor: TensorProto, key: string, text: string): number {
  const value = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN
  if (!Number.isSafeInteger(value)) {
    throw invalid(tensor, `its external ${key} is ${JSON.stringify(text.slice(0, 40))}, not a byte count`)
  }
  return value
}

/** Index of the file that a location names. Only bare relative paths inside the model's folder are looked up at all. */
function findFile(tensor: TensorProto, location: string, files: readonly SourceFile[], mainIndex: number): number {
  const shown = JSON.stringify(location.slice(0, 200))
  if (/^([/\\]|[A-Za-z]:)/.test(location)) throw invalid(tensor, `its location ${shown} is absolute`, { location })
  if (location.split(/[/\\]/).includes('..')) {
    throw invalid(tensor, `its location ${shown} leaves the folder of the model`, { location })
  }
  if (location.includes('\0')) throw invalid(tensor, `its location ${shown} holds a NUL character`, { location })
  const wanted = normalised(location)
  const index = files.findIndex((file, at) => at !== mainIndex && normalised(file.name) === wanted)
  if (index >= 0) return index
  const given = files.filter((_, at) => at !== mainIndex).map((file) => file.name)
  throw invalid(
    tensor,
    `its data file ${shown} was not given; ` +
      (given.length > 0 ? `further files given: ${given.join(', ')}` : 'give it along with the model'),
    { location, given },
  )
}

function normalised(path: string): string {
  return path
    .split('/')
    .filter((step) => step !== '' && step !== '.')
    .join('/')
}

function refuseOverlap(claims: Claim[], file: string): void {
  claims.sort((a, b) => a.start - b.start || a.end - b.end)
  for (let i = 1; i < claims.length; i++) {
    const before = claims[i - 1]!
    const here = claims[i]!
    const tied = before.start === here.start && before.end === here.end
    if (!tied && here.start < before.end) {
      throw new AppError(
        'external_data_invalid',
        `tensors "${before.tensor}" and "${here.tensor}" overlap in "${file}": bytes ${before.start} to ${before.end} ` +
          `and ${here.start} to ${here.end}`,
        { file, tensors: [before.tensor, here.tensor] },
      )
    }
  }
}

/** Points the tensor at a range of the artifact's data file instead of holding its elements. */
export function makeExternal(tensor: TensorProto, location: string, offsetBytes: number, lengthBytes: number): void {
  clearElements(tensor)
  tensor.externalData = Object.entries({ location, offset: String(offsetBytes), length: String(lengthBytes) }).map(
    ([key, value]) => create(StringStringEntryProtoSchema, { key, value }),
  )
  tensor.dataLocation = TensorProto_DataLocation.EXTERNAL
}
