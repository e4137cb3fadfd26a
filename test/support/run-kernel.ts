// One dispatch of a kernel on words given and returned: uploads every binding, runs, and brings the written ones back.

import type { ComputeDevice, DeviceBuffer, Kernel, Readback } from '../../src/compute/compute-device.ts'
import type { Workgroups } from '../../src/kernels/kernel-support.ts'

export type Words = Uint32Array

/** `buffers` by binding name; what is returned holds the written ones, as long as they were given. */
export async function runKernel(
  device: ComputeDevice,
  kernel: Kernel,
  buffers: Record<string, Words>,
  params: number[],
  workgroups: Workgroups,
): Promise<Record<string, Words>> {
  const made: DeviceBuffer[] = []
  const results: Record<string, Words> = {}
  const readbacks: Readback[] = []
  try {
    for (const { name, access } of kernel.bindings) {
      const words = buffers[name]
      if (words === undefined) throw new Error(`${kernel.name} needs a buffer for '${name}'`)
      const buffer = device.createBuffer(name, words.byteLength)
      made.push(buffer)
      device.write(buffer, 0, new Uint8Array(words.buffer, words.byteOffset, words.byteLength))
      if (access !== 'read_write') continue
      readbacks.push({
        buffer,
        offsetBytes: 0,
        sizeBytes: words.byteLength,
        consume: (view) => {
          results[name] = new Uint32Array(view.slice().buffer)
        },
      })
    }
    const command = {
      op: 'run' as const,
      kernel,
      buffers: made,
      params: Uint32Array.from(params),
      workgroups,
      bytes: 0,
    }
    await device.submit([command], readbacks)
    return results
  } finally {
    for (const buffer of made) buffer.destroy()
  }
}
