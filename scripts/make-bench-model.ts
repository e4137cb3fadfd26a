// Makes seeded models of realistic shape and size for `npm run bench`, streaming, so that 4 GiB need 40 MiB of memory:
//   node scripts/make-bench-model.ts --format safetensors|onnx --size 512MiB --out FILE [--seed 1]
// safetensors: a decoder (embedding up to 200 MiB, attention and MLP matrices, norms from 4 KB). onnx: a stack of
// MatMul [K,N] + Add + Relu at opset 17; weights are inline below 2 GB, else external in FILE.data.
// Weights are normal with scale 1/sqrt(K), each row scaled by 0.5 to 2, one value in 512 up to 16 times larger (heavy tail).

import { closeSync, fsyncSync, openSync, writeSync } from 'node:fs'
import { basename } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { encodeHeader } from '../src/formats/safetensors/header.ts'

export type BenchFormat = 'safetensors' | 'onnx'

interface Weight {
  name: string
  shape: number[]
}

const FLOAT = 4
/** Floats of the table that tensors are cut from: 16 MiB, far more than any block or chunk. */
const TABLE_FLOATS = 4 * 2 ** 20
const CHUNK_FLOATS = 2 ** 20
/** Protobuf messages end at 2^31 - 1 bytes; onnxruntime's Python tools want a margin. */
const INLINE_LIMIT_BYTES = 1.9e9

/** Writes the model; returns the files made and the bytes of its weights. */
export function makeBenchModel(
  format: BenchFormat,
  sizeBytes: number,
  path: string,
  seed = 1,
): { files: string[]; weightBytes: number } {
  const weights = format === 'safetensors' ? decoderWeights(sizeBytes) : stackWeights(sizeBytes)
  const source = new WeightSource(seed)
  const files = format === 'safetensors' ? writeSafetensors(path, weights, source) : writeOnnx(path, weights, source)
  return { files, weightBytes: weights.reduce((sum, weight) => sum + bytesOf(weight), 0) }
}

function bytesOf({ shape }: Weight): number {
  return shape.reduce((product, dim) => product * dim, FLOAT)
}

/** Width 1024 up to 1 GiB, 2048 beyond: real models of those sizes are about that wide. */
function widthFor(sizeBytes: number): number {
  return sizeBytes > 2 ** 30 ? 2048 : sizeBytes > 2 ** 27 ? 1024 : 512
}

/** Embedding bytes: 200 MiB where the model is large enough, else two fifths of it. */
function vocabularyFor(sizeBytes: number, width: number): number {
  const bytes = Math.min(200 * 2 ** 20, sizeBytes * 0.4)
  return Math.floor(bytes / (width * FLOAT * 64)) * 64
}

function decoderWeights(sizeBytes: number): Weight[] {
  const width = widthFor(sizeBytes)
  const hidden = width * 2.75
  const weights: Weight[] = [{ name: 'model.embed_tokens.weight', shape: [vocabularyFor(sizeBytes, width), width] }]
  let left = sizeBytes - bytesOf(weights[0]!)
  for (let layer = 0; left > 0; layer++) {
    const prefix = `model.layers.${layer}`
    const block: Weight[] = [
      { name: `${prefix}.input_layernorm.weight`, shape: [Math.max(1024, width)] },
      ...['q', 'k', 'v', 'o'].map((part) => ({
        name: `${prefix}.self_attn.${part}_proj.weight`,
        shape: [width, width],
      })),
      { name: `${prefix}.post_attention_layernorm.weight`, shape: [Math.max(1024, width)] },
      { name: `${prefix}.mlp.gate_proj.weight`, shape: [hidden, width] },
      { name: `${prefix}.mlp.up_proj.weight`, shape: [hidden, width] },
      { name: `${prefix}.mlp.down_proj.weight`, shape: [width, hidden] },
    ]
    for (const weight of block) {
      if (left <= 0) break
      weights.push(weight)
      left -= bytesOf(weight)
    }
  }
  return weights
}

