// One dispatch of a kernel on words given and returned: uploads every binding, runs, and brings the written ones back.

import type { ChunkForm, ComputeDevice, DeviceBuffer, Kernel, Readback } from '../../src/compute/compute-device.ts'
import type { Workgroups } from '../../src/kernels/kernel-support.ts'

export type Words = Uint32Array

/**
 * `buffers` by binding name; what is returned holds the written ones, as long as they were given. `form`: what the kernel reads its
 * values from, where it has any.
 */
export async function runKernel(
  device: ComputeDevice,
  kernel: Kernel,
  buffers: Record<string, Words>,
  params: number[],
  workgroups: Workgroups,
  form: ChunkForm = 'chunk',
): Promise<Record<string, Words>> {
  const made: DeviceBuffer[] = []
  const results: Record<string, Words> = {}
  const readbacks: Readback[] = []
  try {
    for (const { name, access, chunk } of kernel.bindings) {
      const words = buffers[name]
      if (words === undefined) throw new Error(`${kernel.name} needs a buffer for '${name}'`)
      const bytes = new Uint8Array(words.buffer, words.byteOffset, words.byteLength)
      if (chunk && form === 'chunk') {
        const values = device.createChunk(name, words.byteLength)
        made.push(values)
        const host = await values.host()
        host.set(bytes)
        values.upload(words.byteLength)
        continue
      }
      const buffer = device.createBuffer(name, words.byteLength)
      made.push(buffer)
      device.write(buffer, 0, bytes)
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
