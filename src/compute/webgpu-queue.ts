// ComputeDevice on a GPUDevice that was opened elsewhere (webgpu-device.ts; a fake one in tests): buffers, encoding, readback,
// loss. One submit is one command buffer; the buffers it names are in use until its promise settles. The caller owns
// DeviceBuffers; staging, params and time stamps belong to this file and are pooled.

import { AppError } from '../errors.ts'
import type {
  BufferSlice,
  Command,
  ComputeDevice,
  DeviceBuffer,
  DeviceInfo,
  DeviceLimits,
  Kernel,
  KernelTime,
  Readback,
} from './compute-device.ts'
import { checkRange, checkRun, paddedBytes } from './device-buffer.ts'
import { BUFFER_USAGE, MAP_MODE_READ } from './gpu-constants.ts'
import { gpuWait } from './gpu-wait.ts'
import { KernelTimer, type SubmitTimes } from './kernel-timer.ts'
import { MemoryBudget } from './memory-budget.ts'
import { PipelineCache } from './pipeline-cache.ts'
import { BufferPool } from './staging-pool.ts'

/** WebGPU's default alignment of binding offsets, uniform and storage: the same on every adapter. */
const OFFSET_ALIGNMENT_BYTES = 256
/** getMappedRange takes offsets of whole 8 bytes. */
const MAP_ALIGNMENT_BYTES = 8
/** Bind groups kept for reuse; lanes and kernels are few, so more means that buffers come and go and caching is useless. */
const MAX_BIND_GROUPS = 512

/** Software adapters like chunks that stay in cache and long segments; discrete ones many short segments. */
const SOFTWARE_TUNING = { chunkBytes: 4 * 2 ** 20, lanes: 3, segmentElements: 65536 }
const DISCRETE_TUNING = { chunkBytes: 32 * 2 ** 20, lanes: 3, segmentElements: 4096 }

class WebgpuBuffer implements DeviceBuffer {
  readonly label: string
  readonly sizeBytes: number
  readonly id: number
  readonly gpu: GPUBuffer
  readonly #onDestroy: (buffer: WebgpuBuffer) => void
  #destroyed = false

  constructor(label: string, sizeBytes: number, id: number, gpu: GPUBuffer, onDestroy: (b: WebgpuBuffer) => void) {
    this.label = label
    this.sizeBytes = sizeBytes
    this.id = id
    this.gpu = gpu
    this.#onDestroy = onDestroy
  }

  get destroyed(): boolean {
    return this.#destroyed
  }

  destroy(): void {
    if (this.#destroyed) return
    this.#destroyed = true
    this.gpu.destroy()
    this.#onDestroy(this)
  }
}

interface Binding {
  buffer: WebgpuBuffer
  offset: number
  size: number
}

/** A command whose buffers have been checked and looked up. */
type Step =
  | {
      op: 'run'
      kernel: Kernel
      bindings: Binding[]
      params: Uint32Array
      workgroups: [number, number, number]
      bytes: number
      paramOffset: number
    }
  | {
      op: 'copy'
      from: GPUBuffer
      fromOffsetBytes: number
      to: GPUBuffer
      toOffsetBytes: number
      sizeBytes: number
    }
  | { op: 'clear'; buffer: GPUBuffer; offsetBytes: number; sizeBytes: number }

export interface WebgpuQueueOptions {
  budgetBytes: number
  /** Another shader folder, for tests. */
  shaderFolder?: URL
}

export class WebgpuDevice implements ComputeDevice {
  readonly info: DeviceInfo
  readonly limits: DeviceLimits
  readonly tuning: ComputeDevice['tuning']
  readonly lost: Promise<string>
  readonly #device: GPUDevice
  readonly #budget: MemoryBudget
  readonly #pipelines: PipelineCache
  readonly #timer: KernelTimer
  readonly #staging: BufferPool
  readonly #paramBlocks: BufferPool
  readonly #buffers = new Set<WebgpuBuffer>()
  readonly #bindGroups = new Map<string, GPUBindGroup>()
  readonly #inFlight = new Set<Promise<void>>()
  readonly #paramIds = new WeakMap<GPUBuffer, number>()
  #nextId = 1
  #lostReason: string | null = null
  #uncaptured: string | null = null
  #closing = false
  #flushScheduled = false

