// Host memory of chunks that are kept in buffers. What destroyed chunks leave is taken over by the next of the same size instead
// of leaving one set a job to the garbage collector, which sees no hurry in it.

export class HostMemory {
  readonly #idle: Uint8Array<ArrayBuffer>[] = []

  take(sizeBytes: number): Uint8Array<ArrayBuffer> {
    const at = this.#idle.findIndex(({ length }) => length === sizeBytes)
    return at >= 0 ? this.#idle.splice(at, 1)[0]! : new Uint8Array(sizeBytes)
  }

  give(memory: Uint8Array<ArrayBuffer>): void {
    this.#idle.push(memory)
    if (this.#idle.length > KEPT) this.#idle.shift()
  }
}

/** The host memory of one chunk: taken when it is first asked for, given back with the chunk. */
export class ChunkHost {
  readonly #memory: HostMemory
  #bytes: Uint8Array<ArrayBuffer> | null = null

  constructor(memory: HostMemory) {
    this.#memory = memory
  }

  /** Null until it was taken. */
  get bytes(): Uint8Array<ArrayBuffer> | null {
    return this.#bytes
  }

  take(sizeBytes: number): Uint8Array<ArrayBuffer> {
    this.#bytes ??= this.#memory.take(sizeBytes)
    return this.#bytes
  }

  give(): void {
    if (this.#bytes !== null) this.#memory.give(this.#bytes)
    this.#bytes = null
  }
}

/** Lanes of a job; more are only left behind where chunks of several sizes were used. */
const KEPT = 4
