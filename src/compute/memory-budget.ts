// The byte budget of a device. Software adapters never report out-of-memory (the kernel's OOM killer does), so the budget is
// ours: it counts every DeviceBuffer and refuses the one that would pass it.

import { AppError } from '../errors.ts'

/** Fits the largest single binding that WebGPU adapters commonly allow (2 GiB) twice over; pages are only committed when touched. */
export const DEFAULT_BUDGET_BYTES = 4 * 2 ** 30

export class MemoryBudget {
  readonly limitBytes: number
  #usedBytes = 0
  #buffers = 0

  constructor(limitBytes: number) {
    this.limitBytes = limitBytes
  }

  get usedBytes(): number {
    return this.#usedBytes
  }

  get buffers(): number {
    return this.#buffers
  }

  reserve(label: string, sizeBytes: number): void {
    if (this.#usedBytes + sizeBytes > this.limitBytes) {
      throw new AppError(
        'gpu_memory_exceeded',
        `buffer '${label}' of ${sizeBytes} bytes does not fit: ${this.#usedBytes} of ${this.limitBytes} bytes are in use`,
        { limit: 'budgetBytes', allowed: this.limitBytes, requested: this.#usedBytes + sizeBytes },
      )
    }
    this.#usedBytes += sizeBytes
    this.#buffers += 1
  }

  release(sizeBytes: number): void {
    this.#usedBytes -= sizeBytes
    this.#buffers -= 1
  }
}
