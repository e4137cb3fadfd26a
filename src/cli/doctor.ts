// tensorpress doctor: what this machine has to run kernels and models with, and what to do about what is missing. Dawn and
// onnxruntime are each tried in a child of their own (src/jobs/probe.ts): a broken driver may end the process that loads it.

import { fork } from 'node:child_process'
import { existsSync } from 'node:fs'
import { arch, cpus, platform, release, totalmem } from 'node:os'
import type { DeviceProbe, RuntimeProbe } from '../jobs/probe.ts'
import { createGpuWorker } from '../jobs/worker-pool.ts'
import { shaderCacheFolder } from '../local/children.ts'
import { codeFile, packageFile } from '../program-files.ts'
import { VERSION } from '../version.ts'
import type { Command, CommandLine } from './command.ts'
import { missingGpuAdvice, noAdapterAdvice, readGpuFacts } from './gpu-advice.ts'
import { interruptible } from './interrupt.ts'
import { serverOf } from './server-argument.ts'
import { DEVICE_OPTION, JSON_OPTION, SERVER_OPTIONS } from './shared-options.ts'
import { bytesText, deviceText, printable } from './text-table.ts'

/** A driver that takes longer than this to list its adapters hangs. */
const PROBE_TIMEOUT_MS = 60_000

const IS_CHECKOUT = existsSync(packageFile('package-lock.json'))

/** Timestamps time kernels exactly; the others are shown because people look for them. The rest is in --json. */
const SHOWN_FEATURES = ['timestamp-query', 'shader-f16', 'subgroups'] as const
/** What decides how large a tensor and a chunk can be. */
const SHOWN_LIMITS = ['maxStorageBufferBindingSize', 'maxBufferSize', 'maxComputeWorkgroupsPerDimension'] as const

export const command: Command = {
  name: 'doctor',
  summary: 'show which devices and libraries were found',
  description: [
    'Lists every adapter with its driver, limits and features, starts the GPU worker as a job would, and runs a model of one node in onnxruntime. Ends with what to do about what is missing; status 1 when jobs cannot run at all. With --server: whether that server can work, on which device, and what is wrong with it.',
  ],
  positionals: [],
  options: { device: DEVICE_OPTION, ...SERVER_OPTIONS, json: JSON_OPTION },
  examples: [{ line: 'tensorpress doctor', meaning: 'run it first when something is slow or does not start' }],
  async run(args: CommandLine) {
    const server = serverOf(command, args)
    return interruptible(async (signal) => {
      if (server !== null) {
        const { examineServer } = await import('./remote-doctor.ts')
        return examineServer(args, server, signal)
      }
      const wanted = args.text('device') ?? 'auto'
      const devices = await probe<DeviceProbe>('devices')
      const runtime = await probe<RuntimeProbe>('runtime')
      const worker = await tryWorker(wanted)
      const runtimeWorks = runtime.result?.output.join() === '3,-4'
      const found: Findings = { wanted, devices, runtime, runtimeWorks, worker, advice: [] }
      found.advice = adviceFor(found)
      const text = args.given('json') ? JSON.stringify(document(found)) : findingLines(found).join('\n')
      process.stdout.write(`${text}\n`)
      return runtimeWorks && worker.error === null ? 0 : 1
    })
  },
}

interface Probe<T> {
  result: T | null
  error: string | null
}

interface WorkerFinding {
  adapter: string | null
  driver: string | null
  kind: 'webgpu' | 'reference' | null
  startSeconds: number | null
  error: string | null
}

interface Findings {
  wanted: string
  devices: Probe<DeviceProbe>
  runtime: Probe<RuntimeProbe>
  runtimeWorks: boolean
  worker: WorkerFinding
  advice: string[]
}

async function probe<T>(what: 'devices' | 'runtime'): Promise<Probe<T>> {
  const entry = codeFile('jobs/probe')
  const child = fork(entry, [what], { execArgv: [], stdio: ['ignore', 'ignore', 'pipe', 'ipc'] })
  const { promise, resolve } = Promise.withResolvers<Probe<T>>()
  let errors = ''
  let hung = false
  const timer = setTimeout(() => {
    hung = true
    child.kill('SIGKILL')
  }, PROBE_TIMEOUT_MS)
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    errors = (errors + text).slice(-2000)
  })
  child.once('message', (result) => resolve({ result: result as T, error: null }))
  child.once('error', (error) => resolve({ result: null, error: error.message }))
  child.once('close', (code, signal) => {
    clearTimeout(timer)
    const how = hung ? `no answer in ${PROBE_TIMEOUT_MS / 1000} s` : `ended with ${signal ?? `status ${code}`}`
    resolve({ result: null, error: [how, errors.trim().split('\n').slice(-3).join('; ')].filter(Boolean).join(': ') })
  })
  return promise
}

