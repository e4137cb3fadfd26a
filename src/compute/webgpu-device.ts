// The GPU: kernels as WebGPU compute pipelines on the Dawn binding. The only importer of `webgpu`; lives in the GPU worker
// process, never in the HTTP one. Entry: openWebgpuDevice(). Contract: compute-device.ts. https://www.w3.org/TR/webgpu/

import { totalmem } from 'node:os'
import { create } from 'webgpu'
import { AppError } from '../errors.ts'
import type { DeviceInfo } from './compute-device.ts'
import { DEFAULT_BUDGET_BYTES } from './memory-budget.ts'
import { WebgpuDevice } from './webgpu-queue.ts'

export interface WebgpuDeviceOptions {
  budgetBytes?: number
  timeEveryPass?: boolean
  /** Whether chunks are kept in textures; left out: where the adapter is software and its WGSL allows it. */
  chunkTextures?: boolean
  /** Another folder of shaders, for tests. */
  shaderFolder?: URL
}

/** The most that any kernel can use: a binding is indexed by u32 words of vec4, and signed 32-bit sizes are common in drivers. */
const WANTED_BINDING_BYTES = 2 ** 31 - 256

/** Nanosecond timestamps instead of 65 us steps. */
const CREATE_OPTIONS = ['disable-dawn-features=timestamp_quantization']

/** The binding must outlive every object made from it, and is collected otherwise. */
const instances: GPU[] = []

/** Opens the adapter whose name contains `name`, or the default one for 'auto'. Null: 'auto' and there is no adapter. */
export async function openWebgpuDevice(name: string, options: WebgpuDeviceOptions = {}): Promise<WebgpuDevice | null> {
  const opened = await requestGpuDevice(name)
  if (opened === null) return null
  const { device, info } = opened
  const { budgetBytes = defaultBudget(info), timeEveryPass, shaderFolder } = options
  const { chunkTextures = info.software && readableTextures() } = options
  const queueOptions = { budgetBytes, timeEveryPass, chunkTextures }
  return new WebgpuDevice(device, info, shaderFolder === undefined ? queueOptions : { ...queueOptions, shaderFolder })
}

/** The bare device, for openWebgpuDevice and for tests that take it away from under it. */
export async function requestGpuDevice(name: string): Promise<{ device: GPUDevice; info: DeviceInfo } | null> {
  const adapter = await requestAdapter(name)
  if (adapter === null) {
    if (name === 'auto') return null
    throw new AppError(
      'device_unavailable',
      `no adapter for '${name}'; use 'auto', 'reference' or part of an adapter's name`,
      { device: name },
    )
  }
  const info = describe(adapter)
  const { limits } = adapter
  try {
    const device = await adapter.requestDevice({
      label: 'tensorpress',
      requiredFeatures: wantedFeatures(adapter),
      requiredLimits: {
        maxStorageBufferBindingSize: Math.min(limits.maxStorageBufferBindingSize, WANTED_BINDING_BYTES),
        maxBufferSize: Math.min(limits.maxBufferSize, WANTED_BINDING_BYTES),
      },
    })
    return { device, info }
  } catch (cause) {
    throw new AppError('device_unavailable', `adapter '${info.adapter}' gave no device: ${String(cause)}`, {}, cause)
  }
}

function readableTextures(): boolean {
  return instances.at(-1)?.wgslLanguageFeatures.has('readonly_and_readwrite_storage_textures') === true
}

/** Subgroups only where 8 lanes side by side always belong to one subgroup, and a workgroup of 64 to whole ones. */
function wantedFeatures({ features, info }: GPUAdapter): GPUFeatureName[] {
  const wanted: GPUFeatureName[] = features.has('timestamp-query') ? ['timestamp-query'] : []
  const { subgroupMinSize = 0, subgroupMaxSize = 0 } = info
  const teamsOf8 = subgroupMinSize >= 8 && subgroupMaxSize <= 64
  const language = instances.at(-1)?.wgslLanguageFeatures.has('subgroup_id') === true
  if (features.has('subgroups') && teamsOf8 && language) wanted.push('subgroups')
  return wanted
}

async function requestAdapter(name: string): Promise<GPUAdapter | null> {
  const adapterOption = name === 'auto' ? [] : [`adapter=${name}`]
  try {
    const gpu = create([...CREATE_OPTIONS, ...adapterOption])
    instances.push(gpu)
    return await gpu.requestAdapter({ powerPreference: 'high-performance' })
  } catch (cause) {
    if (name === 'auto') return null
    // the binding's own message lists the adapters it found
    const detail = cause instanceof Error ? cause.message : String(cause)
    throw new AppError('device_unavailable', `no adapter named '${name}': ${detail}`, { device: name }, cause)
  }
}

/** An adapter of this machine as Dawn sees it, for people who ask why theirs is not used. */
export interface AdapterReport {
  /** What `--device` can be given. */
  name: string
  /** null: it is listed, and opening it fails; `problem` says how. */
  info: DeviceInfo | null
  limits: Record<string, number>
  features: string[]
  problem: string | null
}

/** No adapter bears this name: asking for it makes the binding list those that there are. */
const NO_SUCH_ADAPTER = 'adapter=\u0001'

/** Every adapter that Dawn finds, opened in turn. Empty: none, or no Vulkan driver. Never throws. */
export async function listAdapters(): Promise<AdapterReport[]> {
  const names = new Set<string>()
  try {
    const gpu = create([NO_SUCH_ADAPTER])
    instances.push(gpu)
    await gpu.requestAdapter()
  } catch (cause) {
    const text = cause instanceof Error ? cause.message : String(cause)
    for (const match of text.matchAll(/backend: '(\w+)', name: '([^']+)'/g)) {
      if (match[1] !== 'null') names.add(match[2]!)
    }
  }
  const reports: AdapterReport[] = []
  for (const name of names) reports.push(await reportAdapter(name))
  return reports
}

async function reportAdapter(name: string): Promise<AdapterReport> {
  const nothing = { name, info: null, limits: {}, features: [] }
  try {
    const adapter = await requestAdapter(name)
    if (adapter === null) return { ...nothing, problem: 'the driver gives no adapter that WebGPU accepts' }
    const limits: Record<string, number> = {}
    for (const key in adapter.limits) {
      const value: unknown = Reflect.get(adapter.limits, key)
      if (typeof value === 'number') limits[key] = value
    }
    return { name, info: describe(adapter), limits, features: [...adapter.features].sort(), problem: null }
  } catch (cause) {
    return { ...nothing, problem: cause instanceof Error ? cause.message : String(cause) }
  }
}

function describe(adapter: GPUAdapter): DeviceInfo {
  const { info } = adapter
  return {
    kind: 'webgpu',
    adapter: info.device || info.description || info.vendor,
    vendor: info.vendor,
    architecture: info.architecture,
    driver: info.description,
    software: info.isFallbackAdapter || info.architecture === 'software',
  }
}

/** A software adapter takes its buffers from main memory, so half of it is the most it may have. */
function defaultBudget(info: DeviceInfo): number {
  if (!info.software) return DEFAULT_BUDGET_BYTES
  const constrained = process.constrainedMemory()
  const memoryBytes = constrained > 0 ? Math.min(constrained, totalmem()) : totalmem()
  return Math.min(DEFAULT_BUDGET_BYTES, Math.floor(memoryBytes / 2))
}
