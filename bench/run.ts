// npm run bench: the figures that the project promises, measured in one run, as one table and as JSON in bench/results.
//   node bench/run.ts [--quick] [--runs 5] [--only safetensors,onnx,server,kernels] [--sizes 512MiB,4GiB] [--device auto] [--dir FOLDER]
// Every figure is the median of several runs; what it is compared with is measured in the same run, in turn with it.

import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { cpus, platform, release, tmpdir, totalmem } from 'node:os'
import { extname, join, relative } from 'node:path'
import { parseArgs } from 'node:util'
import { parseSize } from '../scripts/make-bench-model.ts'
import type { DeviceInfo } from '../src/compute/compute-device.ts'
import { createGpuWorker } from '../src/jobs/worker-pool.ts'
import { shaderCacheFolder } from '../src/local/children.ts'
import { readVersions } from '../src/validate/versions.ts'
import { onnxRows, safetensorsRows } from './compression-rows.ts'
import {
  type BenchContext,
  type BenchDocument,
  type Figure,
  met,
  resultsFolder,
  showGoal,
  showMet,
  showValue,
} from './figures.ts'
import { serverRows } from './server-rows.ts'

const GROUPS = ['safetensors', 'onnx', 'server', 'kernels']

const { values: options } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    runs: { type: 'string' },
    only: { type: 'string', default: GROUPS.join(',') },
    sizes: { type: 'string' },
    device: { type: 'string', default: 'auto' },
    dir: { type: 'string', default: tmpdir() },
  },
})

/** The first size carries the comparisons; further ones show that memory does not grow. */
const sizes = (options.sizes ?? (options.quick ? '64MiB' : '512MiB,4GiB')).split(',').map(parseSize)
const firstBytes = sizes[0] ?? 0
const runs = Number(options.runs ?? (options.quick ? 3 : 5))
const groups = new Set(options.only.split(','))
const uploadBytes = options.quick ? 64 * 2 ** 20 : 2 ** 30

const figures: Figure[] = []
const folder = mkdtempSync(join(options.dir, 'tensorpress-bench-'))
const context: BenchContext = {
  folder,
  device: options.device,
  runs,
  pythonVersions: {},
  log: (text) => void process.stderr.write(`${text}\n`),
  add(measured) {
    // Goals are stated for models of 0.5 GiB and more; on small ones fixed costs rule.
    const figure = options.quick ? { ...measured, goal: null } : measured
    figures.push(figure)
    process.stderr.write(`  ${line(figure)}\n`)
  },
}

async function main(): Promise<void> {
  const device = await startRow()
  context.log(`${device.adapter} (${device.driver}), ${runs} runs a figure`)
  for (const [i, bytes] of sizes.entries()) {
    const fewer = { ...context, runs: i === 0 ? runs : Math.min(runs, 2) }
    await group('safetensors', () => safetensorsRows(fewer, bytes))
    await group('onnx', () => onnxRows(fewer, bytes, i === 0))
  }
  await group('server', () => serverRows({ ...context, runs: Math.min(runs, 3) }, firstBytes, uploadBytes))
  if (!device.software) await group('kernels', kernelRows)
  printTable(device)
  writeJson(device)
}

/** A group that fails must not cost the figures of the others: the exit status tells of it. */
async function group(name: string, measure: () => Promise<void> | void): Promise<void> {
  if (!groups.has(name)) return
  try {
    await measure()
  } catch (error) {
    context.log(`${name} failed: ${error instanceof Error ? error.stack : error}`)
    process.exitCode = 1
  }
}

/** A worker that starts with a warm shader cache: the first start fills it. */
async function startRow(): Promise<DeviceInfo> {
  const seconds: number[] = []
  let device: DeviceInfo | null = null
  for (let run = 0; run <= runs; run++) {
    const worker = createGpuWorker(options.device, { shaderCache: shaderCacheFolder() })
    const start = performance.now()
    await worker.start()
    if (run > 0) seconds.push((performance.now() - start) / 1000)
    device = worker.status().device
    await worker.close()
  }
  if (!device) throw new Error('the worker named no device')
  const sorted = seconds.toSorted((a, b) => a - b)
  context.add({
    name: 'worker: start-up with a warm shader cache',
    measured: 'spawn to ready, device opened',
    value: sorted[sorted.length >> 1] ?? 0,
    unit: 's',
    goal: { atMost: 1 },
    runs: { seconds },
  })
  return device
}

/** GB/s of each kernel against a device copy; a table of its own, since it says little on a software adapter. */
function kernelRows(): void {
  const script = join(import.meta.dirname, `kernels.bench${extname(import.meta.filename)}`)
  spawnSync(process.execPath, [script, '--device', options.device, '--json'], { stdio: 'inherit' })
}

function line(figure: Figure): string {
  const goal = showGoal(figure)
  return `${showValue(figure)}${goal ? ` (goal ${goal})` : ''} ${figure.name}: ${figure.measured}`
}

function printTable(device: DeviceInfo): void {
  const rows = figures.map((figure) => [
    figure.name,
    figure.measured,
    showValue(figure),
    showGoal(figure),
    showMet(figure),
  ])
  const table = [['figure', 'measured', 'value', 'goal', 'met'], ...rows]
  const widths = table[0]!.map((_, column) => Math.max(...table.map((row) => row[column]!.length)))
  console.log(`\n${device.adapter}, ${cpus().length} cores, Node ${process.version}, ${new Date().toISOString()}\n`)
  for (const [i, row] of table.entries()) {
    console.log(
      row
        .map((cell, column) => cell.padEnd(widths[column]!))
        .join('  ')
        .trimEnd(),
    )
    if (i === 0) console.log(widths.map((width) => '-'.repeat(width)).join('  '))
  }
}

function writeJson(device: DeviceInfo): void {
  const results = resultsFolder()
  const adapter = device.adapter
    .replaceAll(/[^a-zA-Z0-9]+/g, '-')
    .replaceAll(/^-|-$/g, '')
    .toLowerCase()
  const file = join(results, `bench${options.quick ? '-quick' : ''}-${adapter}.json`)
  const machine = {
    cpu: cpus()[0]?.model ?? '',
    cores: cpus().length,
    memoryBytes: totalmem(),
    system: `${platform()} ${release()}`,
  }
  const document: BenchDocument = {
    measuredAt: new Date().toISOString(),
    machine,
    device,
    versions: { ...readVersions(), python: context.pythonVersions },
    settings: { sizes, runs, groups: [...groups], uploadBytes },
    figures: figures.map((figure) => ({ ...figure, met: met(figure) })),
  }
  writeFileSync(file, `${JSON.stringify(document, null, 2)}\n`)
  console.log(`\nwritten: ${relative(process.cwd(), file)}`)
}

try {
  await main()
} finally {
  rmSync(folder, { recursive: true, force: true })
}
