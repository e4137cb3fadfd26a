// Puts the compressed parts of one weight into the graph. Two ways: a chain of nodes that restores the float weight under
// its old name (Cast; Cast, Mul; Cast, Sub, Mul), so that its users need not change, and the replacement of the products
// that use it (MatMulNBits, DynamicQuantizeMatMul). Entry: rewriteWeight.

import { create } from '@bufbuild/protobuf'
import { type NodeProto, TensorProtoSchema } from 'onnx-buf'
import { AppError } from '../../errors.ts'
import type { EncodePlan, OutputPart, PartName, TensorPlan } from '../../tensor/model.ts'
import { attribute, floatAttribute, makeInt, makeInts, makeNode, makeTensorAttribute } from './attributes.ts'
import { type GraphEdits, IR_FREE_INITIALIZERS } from './graph-edits.ts'
import { type Payload, payloadTensor, setPayload } from './structure.ts'
import { clearElements } from './tensor-content.ts'
import { constantNodeOpset, dtypeToOnnx, TENSOR_FIELD } from './tensor-types.ts'
import { viewOperands } from './trace-uses.ts'
import type { Weight } from './weight.ts'

/** TensorProto.DataType FLOAT. */
const FLOAT = 1

/** int8 activations inside MatMulNBits: the fast kernels of onnxruntime on CPUs. */
const ACCURACY_LEVEL = 4

/** What all rewrites of one layout share. `source` is the weight whose parts are used: itself, or the one it is tied to. */
export interface RewriteContext {
  edits: GraphEdits
  payloads: Payload[]
  opset: number
  irVersion: bigint
}

/** Rewrites the graph for one compressed weight. `source` is the tensor whose parts it uses: its own, or a tied one's. */
export function rewriteWeight(context: RewriteContext, weight: Weight, plan: TensorPlan, source: string): void {
  const { encode } = plan
  switch (encode.kind) {
    case 'dense':
      placeDense(context, weight, part(plan, 'values'), source)
      return
    case 'float16':
    case 'bfloat16': {
      const placed = new Placement(context, weight, source)
      const values = placed.tensor(part(plan, 'values'), plan.tensor.shape)
      placed.restore([castToFloat(placed, values, weight.valueName)])
      break
    }
    case 'scaled-int':
      restoreScaled(context, weight, plan, encode, source)
      break
    case 'block-packed':
      replaceByBlocks(context, weight, plan, encode, source)
      break
    case 'dynamic-int8':
      replaceByDynamic(context, weight, plan, encode, source)
      break
    default:
      encode satisfies never
  }
  dropInputs(context, weight)
}

function part(plan: TensorPlan, name: PartName): OutputPart {
  const found = plan.outputs.find((output) => output.part === name)
  if (!found) throw new AppError('internal', `the plan of "${plan.tensor.name}" has no part ${name}`)
  return found
}

function pushPart(payloads: Payload[], source: string, output: OutputPart): number {
  payloads.push({
    kind: 'part',
    field: TENSOR_FIELD.rawData,
    tensor: source,
    part: output.part,
    lengthBytes: output.lengthBytes,
  })
  return payloads.length - 1
}

/** Same tensor, other elements. */
function placeDense(context: RewriteContext, weight: Weight, output: OutputPart, source: string): void {
  const { storage, info } = weight
  if (storage.kind === 'sparse') return
  const index = pushPart(context.payloads, source, output)
  const tensor = storage.kind === 'initializer' ? storage.tensor : attribute(storage.node, 'value')?.t
  if (tensor) {
    clearElements(tensor)
    setPayload(tensor, index)
  } else if (storage.kind === 'constant') {
    // value_floats cannot hold a payload; a tensor of the same shape can.
    setConstantValue(storage.node, payloadTensor('', dtypeToOnnx(output.dtype), info.shape, index))
  }
}

function setConstantValue(node: NodeProto, tensor: ReturnType<typeof payloadTensor>): void {
  node.attribute = [makeTensorAttribute('value', tensor)]
}

