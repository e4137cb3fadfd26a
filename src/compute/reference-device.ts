// The scalar device: runs each kernel's `reference` on plain arrays, with the same words in and out as the GPU. It is the
// oracle of the kernel tests and what a host without an adapter works on. Entry: openReferenceDevice().

import { AppError } from '../errors.ts'
import type {
  BufferSlice,
  ChunkBuffer,
  Command,
  ComputeDevice,
  DeviceBuffer,
  DeviceInfo,
  DeviceLimits,
  Kernel,
  KernelTime,
  Readback,
} from './compute-device.ts'
import { checkNoChunk, checkRange, checkRun, checkUpload, destroyedError, paddedBytes } from './device-buffer.ts'
import { ChunkHost, HostMemory } from './host-memory.ts'
import { DEFAULT_BUDGET_BYTES, MemoryBudget } from './memory-budget.ts'

/** Larger than any binding the executor asks for; what bounds this device is the budget. */
const MAX_BINDING_BYTES = 2 ** 31 - 16

const OFFSET_ALIGNMENT_BYTES = 256

class ReferenceBuffer implements DeviceBuffer {
  readonly label: string
  readonly sizeBytes: number
  readonly bytes: Uint8Array
  readonly #budget: MemoryBudget
  #destroyed = false

  constructor(label: string, sizeBytes: number, budget: MemoryBudget) {
    this.label = label
    this.sizeBytes = sizeBytes
    this.#budget = budget
    this.bytes = new Uint8Array(paddedBytes(sizeBytes))
  }

  get destroyed(): boolean {
    return this.#destroyed
  }

  destroy(): void {
    if (this.#destroyed) return
    this.#destroyed = true
    this.#budget.release(this.bytes.length)
  }
}

class ReferenceChunk extends ReferenceBuffer implements ChunkBuffer {
  readonly #host: ChunkHost

  constructor(label: string, sizeBytes: number, budget: MemoryBudget, memory: HostMemory) {
    super(label, sizeBytes, budget)
    this.#host = new ChunkHost(memory)
  }

  async host(): Promise<Uint8Array> {
    if (this.destroyed) throw destroyedError(this.label)
    return this.#host.take(this.sizeBytes)
  }

  upload(sizeBytes: number): void {
    checkUpload(this, sizeBytes)
    const { bytes } = this.#host
    if (bytes !== null) this.bytes.set(bytes.subarray(0, sizeBytes))
  }

  override destroy(): void {
    super.destroy()
    this.#host.give()
  }
}

export interface ReferenceDeviceOptions {
  budgetBytes?: number
}

export function openReferenceDevice(options: ReferenceDeviceOptions = {}): ComputeDevice {
  return new ReferenceDevice(options.budgetBytes ?? DEFAULT_BUDGET_BYTES)
}

class ReferenceDevice implements ComputeDevice {
  readonly info: DeviceInfo = {
    kind: 'reference',
    adapter: 'reference',
    vendor: 'tensorpress',
    architecture: 'scalar',
    driver: '',
    software: true,
  }
  readonly limits: DeviceLimits
  readonly tuning = { chunkBytes: 2 ** 20, lanes: 1, segmentElements: 65536, subgroups: false }
  /** Never resolves: there is nothing to lose. */
  readonly lost = new Promise<string>(() => undefined)
  readonly #budget: MemoryBudget
  readonly #memory = new HostMemory()
  readonly #times = new Map<string, KernelTime>()
  #last: Promise<void> = Promise.resolve()
  #closed = false

  constructor(budgetBytes: number) {
    this.#budget = new MemoryBudget(budgetBytes)
    this.limits = {
      maxBindingBytes: MAX_BINDING_BYTES,
      maxBufferBytes: MAX_BINDING_BYTES,
      maxWorkgroupsPerDimension: 65535,
      offsetAlignmentBytes: OFFSET_ALIGNMENT_BYTES,
      budgetBytes,
    }
  }

  /** Live buffers, for leak checks. */
  get bufferCount(): number {
    return this.#budget.buffers
  }

  async prepare(_kernels: readonly Kernel[]): Promise<void> {}

