// The constant tensor of a graph as analysis and rewriting see it. Types only; weights.ts fills them.

import type { NodeProto, TensorProto } from 'onnx-buf'
import type { MatrixView, TensorInfo } from '../../tensor/model.ts'
import type { OperandRole } from './roles.ts'
import type { Scope } from './scopes.ts'
import type { TracedConstant, TracedUse } from './trace-uses.ts'

/** Where in the structure the elements are. */
export type WeightStorage =
  | { kind: 'initializer'; tensor: TensorProto }
  | { kind: 'constant'; node: NodeProto }
  | { kind: 'sparse' }

/** A use with what the operator does with the weight. */
export interface WeightUse extends TracedUse {
  operand: OperandRole
  /** Set when the operator is a product that MatMulNBits and DynamicQuantizeMatMul can take over. */
  matrix: MatrixView | null
}

export interface Weight {
  info: TensorInfo
  scope: Scope
  /** Name of the value in its graph; info.name has the path in front. */
  valueName: string
  storage: WeightStorage
  uses: WeightUse[]
  traced: TracedConstant
}

export interface WeightTable {
  scopes: Scope[]
  weights: Weight[]
}
