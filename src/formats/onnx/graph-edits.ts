// Collects changes to the graphs of a model and applies them at once, so that the lists of nodes and initializers are
// rewritten one time, in order, however many weights change. Entry: GraphEdits. The caller owns the model.

import { create } from '@bufbuild/protobuf'
import { type ModelProto, type NodeProto, OperatorSetIdProtoSchema, type TensorProto } from 'onnx-buf'
import { NameRegistry, type Scope } from './scopes.ts'

/**
 * From this ir_version on an initializer need not be a graph input too, and one that is can be replaced by the caller, so
 * that runtimes no longer treat it as a constant (onnx/docs/IR.md).
 */
export const IR_FREE_INITIALIZERS = 4n

interface ScopeEdits {
  prepended: NodeProto[]
  /** A node and what stands in its place (it may be among them); empty: removed. */
  nodes: Map<NodeProto, NodeProto[]>
  initializers: Map<TensorProto, TensorProto[]>
  appendedInitializers: TensorProto[]
  removedInputs: Set<string>
  removedValues: Set<string>
}

export class GraphEdits {
  readonly names: NameRegistry
  readonly #model: ModelProto
  readonly #scopes = new Map<Scope, ScopeEdits>()
  readonly #notes: { tensor: string | null; note: string }[] = []
  #hasNewInitializer = false
  #needsContrib = false

  constructor(model: ModelProto, scopes: readonly Scope[]) {
    this.#model = model
    this.names = new NameRegistry(scopes)
  }

  #of(scope: Scope): ScopeEdits {
    let edits = this.#scopes.get(scope)
    if (!edits) {
      edits = {
        prepended: [],
        nodes: new Map(),
        initializers: new Map(),
        appendedInitializers: [],
        removedInputs: new Set(),
        removedValues: new Set(),
      }
      this.#scopes.set(scope, edits)
    }
    return edits
  }

  note(tensor: string | null, note: string): void {
    this.#notes.push({ tensor, note })
  }

  prependNodes(scope: Scope, nodes: NodeProto[]): void {
    this.#of(scope).prepended.push(...nodes)
  }

  replaceNode(scope: Scope, node: NodeProto, by: NodeProto[]): void {
    this.#of(scope).nodes.set(node, by)
  }

  removeNode(scope: Scope, node: NodeProto): void {
    this.replaceNode(scope, node, [])
    for (const output of node.output) this.removeValue(scope, output)
  }

  replaceInitializer(scope: Scope, tensor: TensorProto, by: TensorProto[]): void {
    this.#of(scope).initializers.set(tensor, by)
    if (by.some((candidate) => candidate.name !== tensor.name)) this.#hasNewInitializer = true
  }

  appendInitializers(scope: Scope, tensors: TensorProto[]): void {
    this.#of(scope).appendedInitializers.push(...tensors)
    if (tensors.length > 0) this.#hasNewInitializer = true
  }

  /** Removes the graph input of an initializer, if it has one; true when it had. */
  removeInput(scope: Scope, name: string): boolean {
    if (!scope.inputs.has(name) || scope.graph === null) return false
    const { removedInputs } = this.#of(scope)
    if (removedInputs.has(name)) return false
    removedInputs.add(name)
    return true
  }

  /** The value no longer exists: its value_info goes too. */
  removeValue(scope: Scope, name: string): void {
    this.#of(scope).removedValues.add(name)
  }

  /** An operator of com.microsoft is used from now on. */
  useContrib(): void {
    this.#needsContrib = true
  }

  /** Applies everything to the model. Returns the notes. */
  apply(): { tensor: string | null; note: string }[] {
    for (const [scope, edits] of this.#scopes) applyToScope(scope, edits)
    if (this.#hasNewInitializer && this.#model.irVersion < IR_FREE_INITIALIZERS) this.#raiseIrVersion()
    if (this.#needsContrib && !this.#model.opsetImport.some(({ domain }) => domain === 'com.microsoft')) {
      this.#model.opsetImport.push(create(OperatorSetIdProtoSchema, { domain: 'com.microsoft', version: 1n }))
      this.note(null, 'the operator set com.microsoft 1 was added')
    }
    return this.#notes
  }

  /** Entries that stayed would turn constants into replaceable inputs: no fusion, a warning a tensor, MNIST 13 % slower. */
  #raiseIrVersion(): void {
    const { graph, irVersion } = this.#model
    this.note(null, `ir_version raised ${irVersion} -> ${IR_FREE_INITIALIZERS}: new initializers need it`)
    this.#model.irVersion = IR_FREE_INITIALIZERS
    if (!graph) return
    const initializers = new Set(graph.initializer.map(({ name }) => name))
    const kept = graph.input.filter(({ name }) => !initializers.has(name))
    const count = graph.input.length - kept.length
    if (count === 0) return
    graph.input = kept
    this.note(null, `${count} more initializers lost their graph input entries, so that they stay constants`)
  }
}

function applyToScope(scope: Scope, edits: ScopeEdits): void {
  const { graph } = scope
  if (graph === null) return
  graph.node = [...edits.prepended, ...graph.node.flatMap((node) => edits.nodes.get(node) ?? [node])]
  graph.initializer = [
    ...graph.initializer.flatMap((tensor) => edits.initializers.get(tensor) ?? [tensor]),
    ...edits.appendedInitializers,
  ]
  if (edits.removedInputs.size > 0) graph.input = graph.input.filter(({ name }) => !edits.removedInputs.has(name))
  if (edits.removedValues.size > 0)
    graph.valueInfo = graph.valueInfo.filter(({ name }) => !edits.removedValues.has(name))
}
