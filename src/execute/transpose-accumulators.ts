// Packed [N,K] tensors under construction on the device, shared by the lanes that carry their pieces, and a bound on how much
// of them is open at a time. Entry: TransposeAccumulators. Owned by one execution; destroy() frees everything.

import type { ComputeDevice, DeviceBuffer } from '../compute/compute-device.ts'
import { blockWords } from '../kernels/block-codes.ts'
import { type BlockEncode, blocksPerRow, type TensorWork } from './tensor-work.ts'

/** Packed tensors that may be open together: a few of the sizes common in models; a larger one is alone. */
const MAX_OPEN_BYTES = 24 * 1024 * 1024

/** Where a tensor's blocks go on the device. */
export interface BlockTarget {
  packed: DeviceBuffer
  scales: DeviceBuffer
  zeroPoints: DeviceBuffer
  /** First block of the tensor in these buffers. */
  blockBase: number
}

export function blockCount(block: BlockEncode): number {
  return block.matrix.n * blocksPerRow(block)
}

/** Packed tensors under construction. A lane waits here before it opens one that would pass the bound. */
export class TransposeAccumulators {
  readonly #device: ComputeDevice
  /** Blocks of the largest tensor that will be opened. */
  readonly #mostBlocks: number
  /** Symmetric zero points are known beforehand; the kernels of all open tensors may write theirs to one place. */
  #ignoredZeroPoints: DeviceBuffer | null = null
  readonly #open = new Map<TensorWork, BlockTarget>()
  readonly #idle: BlockTarget[] = []
  #openBytes = 0
  #waiting: { resolve: () => void; reject: (error: unknown) => void }[] = []
  #failure: { error: unknown } | null = null

  constructor(device: ComputeDevice, works: readonly TensorWork[]) {
    this.#device = device
    this.#mostBlocks = works.reduce((most, { block }) => (block === null ? most : Math.max(most, blockCount(block))), 0)
  }

  /** The buffers of this tensor, opened by whichever of its pieces comes first. */
  async target(work: TensorWork, block: BlockEncode): Promise<BlockTarget> {
    const bytes = accumulatorBytes(block)
    for (;;) {
      if (this.#failure !== null) throw this.#failure.error
      const existing = this.#open.get(work)
      if (existing !== undefined) return existing
      if (this.#open.size === 0 || this.#openBytes + bytes <= MAX_OPEN_BYTES) break
      await new Promise<void>((resolve, reject) => this.#waiting.push({ resolve, reject }))
    }
    this.#openBytes += bytes
    const target = this.#takeIdle(block) ?? this.#create(block)
    this.#open.set(work, target)
    return target
  }

  /** The tensor is written; its buffers serve the next of the same size. */
  release(work: TensorWork, block: BlockEncode): void {
    const target = this.#open.get(work)
    if (target === undefined) return
    this.#open.delete(work)
    this.#openBytes -= accumulatorBytes(block)
    this.#idle.push(target)
    for (const { resolve } of this.#waiting.splice(0)) resolve()
  }

  /** Wakes waiting lanes after a failure elsewhere. */
  fail(error: unknown): void {
    this.#failure ??= { error }
    for (const { reject } of this.#waiting.splice(0)) reject(error)
  }

  destroy(): void {
    for (const target of [...this.#open.values(), ...this.#idle.splice(0)]) this.#destroyTarget(target)
    this.#open.clear()
    this.#ignoredZeroPoints?.destroy()
    this.#ignoredZeroPoints = null
  }

  #takeIdle(block: BlockEncode): BlockTarget | undefined {
    const blocks = blockCount(block)
    const packedBytes = blocks * blockWords(block.bits, block.blockSize) * 4
    const index = this.#idle.findIndex(
      (target) =>
        target.packed.sizeBytes === packedBytes &&
        target.scales.sizeBytes === blocks * 4 &&
        (target.zeroPoints === this.#ignoredZeroPoints) === block.symmetric,
    )
    if (index >= 0) return this.#idle.splice(index, 1)[0]
    // Another size: give the memory back before asking for more.
    for (const target of this.#idle.splice(0)) this.#destroyTarget(target)
    return undefined
  }

  #create(block: BlockEncode): BlockTarget {
    const blocks = blockCount(block)
    const bytes = blocks * blockWords(block.bits, block.blockSize) * 4
    return {
      packed: this.#device.createBuffer('transposed codes', bytes),
      scales: this.#device.createBuffer('transposed scales', blocks * 4),
      zeroPoints: block.symmetric
        ? this.#zeroPointsNobodyReads()
        : this.#device.createBuffer('transposed zero points', blocks * 4),
      blockBase: 0,
    }
  }

  #zeroPointsNobodyReads(): DeviceBuffer {
    this.#ignoredZeroPoints ??= this.#device.createBuffer('symmetric zero points', this.#mostBlocks * 4)
    return this.#ignoredZeroPoints
  }

  #destroyTarget(target: BlockTarget): void {
    target.packed.destroy()
    target.scales.destroy()
    if (target.zeroPoints !== this.#ignoredZeroPoints) target.zeroPoints.destroy()
  }
}

function accumulatorBytes(block: BlockEncode): number {
  return blockCount(block) * (blockWords(block.bits, block.blockSize) * 4 + (block.symmetric ? 4 : 8))
}
