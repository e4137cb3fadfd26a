// A GPUDevice that does nothing and can be lost on demand: for the paths that no driver here can be made to take.

import type { DeviceInfo } from '../../src/compute/compute-device.ts'
import { WebgpuDevice, type WebgpuQueueOptions } from '../../src/compute/webgpu-queue.ts'

const INFO: DeviceInfo = {
  kind: 'webgpu',
  adapter: 'fake',
  vendor: 'test',
  architecture: 'none',
  driver: '',
  software: true,
}

interface PendingWork {
  resolve: () => void
  reject: (error: Error) => void
}

export interface FakeGpu {
  device: WebgpuDevice
  /** Buffers and textures that were created and not destroyed. */
  liveBuffers(): number
  submits(): number
  /** From now on nothing can be mapped at its creation. */
  takeMemory(): void
  /** Lets submitted work finish. */
  finishWork(): void
  /** As a driver does it: pending maps are aborted, then `lost` resolves. */
  lose(message: string): void
}

export function fakeGpu(options: Partial<WebgpuQueueOptions> = {}): FakeGpu {
  const pending: PendingWork[] = []
  let live = 0
  let submits = 0
  let noMemory = false
  let loseDevice: (info: { reason: string; message: string }) => void = () => undefined
  const wait = (): Promise<void> =>
    new Promise((resolve, reject) => {
      pending.push({ resolve, reject })
    })
  const gpu = {
    features: new Set<string>(),
    limits: {
      maxStorageBufferBindingSize: 2 ** 27,
      maxBufferSize: 2 ** 28,
      maxComputeWorkgroupsPerDimension: 65535,
      maxTextureDimension2D: 8192,
    },
    lost: new Promise((resolve) => {
      loseDevice = resolve
    }),
    addEventListener: () => undefined,
    createBuffer: ({ size, mappedAtCreation }: { size: number; mappedAtCreation?: boolean }) => {
      if (mappedAtCreation && noMemory) throw new RangeError('createBuffer failed')
      live += 1
      return {
        size,
        destroy: () => {
          live -= 1
        },
        mapAsync: wait,
        getMappedRange: (_offset: number, length: number) => new ArrayBuffer(length),
        unmap: () => undefined,
      }
    },
    createTexture: () => {
      live += 1
      return {
        createView: () => ({}),
        destroy: () => {
          live -= 1
        },
      }
    },
    pushErrorScope: () => undefined,
    popErrorScope: async () => null,
    createCommandEncoder: () => ({
      copyBufferToBuffer: () => undefined,
      clearBuffer: () => undefined,
      finish: () => ({}),
    }),
    queue: {
      writeBuffer: () => undefined,
      submit: () => {
        submits += 1
      },
      onSubmittedWorkDone: wait,
    },
    destroy: () => undefined,
  }
  const device = new WebgpuDevice(gpu as unknown as GPUDevice, INFO, { budgetBytes: 2 ** 28, ...options })
  return {
    device,
    liveBuffers: () => live,
    submits: () => submits,
    takeMemory: () => {
      noMemory = true
    },
    finishWork: () => {
      for (const work of pending.splice(0)) work.resolve()
    },
    lose: (message) => {
      for (const work of pending.splice(0)) work.reject(new Error('AbortError'))
      loseDevice({ reason: 'unknown', message })
    },
  }
}