/** Starts the worker as a job would: pipelines compiled, or the reason why not. */
async function tryWorker(device: string): Promise<WorkerFinding> {
  const worker = createGpuWorker(device, { shaderCache: shaderCacheFolder() })
  try {
    await worker.start()
    const { device: info, startSeconds } = worker.status()
    const { adapter = null, driver = null, kind = null } = info ?? {}
    return { adapter, driver, kind, startSeconds, error: null }
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error)
    return { adapter: null, driver: null, kind: null, startSeconds: null, error: text }
  } finally {
    await worker.close()
  }
}

function adviceFor({ devices, worker, runtime, runtimeWorks, wanted }: Findings): string[] {
  const advice: string[] = []
  const adapters = devices.result?.adapters ?? []
  if (adapters.length === 0) {
    advice.push(noAdapterAdvice(platform(), IS_CHECKOUT))
  } else if (adapters.every(({ info }) => info?.software === true)) {
    advice.push('Only a software adapter: results are the same, a GPU with its Vulkan driver is faster.')
  }
  const gpuFound = adapters.some(({ info }) => info !== null && !info.software)
  const gpuAdvice = gpuFound || platform() !== 'linux' ? null : missingGpuAdvice(readGpuFacts())
  if (gpuAdvice !== null) advice.push(gpuAdvice)
  for (const { name, problem } of adapters) if (problem !== null) advice.push(`${name}: ${problem}`)
  if (worker.error !== null) advice.push(`Jobs cannot run on "${wanted}": use --device auto or --device reference.`)
  else if (worker.kind === 'reference' && wanted !== 'reference') {
    advice.push('Jobs run on the reference device: the same results, much slower.')
  }
  if (!runtimeWorks) {
    advice.push(
      `onnxruntime does not work (${runtime.error ?? 'wrong result'}): ${IS_CHECKOUT ? 'run "npm ci"' : 'install Tensorpress'} again; --no-validate does without.`,
    )
  }
  return advice
}

function findingLines({ devices, runtime, runtimeWorks, worker, advice }: Findings): string[] {
  const cpu = cpus()
  const lines: [string, string][] = [
    ['version', `Tensorpress ${VERSION}, Node ${process.versions.node}`],
    [
      'machine',
      `${platform()} ${release()} ${arch()}, ${cpu.length} x ${cpu[0]?.model.trim()}, ${bytesText(totalmem())}`,
    ],
    ['adapters', devices.error ?? String(devices.result?.adapters.length ?? 0)],
  ]
  for (const { name, info, limits, features, problem } of devices.result?.adapters ?? []) {
    lines.push(['', name])
    if (problem !== null) lines.push(['', `  not usable: ${problem}`])
    if (info === null) continue
    const sizes = SHOWN_LIMITS.map((limit) => `${limit} ${limits[limit]?.toLocaleString('en')}`)
    const known = SHOWN_FEATURES.map((feature) => `${features.includes(feature) ? '' : 'no '}${feature}`)
    lines.push(
      ['', `  driver    ${info.driver}${info.software ? ' (software)' : ''}`],
      ['', `  limits    ${sizes.join(', ')}`],
      ['', `  features  ${known.join(', ')} (--json has all ${features.length})`],
    )
  }
  const started = worker.startSeconds === null ? '' : `, started in ${worker.startSeconds.toFixed(2)} s`
  lines.push(
    ['jobs use', worker.error ?? `${deviceText(worker.adapter, worker.driver)}${started}`],
    ['onnxruntime', runtimeWorks ? `${runtime.result?.version}, runs` : `fails: ${runtime.error ?? 'wrong result'}`],
    ...advice.map((text) => ['advice', text] as [string, string]),
  )
  return lines.map(([name, text]) => `${name.padEnd(11)} ${printable(text)}`.trimEnd())
}

function document({ devices, runtime, runtimeWorks, worker, advice }: Findings) {
  return {
    tensorpress: VERSION,
    node: process.versions.node,
    platform: platform(),
    arch: arch(),
    adapters: devices.result?.adapters ?? [],
    adapterError: devices.error,
    worker,
    onnxruntime: { works: runtimeWorks, version: runtime.result?.version ?? null, error: runtime.error },
    advice,
  }
}