/** Puts new tensors where the weight was: initializers stay initializers, Constant nodes stay Constant nodes. */
class Placement {
  readonly context: RewriteContext
  readonly weight: Weight
  readonly #source: string
  readonly #initializers: ReturnType<typeof payloadTensor>[] = []
  readonly #constants: NodeProto[] = []

  constructor(context: RewriteContext, weight: Weight, source: string) {
    this.context = context
    this.weight = weight
    this.#source = source
  }

  /** A fresh name that tells the weight and the purpose. */
  name(suffix: string): string {
    return this.context.edits.names.fresh(`${this.weight.valueName}.${suffix}`)
  }

  /** Adds the part as a tensor of this shape (same bytes as planned); returns its value name. */
  tensor(output: OutputPart, shape: readonly number[]): string {
    const name = this.name(output.part)
    const index = pushPart(this.context.payloads, this.#source, output)
    const isConstant = this.weight.storage.kind === 'constant' && this.context.opset >= constantNodeOpset(output.dtype)
    const tensor = payloadTensor(isConstant ? '' : name, dtypeToOnnx(output.dtype), shape, index)
    if (!isConstant) this.#initializers.push(tensor)
    else {
      const node = makeNode('Constant', this.context.edits.names.fresh(`${name}.constant`), [], [name])
      setConstantValue(node, tensor)
      this.#constants.push(node)
    }
    return name
  }

  /** Ends the placement with nodes that restore the weight (or prepare what replaces it). */
  restore(nodes: NodeProto[]): void {
    const { edits } = this.context
    const { scope, storage } = this.weight
    if (storage.kind === 'initializer') {
      edits.replaceInitializer(scope, storage.tensor, this.#initializers)
      edits.prependNodes(scope, nodes)
    } else if (storage.kind === 'constant') {
      edits.appendInitializers(scope, this.#initializers)
      edits.replaceNode(scope, storage.node, [...this.#constants, ...nodes])
    }
  }
}

function castToFloat(placed: Placement, value: string, output: string): NodeProto {
  return makeNode('Cast', placed.name('cast'), [value], [output], [makeInt('to', FLOAT)])
}

type ScaledInt = Extract<EncodePlan, { kind: 'scaled-int' }>

/** Cast(values) [- Cast(zero_point)] * scale; scale and zero point broadcast along the channel axis. */
function restoreScaled(
  context: RewriteContext,
  weight: Weight,
  plan: TensorPlan,
  encode: ScaledInt,
  source: string,
): void {
  const { shape } = plan.tensor
  const placed = new Placement(context, weight, source)
  const shared = encode.axis === null ? [] : shape.map((dim, axis) => (axis === encode.axis ? dim : 1))
  const nodes: NodeProto[] = []
  const values = placed.tensor(part(plan, 'values'), shape)
  const scale = placed.tensor(part(plan, 'scale'), shared)
  let integers = placed.name('integers')
  nodes.push(castToFloat(placed, values, integers))
  if (!encode.symmetric) {
    const output = part(plan, 'zero_point')
    let zeroPoint = placed.tensor(output, shared)
    if (output.dtype !== 'f32') {
      const cast = placed.name('zero_point_float')
      nodes.push(castToFloat(placed, zeroPoint, cast))
      zeroPoint = cast
    }
    const centred = placed.name('centred')
    nodes.push(makeNode('Sub', placed.name('sub'), [integers, zeroPoint], [centred]))
    integers = centred
  }
  nodes.push(makeNode('Mul', placed.name('mul'), [integers, scale], [weight.valueName]))
  placed.restore(nodes)
}

type BlockPacked = Extract<EncodePlan, { kind: 'block-packed' }>

/** values u8 [N, blocks, blockSize*bits/8], scale f32 [N, blocks], zero_point u8 [N, ceil(blocks*bits/8)]. */
function replaceByBlocks(
  context: RewriteContext,
  weight: Weight,
  plan: TensorPlan,
  encode: BlockPacked,
  source: string,
): void {
  const placed = new Placement(context, weight, source)
  const operands = (['values', 'scale', 'zero_point'] as const).map((name) => {
    const output = part(plan, name)
    return placed.tensor(output, output.shape)
  })
  placed.restore([])
  const attributes = [
    makeInt('K', encode.matrix.k),
    makeInt('N', encode.matrix.n),
    makeInt('bits', encode.bits),
    makeInt('block_size', encode.blockSize),
    makeInt('accuracy_level', ACCURACY_LEVEL),
  ]
  replaceProducts(context, weight, 'MatMulNBits', operands, attributes)
}

type DynamicInt8 = Extract<EncodePlan, { kind: 'dynamic-int8' }>

/** values u8 in stored order; [N,K] is turned by a Transpose of the constant, which runtimes fold. */
function replaceByDynamic(
  context: RewriteContext,
  weight: Weight,
  plan: TensorPlan,
  encode: DynamicInt8,
  source: string,
): void {
  const { k, n, order } = encode.matrix
  const placed = new Placement(context, weight, source)
  const nodes: NodeProto[] = []
  let values = placed.tensor(part(plan, 'values'), order === 'kn' ? [k, n] : [n, k])
  const scale = placed.tensor(part(plan, 'scale'), [n])
  const zeroPoint = placed.tensor(part(plan, 'zero_point'), [n])
  if (order === 'nk') {
    const turned = placed.name('values_kn')
    nodes.push(makeNode('Transpose', placed.name('transpose'), [values], [turned], [makeInts('perm', [1, 0])]))
    values = turned
  }
  placed.restore(nodes)
  replaceProducts(context, weight, 'DynamicQuantizeMatMul', [values, scale, zeroPoint], [])
}

/** Turns every MatMul and Gemm that uses the weight into `opType`, and removes the views between. */
function replaceProducts(
  { edits }: RewriteContext,
  weight: Weight,
  opType: string,
  operands: string[],
  attributes: NodeProto['attribute'],
): void {
  edits.useContrib()
  for (const { node, scope } of weight.uses) {
    if (node === null) continue
    const bias = node.opType === 'Gemm' ? (node.input[2] ?? '') : ''
    const beta = floatAttribute(node, 'beta', 1)
    node.opType = opType
    node.domain = 'com.microsoft'
    node.input = [node.input[0] ?? '', ...operands]
    node.attribute = attributes
    if (bias === '' || beta === 0) continue
    const output = node.output[0] ?? ''
    const product = edits.names.fresh(`${output}.product`)
    node.output = [product]
    const after: NodeProto[] = []
    let addend = bias
    if (beta !== 1) {
      const factor = edits.names.fresh(`${output}.beta`)
      addend = edits.names.fresh(`${output}.scaled_bias`)
      const constant = makeNode('Constant', edits.names.fresh(`${factor}.constant`), [], [factor])
      const rawData = new Uint8Array(Float32Array.of(beta).buffer)
      setConstantValue(constant, create(TensorProtoSchema, { dataType: FLOAT, rawData }))
      after.push(constant, makeNode('Mul', edits.names.fresh(`${output}.scale_bias`), [bias, factor], [addend]))
    }
    after.push(makeNode('Add', edits.names.fresh(`${output}.add_bias`), [product, addend], [output]))
    edits.replaceNode(scope, node, [node, ...after])
  }
  for (const view of weight.traced.views) edits.removeNode(view.scope, view.node)
  edits.removeValue(weight.scope, weight.valueName)
}

/**
 * The weight is no longer an initializer of its name, so it cannot be the default of a graph input. Where input entries make
 * initializers replaceable, the shapes of Reshape nodes on its way lose theirs too, or the weight could not be folded.
 */
function dropInputs({ edits, irVersion }: RewriteContext, weight: Weight): void {
  const name = weight.info.name
  if (edits.removeInput(weight.scope, weight.valueName)) edits.note(name, `"${name}" lost its graph input entry`)
  if (irVersion < IR_FREE_INITIALIZERS) return
  for (const operand of viewOperands(weight.traced)) {
    if (edits.removeInput(operand.scope, operand.name)) {
      edits.note(name, `"${operand.name}", the shape of a Reshape of "${name}", lost its graph input entry`)
    }
  }
}
