// Runs a test on the reference device and on the GPU, each opened once a file. Checks around every test: buffers made are freed,
// and the device refused nothing (a final empty submit brings errors that no submit has reported). Without an adapter the GPU half is
// skipped with the reason, and fails under CI=true. Entry: testOnDevices(), testOnGpu().

import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import type { ComputeDevice } from '../../src/compute/compute-device.ts'
import { openDevice } from '../../src/compute/open-device.ts'
import { openReferenceDevice } from '../../src/compute/reference-device.ts'

type DeviceTest = (device: ComputeDevice) => void | Promise<void>

const reference = openReferenceDevice()
const gpu = await openGpu()

async function openGpu(): Promise<{ device: ComputeDevice } | { reason: string }> {
  try {
    const device = await openDevice('auto')
    if (device.info.kind === 'reference') return { reason: 'no WebGPU adapter on this host' }
    console.log(`# gpu: ${device.info.adapter} (${device.info.driver})`)
    return { device }
  } catch (error) {
    return { reason: error instanceof Error ? error.message : String(error) }
  }
}

after(async () => {
  if ('device' in gpu) await gpu.device.close()
})

function liveBuffers(device: ComputeDevice): number {
  return (device as ComputeDevice & { bufferCount: number }).bufferCount
}

async function checked(device: ComputeDevice, run: DeviceTest): Promise<void> {
  const before = liveBuffers(device)
  await run(device)
  await device.submit([])
  assert.equal(liveBuffers(device) - before, 0, 'buffers made and not destroyed')
}

export function testOnGpu(name: string, run: DeviceTest): void {
  if ('device' in gpu) {
    test(`${name} [gpu]`, () => checked(gpu.device, run))
    return
  }
  if (process.env['CI'] === 'true') {
    test(`${name} [gpu]`, () => assert.fail(`the GPU half may not be skipped in CI: ${gpu.reason}`))
    return
  }
  test(`${name} [gpu]`, { skip: `gpu: skipped, ${gpu.reason}` }, () => undefined)
}

export function testOnDevices(name: string, run: DeviceTest): void {
  test(`${name} [reference]`, () => checked(reference, run))
  testOnGpu(name, run)
}

/** The scalar device, as the oracle of a GPU test. */
export function referenceDevice(): ComputeDevice {
  return reference
}
