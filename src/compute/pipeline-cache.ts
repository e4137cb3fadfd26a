// Compute pipelines by kernel, built from shaders/<name>.wgsl and warmed with an empty dispatch (software adapters compile at
// the first dispatch). The layout comes from Kernel.bindings, so a shader that disagrees with its kernel fails here.
// Entry: PipelineCache.prepare().

import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { AppError } from '../errors.ts'
import type { Kernel } from './compute-device.ts'
import { BUFFER_USAGE, SHADER_STAGE_COMPUTE } from './gpu-constants.ts'
import { gpuWait } from './gpu-wait.ts'

/** From src/compute and from dist/compute alike. */
const SHADER_FOLDER = new URL('../../shaders/', import.meta.url)

const WARM_SLOT_BYTES = 256

export interface KernelPipeline {
  pipeline: GPUComputePipeline
  bindGroupLayout: GPUBindGroupLayout
}

export class PipelineCache {
  readonly #device: GPUDevice
  readonly #folder: URL
  readonly #pipelines = new Map<string, Promise<KernelPipeline>>()
  readonly #ready = new Map<string, KernelPipeline>()

  constructor(device: GPUDevice, folder: URL = SHADER_FOLDER) {
    this.#device = device
    this.#folder = folder
  }

  /** The pipeline when it has been built. */
  get(kernel: Kernel): KernelPipeline | undefined {
    return this.#ready.get(kernel.name)
  }

  /** Builds and warms what is missing. Throws `internal` with file, line and column when a shader is not valid. */
  async prepare(kernels: readonly Kernel[]): Promise<void> {
    const missing = kernels.filter((kernel) => !this.#pipelines.has(kernel.name))
    for (const kernel of missing) {
      const built = this.#build(kernel)
      built.catch(() => this.#pipelines.delete(kernel.name))
      this.#pipelines.set(kernel.name, built)
    }
    const results = await Promise.allSettled(kernels.map((kernel) => this.#pipelines.get(kernel.name)!))
    for (const result of results) if (result.status === 'rejected') throw result.reason
    if (missing.length > 0) await this.#warm(missing)
  }

  async #build(kernel: Kernel): Promise<KernelPipeline> {
    const file = new URL(`${kernel.name}.wgsl`, this.#folder)
    const code = await readFile(file, 'utf8').catch((cause: unknown) => {
      throw new AppError('internal', `kernel ${kernel.name} has no shader ${fileURLToPath(file)}`, {}, cause)
    })
    const device = this.#device
    // scopes nest per device, so everything between push and pop runs without giving up the turn
    device.pushErrorScope('validation')
    const module = device.createShaderModule({ label: kernel.name, code })
    const moduleError = device.popErrorScope()
    const bindGroupLayout = device.createBindGroupLayout({
      label: kernel.name,
      entries: [
        ...kernel.bindings.map(
          (binding, index): GPUBindGroupLayoutEntry => ({
            binding: index,
            visibility: SHADER_STAGE_COMPUTE,
            buffer: { type: binding.access === 'read' ? 'read-only-storage' : 'storage' },
          }),
        ),
        {
          binding: kernel.bindings.length,
          visibility: SHADER_STAGE_COMPUTE,
          buffer: { type: 'uniform', hasDynamicOffset: true, minBindingSize: kernel.paramWords * 4 },
        },
      ],
    })
    const layout = device.createPipelineLayout({ label: kernel.name, bindGroupLayouts: [bindGroupLayout] })
    const pipelineResult = device
      .createComputePipelineAsync({ label: kernel.name, layout, compute: { module, entryPoint: 'main' } })
      .then(
        (pipeline) => ({ pipeline }),
        (error: unknown) => ({ error }),
      )
    if ((await gpuWait(moduleError)) !== null) throw await this.#shaderError(file, module)
    const result = await gpuWait(pipelineResult)
    if ('error' in result) {
      const detail = result.error instanceof Error ? result.error.message : String(result.error)
      throw new AppError('internal', `${fileURLToPath(file)}: ${detail}`, { kernel: kernel.name }, result.error)
    }
    const built = { pipeline: result.pipeline, bindGroupLayout }
    this.#ready.set(kernel.name, built)
    return built
  }

  async #shaderError(file: URL, module: GPUShaderModule): Promise<AppError> {
    const { messages } = await gpuWait(module.getCompilationInfo())
    const path = fileURLToPath(file)
    const lines = messages
      .filter((message) => message.type === 'error')
      .map((message) => `${path}:${message.lineNum}:${message.linePos}: ${message.message}`)
    return new AppError('internal', lines.join('\n') || `${path} is not valid WGSL`, { shader: path })
  }

  /** One workgroup of each kernel with zero params: every kernel returns at once, but the adapter has compiled it. */
  async #warm(kernels: readonly Kernel[]): Promise<void> {
    const device = this.#device
    const slots = Math.max(...kernels.map((kernel) => kernel.bindings.length + 1))
    const size = WARM_SLOT_BYTES * slots
    const readable = device.createBuffer({
      label: 'warm read',
      size,
      usage: BUFFER_USAGE.STORAGE | BUFFER_USAGE.UNIFORM,
    })
    const writable = device.createBuffer({ label: 'warm write', size, usage: BUFFER_USAGE.STORAGE })
    const encoder = device.createCommandEncoder({ label: 'warm' })
    const pass = encoder.beginComputePass({ label: 'warm' })
    for (const kernel of kernels) {
      const { pipeline, bindGroupLayout } = await this.#pipelines.get(kernel.name)!
      const entries = [...kernel.bindings, { access: 'read' as const }].map((binding, index) => ({
        binding: index,
        resource: {
          buffer: binding.access === 'read' ? readable : writable,
          offset: index * WARM_SLOT_BYTES,
          size: WARM_SLOT_BYTES,
        },
      }))
      pass.setPipeline(pipeline)
      pass.setBindGroup(0, device.createBindGroup({ label: kernel.name, layout: bindGroupLayout, entries }), [0])
      pass.dispatchWorkgroups(1)
    }
    pass.end()
    device.queue.submit([encoder.finish()])
    await gpuWait(device.queue.onSubmittedWorkDone())
    readable.destroy()
    writable.destroy()
    device.queue.submit([])
  }
}
