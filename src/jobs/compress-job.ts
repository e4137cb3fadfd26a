// One attempt at a compression, inside the GPU worker: open, plan, execute, measure. Entry: compressJob. When the data
// contradicts the plan (NaN, 16-bit overflow), every such tensor is collected in one run, the job is planned again with what
// was found, and executed again; the second plan is final because found facts only remove choices.

import type { ComputeDevice, KernelTime } from '../compute/compute-device.ts'
import { AppError } from '../errors.ts'
import { type ExecutedPlan, executePlan } from '../execute/execute-plan.ts'
import type { Measured } from '../execute/measure.ts'
import { openModel } from '../formats/index.ts'
import type { ModelReader } from '../tensor/model.ts'
import { type JobPlan, planJob, planRow } from './plan-job.ts'
import type { CompressionResult, CompressSpec, Progress, TensorOutcome } from './protocol.ts'

export interface JobHooks {
  signal: AbortSignal
  progress(progress: Progress): void
}

/** A tensor gives up at most one encoding a round, and a recipe names few, so a plan settles within this many. */
const MAX_ROUNDS = 16

export async function compressJob(
  spec: CompressSpec,
  device: ComputeDevice,
  hooks: JobHooks,
): Promise<CompressionResult> {
  const started = performance.now()
  hooks.progress({ stage: 'opening', doneBytes: 0, totalBytes: 0, tensor: null })
  const reader = await openModel(spec.files)
  try {
    return await compressModel(reader, spec, device, hooks, started)
  } finally {
    await reader.close()
  }
}

/** The same on an opened model; `started` is when opening it began (performance.now()). */
export async function compressModel(
  reader: ModelReader,
  spec: Omit<CompressSpec, 'files' | 'jobId' | 'attempt'>,
  device: ComputeDevice,
  hooks: JobHooks,
  started = performance.now(),
): Promise<CompressionResult> {
  const timesBefore = device.kernelTimes()
  const facts = new Map<string, { nonFinite?: boolean; float16Overflow?: boolean; bfloat16Overflow?: boolean }>()
  const nonFinite = new Map<string, number>()
  const seconds: Record<string, number> = { open: 0, calibrate: 0, encode: 0, finish: 0, measure: 0 }
  let bytesRead = 0
  let bytesWritten = 0
  let plan: JobPlan
  let executed: ExecutedPlan
  for (let round = 1; ; round++) {
    plan = planJob(reader, spec.recipe, spec.output, facts)
    if (round === 1) seconds['open'] = (performance.now() - started) / 1000
    executed = await executePlan(reader, plan.plans, plan.layout, spec.outputDir, device, {
      signal: hooks.signal,
      progress: (stage, doneBytes, totalBytes, tensor) => hooks.progress({ stage, doneBytes, totalBytes, tensor }),
    })
    for (const [stage, value] of Object.entries(executed.seconds)) seconds[stage] = (seconds[stage] ?? 0) + value
    bytesRead += executed.bytesRead
    bytesWritten += executed.bytesWritten
    if (executed.facts.size === 0) break
    if (round === MAX_ROUNDS) throw new AppError('internal', 'the plan did not settle', { rounds: round })
    for (const [name, finding] of executed.facts) {
      facts.set(name, { ...facts.get(name), ...finding })
      if (finding.nonFinite === true) nonFinite.set(name, finding.count)
    }
  }
  const measured = spec.measure ? await measure(reader, plan, executed, spec.outputDir, device, hooks, seconds) : null
  const kernelTimes = timesSince(timesBefore, device.kernelTimes())
  const outputs = measured?.outputs ?? plan.layout.files.map(({ name, sizeBytes }) => unmeasured(name, sizeBytes))
  const inputs = measured?.inputs ?? reader.files.map(({ name, sizeBytes }) => unmeasured(name, sizeBytes))
  const { tensors: _, ...planWithoutRows } = plan.document
  return {
    device: device.info,
    plan: planWithoutRows,
    tensors: outcomes(plan, executed, measured, nonFinite),
    files: outputs,
    input: {
      files: inputs.map(({ name, sizeBytes, sha256 }) => ({ name, sizeBytes, sha256 })),
      rawBytes: inputs.reduce((sum, file) => sum + file.sizeBytes, 0),
      zstdBytes: total(inputs.map((file) => file.zstdBytes)),
      zstdSampled: inputs.some((file) => file.zstdSampled),
    },
    rawBytes: outputs.reduce((sum, file) => sum + file.sizeBytes, 0),
    zstdBytes: total(outputs.map((file) => file.zstdBytes)),
    seconds,
    gpuSeconds: kernelTimes.reduce((sum, time) => sum + time.seconds, 0),
    bytesRead,
    bytesWritten,
    kernelTimes,
    peakRssBytes: process.resourceUsage().maxRSS * 1024,
  }
}

