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
}

/** The most that any kernel can use: a binding is indexed by u32 words of vec4, and signed 32-bit sizes are common in drivers. */
const WANTED_BINDING_BYTES = 2 ** 31 - 256

/** Nanosecond timestamps instead of 65 us steps. */
const CREATE_OPTIONS = ['disable-dawn-features=timestamp_quantization']

/** The binding must outlive every object made from it, and is collected otherwise. */
const instances: GPU[] = []

/** Opens the adapter whose name contains `name`, or the default one for 'auto'. Null: 'auto' and there is no adapter. */
export async function openWebgpuDevice(name: string, options: WebgpuDeviceOptions = {}): Promise<WebgpuDevice | null> {
  const adapter = await requestAdapter(name)
  if (adapter === null) {
    if (name === 'auto') return null
    throw new AppError(
      'device_unavailable',
      `no adapter for '${name}'; use 'auto', 'reference' or part of an adapter's name`,
      {
        device: name,
      },
    )
  }
  const info = describe(adapter)
  const { limits } = adapter
  const device = await adapter
    .requestDevice({
      label: 'tensorpress',
      requiredFeatures: adapter.features.has('timestamp-query') ? ['timestamp-query'] : [],
      requiredLimits: {
        maxStorageBufferBindingSize: Math.min(limits.maxStorageBufferBindingSize, WANTED_BINDING_BYTES),
        maxBufferSize: Math.min(limits.maxBufferSize, WANTED_BINDING_BYTES),
      },
    })
    .catch((cause: unknown) => {
      throw new AppError('device_unavailable', `adapter '${info.adapter}' gave no device: ${String(cause)}`, {}, cause)
    })
  return new WebgpuDevice(device, info, { budgetBytes: options.budgetBytes ?? defaultBudget(info) })
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
