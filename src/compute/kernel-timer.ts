// Seconds and bytes by kernel. With the timestamp-query feature a compute pass writes its begin and end into a query set that
// is resolved in the same submit and read when that submit is done, so no lane ever waits for a time. Where time stamps cost more
// than they are worth (software adapters), one pass in many is timed. Without the feature the wall time of a submit is shared out
// by bytes. Entry: KernelTimer.

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
  readonly #timer: KernelTimer
  recorder: Recorder | null = null

  constructor(timer: KernelTimer) {
    this.#timer = timer
  }

  /** Counts a pass; returns what beginComputePass needs to time it. */
  pass(kernel: string): { record: PassRecord; timestampWrites: GPUComputePassTimestampWrites | undefined } {
    const record = { kernel, dispatches: 0, bytes: 0 }
    this.passes.push(record)
    if (this.#timer.due(kernel)) this.recorder ??= this.#timer.takeRecorder()
    const { recorder } = this
    // A recorder that is there anyhow times every pass of its submit.
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
    const { recorder } = this
    if (recorder === null) return
    const queries = recorder.passes.length * 2
    encoder.resolveQuerySet(recorder.querySet, 0, queries, recorder.resolve, 0)
    encoder.copyBufferToBuffer(recorder.resolve, 0, recorder.readback, 0, queries * BYTES_PER_QUERY)
  }
}

/** What is known of a kernel from its timed passes. */
interface Rate {
  secondsPerByte: number
  untimedPasses: number
}

export class KernelTimer {
  readonly #device: GPUDevice
  readonly #timestamps: boolean
  readonly #every: number
  readonly #times = new Map<string, KernelTime>()
  readonly #rates = new Map<string, Rate>()
  #idle: Recorder[] = []
  #recorders = 0

  /**
   * @param every a pass of each kernel in so many is timed, and the others are taken to be as fast by bytes. 1: all of them.
   */
  constructor(device: GPUDevice, every = 1) {
    this.#device = device
    this.#every = every
    this.#timestamps = device.features.has('timestamp-query')
  }

  begin(): SubmitTimes {
    return new SubmitTimes(this)
  }

  /** Whether the next pass of this kernel is one to be timed. */
  due(kernel: string): boolean {
    if (!this.#timestamps) return false
    const rate = this.#rates.get(kernel)
    return rate === undefined || ++rate.untimedPasses >= this.#every
  }

  takeRecorder(): Recorder {
    return this.#idle.pop() ?? this.#newRecorder()
  }

  /** Reads the times of a submit once its work is done; to be called right behind the submit, so that the read waits with it. */
  async finish(times: SubmitTimes, workDone: Promise<unknown>): Promise<void> {
    const { recorder, passes } = times
    if (!this.#timestamps) {
      await workDone
      const wallSeconds = (performance.now() - times.started) / 1000
      const totalBytes = passes.reduce((sum, pass) => sum + pass.bytes, 0)
      for (const pass of passes) {
        const share = totalBytes > 0 ? pass.bytes / totalBytes : 1 / passes.length
        this.#add(pass, wallSeconds * share)
      }
      return
    }
    await (recorder === null ? workDone : this.#readTimes(recorder))
    for (const pass of passes) {
      if (recorder?.passes.includes(pass) === true) continue
      this.#add(pass, pass.bytes * (this.#rates.get(pass.kernel)?.secondsPerByte ?? 0))
    }
    if (recorder === null) return
    recorder.passes = []
    this.#idle.push(recorder)
  }

  async #readTimes(recorder: Recorder): Promise<void> {
    const usedBytes = recorder.passes.length * 2 * BYTES_PER_QUERY
    await recorder.readback.mapAsync(MAP_MODE_READ, 0, usedBytes)
    const stamps = new BigUint64Array(recorder.readback.getMappedRange(0, usedBytes))
    for (const [index, pass] of recorder.passes.entries()) {
      const begin = stamps[index * 2]!
      const end = stamps[index * 2 + 1]!
      const seconds = end > begin ? Number(end - begin) / 1e9 : 0
      this.#add(pass, seconds)
      if (pass.bytes > 0) this.#rates.set(pass.kernel, { secondsPerByte: seconds / pass.bytes, untimedPasses: 0 })
    }
    recorder.readback.unmap()
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
