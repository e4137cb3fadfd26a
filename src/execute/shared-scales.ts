// Scales of a tensor that is cut into no more pieces than there are lanes: the lanes hold its pieces on the device together, each
// adds the statistics of its own, and all go on to encode once the last has arrived. The tensor is read once. Entry: SharedScales.
// Nobody waits for ever: pieces of a tensor are neighbours in the queue, a lane that holds one reads no other of the same tensor
// ahead (see runPieces), and a failing pass calls fail().

export class SharedScales {
  /** Of every channel of the tensor (src/kernels/statistics.ts); each piece merges its own into them, then arrives. */
  readonly statistics: Uint32Array
  readonly #all = Promise.withResolvers<void>()
  readonly #complete: (statistics: Uint32Array) => void
  #piecesLeft: number

  /** @param complete called once, when all pieces have arrived, before anybody goes on */
  constructor(statistics: Uint32Array, pieces: number, complete: (statistics: Uint32Array) => void) {
    this.statistics = statistics
    this.#piecesLeft = pieces
    this.#complete = complete
    // a failure may come before the first lane waits
    this.#all.promise.catch(() => undefined)
  }

  /** Once for each piece; resolves when all have arrived, rejects when the pass failed. */
  async arrive(): Promise<void> {
    this.#piecesLeft -= 1
    if (this.#piecesLeft === 0) {
      this.#complete(this.statistics)
      this.#all.resolve()
    }
    await this.#all.promise
  }

  fail(error: unknown): void {
    this.#all.reject(error)
  }
}
