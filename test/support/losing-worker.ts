// A GPU worker like the real one, on a real adapter, whose device is lost when it gets SIGUSR2: as a driver reset takes it away
// in the middle of whatever it does. Child entry.

import { requestGpuDevice } from '../../src/compute/webgpu-device.ts'
import { WebgpuDevice } from '../../src/compute/webgpu-queue.ts'
import { serveDevice } from '../../src/jobs/worker.ts'

const opened = await requestGpuDevice('auto')
if (opened === null) throw new Error('there is no adapter to lose')
process.on('SIGUSR2', () => opened.device.destroy())
await serveDevice(async () => new WebgpuDevice(opened.device, opened.info, { budgetBytes: 2 ** 28 }), false)
