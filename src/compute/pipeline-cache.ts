// Compute pipelines by kernel, built from shaders/<name>.wgsl and warmed with an empty dispatch (software adapters compile at
// the first dispatch). The layout comes from Kernel.bindings, so a shader that disagrees with its kernel fails here. Files of
// shaders/lib are appended to a kernel's source as they are: its library, and for kernels that read chunks one of two forms,
// values-buffer.wgsl or values-texture.wgsl.
// Entry: PipelineCache.prepare().

import { readFile } from 'node:fs/promises'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { AppError } from '../errors.ts'
import { packageFile } from '../program-files.ts'
import { TEXTURE_FORMAT } from './chunk-texture.ts'
import type { Kernel } from './compute-device.ts'
import { BUFFER_USAGE, SHADER_STAGE_COMPUTE, TEXTURE_USAGE } from './gpu-constants.ts'
import { gpuWait } from './gpu-wait.ts'

const SHADER_FOLDER = pathToFileURL(packageFile('shaders/'))

const WARM_SLOT_BYTES = 256

/** Where a kernel finds its chunk; kernels without one only have the form 'buffer'. */
export type ValuesForm = 'buffer' | 'texture'

/** u32 words of the uniform `values_first` in values-texture.wgsl. */
export const VALUES_FIRST_WORDS = 4

export interface KernelPipeline {
  pipeline: GPUComputePipeline
  bindGroupLayout: GPUBindGroupLayout
}

function keyOf(kernel: Kernel, form: ValuesForm): string {
  return `${kernel.name} ${form}`
}

export class PipelineCache {
  readonly #device: GPUDevice
  readonly #folder: URL
  readonly #pipelines = new Map<string, Promise<KernelPipeline>>()
  readonly #ready = new Map<string, KernelPipeline>()
  #textureLayout: GPUBindGroupLayout | null = null

  constructor(device: GPUDevice, folder: URL = SHADER_FOLDER) {
    this.#device = device
    this.#folder = folder
  }

  /** The pipeline when it has been built. */
  get(kernel: Kernel, form: ValuesForm): KernelPipeline | undefined {
    return this.#ready.get(keyOf(kernel, form))
  }

