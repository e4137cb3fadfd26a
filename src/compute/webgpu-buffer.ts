// A DeviceBuffer of the WebGPU device, and what a kernel binds of it.

import type { DeviceBuffer } from './compute-device.ts'

export class WebgpuBuffer implements DeviceBuffer {
  readonly label: string
  readonly sizeBytes: number
  /** Unique in its device and never used again. */
  readonly id: number
  /** Padded to whole 16 bytes: `gpu.size` may be larger than sizeBytes. */
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

/** Bytes [offset, offset + size) of a buffer. */
export interface Binding {
  buffer: WebgpuBuffer
  offset: number
  size: number
}
