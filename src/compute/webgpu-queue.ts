// ComputeDevice on a GPUDevice that was opened elsewhere (webgpu-device.ts; a fake one in tests): buffers, encoding, readback,
// loss. One submit is one command buffer; the buffers it names are in use until its promise settles. The caller owns
// DeviceBuffers; staging, params and time stamps belong to this file and are pooled.

import { AppError } from '../errors.ts'
import { BindGroupCache } from './bind-group-cache.ts'
import { ChunkTexture, textureBytes, textureHeight } from './chunk-texture.ts'
import type {
  BufferSlice,
  ChunkBuffer,
  ChunkForm,
  Command,
  ComputeDevice,
  DeviceBuffer,
  DeviceInfo,
  DeviceLimits,
  Kernel,
  KernelTime,
  Readback,
} from './compute-device.ts'
import { checkNoChunk, checkRange, checkRun, destroyedError, paddedBytes } from './device-buffer.ts'
import { encodeSteps, type Step, writeParams } from './encode-steps.ts'
import { BUFFER_USAGE, MAP_MODE_READ } from './gpu-constants.ts'
import { gpuWait } from './gpu-wait.ts'
import { HostMemory } from './host-memory.ts'
import { KernelTimer } from './kernel-timer.ts'
import { MemoryBudget } from './memory-budget.ts'
import { PipelineCache, type ValuesForm } from './pipeline-cache.ts'
import { BufferPool } from './staging-pool.ts'
import { type Binding, WebgpuBuffer, WebgpuChunk } from './webgpu-buffer.ts'

/** WebGPU's default alignment of binding offsets, uniform and storage: the same on every adapter. */
const OFFSET_ALIGNMENT_BYTES = 256
/** getMappedRange takes offsets of whole 8 bytes. */
const MAP_ALIGNMENT_BYTES = 8
/**
 * Software adapters like chunks large enough that what each costs here (0.8 ms of JavaScript and Dawn) is small, and segments as
 * long as still fill the cores with teams of 8 lanes (lanesForSegments); discrete ones like many short segments.
 */
const SOFTWARE_TUNING = { chunkBytes: 8 * 2 ** 20, lanes: 2, segmentElements: 16_384 }
const DISCRETE_TUNING = { chunkBytes: 32 * 2 ** 20, lanes: 3, segmentElements: 4096 }

/**
 * lavapipe sends an empty frame through its rasterizer threads for each time stamp: with every pass timed, a quarter of the
 * system time of a job went there.
 */
const SOFTWARE_TIMED_PASSES = 16

export interface WebgpuQueueOptions {
  budgetBytes: number
  /** Times every pass, also where that is costly. */
  timeEveryPass?: boolean | undefined
  /** Keeps chunks in textures: the adapter loads from them faster than from buffers. */
  chunkTextures?: boolean | undefined
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
  readonly #buffers = new Set<WebgpuBuffer | ChunkTexture>()
  readonly #memory = new HostMemory()
  readonly #chunkTextures: boolean
  readonly #bindGroups: BindGroupCache
  readonly #inFlight = new Set<Promise<void>>()
  #nextId = 1
  #lostReason: string | null = null
  #uncaptured: string | null = null
  #closing = false
  #flushScheduled = false

  constructor(device: GPUDevice, info: DeviceInfo, options: WebgpuQueueOptions) {
    this.#device = device
    this.info = info
    this.tuning = {
      ...(info.software ? SOFTWARE_TUNING : DISCRETE_TUNING),
      subgroups: device.features.has('subgroups'),
    }
    this.limits = {
      maxBindingBytes: device.limits.maxStorageBufferBindingSize,
      maxBufferBytes: device.limits.maxBufferSize,
      maxWorkgroupsPerDimension: device.limits.maxComputeWorkgroupsPerDimension,
      offsetAlignmentBytes: OFFSET_ALIGNMENT_BYTES,
      budgetBytes: options.budgetBytes,
    }
    this.#chunkTextures = options.chunkTextures === true
    this.#budget = new MemoryBudget(options.budgetBytes)
    this.#pipelines = new PipelineCache(device, options.shaderFolder)
    this.#bindGroups = new BindGroupCache(device, this.#pipelines)
    this.#timer = new KernelTimer(device, info.software && options.timeEveryPass !== true ? SOFTWARE_TIMED_PASSES : 1)
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

  async prepare(kernels: readonly Kernel[], form: ChunkForm = 'chunk'): Promise<void> {
    await this.#prepare(kernels, form === 'chunk' && this.#chunkTextures ? 'texture' : 'buffer')
  }

  async #prepare(kernels: readonly Kernel[], form: ValuesForm): Promise<void> {
    this.#checkAlive()
    try {
      await this.#pipelines.prepare(kernels, form)
    } catch (error) {
      // what a lost device says about pipelines is beside the point
      this.#checkAlive()
      throw error
    }
  }

