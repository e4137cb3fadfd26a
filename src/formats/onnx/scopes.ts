// Graphs and subgraphs as scopes: what each defines, and who uses every value, captures by subgraphs included. Entry:
// buildScopes. Spec: https://github.com/onnx/onnx/blob/main/docs/IR.md (graphs, names, nested subgraphs)

import type { FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto } from 'onnx-buf'
import { AppError } from '../../errors.ts'
import { isStandard } from './attributes.ts'

export type Definition =
  | { kind: 'input' }
  | { kind: 'initializer'; tensor: TensorProto }
  | { kind: 'sparse'; tensor: TensorProto }
  | { kind: 'node'; node: NodeProto }

/** One input of a node that reads a value; node null: the value is an output of `scope`'s graph. */
export interface Use {
  scope: Scope
  node: NodeProto | null
  inputIndex: number
}

/**
 * Where weights may be rewritten: 'open' is the main graph and bodies of If and Loop; 'scan' is the body of Scan or of any
 * other operator that gives its body a meaning of its own; 'function' is a model-local function.
 */
export type ScopeKind = 'open' | 'scan' | 'function'

export interface Scope {
  kind: ScopeKind
  /** Empty for the main graph; ends in '/' otherwise: the way through node and attribute names. */
  path: string
  /** What kind 'scan' or 'function' is the body of, for messages. */
  owner: string
  parent: Scope | null
  /** Null for functions. */
  graph: GraphProto | null
  nodes: NodeProto[]
  definitions: Map<string, Definition>
  inputs: Set<string>
  /** Uses of values defined in this scope. */
  uses: Map<string, Use[]>
  /** Ranks that inputs and value_info declare. */
  ranks: Map<string, number>
  /** Values defined here that follow from constants alone, through operators that only move or cut them. */
  constants: Set<string>
}

/** Longest node name and longest way in the name of a subgraph's tensor: each is repeated in every tensor inside. */
const MAX_STEP_LENGTH = 200
const MAX_PATH_LENGTH = 1000

/** All scopes of the model, each before those nested in it, the main graph first. Throws format_invalid on double names. */
export function buildScopes(model: ModelProto, file: string): Scope[] {
  const scopes: Scope[] = []
  const enter = (scope: Scope): void => {
    scopes.push(scope)
    scope.nodes.forEach((node, index) => {
      for (const attribute of node.attribute) {
        const graphs = attribute.g ? [attribute.g, ...attribute.graphs] : attribute.graphs
        graphs.forEach((graph, at) => {
          const path = bodyPath(scope, node, index, attribute.name, at)
          enter(graphScope(graph, scope, path.length <= MAX_PATH_LENGTH ? path : `#${scopes.length}/`, node, file))
        })
      }
    })
  }
  if (model.graph) enter(graphScope(model.graph, null, '', null, file))
  for (const fn of model.functions) enter(functionScope(fn, file))
  for (const scope of scopes) {
    connect(scope)
    markConstants(scope)
  }
  return scopes
}

/** The way to the body of a node; nodes without a name, or with one too long to read, go by operator and position. */
function bodyPath(scope: Scope, node: NodeProto, index: number, attribute: string, at: number): string {
  const isNamed = node.name !== '' && node.name.length <= MAX_STEP_LENGTH
  const step = isNamed ? node.name : `${node.opType.slice(0, MAX_STEP_LENGTH)}_${index}`
  return `${scope.path}${step}.${attribute.slice(0, MAX_STEP_LENGTH)}${at > 0 ? `.${at}` : ''}/`
}

function graphScope(
  graph: GraphProto,
  parent: Scope | null,
  path: string,
  body: NodeProto | null,
  file: string,
): Scope {
  const transparent = body === null || (isStandard(body) && (body.opType === 'If' || body.opType === 'Loop'))
  const inherited = parent === null || parent.kind === 'open' ? null : parent
  const scope: Scope = {
    kind: inherited?.kind ?? (transparent ? 'open' : 'scan'),
    path,
    owner: inherited?.owner ?? (transparent ? '' : (body?.opType ?? '')),
    parent,
    graph,
    nodes: graph.node,
    definitions: new Map(),
    inputs: new Set(),
    uses: new Map(),
    ranks: declaredRanks(graph),
    constants: new Set(),
  }
  const define = definer(scope, file)
  for (const input of graph.input) {
    if (input.name === '') continue
    if (scope.inputs.has(input.name)) throw twice(scope, input.name, file)
    scope.inputs.add(input.name)
  }
  for (const tensor of graph.initializer) {
    if (tensor.name === '') {
      throw new AppError('format_invalid', `"${file}": an initializer of ${where(scope)} has no name`, { file })
    }
    define(tensor.name, { kind: 'initializer', tensor })
  }
  for (const sparse of graph.sparseInitializer) {
    if (sparse.values && sparse.values.name !== '') {
      define(sparse.values.name, { kind: 'sparse', tensor: sparse.values })
    }
  }
  // An initializer that is also an input is the default of that input: the definition stays the initializer.
  for (const name of scope.inputs) if (!scope.definitions.has(name)) define(name, { kind: 'input' })
  defineOutputs(scope, define)
  return scope
}