  /** Layout of bind group 1 of all kernels in the form 'texture'. */
  get textureLayout(): GPUBindGroupLayout {
    this.#textureLayout ??= this.#device.createBindGroupLayout({
      label: 'values texture',
      entries: [
        {
          binding: 0,
          visibility: SHADER_STAGE_COMPUTE,
          storageTexture: { access: 'read-only', format: TEXTURE_FORMAT, viewDimension: '2d' },
        },
        {
          binding: 1,
          visibility: SHADER_STAGE_COMPUTE,
          buffer: { type: 'uniform', hasDynamicOffset: true, minBindingSize: VALUES_FIRST_WORDS * 4 },
        },
      ],
    })
    return this.#textureLayout
  }

  /** Builds and warms what is missing. Throws `internal` with file, line and column when a shader is not valid. */
  async prepare(kernels: readonly Kernel[], form: ValuesForm): Promise<void> {
    const missing = kernels.filter((kernel) => !this.#pipelines.has(keyOf(kernel, form)))
    for (const kernel of missing) {
      const key = keyOf(kernel, form)
      const built = this.#build(kernel, form)
      built.catch(() => this.#pipelines.delete(key))
      this.#pipelines.set(key, built)
    }
    const results = await Promise.allSettled(kernels.map((kernel) => this.#pipelines.get(keyOf(kernel, form))!))
    for (const result of results) if (result.status === 'rejected') throw result.reason
    if (missing.length > 0) await this.#warm(missing, form)
  }

  /** The kernel's source with its library behind it: line numbers stay, and directives must come first. */
  async #source(kernel: Kernel, form: ValuesForm, file: URL): Promise<string> {
    const own = await readFile(file, 'utf8').catch((cause: unknown) => {
      throw new AppError('internal', `kernel ${kernel.name} has no shader ${fileURLToPath(file)}`, {}, cause)
    })
    const library = [...(kernel.library ?? []), ...(kernel.bindings[0]?.chunk ? [`values-${form}`] : [])]
    const files = library.map((name) => readFile(new URL(`lib/${name}.wgsl`, SHADER_FOLDER), 'utf8'))
    return [own, ...(await Promise.all(files))].join('\n')
  }

  async #build(kernel: Kernel, form: ValuesForm): Promise<KernelPipeline> {
    const file = new URL(`${kernel.name}.wgsl`, this.#folder)
    const code = await this.#source(kernel, form, file)
    const device = this.#device
    // scopes nest per device, so everything between push and pop runs without giving up the turn
    device.pushErrorScope('validation')
    const module = device.createShaderModule({ label: kernel.name, code })
    const moduleError = device.popErrorScope()
    const bindGroupLayout = device.createBindGroupLayout({
      label: kernel.name,
      entries: [
        ...kernel.bindings.flatMap(({ access, chunk }, binding): GPUBindGroupLayoutEntry[] => {
          if (chunk && form === 'texture') return []
          const type = access === 'read' ? 'read-only-storage' : 'storage'
          return [{ binding, visibility: SHADER_STAGE_COMPUTE, buffer: { type } }]
        }),
        {
          binding: kernel.bindings.length,
          visibility: SHADER_STAGE_COMPUTE,
          buffer: { type: 'uniform', hasDynamicOffset: true, minBindingSize: kernel.paramWords * 4 },
        },
      ],
    })
    const bindGroupLayouts = form === 'texture' ? [bindGroupLayout, this.textureLayout] : [bindGroupLayout]
    const layout = device.createPipelineLayout({ label: kernel.name, bindGroupLayouts })
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
    this.#ready.set(keyOf(kernel, form), built)
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
  async #warm(kernels: readonly Kernel[], form: ValuesForm): Promise<void> {
    const device = this.#device
    const slots = Math.max(...kernels.map((kernel) => kernel.bindings.length + 1))
    const size = WARM_SLOT_BYTES * slots
    const readable = device.createBuffer({
      label: 'warm read',
      size,
      usage: BUFFER_USAGE.STORAGE | BUFFER_USAGE.UNIFORM,
    })
    const writable = device.createBuffer({ label: 'warm write', size, usage: BUFFER_USAGE.STORAGE })
    const texture = form === 'texture' ? this.#warmTexture(readable) : null
    const encoder = device.createCommandEncoder({ label: 'warm' })
    const pass = encoder.beginComputePass({ label: 'warm' })
    for (const kernel of kernels) {
      const { pipeline, bindGroupLayout } = await this.#pipelines.get(keyOf(kernel, form))!
      const entries = [...kernel.bindings, { access: 'read' as const, chunk: undefined }].flatMap(
        ({ access, chunk }, binding) => {
          if (chunk && texture !== null) return []
          const buffer = access === 'read' ? readable : writable
          return [{ binding, resource: { buffer, offset: binding * WARM_SLOT_BYTES, size: WARM_SLOT_BYTES } }]
        },
      )
      pass.setPipeline(pipeline)
      if (texture !== null) pass.setBindGroup(1, texture.group, [0])
      pass.setBindGroup(0, device.createBindGroup({ label: kernel.name, layout: bindGroupLayout, entries }), [0])
      pass.dispatchWorkgroups(1)
    }
    pass.end()
    device.queue.submit([encoder.finish()])
    await gpuWait(device.queue.onSubmittedWorkDone())
    readable.destroy()
    writable.destroy()
    texture?.texture.destroy()
    device.queue.submit([])
  }

  #warmTexture(first: GPUBuffer): { texture: GPUTexture; group: GPUBindGroup } {
    const texture = this.#device.createTexture({
      label: 'warm texture',
      size: [1, 1],
      format: TEXTURE_FORMAT,
      usage: TEXTURE_USAGE.STORAGE_BINDING,
    })
    const group = this.#device.createBindGroup({
      label: 'warm texture',
      layout: this.textureLayout,
      entries: [
        { binding: 0, resource: texture.createView() },
        { binding: 1, resource: { buffer: first, offset: 0, size: VALUES_FIRST_WORDS * 4 } },
      ],
    })
    return { texture, group }
  }
}