  createBuffer(label: string, sizeBytes: number): DeviceBuffer {
    return this.#add(new WebgpuBuffer(this.#storage(label, sizeBytes)))
  }

  createChunk(label: string, sizeBytes: number): ChunkBuffer {
    if (!this.#chunkTextures || textureHeight(sizeBytes) > this.#device.limits.maxTextureDimension2D) {
      return this.#add(new WebgpuChunk(this.#storage(label, sizeBytes), this.#device.queue, this.#memory))
    }
    this.#checkAlive()
    const deviceBytes = textureBytes(sizeBytes)
    this.#budget.reserve(label, deviceBytes)
    const owner = {
      device: this.#device,
      orLost: <T>(promise: Promise<T>) => this.#orLost(promise),
      released: (texture: ChunkTexture) => this.#released(texture),
    }
    try {
      return this.#add(new ChunkTexture(label, sizeBytes, this.#nextId++, owner))
    } catch (error) {
      this.#budget.release(deviceBytes)
      throw error
    }
  }

  #add<T extends WebgpuBuffer | ChunkTexture>(buffer: T): T {
    this.#buffers.add(buffer)
    return buffer
  }

  /** A GPUBuffer for a DeviceBuffer, counted in the budget. */
  #storage(label: string, sizeBytes: number) {
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
    const onDestroy = (destroyed: WebgpuBuffer) => this.#released(destroyed)
    return { label, sizeBytes, id: this.#nextId++, gpu, onDestroy }
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
    for (const form of ['texture', 'buffer'] as const) {
      const missing = commands.flatMap((command) =>
        command.op === 'run' && valuesForm(command) === form && this.#pipelines.get(command.kernel, form) === undefined
          ? [command.kernel]
          : [],
      )
      if (missing.length > 0) await this.#prepare(missing, form)
    }
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
    const params = writeParams(steps, this.#device, this.#paramBlocks, OFFSET_ALIGNMENT_BYTES)
    const staging = stagingBytes > 0 ? this.#staging.take(stagingBytes) : null
    // scopes nest per device, so nothing between push and pop may give up the turn
    this.#device.pushErrorScope('validation')
    const encoder = this.#device.createCommandEncoder({ label: 'submit' })
    encodeSteps(encoder, steps, params, this.#pipelines, this.#bindGroups, times)
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
      if (params.block !== null) this.#paramBlocks.give(params.block)
    }
  }

  /** Checks a command and looks its buffers up. */
  #resolve(command: Command): Step {
    switch (command.op) {
      case 'run': {
        const { kernel, params, workgroups, bytes } = command
        const bindings = command.buffers.map((slice) => this.#binding(slice))
        checkRun(kernel, bindings, params, workgroups, this.limits)
        return { op: 'run', kernel, bindings, params, workgroups, bytes }
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

  #binding(slice: BufferSlice): Binding {
    const whole = 'buffer' in slice ? slice.buffer : slice
    const buffer = whole instanceof ChunkTexture || whole instanceof WebgpuChunk ? this.#alive(whole) : this.#own(whole)
    const bufferBytes = buffer instanceof ChunkTexture ? paddedBytes(buffer.sizeBytes) : buffer.gpu.size
    if (!('buffer' in slice)) return { buffer, offset: 0, size: bufferBytes }
    checkRange(buffer.label, bufferBytes, slice.offsetBytes, slice.sizeBytes)
    const size = Math.min(paddedBytes(slice.sizeBytes), bufferBytes - slice.offsetBytes)
    return { buffer, offset: slice.offsetBytes, size }
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
    checkNoChunk(buffer)
    if (!(buffer instanceof WebgpuBuffer)) {
      throw new AppError('internal', `buffer '${buffer.label}' belongs to another device`)
    }
    return this.#alive(buffer)
  }

  #alive<T extends WebgpuBuffer | ChunkTexture>(buffer: T): T {
    if (!this.#buffers.has(buffer) && !buffer.destroyed) {
      throw new AppError('internal', `buffer '${buffer.label}' belongs to another device`)
    }
    if (buffer.destroyed) throw destroyedError(buffer.label)
    return buffer
  }

  #released(buffer: WebgpuBuffer | ChunkTexture): void {
    this.#buffers.delete(buffer)
    this.#budget.release(buffer.deviceBytes)
    this.#bindGroups.forget(buffer)
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

/** Which form of its shader a dispatch needs. */
function valuesForm({ buffers: [first] }: { buffers: BufferSlice[] }): ValuesForm {
  const buffer = first !== undefined && 'buffer' in first ? first.buffer : first
  return buffer instanceof ChunkTexture ? 'texture' : 'buffer'
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