function functionScope(fn: FunctionProto, file: string): Scope {
  const name = fn.domain === '' ? fn.name : `${fn.domain}.${fn.name}`
  const scope: Scope = {
    kind: 'function',
    path: `${name}/`,
    owner: name,
    parent: null,
    graph: null,
    nodes: fn.node,
    definitions: new Map(),
    inputs: new Set(fn.input),
    uses: new Map(),
    ranks: new Map(),
    constants: new Set(),
  }
  const define = definer(scope, file)
  for (const input of scope.inputs) define(input, { kind: 'input' })
  defineOutputs(scope, define)
  return scope
}

function defineOutputs(scope: Scope, define: (name: string, definition: Definition) => void): void {
  for (const node of scope.nodes) {
    for (const output of node.output) if (output !== '') define(output, { kind: 'node', node })
  }
}

function definer(scope: Scope, file: string): (name: string, definition: Definition) => void {
  return (name, definition) => {
    if (scope.definitions.has(name)) throw twice(scope, name, file)
    scope.definitions.set(name, definition)
  }
}

function where(scope: Scope): string {
  return scope.path === '' ? 'the main graph' : `"${scope.path.slice(0, -1)}"`
}

function twice(scope: Scope, name: string, file: string): AppError {
  return new AppError('format_invalid', `"${file}": the name "${name}" is defined twice in ${where(scope)}`, {
    file,
    name,
  })
}

/** The scope that defines `name`, seen from `scope`; null when nothing does. */
export function resolve(scope: Scope, name: string): Scope | null {
  for (let at: Scope | null = scope; at !== null; at = at.parent) if (at.definitions.has(name)) return at
  return null
}

/** Operators that move, cut or join elements without computing with them. */
const MOVING_OPERATORS: ReadonlySet<string> = new Set([
  'Identity',
  'Cast',
  'Reshape',
  'Transpose',
  'Slice',
  'Concat',
  'Unsqueeze',
  'Squeeze',
  'Flatten',
])

export function movesElements(node: NodeProto): boolean {
  return isStandard(node) && MOVING_OPERATORS.has(node.opType)
}

/** Nodes stand in topological order and outer scopes come first, so one pass is enough. */
function markConstants(scope: Scope): void {
  for (const [name, definition] of scope.definitions) {
    const isConstant =
      definition.kind === 'initializer' || (definition.kind === 'node' && definition.node.opType === 'Constant')
    if (isConstant) scope.constants.add(name)
  }
  for (const node of scope.nodes) {
    if (!movesElements(node)) continue
    const isConstant = node.input.every((name) => name === '' || resolve(scope, name)?.constants.has(name) === true)
    const output = node.output[0]
    if (isConstant && output) scope.constants.add(output)
  }
}

function declaredRanks(graph: GraphProto): Map<string, number> {
  const ranks = new Map<string, number>()
  for (const { name, type } of [...graph.input, ...graph.valueInfo]) {
    if (type?.value.case === 'tensorType' && type.value.value.shape) ranks.set(name, type.value.value.shape.dim.length)
  }
  return ranks
}

/** The rank that the model declares for a value seen from `scope`; null when it declares none. */
export function knownRank(scope: Scope, name: string): number | null {
  return resolve(scope, name)?.ranks.get(name) ?? null
}

function connect(scope: Scope): void {
  const use = (name: string, node: NodeProto | null, inputIndex: number): void => {
    if (name === '') return
    const definer = resolve(scope, name)
    if (!definer) return
    const list = definer.uses.get(name)
    if (list) list.push({ scope, node, inputIndex })
    else definer.uses.set(name, [{ scope, node, inputIndex }])
  }
  for (const node of scope.nodes) for (const [index, name] of node.input.entries()) use(name, node, index)
  for (const [index, output] of (scope.graph?.output ?? []).entries()) use(output.name, null, index)
}

/** Every value and node name of the model, so that new names can avoid all of them. */
export class NameRegistry {
  readonly #taken = new Set<string>()
  /** Last suffix tried, so that many equal wishes do not start over. */
  readonly #suffixes = new Map<string, number>()

  constructor(scopes: readonly Scope[]) {
    for (const scope of scopes) {
      for (const name of scope.definitions.keys()) this.#taken.add(name)
      for (const name of scope.inputs) this.#taken.add(name)
      for (const node of scope.nodes) {
        this.#taken.add(node.name)
        for (const name of node.input) this.#taken.add(name)
      }
      for (const output of scope.graph?.output ?? []) this.#taken.add(output.name)
    }
  }

  /** `wanted`, or `wanted_1`, `wanted_2`, ... when taken; taken from now on. */
  fresh(wanted: string): string {
    let name = wanted
    let suffix = this.#suffixes.get(wanted) ?? 0
    while (this.#taken.has(name)) name = `${wanted}_${++suffix}`
    this.#suffixes.set(wanted, suffix)
    this.#taken.add(name)
    return name
  }
}
