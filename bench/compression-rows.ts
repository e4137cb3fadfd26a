// Rows about compression itself: safetensors against the floor, ONNX against onnxruntime's Python quantizers, and the peak
// memory of the worker for each.

import { spawnSync } from 'node:child_process'
import { existsSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { makeBenchModel } from '../scripts/make-bench-model.ts'
import { timeCommand, timeWorker, type WorkerTiming } from './compress-model.ts'
import { type BenchContext, mebibytes, median, megabytesPerSecond } from './figures.ts'
import { type FloorTiming, runFloor } from './floor.ts'
import { installProgram } from './npm-package.ts'
import { dropPageCache } from './page-cache.ts'

const python = fileURLToPath(new URL('../.venv/bin/python', import.meta.url))

/** Peak resident memory of the worker, whatever the size of the model. */
const SAFETENSORS_PEAK_MIB = 256
const ONNX_PEAK_MIB = 320

/** safetensors -> int4 block 32 and int8 per tensor, against reading the input and writing the output in plain Node. */
export async function safetensorsRows(context: BenchContext, sizeBytes: number): Promise<void> {
  const label = sizeLabel(sizeBytes)
  const model = join(context.folder, 'bench.safetensors')
  context.log(`making a safetensors model of ${label}`)
  makeBenchModel('safetensors', sizeBytes, model)
  const inputBytes = statSync(model).size
  for (const [recipe, name, atLeast] of [
    ['int4', 'int4 block 32', 0.6],
    [INT8_PER_TENSOR, 'int8 per tensor', 0.45],
  ] as const) {
    context.log(`safetensors ${label} -> ${name}`)
    const floors: FloorTiming[] = []
    const streams: FloorTiming[] = []
    const scratch = join(context.folder, 'floor.bin')
    const probe = await timeWorker([model], recipe, 1, context.device)
    const timing = await timeWorker([model], recipe, context.runs, context.device, () => {
      floors.push(runFloor('copy', model, scratch, probe.outputBytes))
      rmSync(scratch)
      streams.push(runFloor('stream', model, scratch, probe.outputBytes))
      rmSync(scratch)
    })
    const ours = median(timing.seconds)
    const floor = median(floors.map(({ seconds }) => seconds))
    const oursWritten = median(timing.seconds.map((seconds, i) => seconds - timing.flushSeconds[i]!))
    const floorWritten = median(floors.map(({ seconds, flushSeconds }) => seconds - flushSeconds))
    context.add({
      name: `safetensors ${label} -> ${name}: share of the plain read + write rate`,
      measured: `${ours.toFixed(2)} s (${megabytesPerSecond(inputBytes, ours)}), floor ${floor.toFixed(2)} s; before the flush ${oursWritten.toFixed(2)} s, floor ${floorWritten.toFixed(2)} s (${(floorWritten / oursWritten).toFixed(2)})`,
      value: floor / ours,
      unit: 'ratio',
      goal: { atLeast },
      runs: {
        seconds: timing.seconds,
        flushSeconds: timing.flushSeconds,
        floorSeconds: floors.map(({ seconds }) => seconds),
        floorFlushSeconds: floors.map(({ flushSeconds }) => flushSeconds),
      },
    })
    const streamed = median(streams.map(({ seconds }) => seconds))
    context.add({
      name: `safetensors ${label} -> ${name}: share of the rate of Node's own streams`,
      measured: `${ours.toFixed(2)} s, createReadStream to createWriteStream ${streamed.toFixed(2)} s`,
      value: streamed / ours,
      unit: 'ratio',
      goal: null,
      runs: { seconds: timing.seconds, streamSeconds: streams.map(({ seconds }) => seconds) },
    })
    addWorkerRows(context, `safetensors ${label} -> ${name}`, timing, SAFETENSORS_PEAK_MIB)
    await coldRow(context, `safetensors ${label} -> ${name}`, model, recipe, probe.outputBytes, atLeast)
  }
  rmSync(model)
}

/** The same against the floor with the model on disk: the page cache is emptied before each floor and before each job. */
async function coldRow(
  context: BenchContext,
  name: string,
  model: string,
  recipe: string,
  outputBytes: number,
  atLeast: number,
): Promise<void> {
  const refused = dropPageCache()
  if (refused !== null) {
    context.log(`  skipping the row with a cold page cache: ${refused}`)
    return
  }
  const floors: FloorTiming[] = []
  const scratch = join(context.folder, 'floor.bin')
  const { seconds } = await timeWorker([model], recipe, context.runs, context.device, () => {
    dropPageCache()
    floors.push(runFloor('copy', model, scratch, outputBytes))
    rmSync(scratch)
    dropPageCache()
  })
  const ours = median(seconds)
  const floor = median(floors.map((timing) => timing.seconds))
  context.add({
    name: `${name}, cold page cache: share of the plain read + write rate`,
    measured: `${ours.toFixed(2)} s (${megabytesPerSecond(statSync(model).size, ours)}), floor ${floor.toFixed(2)} s`,
    value: floor / ours,
    unit: 'ratio',
    goal: { atLeast },
    runs: { seconds, floorSeconds: floors.map((timing) => timing.seconds) },
  })
}

/** int8 with one scale a tensor; the preset has one a row. */
const INT8_PER_TENSOR = JSON.stringify({
  version: 1,
  steps: [{ method: 'quantize', bits: 8, granularity: 'tensor' }],
})

/** ONNX MatMul stack against onnxruntime.quantization on the same file. */
export async function onnxRows(context: BenchContext, sizeBytes: number, versus: boolean): Promise<void> {
  const label = sizeLabel(sizeBytes)
  const model = join(context.folder, 'bench.onnx')
  const output = join(context.folder, 'out.onnx')
  context.log(`making an ONNX MatMul stack of ${label}`)
  const { files } = makeBenchModel('onnx', sizeBytes, model)
  let program: string | null = null
  for (const [recipe, method, theirs, whole, alone] of [
    ['int8', 'dynamic', 'quantize_dynamic', 6, 10],
    ['int4', 'nbits', 'MatMulNBitsQuantizer', 3, 5],
  ] as const) {
    context.log(`ONNX ${label} -> ${recipe}`)
    const timing = await timeWorker(files, recipe, context.runs, context.device)
    addWorkerRows(context, `ONNX ${label} -> ${recipe}`, timing, ONNX_PEAK_MIB)
    if (!versus) continue
    if (!existsSync(python)) {
      context.log(`  no .venv: skipping the comparison with ${theirs}; run npm run setup:python`)
      continue
    }
    program ??= installProgram(context.folder)
    const ourWhole: number[] = []
    const theirWhole: number[] = []
    const theirAlone: number[] = []
    for (let run = 0; run < context.runs; run++) {
      ourWhole.push(timeCommand(program, model, recipe, output, context.device))
      rmSync(output, { force: true })
      const { wholeSeconds, seconds, versions } = timePython(method, model, output)
      Object.assign(context.pythonVersions, versions)
      theirWhole.push(wholeSeconds)
      theirAlone.push(seconds)
      rmSync(output, { force: true })
      rmSync(`${output}.data`, { force: true })
    }
    const pairs = [
      ['whole process', ourWhole, theirWhole, whole],
      ['compression alone', timing.seconds, theirAlone, alone],
    ] as const
    for (const [what, ours, others, atLeast] of pairs)
      context.add({
        name: `ONNX ${label} -> ${recipe} against ${theirs}: ${what}`,
        measured: `${median(ours).toFixed(2)} s against ${median(others).toFixed(2)} s`,
        value: median(others) / median(ours),
        unit: 'ratio',
        goal: { atLeast },
        runs: { seconds: [...ours], theirSeconds: [...others] },
      })
  }
  for (const file of files) rmSync(file)
}

function addWorkerRows(context: BenchContext, name: string, timing: WorkerTiming, atMost: number): void {
  context.add({
    name: `${name}: peak RSS of the worker`,
    measured: `over ${timing.seconds.length} jobs; start-up ${timing.startSeconds.toFixed(2)} s, job ${median(timing.seconds).toFixed(2)} s`,
    value: mebibytes(timing.peakBytes),
    unit: 'MiB',
    goal: { atMost },
    runs: { seconds: timing.seconds, startSeconds: [timing.startSeconds] },
  })
}

interface PythonTiming {
  wholeSeconds: number
  seconds: number
  versions: Record<string, string>
}

function timePython(method: 'dynamic' | 'nbits', input: string, output: string): PythonTiming {
  const script = fileURLToPath(new URL('./quantize_with_onnxruntime.py', import.meta.url))
  const start = performance.now()
  const run = spawnSync(python, [script, method, input, output], {
    encoding: 'utf8',
    maxBuffer: 2 ** 26,
    env: { ...process.env, ORT_DISABLE_TELEMETRY: '1' },
  })
  const wholeSeconds = (performance.now() - start) / 1000
  if (run.status !== 0) throw new Error(`${script} ended with ${run.status}: ${run.stderr}`)
  const last = run.stdout.trim().split('\n').at(-1) ?? ''
  return { wholeSeconds, ...(JSON.parse(last) as { seconds: number; versions: Record<string, string> }) }
}

export function sizeLabel(bytes: number): string {
  return bytes >= 2 ** 29 ? `${bytes / 2 ** 30} GiB` : `${bytes / 2 ** 20} MiB`
}
