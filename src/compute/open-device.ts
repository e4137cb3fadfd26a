// Opens the device that kernels run on. `auto` takes the default adapter and falls back to the reference device when there is
// none; `reference` is the scalar device; any other name is matched by substring against the adapters. The WebGPU half is
// loaded only when it is asked for.

import type { ComputeDevice } from './compute-device.ts'
import { openReferenceDevice } from './reference-device.ts'

export interface OpenDeviceOptions {
  /** Bytes that all buffers of the device may take together. */
  budgetBytes?: number
  /** For benchmarks: on software adapters only some of the passes are timed otherwise. */
  timeEveryPass?: boolean
}

/** Throws device_unavailable when a named adapter is not there. */
export async function openDevice(name: string, options: OpenDeviceOptions = {}): Promise<ComputeDevice> {
  if (name === 'reference') return openReferenceDevice(options)
  const { openWebgpuDevice } = await import('./webgpu-device.ts')
  return (await openWebgpuDevice(name, options)) ?? openReferenceDevice(options)
}