  constructor(device: GPUDevice, info: DeviceInfo, options: WebgpuQueueOptions) {
    this.#device = device
    this.info = info
    this.tuning = info.software ? SOFTWARE_TUNING : DISCRETE_TUNING
    this.limits = {
      maxBindingBytes: device.limits.maxStorageBufferBindingSize,
      maxBufferBytes: device.limits.maxBufferSize,
      maxWorkgroupsPerDimension: device.limits.maxComputeWorkgroupsPerDimension,
      offsetAlignmentBytes: OFFSET_ALIGNMENT_BYTES,
      budgetBytes: options.budgetBytes,
    }
    this.#budget = new MemoryBudget(options.budgetBytes)
    this.#pipelines = new PipelineCache(device, options.shaderFolder)
    this.#timer = new KernelTimer(device)
    this.#staging = new BufferPool(device, 'readback')
    this.#paramBlocks = new BufferPool(device, 'params')
    device.addEventListener('uncapturederror', (event) => {
      this.#uncaptured ??= event.error.message
    })
    this.lost = new Promise((resolve) => {
      // on close() the promise stays pending: nothing was lost
      void device.lost.then(({ reason, message }) => {
        this.#lostReason = message || reason
        if (!this.#closing) resolve(this.#lostReason)
      })
    })
  }

  /** Live buffers, for leak checks. */
  get bufferCount(): number {
    return this.#budget.buffers
  }

  async prepare(kernels: readonly Kernel[]): Promise<void> {
    this.#checkAlive()
    await this.#pipelines.prepare(kernels)
  }

  createBuffer(label: string, sizeBytes: number): DeviceBuffer {
    this.#checkAlive()
    const size = paddedBytes(sizeBytes)
    if (size > this.limits.maxBufferBytes) {
      throw new AppError(
        'gpu_memory_exceeded',
        `buffer '${label}' of ${sizeBytes} bytes is larger than one buffer may be (${this.limits.maxBufferBytes})`,
        { limit: 'maxBufferBytes', allowed: this.limits.maxBufferBytes, requested: sizeBytes },
      )
    }
    this.#budget.reserve(label, size)
    const usage = BUFFER_USAGE.STORAGE | BUFFER_USAGE.COPY_SRC | BUFFER_USAGE.COPY_DST
    const gpu = this.#device.createBuffer({ label, size, usage })
    const buffer = new WebgpuBuffer(label, sizeBytes, this.#nextId++, gpu, (destroyed) => this.#released(destroyed))
    this.#buffers.add(buffer)
    return buffer
  }

  write(buffer: DeviceBuffer, offsetBytes: number, data: Uint8Array): void {
    this.#checkAlive()
    const target = this.#own(buffer)
    checkRange(target.label, target.gpu.size, offsetBytes, data.length)
    // the binding takes views on plain ArrayBuffers; a SharedArrayBuffer never gets here
    this.#device.queue.writeBuffer(target.gpu, offsetBytes, data as Uint8Array<ArrayBuffer>)
  }

  async submit(commands: Command[], readbacks: Readback[] = []): Promise<void> {
    this.#checkAlive()
    const missing = commands.flatMap((c) =>
      c.op === 'run' && this.#pipelines.get(c.kernel) === undefined ? [c.kernel] : [],
    )
    if (missing.length > 0) await this.#pipelines.prepare(missing)
    const work = this.#submitNow(commands, readbacks)
    this.#inFlight.add(work)
    try {
      await work
    } finally {
      this.#inFlight.delete(work)
    }
  }

  kernelTimes(): KernelTime[] {
    return this.#timer.report()
  }

  async close(): Promise<void> {
    if (this.#closing) return
    await Promise.allSettled([...this.#inFlight])
    this.#closing = true
    for (const buffer of [...this.#buffers]) buffer.destroy()
    this.#timer.destroy()
    this.#staging.destroy()
    this.#paramBlocks.destroy()
    this.#bindGroups.clear()
    this.#device.destroy()
  }

  async #submitNow(commands: Command[], readbacks: Readback[]): Promise<void> {
    // everything that can be wrong with the commands is found here, before pooled buffers are taken
    const steps = commands.map((command) => this.#resolve(command))
    const sources = readbacks.map(({ buffer, offsetBytes, sizeBytes }) => {
      const source = this.#own(buffer)
      checkRange(source.label, source.gpu.size, offsetBytes, sizeBytes)
      return source.gpu
    })
    const stagingOffsets: number[] = []
    let stagingBytes = 0
    for (const { sizeBytes } of readbacks) {
      stagingOffsets.push(stagingBytes)
      stagingBytes += Math.ceil(sizeBytes / MAP_ALIGNMENT_BYTES) * MAP_ALIGNMENT_BYTES
    }

    const times = this.#timer.begin()
    const params = this.#writeParams(steps)
    const staging = stagingBytes > 0 ? this.#staging.take(stagingBytes) : null
    // scopes nest per device, so nothing between push and pop may give up the turn
    this.#device.pushErrorScope('validation')
    const encoder = this.#device.createCommandEncoder({ label: 'submit' })
    this.#encode(encoder, steps, params, times)
    for (const [index, { offsetBytes, sizeBytes }] of readbacks.entries()) {
      if (sizeBytes === 0) continue
      encoder.copyBufferToBuffer(sources[index]!, offsetBytes, staging!, stagingOffsets[index]!, sizeBytes)
    }
    times.encode(encoder)
    this.#device.queue.submit([encoder.finish()])
    const scope = this.#device.popErrorScope()

    const finished =
      staging === null ? this.#device.queue.onSubmittedWorkDone() : staging.mapAsync(MAP_MODE_READ, 0, stagingBytes)
    const [error] = await this.#orLost(Promise.all([scope, finished, this.#timer.finish(times, finished)]))
    try {
      this.#checkAlive()
      const message = error?.message ?? this.#uncaptured
      this.#uncaptured = null
      if (message) throw new AppError('internal', `the device refused a command: ${message}`)
      if (staging !== null) await consumeAll(staging, stagingOffsets, readbacks)
    } finally {
      staging?.unmap()
      if (staging !== null) this.#staging.give(staging)
      if (params !== null) this.#paramBlocks.give(params)
    }
  }

  /** Checks a command and looks its buffers up. */
  #resolve(command: Command): Step {
    switch (command.op) {
      case 'run': {
        const { kernel, params, workgroups, bytes } = command
        const bindings = command.buffers.map((slice) => this.#binding(slice))
        checkRun(kernel, bindings, params, workgroups, this.limits)
        return { op: 'run', kernel, bindings, params, workgroups, bytes, paramOffset: 0 }
      }
      case 'copy': {
        const from = this.#own(command.from)
        const to = this.#own(command.to)
        checkRange(from.label, from.gpu.size, command.fromOffsetBytes, command.sizeBytes)
        checkRange(to.label, to.gpu.size, command.toOffsetBytes, command.sizeBytes)
        return { ...command, from: from.gpu, to: to.gpu }
      }
      case 'clear': {
        const target = this.#own(command.buffer)
        checkRange(target.label, target.gpu.size, command.offsetBytes, command.sizeBytes)
        return { ...command, buffer: target.gpu }
      }
    }
  }

  /** Lays all params out in one uniform block and writes it. */
  #writeParams(steps: Step[]): GPUBuffer | null {
    let sizeBytes = 0
    for (const step of steps) {
      if (step.op !== 'run') continue
      step.paramOffset = sizeBytes
      sizeBytes += Math.ceil(step.params.byteLength / OFFSET_ALIGNMENT_BYTES) * OFFSET_ALIGNMENT_BYTES
    }
    if (sizeBytes === 0) return null
    const words = new Uint32Array(sizeBytes / 4)
    for (const step of steps) if (step.op === 'run') words.set(step.params, step.paramOffset / 4)
    const block = this.#paramBlocks.take(sizeBytes)
    this.#device.queue.writeBuffer(block, 0, words)
    return block
  }

  #encode(encoder: GPUCommandEncoder, steps: Step[], params: GPUBuffer | null, times: SubmitTimes): void {
    let pass: GPUComputePassEncoder | null = null
    let record = { kernel: '', dispatches: 0, bytes: 0 }
    for (const step of steps) {
      if (step.op === 'run') {
        // one pass for each run of the same kernel: passes are what time stamps can tell apart
        if (pass === null || record.kernel !== step.kernel.name) {
          pass?.end()
          const timed = times.pass(step.kernel.name)
          record = timed.record
          const timestampWrites = timed.timestampWrites ? { timestampWrites: timed.timestampWrites } : {}
          pass = encoder.beginComputePass({ label: step.kernel.name, ...timestampWrites })
          pass.setPipeline(this.#pipelines.get(step.kernel)!.pipeline)
        }
        pass.setBindGroup(0, this.#bindGroup(step.kernel, step.bindings, params!), [step.paramOffset])
        pass.dispatchWorkgroups(...step.workgroups)
        record.dispatches += 1
        record.bytes += step.bytes
        continue
      }
      pass?.end()
      pass = null
      if (step.op === 'copy') {
        encoder.copyBufferToBuffer(step.from, step.fromOffsetBytes, step.to, step.toOffsetBytes, step.sizeBytes)
      } else {
        encoder.clearBuffer(step.buffer, step.offsetBytes, step.sizeBytes)
      }
    }
    pass?.end()
  }

  #binding(slice: BufferSlice): Binding {
    if (!('buffer' in slice)) {
      const buffer = this.#own(slice)
      return { buffer, offset: 0, size: buffer.gpu.size }
    }
    const buffer = this.#own(slice.buffer)
    checkRange(buffer.label, buffer.gpu.size, slice.offsetBytes, slice.sizeBytes)
    const size = Math.min(paddedBytes(slice.sizeBytes), buffer.gpu.size - slice.offsetBytes)
    return { buffer, offset: slice.offsetBytes, size }
  }

  #bindGroup(kernel: Kernel, bindings: Binding[], params: GPUBuffer): GPUBindGroup {
    let paramId = this.#paramIds.get(params)
    if (paramId === undefined) {
      paramId = this.#nextId++
      this.#paramIds.set(params, paramId)
    }
    const slices = bindings.map(({ buffer, offset, size }) => `${buffer.id}:${offset}:${size}`)
    const key = `${kernel.name} ${slices.join(' ')} ${paramId}`
    const cached = this.#bindGroups.get(key)
    if (cached !== undefined) return cached
    if (this.#bindGroups.size >= MAX_BIND_GROUPS) this.#bindGroups.clear()
    const group = this.#device.createBindGroup({
      label: kernel.name,
      layout: this.#pipelines.get(kernel)!.bindGroupLayout,
      entries: [
        ...bindings.map(({ buffer, offset, size }, binding) => ({
          binding,
          resource: { buffer: buffer.gpu, offset, size },
        })),
        { binding: bindings.length, resource: { buffer: params, offset: 0, size: kernel.paramWords * 4 } },
      ],
    })
    this.#bindGroups.set(key, group)
    return group
  }

  /** Waits for a promise of the device; those of a lost one reject in several ways, and all of them mean device_lost. */
  async #orLost<T>(promise: Promise<T>): Promise<T> {
    try {
      return await gpuWait(promise)
    } catch (cause) {
      throw new AppError(
        'device_lost',
        `the device '${this.info.adapter}' was lost during work: ${this.#lostReason ?? String(cause)}`,
        { adapter: this.info.adapter },
        cause,
      )
    }
  }

  #checkAlive(): void {
    if (this.#lostReason === null && !this.#closing) return
    const reason = this.#lostReason ?? 'it was closed'
    throw new AppError('device_lost', `the device '${this.info.adapter}' is gone: ${reason}`, {
      adapter: this.info.adapter,
    })
  }

  #own(buffer: DeviceBuffer): WebgpuBuffer {
    if (!(buffer instanceof WebgpuBuffer) || (!this.#buffers.has(buffer) && !buffer.destroyed)) {
      throw new AppError('internal', `buffer '${buffer.label}' belongs to another device`)
    }
    if (buffer.destroyed) throw new AppError('internal', `buffer '${buffer.label}' was used after it was destroyed`)
    return buffer
  }

  #released(buffer: WebgpuBuffer): void {
    this.#buffers.delete(buffer)
    this.#budget.release(buffer.gpu.size)
    const id = String(buffer.id)
    for (const key of this.#bindGroups.keys()) {
      if (key.split(' ').some((slice) => slice.split(':')[0] === id)) this.#bindGroups.delete(key)
    }
    this.#flushSoon()
  }

  /** Memory of a destroyed buffer is only freed by the next submit; an empty one will do. */
  #flushSoon(): void {
    if (this.#flushScheduled || this.#closing) return
    this.#flushScheduled = true
    setImmediate(() => {
      this.#flushScheduled = false
      if (this.#lostReason === null && !this.#closing) this.#device.queue.submit([])
    })
  }
}

/** Hands the mapped ranges out and waits for all of them, also when one fails: their views die with the unmap. */
async function consumeAll(staging: GPUBuffer, offsets: number[], readbacks: Readback[]): Promise<void> {
  const settled = await Promise.allSettled(
    readbacks.map(async ({ sizeBytes, consume }, index) => {
      const view =
        sizeBytes === 0 ? new Uint8Array() : new Uint8Array(staging.getMappedRange(offsets[index]!, sizeBytes))
      await consume(view)
    }),
  )
  for (const result of settled) if (result.status === 'rejected') throw result.reason
}