async function measure(
  reader: ModelReader,
  plan: JobPlan,
  executed: ExecutedPlan,
  outputDir: string,
  device: ComputeDevice,
  hooks: JobHooks,
  seconds: Record<string, number>,
): Promise<Measured> {
  // loaded when it is wanted: a command without validation starts sooner
  const { measureArtifact } = await import('../execute/measure.ts')
  const started = performance.now()
  const progress = (doneBytes: number, totalBytes: number, tensor: string | null) =>
    hooks.progress({ stage: 'measuring', doneBytes, totalBytes, tensor })
  const measured = await measureArtifact(
    reader,
    plan.plans,
    plan.layout,
    outputDir,
    device,
    { signal: hooks.signal, progress },
    thresholdsOf(executed),
  )
  seconds['measure'] = (performance.now() - started) / 1000
  return measured
}

/** Pruning thresholds and dead zones by tensor name. */
function thresholdsOf({ works }: ExecutedPlan): Map<string, number> {
  const thresholds = new Map<string, number>()
  for (const { name, resolved } of works) {
    if (typeof resolved['threshold'] === 'number') thresholds.set(name, resolved['threshold'])
  }
  return thresholds
}

function unmeasured(name: string, sizeBytes: number) {
  return { name, sizeBytes, sha256: null, zstdBytes: null, zstdSampled: false }
}

function total(values: (number | null)[]): number | null {
  return values.every((value) => value !== null) ? values.reduce((sum, value) => sum + value, 0) : null
}

function outcomes(
  plan: JobPlan,
  executed: ExecutedPlan,
  measured: Measured | null,
  nonFinite: ReadonlyMap<string, number>,
): TensorOutcome[] {
  const works = new Map(executed.works.map((work) => [work.name, work]))
  return plan.plans.map((entry) => {
    const { name } = entry.tensor
    const work = works.get(name)
    const own = measured?.tensors.get(name)
    return {
      ...planRow(entry),
      resolved: { ...work?.resolved, ...own?.resolved },
      nonFinite: nonFinite.get(name) ?? own?.statistics?.nonFinite ?? work?.nonFinite ?? 0,
      measure: own?.measure ?? null,
      statistics: own?.statistics ?? null,
      ...(own?.histogram === undefined ? {} : { histogram: own.histogram }),
    }
  })
}

/** What ran since `before`; the device counts over its whole life. */
function timesSince(before: KernelTime[], after: KernelTime[]): KernelTime[] {
  const earlier = new Map(before.map((time) => [time.kernel, time]))
  return after
    .map((time) => ({
      ...time,
      dispatches: time.dispatches - (earlier.get(time.kernel)?.dispatches ?? 0),
      seconds: time.seconds - (earlier.get(time.kernel)?.seconds ?? 0),
      bytes: time.bytes - (earlier.get(time.kernel)?.bytes ?? 0),
    }))
    .filter((time) => time.dispatches > 0)
}
