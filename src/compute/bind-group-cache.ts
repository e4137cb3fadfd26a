// Bind groups by kernel, buffers and params block: lanes dispatch the same kernels on the same buffers chunk after chunk, and
// making a group costs about as much as a dispatch. Params take a dynamic offset, so one group serves a whole block.

import { ChunkTexture } from './chunk-texture.ts'
import type { Kernel } from './compute-device.ts'
import { type PipelineCache, VALUES_FIRST_WORDS } from './pipeline-cache.ts'
import type { Binding, WebgpuBuffer } from './webgpu-buffer.ts'

/** Lanes and kernels are few: more groups than this mean that buffers come and go, where caching does nothing. */
const MAX_BIND_GROUPS = 512

export class BindGroupCache {
  readonly #device: GPUDevice
  readonly #pipelines: PipelineCache
  readonly #groups = new Map<string, GPUBindGroup>()
  readonly #paramsIds = new WeakMap<GPUBuffer, number>()
  #nextParamsId = 1

  constructor(device: GPUDevice, pipelines: PipelineCache) {
    this.#device = device
    this.#pipelines = pipelines
  }

  /** Group 0: the kernel's buffers, a chunk in a texture left out, and its params. */
  get(kernel: Kernel, bindings: Binding[], params: GPUBuffer): GPUBindGroup {
    const slices = bindings.map(({ buffer, offset, size }) => `${buffer.id}:${offset}:${size}`)
    return this.#cached(`${kernel.name} ${slices.join(' ')} ${this.#paramsId(params)}`, () => {
      const form = bindings[0]?.buffer instanceof ChunkTexture ? 'texture' : 'buffer'
      return {
        label: kernel.name,
        layout: this.#pipelines.get(kernel, form)!.bindGroupLayout,
        entries: [
          ...bindings.flatMap(({ buffer, offset, size }, binding) =>
            buffer instanceof ChunkTexture ? [] : [{ binding, resource: { buffer: buffer.gpu, offset, size } }],
          ),
          { binding: bindings.length, resource: { buffer: params, offset: 0, size: kernel.paramWords * 4 } },
        ],
      }
    })
  }

  /** Group 1: a chunk in a texture, and where the range that the kernel binds begins. */
  texture(texture: ChunkTexture, params: GPUBuffer): GPUBindGroup {
    return this.#cached(`texture ${texture.id}: ${this.#paramsId(params)}`, () => ({
      label: texture.label,
      layout: this.#pipelines.textureLayout,
      entries: [
        { binding: 0, resource: texture.view },
        { binding: 1, resource: { buffer: params, offset: 0, size: VALUES_FIRST_WORDS * 4 } },
      ],
    }))
  }

  /** Drops the groups that hold a destroyed buffer. */
  forget(buffer: WebgpuBuffer | ChunkTexture): void {
    for (const key of this.#groups.keys()) {
      if (key.includes(` ${buffer.id}:`)) this.#groups.delete(key)
    }
  }

  clear(): void {
    this.#groups.clear()
  }

  #cached(key: string, describe: () => GPUBindGroupDescriptor): GPUBindGroup {
    const cached = this.#groups.get(key)
    if (cached !== undefined) return cached
    if (this.#groups.size >= MAX_BIND_GROUPS) this.#groups.clear()
    const group = this.#device.createBindGroup(describe())
    this.#groups.set(key, group)
    return group
  }

  #paramsId(params: GPUBuffer): number {
    const known = this.#paramsIds.get(params)
    if (known !== undefined) return known
    this.#paramsIds.set(params, this.#nextParamsId)
    return this.#nextParamsId++
  }
}
