// A short-lived child for `tensorpress doctor`: what Dawn and onnxruntime find on this machine. Each is native code that may end
// the process, so each is asked in a child of its own: the first argument says which. Sends one message and ends.

import type { AdapterReport } from '../compute/webgpu-device.ts'

export interface DeviceProbe {
  adapters: AdapterReport[]
}

export interface RuntimeProbe {
  version: string
  /** y = x + x on [1.5, -2]: [3, -4] when the library works. */
  output: number[]
}

/**
 * An ONNX model of one Add node: ir_version 8, opset 13, graph "p" with x f32[2] -> y f32[2]. Fields as in onnx.proto:
 * ModelProto 1 ir_version, 7 graph, 8 opset_import; GraphProto 1 node, 2 name, 11 input, 12 output.
 */
const ADD_MODEL = Uint8Array.from(
  [
    [0x08, 8],
    [0x3a, 49],
    [0x0a, 14, 0x0a, 1, 0x78, 0x0a, 1, 0x78, 0x12, 1, 0x79, 0x22, 3, 0x41, 0x64, 0x64],
    [0x12, 1, 0x70],
    [0x5a, 13, 0x0a, 1, 0x78, 0x12, 8, 0x0a, 6, 0x08, 1, 0x12, 2, 0x0a, 0],
    [0x62, 13, 0x0a, 1, 0x79, 0x12, 8, 0x0a, 6, 0x08, 1, 0x12, 2, 0x0a, 0],
    [0x42, 2, 0x10, 13],
  ].flat(),
)

async function probeDevices(): Promise<DeviceProbe> {
  const { listAdapters } = await import('../compute/webgpu-device.ts')
  return { adapters: await listAdapters() }
}

async function probeRuntime(): Promise<RuntimeProbe> {
  const [{ mkdtemp, rm, writeFile }, { tmpdir }, { join }, { ORT_VERSION, openSession }] = await Promise.all([
    import('node:fs/promises'),
    import('node:os'),
    import('node:path'),
    import('../runtime/ort-session.ts'),
  ])
  const folder = await mkdtemp(join(tmpdir(), 'tensorpress-probe-'))
  try {
    const path = join(folder, 'add.onnx')
    await writeFile(path, ADD_MODEL)
    const session = await openSession(path, { threads: 1, x64QuantPrecision: null })
    const data = new Uint8Array(Float32Array.of(1.5, -2).buffer)
    const outputs = await session.run({ x: { dtype: 'f32', dims: [2], data } })
    await session.release()
    return { version: ORT_VERSION, output: [...outputs.get('y')!.values] }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

if (import.meta.main) {
  const result = process.argv[2] === 'runtime' ? await probeRuntime() : await probeDevices()
  process.send?.(result, () => process.disconnect())
}
