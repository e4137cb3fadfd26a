// A ChunkBuffer in a texture, for software adapters. lavapipe tests and branches for every word that a lane loads from a storage
// buffer (about 7 cycles a word); from a texture of four words a texel it loads them together. Kernels read it through
// shaders/lib/values-texture.wgsl. Files are read straight into the mapped upload buffer, whose pages are the device's own.

import type { ChunkBuffer } from './compute-device.ts'
import { checkUpload, destroyedError } from './device-buffer.ts'
import { BUFFER_USAGE, MAP_MODE_WRITE, TEXTURE_USAGE } from './gpu-constants.ts'

/** As values-texture.wgsl counts: texels of a row, 4 words each. */
export const TEXTURE_WIDTH = 512
export const TEXEL_BYTES = 16
export const TEXTURE_FORMAT = 'rgba32uint'
const ROW_BYTES = TEXTURE_WIDTH * TEXEL_BYTES

export interface ChunkTextureOwner {
  device: GPUDevice
  /** Waits for a promise of the device and throws device_lost for those of a lost one. */
  orLost<T>(promise: Promise<T>): Promise<T>
  released(texture: ChunkTexture): void
}

export class ChunkTexture implements ChunkBuffer {
  readonly label: string
  readonly sizeBytes: number
  /** Unique among the buffers of its device. */
  readonly id: number
  readonly view: GPUTextureView
  /** Of the texture and of the upload buffer together. */
  readonly deviceBytes: number
  readonly #owner: ChunkTextureOwner
  readonly #texture: GPUTexture
  readonly #upload: GPUBuffer
  #mapped = true
  /** From host() to upload(). */
  #host: Promise<Uint8Array> | null = null
  #destroyed = false

  constructor(label: string, sizeBytes: number, id: number, owner: ChunkTextureOwner) {
    this.label = label
    this.sizeBytes = sizeBytes
    this.id = id
    this.#owner = owner
    const height = textureHeight(sizeBytes)
    // throws where there is no memory to map; nothing needs to be undone yet
    this.#upload = owner.device.createBuffer({
      label,
      size: height * ROW_BYTES,
      usage: BUFFER_USAGE.MAP_WRITE | BUFFER_USAGE.COPY_SRC,
      mappedAtCreation: true,
    })
    const usage = TEXTURE_USAGE.COPY_DST | TEXTURE_USAGE.STORAGE_BINDING
    this.#texture = owner.device.createTexture({ label, size: [TEXTURE_WIDTH, height], format: TEXTURE_FORMAT, usage })
    this.view = this.#texture.createView()
    this.deviceBytes = textureBytes(sizeBytes)
  }

  get destroyed(): boolean {
    return this.#destroyed
  }

  async host(): Promise<Uint8Array> {
    if (this.#destroyed) throw destroyedError(this.label)
    this.#host ??= this.#owner.orLost(this.#map())
    try {
      return await this.#host
    } catch (error) {
      // destroy() aborts the mapping, which is no loss of the device
      if (this.#destroyed) throw destroyedError(this.label)
      throw error
    }
  }

  async #map(): Promise<Uint8Array> {
    if (!this.#mapped) await this.#upload.mapAsync(MAP_MODE_WRITE)
    this.#mapped = true
    return new Uint8Array(this.#upload.getMappedRange(), 0, this.sizeBytes)
  }

  upload(sizeBytes: number): void {
    checkUpload(this, sizeBytes)
    this.#host = null
    this.#upload.unmap()
    this.#mapped = false
    const { device } = this.#owner
    const encoder = device.createCommandEncoder({ label: this.label })
    const size = [TEXTURE_WIDTH, textureHeight(sizeBytes)]
    encoder.copyBufferToTexture({ buffer: this.#upload, bytesPerRow: ROW_BYTES }, { texture: this.#texture }, size)
    // its own submit, so that the host memory is free again while kernels still run
    device.queue.submit([encoder.finish()])
  }

  destroy(): void {
    if (this.#destroyed) return
    this.#destroyed = true
    this.#host = null
    this.#texture.destroy()
    this.#upload.destroy()
    this.#owner.released(this)
  }
}

export function textureHeight(sizeBytes: number): number {
  return Math.max(1, Math.ceil(sizeBytes / ROW_BYTES))
}

export function textureBytes(sizeBytes: number): number {
  return 2 * textureHeight(sizeBytes) * ROW_BYTES
}
