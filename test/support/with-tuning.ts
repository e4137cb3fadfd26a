// A device with another chunk size and lane count, so that small tensors meet every chunk boundary.

import type { ComputeDevice } from '../../src/compute/compute-device.ts'

export function withTuning(device: ComputeDevice, tuning: Partial<ComputeDevice['tuning']>): ComputeDevice {
  return {
    info: device.info,
    limits: device.limits,
    lost: device.lost,
    tuning: { ...device.tuning, ...tuning },
    prepare: (kernels, form) => device.prepare(kernels, form),
    createBuffer: (label, sizeBytes) => device.createBuffer(label, sizeBytes),
    createChunk: (label, sizeBytes) => device.createChunk(label, sizeBytes),
    write: (buffer, offsetBytes, data) => device.write(buffer, offsetBytes, data),
    submit: (commands, readbacks) => device.submit(commands, readbacks),
    kernelTimes: () => device.kernelTimes(),
    close: () => device.close(),
  }
}
