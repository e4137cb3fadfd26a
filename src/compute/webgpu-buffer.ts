// The DeviceBuffers of the WebGPU device that are GPUBuffers, and what a kernel binds. Chunks in textures: chunk-texture.ts.

import type { ChunkTexture } from './chunk-texture.ts'
import type { ChunkBuffer, DeviceBuffer } from './compute-device.ts'
import { checkUpload, destroyedError } from './device-buffer.ts'
import { ChunkHost, type HostMemory } from './host-memory.ts'

export interface WebgpuBufferParts {
  label: string
  sizeBytes: number
  id: number
  gpu: GPUBuffer
  onDestroy(buffer: WebgpuBuffer): void
}

export class WebgpuBuffer implements DeviceBuffer {
  readonly label: string
  readonly sizeBytes: number
  /** Unique in its device and never used again. */
  readonly id: number
  /** Padded to whole 16 bytes: `gpu.size` may be larger than sizeBytes. */
  readonly gpu: GPUBuffer
  readonly #onDestroy: (buffer: WebgpuBuffer) => void
  #destroyed = false

  constructor({ label, sizeBytes, id, gpu, onDestroy }: WebgpuBufferParts) {
    this.label = label
    this.sizeBytes = sizeBytes
    this.id = id
    this.gpu = gpu
    this.#onDestroy = onDestroy
  }

  get destroyed(): boolean {
    return this.#destroyed
  }

  get deviceBytes(): number {
    return this.gpu.size
  }

  destroy(): void {
    if (this.#destroyed) return
    this.#destroyed = true
    this.gpu.destroy()
    this.#onDestroy(this)
  }
}

/** A chunk in a storage buffer, as GPUs with memory of their own like it. */
export class WebgpuChunk extends WebgpuBuffer implements ChunkBuffer {
  readonly #queue: GPUQueue
  readonly #host: ChunkHost

  constructor(parts: WebgpuBufferParts, queue: GPUQueue, memory: HostMemory) {
    super(parts)
    this.#queue = queue
    this.#host = new ChunkHost(memory)
  }

  async host(): Promise<Uint8Array> {
    if (this.destroyed) throw destroyedError(this.label)
    return this.#host.take(this.sizeBytes)
  }

  upload(sizeBytes: number): void {
    checkUpload(this, sizeBytes)
    const { bytes } = this.#host
    if (bytes !== null) this.#queue.writeBuffer(this.gpu, 0, bytes, 0, sizeBytes)
  }

  override destroy(): void {
    super.destroy()
    this.#host.give()
  }
}

/** Bytes [offset, offset + size) of a buffer, or of the words in a texture. */
export interface Binding {
  buffer: WebgpuBuffer | ChunkTexture
  offset: number
  size: number
}
