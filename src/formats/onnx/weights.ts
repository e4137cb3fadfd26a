// The constant tensors of a model: initializers, Constant nodes and sparse initializers of the main graph, of subgraphs and
// of functions; each with its uses, roles and the storage forms that are legal for it. Entry: collectWeights.

import type { ModelProto, NodeProto, TensorProto } from 'onnx-buf'
import { AppError } from '../../errors.ts'
import type { DType } from '../../tensor/dtype.ts'
import type { MatrixView, TensorData, TensorInfo, TensorUse, WeightRole } from '../../tensor/model.ts'
import { attribute } from './attributes.ts'
import { encodingsOf } from './encodings.ts'
import { lockOf } from './locks.ts'
import { type OperandRole, roleOf } from './roles.ts'
import { buildScopes, knownRank, type Scope } from './scopes.ts'
import type { Payload } from './structure.ts'
import { MAX_TENSOR_RANK, type ReadPayload, tensorContent } from './tensor-content.ts'
import { type TracedUse, traceUses } from './trace-uses.ts'
import { matrixView, storedAxis } from './views.ts'
import type { Weight, WeightStorage, WeightTable, WeightUse } from './weight.ts'

/** Some 3 KB of memory each. The largest real value seen is about 30,000: transformers with all constants as nodes. */
export const MAX_TENSOR_COUNT = 200_000

/** Names of real models stay below 400. */
export const MAX_NAME_LENGTH = 4096

/** Uses that are listed with a tensor; they are information. A shared constant may have tens of thousands. */
const MAX_LISTED_USES = 100

/** Opset of the default domain, or null when the model does not import it. */
export function defaultOpset(model: ModelProto): number | null {
  const entry = model.opsetImport.find(({ domain }) => domain === '' || domain === 'ai.onnx')
  return entry ? Number(entry.version) : null
}

/**
 * All constant tensors, in an order that depends on the structure alone, so that a second decoding of the same skeleton
 * gives the same list. Throws format_invalid, dtype_unsupported or limit_exceeded.
 */
export function collectWeights(
  model: ModelProto,
  payloads: readonly Payload[],
  read: ReadPayload,
  file: string,
): WeightTable {
  const scopes = buildScopes(model, file)
  const opset = defaultOpset(model)
  const weights: Weight[] = []
  const names = new UniqueNames()
  const add = (scope: Scope, valueName: string, storage: WeightStorage, content: Content): void => {
    if (weights.length >= MAX_TENSOR_COUNT) {
      throw new AppError('limit_exceeded', `"${file}" has more than ${MAX_TENSOR_COUNT} tensors`, {
        file,
        limit: 'MAX_TENSOR_COUNT',
        allowed: MAX_TENSOR_COUNT,
        requested: weights.length + 1,
      })
    }
    if (valueName.length > MAX_NAME_LENGTH) {
      throw new AppError(
        'limit_exceeded',
        `"${file}": a tensor name has ${valueName.length} characters; at most ${MAX_NAME_LENGTH} are read`,
        { file, limit: 'MAX_NAME_LENGTH', allowed: MAX_NAME_LENGTH, requested: valueName.length },
      )
    }
    weights.push(makeWeight(scope, valueName, names.take(scope.path + valueName), storage, content, opset))
  }
  for (const scope of scopes) {
    for (const tensor of scope.graph?.initializer ?? []) {
      add(scope, tensor.name, { kind: 'initializer', tensor }, tensorContent(tensor, payloads, read))
    }
    for (const sparse of scope.graph?.sparseInitializer ?? []) {
      if (sparse.values) {
        add(scope, sparse.values.name, { kind: 'sparse' }, sparseContent(sparse.values, sparse.dims, payloads, read))
      }
    }
    for (const node of scope.nodes) {
      const output = node.output[0]
      if (node.opType !== 'Constant' || output === undefined || output === '') continue
      const content = constantContent(node, payloads, read)
      if (content) add(scope, output, { kind: content.isSparse ? 'sparse' : 'constant', node }, content)
    }
  }
  return { scopes, weights }
}

interface Content {
  dtype: DType
  shape: number[]
  data: TensorData
  isSparse?: boolean
}