  createBuffer(label: string, sizeBytes: number): DeviceBuffer {
    this.#reserve(label, sizeBytes)
    return new ReferenceBuffer(label, sizeBytes, this.#budget)
  }

  createChunk(label: string, sizeBytes: number): ChunkBuffer {
    this.#reserve(label, sizeBytes)
    return new ReferenceChunk(label, sizeBytes, this.#budget, this.#memory)
  }

  #reserve(label: string, sizeBytes: number): void {
    if (sizeBytes > this.limits.maxBufferBytes) {
      throw new AppError(
        'gpu_memory_exceeded',
        `buffer '${label}' of ${sizeBytes} bytes is larger than ${this.limits.maxBufferBytes}`,
        { limit: 'maxBufferBytes', allowed: this.limits.maxBufferBytes, requested: sizeBytes },
      )
    }
    this.#budget.reserve(label, paddedBytes(sizeBytes))
  }

  write(buffer: DeviceBuffer, offsetBytes: number, data: Uint8Array): void {
    const target = this.#own(buffer)
    checkRange(target.label, target.bytes.length, offsetBytes, data.length)
    target.bytes.set(data, offsetBytes)
  }

  submit(commands: Command[], readbacks: Readback[] = []): Promise<void> {
    // one submit after the other, as a GPU queue does, and never in the caller's turn
    const done = this.#last.then(async () => {
      for (const command of commands) this.#execute(command)
      for (const { buffer, offsetBytes, sizeBytes, consume } of readbacks) {
        const source = this.#own(buffer)
        checkRange(source.label, source.bytes.length, offsetBytes, sizeBytes)
        await consume(source.bytes.subarray(offsetBytes, offsetBytes + sizeBytes))
      }
    })
    this.#last = done.catch(() => undefined)
    return done
  }

  kernelTimes(): KernelTime[] {
    return [...this.#times.values()].map((time) => ({ ...time }))
  }

  async close(): Promise<void> {
    await this.#last
    this.#closed = true
  }

  #execute(command: Command): void {
    switch (command.op) {
      case 'run':
        this.#run(command.kernel, command.buffers, command.params, command.workgroups, command.bytes)
        return
      case 'copy': {
        const from = this.#own(command.from)
        const to = this.#own(command.to)
        checkRange(from.label, from.bytes.length, command.fromOffsetBytes, command.sizeBytes)
        checkRange(to.label, to.bytes.length, command.toOffsetBytes, command.sizeBytes)
        const bytes = from.bytes.subarray(command.fromOffsetBytes, command.fromOffsetBytes + command.sizeBytes)
        to.bytes.set(bytes, command.toOffsetBytes)
        return
      }
      case 'clear': {
        const target = this.#own(command.buffer)
        checkRange(target.label, target.bytes.length, command.offsetBytes, command.sizeBytes)
        target.bytes.fill(0, command.offsetBytes, command.offsetBytes + command.sizeBytes)
      }
    }
  }

  #run(
    kernel: Kernel,
    slices: BufferSlice[],
    params: Uint32Array,
    workgroups: [number, number, number],
    bytes: number,
  ): void {
    const bindings = slices.map((slice) => this.#binding(slice))
    checkRun(kernel, bindings, params, workgroups, this.limits)
    const started = performance.now()
    kernel.reference(
      bindings.map(({ buffer, offset, size }) => new Uint32Array(buffer.bytes.buffer, offset, size / 4)),
      params,
      workgroups,
    )
    const time = this.#times.get(kernel.name) ?? {
      kernel: kernel.name,
      dispatches: 0,
      seconds: 0,
      bytes: 0,
      source: 'wall',
    }
    time.dispatches += 1
    time.seconds += (performance.now() - started) / 1000
    time.bytes += bytes
    this.#times.set(kernel.name, time)
  }

  #binding(slice: BufferSlice): { buffer: ReferenceBuffer; offset: number; size: number } {
    if (!('buffer' in slice)) {
      const buffer = this.#alive(slice)
      return { buffer, offset: 0, size: buffer.bytes.length }
    }
    const buffer = this.#alive(slice.buffer)
    checkRange(buffer.label, buffer.bytes.length, slice.offsetBytes, slice.sizeBytes)
    const size = Math.min(paddedBytes(slice.sizeBytes), buffer.bytes.length - slice.offsetBytes)
    return { buffer, offset: slice.offsetBytes, size }
  }

  #own(buffer: DeviceBuffer): ReferenceBuffer {
    checkNoChunk(buffer)
    return this.#alive(buffer)
  }

  #alive(buffer: DeviceBuffer): ReferenceBuffer {
    if (!(buffer instanceof ReferenceBuffer)) {
      throw new AppError('internal', `buffer '${buffer.label}' belongs to another device`)
    }
    if (buffer.destroyed || this.#closed) throw destroyedError(buffer.label)
    return buffer
  }
}
