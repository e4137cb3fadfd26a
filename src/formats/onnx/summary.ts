// What an opened ONNX model says of itself: versions, inputs and outputs, metadata, and compressed forms it already holds.
// Entry: summarise. Version ranges are those of the newest onnxruntime that artifacts are validated with.

import type { ModelProto, ValueInfoProto } from 'onnx-buf'
import { AppError } from '../../errors.ts'
import { isReducedFloat } from '../../tensor/dtype.ts'
import type { ModelSummary } from '../../tensor/model.ts'
import { intAttribute } from './attributes.ts'
import { readsQuantizedValues } from './roles.ts'
import { dtypeFromOnnx } from './tensor-types.ts'
import type { WeightTable } from './weight.ts'
import { defaultOpset } from './weights.ts'

/** Newest default operator set and ir_version of ONNX 1.20, which onnxruntime 1.30 loads. */
export const MAX_OPSET = 26
export const MAX_IR_VERSION = 13

/** From this ir_version on a model must import its operator sets. */
const IR_WITH_OPSETS = 3

/** Constants below this size say nothing about how the model's weights are stored. */
const MIN_WEIGHT_ELEMENTS = 128

/** Throws opset_unsupported or format_invalid for a model that no supported runtime would load. */
export function checkVersions(model: ModelProto, file: string): void {
  if (!model.graph) {
    throw new AppError('format_invalid', `"${file}" holds no graph: it is not an ONNX model, or not a whole one`, {
      file,
    })
  }
  const irVersion = Number(model.irVersion)
  if (irVersion < 1) {
    throw new AppError('format_invalid', `"${file}" has ir_version ${irVersion}; ONNX models have 1 or more`, { file })
  }
  if (irVersion > MAX_IR_VERSION) {
    throw new AppError(
      'opset_unsupported',
      `"${file}" has ir_version ${irVersion}; up to ${MAX_IR_VERSION} is read. Export the model for an older ONNX`,
      { file, irVersion, allowed: MAX_IR_VERSION },
    )
  }
  if (model.opsetImport.length === 0 && irVersion >= IR_WITH_OPSETS) {
    throw new AppError('format_invalid', `"${file}" imports no operator set: it may have been cut off`, { file })
  }
  const opset = defaultOpset(model)
  if (opset !== null && (opset < 1 || opset > MAX_OPSET)) {
    throw new AppError(
      'opset_unsupported',
      `"${file}" uses opset ${opset}; 1 to ${MAX_OPSET} are read. Export the model for an opset in that range`,
      { file, opset, allowed: MAX_OPSET },
    )
  }
}

export function summarise(model: ModelProto, table: WeightTable): ModelSummary {
  const initializers = new Set(model.graph?.initializer.map(({ name }) => name))
  const notes: string[] = []
  const producer = [model.producerName, model.producerVersion].filter((text) => text !== '').join(' ')
  if (model.functions.length > 0) notes.push('weights inside model-local functions are left as they are')
  return {
    format: 'onnx',
    irVersion: Number(model.irVersion),
    opset: defaultOpset(model),
    producer: producer === '' ? null : producer,
    inputs: values(model.graph?.input.filter(({ name }) => !initializers.has(name)) ?? [], 'input', notes),
    outputs: values(model.graph?.output ?? [], 'output', notes),
    metadata: Object.fromEntries(model.metadataProps.map(({ key, value }) => [key, value])),
    alreadyCompressed: compressedForms(table),
    notes,
  }
}

function values(infos: readonly ValueInfoProto[], what: string, notes: string[]): ModelSummary['inputs'] {
  return infos.flatMap(({ name, type }) => {
    const tensor = type?.value.case === 'tensorType' ? type.value.value : null
    const dtype = tensor && dtypeFromOnnx(tensor.elemType)
    if (!tensor || !dtype) {
      notes.push(`the ${what} "${name}" is not a tensor of a known type`)
      return []
    }
    const shape = (tensor.shape?.dim ?? []).map(({ value }) => {
      if (value.case === 'dimValue') return Number(value.value)
      return value.case === 'dimParam' && value.value !== '' ? value.value : '?'
    })
    return [{ name, dtype, shape }]
  })
}

/** Short names of compressed forms found, sorted, such as 'fp16' or 'MatMulNBits 4-bit'. */
function compressedForms({ scopes, weights }: WeightTable): string[] {
  const forms = new Set<string>()
  for (const { info, traced } of weights) {
    const elements = info.shape.reduce((product, dim) => product * dim, 1)
    if (info.locked?.reason !== 'already_compressed' || elements < MIN_WEIGHT_ELEMENTS) continue
    if (isReducedFloat(info.dtype))
      forms.add(info.dtype === 'f16' ? 'fp16' : info.dtype === 'bf16' ? 'bf16' : info.dtype)
    else if (traced.views.some(({ node }) => node.opType === 'Cast')) forms.add(`${widthOf(info.dtype)} Cast`)
  }
  const dtypes = new Map<unknown, Map<string, string>>()
  for (const { scope, valueName, info } of weights) {
    const ofScope = dtypes.get(scope) ?? new Map<string, string>()
    dtypes.set(scope, ofScope.set(valueName, info.dtype))
  }
  for (const scope of scopes) {
    for (const node of scope.nodes) {
      const { opType } = node
      if (opType === 'MatMulNBits') forms.add(`MatMulNBits ${intAttribute(node, 'bits', 4)}-bit`)
      else if (opType === 'DequantizeLinear') {
        forms.add(`${widthOf(dtypes.get(scope)?.get(node.input[0] ?? '') ?? 'i8')} QDQ`)
      } else if (readsQuantizedValues(node)) forms.add(opType)
    }
  }
  return [...forms].sort()
}

function widthOf(dtype: string): string {
  return dtype.replace(/^u/, 'uint').replace(/^i/, 'int')
}