/** A sparse tensor is listed with its dense shape and the bytes of its non-zero values. */
function sparseContent(values: TensorProto, dims: bigint[], payloads: readonly Payload[], read: ReadPayload): Content {
  const { dtype, data } = tensorContent(values, payloads, read)
  if (dims.length > MAX_TENSOR_RANK || dims.some((dim) => dim < 0n || dim > BigInt(Number.MAX_SAFE_INTEGER))) {
    throw new AppError('format_invalid', `sparse tensor "${values.name}": its dimensions are not legal`, {
      tensor: values.name,
    })
  }
  return { dtype, shape: dims.map(Number), data, isSparse: true }
}

function constantContent(node: NodeProto, payloads: readonly Payload[], read: ReadPayload): Content | null {
  const value = attribute(node, 'value')?.t
  if (value) return tensorContent(value, payloads, read)
  const floats = attribute(node, 'value_floats')
  if (floats) {
    const list = floats.floats
    // Decoded when read: a view of the attribute, not a copy of it.
    const data: TensorData = {
      kind: 'inline',
      lengthBytes: list.length * 4,
      get bytes() {
        return new Uint8Array(Float32Array.from(list).buffer)
      },
    }
    return { dtype: 'f32', shape: [list.length], data }
  }
  const sparse = attribute(node, 'sparse_value')?.sparseTensor
  return sparse?.values ? sparseContent(sparse.values, sparse.dims, payloads, read) : null
}

class UniqueNames {
  readonly #taken = new Set<string>()
  readonly #suffixes = new Map<string, number>()

  /** `wanted`, or `wanted#2`, `wanted#3`, ... when another scope of the same path has it. */
  take(wanted: string): string {
    let name = wanted
    let suffix = this.#suffixes.get(wanted) ?? 1
    while (this.#taken.has(name)) name = `${wanted}#${++suffix}`
    this.#suffixes.set(wanted, suffix)
    this.#taken.add(name)
    return name
  }
}

function makeWeight(
  scope: Scope,
  valueName: string,
  name: string,
  storage: WeightStorage,
  content: Content,
  opset: number | null,
): Weight {
  const traced = traceUses(scope, valueName, content.shape)
  const uses = traced.uses.map((use): WeightUse => {
    const operand = use.node
      ? roleOf(use.node, use.inputIndex, use.view)
      : { role: 'other' as const, channelAxis: null, product: null, compressed: null }
    return { ...use, operand, matrix: productMatrix(use, operand) }
  })
  const dominant = uses.find(({ operand }) => !['other', 'bias', 'norm'].includes(operand.role)) ?? uses[0]
  const channelAxis =
    dominant?.view && dominant.operand.channelAxis !== null
      ? storedAxis(content.shape, dominant.view, dominant.operand.channelAxis)
      : null
  const locked = lockOf({ scope, storage, dtype: content.dtype, shape: content.shape, uses, traced })
  const info: TensorInfo = {
    name,
    dtype: content.dtype,
    shape: content.shape,
    data: content.data,
    roles: [...new Set(uses.map(({ operand }): WeightRole => operand.role))],
    uses: uses.slice(0, MAX_LISTED_USES).map(describeUse),
    locked,
    encodings: encodingsOf({ dtype: content.dtype, locked, uses, channelAxis, opset }),
    channelAxis,
  }
  return { info, scope, valueName, storage, uses, traced }
}

/** The matrix of a product that can be replaced: its other operand must not be known to be a vector. */
function productMatrix(use: TracedUse, operand: OperandRole): MatrixView | null {
  if (operand.product === null || use.node === null) return null
  const activation = use.node.input[0] ?? ''
  return knownRank(use.scope, activation) === 1 ? null : matrixView(operand.product)
}

function describeUse({ scope, node, inputIndex }: TracedUse): TensorUse {
  if (node === null)
    return { op: 'Output', node: scope.path + (scope.graph?.output[inputIndex]?.name ?? ''), inputIndex }
  const name = node.name === '' ? (node.output.find((output) => output !== '') ?? node.opType) : node.name
  return { op: node.opType, node: scope.path + name, inputIndex }
}
