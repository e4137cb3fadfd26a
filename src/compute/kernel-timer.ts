// Seconds and bytes by kernel. With the timestamp-query feature a compute pass writes its begin and end into a query set that
// is resolved in the same submit and read when that submit is done, so no lane ever waits for a time. Without it the wall time
// of a submit is shared out by bytes. Entry: KernelTimer.

import type { KernelTime } from './compute-device.ts'
import { BUFFER_USAGE, MAP_MODE_READ } from './gpu-constants.ts'

/** Passes that one recorder can time; a submit has a handful, further passes go untimed. */
const PASSES_PER_RECORDER = 64
const BYTES_PER_QUERY = 8

interface PassRecord {
  kernel: string
  dispatches: number
  bytes: number
}

interface Recorder {
  querySet: GPUQuerySet
  resolve: GPUBuffer
  readback: GPUBuffer
  passes: PassRecord[]
}

/** The times of one submit, between begin() and finish(). */
export class SubmitTimes {
  readonly passes: PassRecord[] = []
  readonly started = performance.now()
  readonly #recorder: Recorder | null

  constructor(recorder: Recorder | null) {
    this.#recorder = recorder
  }

  /** Counts a pass; returns what beginComputePass needs to time it. */
  pass(kernel: string): { record: PassRecord; timestampWrites: GPUComputePassTimestampWrites | undefined } {
    const record = { kernel, dispatches: 0, bytes: 0 }
    this.passes.push(record)
    const recorder = this.#recorder
    if (recorder === null || recorder.passes.length >= PASSES_PER_RECORDER) {
      return { record, timestampWrites: undefined }
    }
    const first = recorder.passes.length * 2
    recorder.passes.push(record)
    const timestampWrites = {
      querySet: recorder.querySet,
      beginningOfPassWriteIndex: first,
      endOfPassWriteIndex: first + 1,
    }
    return { record, timestampWrites }
  }

  /** Adds the commands that bring the times back. */
  encode(encoder: GPUCommandEncoder): void {
    const recorder = this.#recorder
    if (recorder === null || recorder.passes.length === 0) return
    const queries = recorder.passes.length * 2
    encoder.resolveQuerySet(recorder.querySet, 0, queries, recorder.resolve, 0)
    encoder.copyBufferToBuffer(recorder.resolve, 0, recorder.readback, 0, queries * BYTES_PER_QUERY)
  }

  get recorder(): Recorder | null {
    return this.#recorder
  }
}

export class KernelTimer {
  readonly #device: GPUDevice
  readonly #timestamps: boolean
  readonly #times = new Map<string, KernelTime>()
  #idle: Recorder[] = []
  #recorders = 0

  constructor(device: GPUDevice) {
    this.#device = device
    this.#timestamps = device.features.has('timestamp-query')
  }

  begin(): SubmitTimes {
    return new SubmitTimes(this.#timestamps ? (this.#idle.pop() ?? this.#newRecorder()) : null)
  }

  /** Reads the times of a submit once its work is done; to be called right behind the submit, so that the read waits with it. */
  async finish(times: SubmitTimes, workDone: Promise<unknown>): Promise<void> {
    const recorder = times.recorder
    const totalBytes = times.passes.reduce((sum, pass) => sum + pass.bytes, 0)
    if (recorder === null) {
      await workDone
      const wallSeconds = (performance.now() - times.started) / 1000
      for (const pass of times.passes) {
        const share = totalBytes > 0 ? pass.bytes / totalBytes : 1 / times.passes.length
        this.#add(pass, wallSeconds * share)
      }
      return
    }
    if (recorder.passes.length > 0) {
      const usedBytes = recorder.passes.length * 2 * BYTES_PER_QUERY
      await recorder.readback.mapAsync(MAP_MODE_READ, 0, usedBytes)
      const stamps = new BigUint64Array(recorder.readback.getMappedRange(0, usedBytes))
      for (const [index, pass] of recorder.passes.entries()) {
        const begin = stamps[index * 2]!
        const end = stamps[index * 2 + 1]!
        this.#add(pass, end > begin ? Number(end - begin) / 1e9 : 0)
      }
      recorder.readback.unmap()
    }
    recorder.passes = []
    this.#idle.push(recorder)
  }

  report(): KernelTime[] {
    return [...this.#times.values()].map((time) => ({ ...time }))
  }

  destroy(): void {
    for (const recorder of this.#idle) {
      recorder.querySet.destroy()
      recorder.resolve.destroy()
      recorder.readback.destroy()
    }
    this.#idle = []
  }

  #add(pass: PassRecord, seconds: number): void {
    const source = this.#timestamps ? 'timestamp' : 'wall'
    const time = this.#times.get(pass.kernel) ?? { kernel: pass.kernel, dispatches: 0, seconds: 0, bytes: 0, source }
    time.dispatches += pass.dispatches
    time.seconds += seconds
    time.bytes += pass.bytes
    this.#times.set(pass.kernel, time)
  }

  #newRecorder(): Recorder {
    const label = `kernel times ${this.#recorders++}`
    const count = PASSES_PER_RECORDER * 2
    const size = count * BYTES_PER_QUERY
    return {
      querySet: this.#device.createQuerySet({ label, type: 'timestamp', count }),
      resolve: this.#device.createBuffer({
        label,
        size,
        usage: BUFFER_USAGE.QUERY_RESOLVE | BUFFER_USAGE.COPY_SRC,
      }),
      readback: this.#device.createBuffer({ label, size, usage: BUFFER_USAGE.MAP_READ | BUFFER_USAGE.COPY_DST }),
      passes: [],
    }
  }
}