/** Alternating [width, 4 width] and [4 width, width] matrices with biases, then a wide output matrix. */
function stackWeights(sizeBytes: number): Weight[] {
  const width = widthFor(sizeBytes)
  const head: Weight = { name: 'head.weight', shape: [width, vocabularyFor(sizeBytes, width)] }
  const weights: Weight[] = []
  let left = sizeBytes - bytesOf(head)
  for (let layer = 0; left > 0; layer++) {
    const shapes = [
      [width, 4 * width],
      [4 * width, width],
    ]
    for (const [i, shape] of shapes.entries()) {
      const pair = [
        { name: `layers.${layer}.${i}.weight`, shape },
        { name: `layers.${layer}.${i}.bias`, shape: [shape[1]!] },
      ]
      weights.push(...pair)
      left -= bytesOf(pair[0]!) + bytesOf(pair[1]!)
    }
  }
  return [...weights, head]
}

/** Cuts chunks from one table of heavy-tailed normals, at seeded places, scaled by rows. */
class WeightSource {
  readonly #table = new Float32Array(TABLE_FLOATS)
  readonly #chunk = new Float32Array(CHUNK_FLOATS)
  #state: number

  constructor(seed: number) {
    this.#state = seed >>> 0
    for (let i = 0; i < TABLE_FLOATS; i += 2) {
      const radius = Math.sqrt(-2 * Math.log(1 - this.#next()))
      const angle = 2 * Math.PI * this.#next()
      this.#table[i] = radius * Math.cos(angle)
      this.#table[i + 1] = radius * Math.sin(angle)
    }
    for (let i = 0; i < TABLE_FLOATS; i += 512)
      this.#table[i + Math.floor(this.#next() * 512)]! *= 1 + 15 * this.#next() ** 4
  }

  /** mulberry32 */
  #next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }

  /** The bytes of a tensor, a few MiB at a time; each view is valid until the next. */
  *chunks({ shape }: Weight): Generator<Uint8Array> {
    const columns = shape.at(-1) ?? 1
    const rows = shape.length > 1 ? (shape[0] ?? 1) : 1
    const fanIn = shape.length > 1 ? columns : 1
    const rowsPerChunk = Math.max(1, Math.floor(CHUNK_FLOATS / columns))
    for (let row = 0; row < rows; row += rowsPerChunk) {
      const count = Math.min(rowsPerChunk, rows - row)
      for (let r = 0; r < count; r++) this.#fillRow(r * columns, columns, fanIn)
      yield new Uint8Array(this.#chunk.buffer, 0, count * columns * FLOAT)
    }
  }

  #fillRow(at: number, columns: number, fanIn: number): void {
    const scale = 2 ** (2 * this.#next() - 1) / Math.sqrt(fanIn)
    const start = Math.floor(this.#next() * (TABLE_FLOATS - columns))
    for (let i = 0; i < columns; i++) this.#chunk[at + i] = this.#table[start + i]! * scale
  }
}

function writeSafetensors(path: string, weights: Weight[], source: WeightSource): string[] {
  let end = 0
  const members = weights.map((weight) => {
    const begin = end
    end += bytesOf(weight)
    return { ...weight, dtype: 'f32' as const, begin, end }
  })
  const fd = openSync(path, 'w')
  writeSync(fd, encodeHeader(members, { format: 'pt' }))
  for (const weight of weights) for (const chunk of source.chunks(weight)) writeSync(fd, chunk)
  fsyncSync(fd)
  closeSync(fd)
  return [path]
}

// ONNX by hand: a message is a list of fields; `field` is number * 8 + wire type (0 varint, 2 length-delimited).

function varint(value: number): Buffer {
  const bytes: number[] = []
  let rest = value
  do {
    bytes.push((rest % 128) + (rest >= 128 ? 128 : 0))
    rest = Math.floor(rest / 128)
  } while (rest > 0)
  return Buffer.from(bytes)
}

const int = (number: number, value: number) => Buffer.concat([varint(number * 8), varint(value)])
const bytesField = (number: number, value: Uint8Array | string) => {
  const content = Buffer.from(value)
  return Buffer.concat([varint(number * 8 + 2), varint(content.length), content])
}
const message = (...fields: Buffer[]): Buffer => Buffer.concat(fields)

function writeOnnx(path: string, weights: Weight[], source: WeightSource): string[] {
  const external = weights.reduce((sum, weight) => sum + bytesOf(weight), 0) > INLINE_LIMIT_BYTES
  const dataPath = `${path}.data`
  // Each initializer is a small head; inline ones are followed by the header of raw_data and its bytes.
  let offset = 0
  const heads = weights.map((weight) => {
    const head: Buffer[] = [...weight.shape.map((dim) => int(1, dim)), int(2, 1), bytesField(8, weight.name)]
    if (external) {
      const entry = (key: string, value: string) => bytesField(13, message(bytesField(1, key), bytesField(2, value)))
      head.push(entry('location', basename(dataPath)), entry('offset', String(offset)))
      head.push(entry('length', String(bytesOf(weight))), int(14, 1))
      offset += bytesOf(weight)
    } else head.push(varint(9 * 8 + 2), varint(bytesOf(weight)))
    return message(...head)
  })
  const payloadBytes = (i: number) => heads[i]!.length + (external ? 0 : bytesOf(weights[i]!))
  const initializerBytes = (i: number) => varint(5 * 8 + 2).length + varint(payloadBytes(i)).length + payloadBytes(i)
  const graphHead = message(...stackNodes(weights), bytesField(2, 'stack'))
  const last = weights.at(-1)!
  const graphTail = message(
    bytesField(11, valueInfo('x', weights[0]!.shape[0]!)),
    bytesField(12, valueInfo('y', last.shape[1]!)),
  )
  const graphBytes = graphHead.length + graphTail.length + weights.reduce((sum, _, i) => sum + initializerBytes(i), 0)
  const modelHead = message(
    int(1, 8),
    bytesField(2, 'make-bench-model'),
    bytesField(8, message(bytesField(1, ''), int(2, 17))),
  )

  const fd = openSync(path, 'w')
  const dataFd = external ? openSync(dataPath, 'w') : fd
  writeSync(fd, message(modelHead, varint(7 * 8 + 2), varint(graphBytes), graphHead))
  weights.forEach((weight, i) => {
    writeSync(fd, message(varint(5 * 8 + 2), varint(payloadBytes(i)), heads[i]!))
    for (const chunk of source.chunks(weight)) writeSync(dataFd, chunk)
  })
  writeSync(fd, graphTail)
  fsyncSync(fd)
  closeSync(fd)
  if (external) {
    fsyncSync(dataFd)
    closeSync(dataFd)
  }
  return external ? [path, dataPath] : [path]
}

/** x [batch, K] -> (MatMul, Add, Relu) per matrix with a bias -> MatMul head -> y. */
function stackNodes(weights: Weight[]): Buffer[] {
  const node = (op: string, inputs: string[], output: string) =>
    bytesField(
      1,
      message(
        ...inputs.map((name) => bytesField(1, name)),
        bytesField(2, output),
        bytesField(3, output),
        bytesField(4, op),
      ),
    )
  const nodes: Buffer[] = []
  let value = 'x'
  for (const { name, shape } of weights) {
    if (shape.length === 1) {
      nodes.push(node('Add', [value, name], `${name}.sum`), node('Relu', [`${name}.sum`], `${name}.relu`))
      value = `${name}.relu`
    } else {
      const output = name === 'head.weight' ? 'y' : `${name}.product`
      nodes.push(node('MatMul', [value, name], output))
      value = output
    }
  }
  return nodes
}

function valueInfo(name: string, width: number): Buffer {
  const dims = message(bytesField(1, message(bytesField(2, 'batch'))), bytesField(1, message(int(1, width))))
  return message(bytesField(1, name), bytesField(2, message(bytesField(1, message(int(1, 1), bytesField(2, dims))))))
}

/** 512MiB, 4GiB, or plain bytes. */
export function parseSize(text: string): number {
  const match = /^([0-9.]+)(KiB|MiB|GiB)?$/.exec(text)
  if (!match) throw new Error(`a size such as 512MiB or 4GiB was expected, found ${text}`)
  return Number(match[1]) * { '': 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30 }[match[2] ?? '']!
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values } = parseArgs({
    options: {
      format: { type: 'string' },
      size: { type: 'string' },
      out: { type: 'string' },
      seed: { type: 'string' },
    },
  })
  if ((values.format !== 'safetensors' && values.format !== 'onnx') || !values.size || !values.out) {
    console.error(
      'usage: node scripts/make-bench-model.ts --format safetensors|onnx --size 512MiB --out FILE [--seed 1]',
    )
    process.exit(2)
  }
  const made = makeBenchModel(values.format, parseSize(values.size), values.out, Number(values.seed ?? 1))
  console.log(`${made.files.join(' ')}: ${made.weightBytes} bytes of weights`)
}
