// Reused buffers that a submit borrows until its work is done: MAP_READ staging for readbacks and uniform blocks for kernel
// params. New mapped memory per chunk costs page faults worth several copies, so buffers go back to the pool instead.

import { BUFFER_USAGE } from './gpu-constants.ts'

/** Sizes are rounded up to powers of two from here, so that lanes of slightly different size share buffers. */
const LEAST_BYTES = 4096
/** Idle buffers kept; lanes are 2 or 3, so more only pile up after a burst. */
const KEPT_BUFFERS = 8

export class BufferPool {
  readonly #device: GPUDevice
  readonly #label: string
  readonly #usage: number
  #idle: GPUBuffer[] = []

  constructor(device: GPUDevice, kind: 'readback' | 'params') {
    this.#device = device
    this.#label = kind
    this.#usage =
      kind === 'readback' ? BUFFER_USAGE.MAP_READ | BUFFER_USAGE.COPY_DST : BUFFER_USAGE.UNIFORM | BUFFER_USAGE.COPY_DST
  }

  /** A buffer of at least `sizeBytes` that no unfinished work uses. */
  take(sizeBytes: number): GPUBuffer {
    let best = -1
    for (const [index, buffer] of this.#idle.entries()) {
      if (buffer.size >= sizeBytes && (best < 0 || buffer.size < this.#idle[best]!.size)) best = index
    }
    if (best >= 0) return this.#idle.splice(best, 1)[0]!
    const size = Math.max(LEAST_BYTES, 2 ** Math.ceil(Math.log2(sizeBytes)))
    return this.#device.createBuffer({ label: this.#label, size, usage: this.#usage })
  }

  /** Returns a buffer, unmapped and idle. The smallest one is dropped when too many are kept. */
  give(buffer: GPUBuffer): void {
    this.#idle.push(buffer)
    if (this.#idle.length <= KEPT_BUFFERS) return
    this.#idle.sort((a, b) => b.size - a.size)
    this.#idle.pop()!.destroy()
  }

  destroy(): void {
    for (const buffer of this.#idle) buffer.destroy()
    this.#idle = []
  }
}
